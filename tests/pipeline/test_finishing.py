"""`update` without a model: what was interrupted is said at once, not after the longest wait."""

import time

import pytest
from support.advice import find_commands, parse, run
from support.checkpoints import make_llama

from mlflow_fireworks.errors import DeadlineError, FailedStateError, TransferError

QUIET = {"progress": "none"}
LANDING = '{"code": 9, "details": [], "message": "files are landing"}'


@pytest.fixture
def llama(tmp_path):
    return str(make_llama(tmp_path / "my llama", shards=3))


def cut_off(client, fireworks, llama, files_that_land, name="chat"):
    """An upload that dies after so many files."""
    fireworks.fault("put_object", status=403, times=99, skip=files_that_land)
    with pytest.raises(TransferError):
        client.create_deployment(name, llama, config={**QUIET, "max_workers": 1})


@pytest.mark.parametrize("landed", [0, 1, 6])
def test_an_interrupted_upload_says_what_is_missing_and_what_sends_it(client, fireworks, llama, landed):
    cut_off(client, fireworks, llama, landed)
    asked, began = len(fireworks.calls("validate_upload")), time.monotonic()
    with pytest.raises(TransferError, match=rf"chat was interrupted: {9 - landed} files were not uploaded ") as caught:
        client.update_deployment("chat", config=QUIET)
    assert time.monotonic() - began < 10
    assert len(fireworks.calls("validate_upload")) == asked
    [command] = find_commands(caught.value.message)
    assert parse(command)[0] == "create"
    fireworks.clear_faults()
    run(command)
    assert client.get_deployment("chat")["state"] == "READY"
    assert len([call for call in fireworks.calls("put_object") if call.status == 200]) == 9


def test_a_later_revision_is_sent_by_an_update(client, fireworks, llama, tmp_path):
    client.create_deployment("chat", str(make_llama(tmp_path / "first", seed=5)), config=QUIET)
    fireworks.fault("put_object", status=403, times=99)
    with pytest.raises(TransferError):
        client.update_deployment("chat", llama, config=QUIET)
    with pytest.raises(TransferError, match="chat-r2 was interrupted") as caught:
        client.update_deployment("chat", config=QUIET)
    [command] = find_commands(caught.value.message)
    fireworks.clear_faults()
    run(command)
    assert client.get_deployment("chat")["revision"] == 2


def test_an_upload_that_is_whole_is_finished(client, fireworks, llama):
    fireworks.fault("validate_upload", status=400, body=LANDING, times=1)
    client.create_deployment("chat", llama, config={**QUIET, "synchronous": False})
    assert client.update_deployment("chat", config=QUIET)["state"] == "READY"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Go over to another machine."""
    return lambda: monkeypatch.setenv("MLFLOW_FIREWORKS_HOME", str(tmp_path / "elsewhere"))


def test_another_machine_does_not_claim_that_all_was_sent(client, fireworks, llama, elsewhere, caplog):
    cut_off(client, fireworks, llama, 2)
    elsewhere()
    caplog.set_level("INFO", "mlflow.fireworks")
    with pytest.raises(DeadlineError) as caught:
        client.update_deployment("chat", config={"progress": "lines", "timeout": "0.01s"})
    assert "all bytes" not in caught.value.message
    [told] = [text for text in caplog.messages if "this machine has no record" in text]
    [command] = find_commands(told)
    assert command in caught.value.message
    fireworks.clear_faults()
    run(command.replace("timeout=0.01", "timeout=60"))
    assert client.get_deployment("chat")["state"] == "READY"


@pytest.mark.parametrize("earlier", [0, 1], ids=["the first revision", "a later revision"])
def test_a_failed_model_is_tried_as_the_next_revision(client, fireworks, llama, tmp_path, earlier):
    if earlier:
        client.create_deployment("chat", str(make_llama(tmp_path / "first", seed=5)), config=QUIET)
    fireworks.behave("states=failed")
    deploy = client.update_deployment if earlier else client.create_deployment
    with pytest.raises(FailedStateError, match=r"chat.* is FAILED: .*; to retry it as the next revision:") as caught:
        deploy("chat", llama, config=QUIET)
    [command] = find_commands(caught.value.message)
    fireworks.behave("states=plain")
    run(command)
    now = client.get_deployment("chat")
    assert (now["state"], now["revision"]) == ("READY", earlier + 2)
