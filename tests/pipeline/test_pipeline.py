"""The four steps against the local Fireworks, on good days and bad ones."""

import json
import logging
import shutil
import time
from dataclasses import replace

import pytest
from support.account import KEY, open_account
from support.checkpoints import edit_json, make_adapter, make_llama

from mlflow_fireworks.errors import (
    ApiError,
    CheckpointError,
    ConflictError,
    DeadlineError,
    FireworksError,
    InvalidConfigError,
    NotFoundError,
    PreflightError,
    TransferError,
    UnavailableError,
)
from mlflow_fireworks.gateway.stamps import RevisionStamp
from mlflow_fireworks.pipeline.outcome import describe_deployment, summary_lines
from mlflow_fireworks.pipeline.pipeline import Pipeline
from mlflow_fireworks.pipeline.plan import Action
from mlflow_fireworks.transfer.journal import Journal
from mlflow_fireworks.waiting import Waiter


@pytest.fixture
def llama(tmp_path):
    return make_llama(tmp_path / "llama", shards=3)


def test_a_model_becomes_ready(account, llama):
    outcome = account.run(hugging_face_url="acme/llama").create("chat", str(llama))
    result = outcome.to_dict()
    assert result["state"] == "READY"
    assert result["model"] == "accounts/acme/models/chat"
    assert result["action"] == "created"
    assert result["kind"] == "HF_BASE_MODEL"
    assert result["architecture"] == "LlamaForCausalLM"
    assert result["context_length"] == 256
    assert result["hugging_face_url"] == "https://huggingface.co/acme/llama"
    assert account.calls("create_model", "get_upload_endpoint", "validate_upload") == [1, 1, 1]
    assert len(account.emulator.calls("put_object")) == result["files"]
    json.dumps(result)


def test_the_same_again_does_nothing_in_few_requests(account, llama):
    account.run().create("chat", str(llama))
    before = len(account.emulator.requests)
    outcome = account.run().create("chat", str(llama))
    assert outcome.action is Action.NOTHING
    assert outcome.to_dict()["state"] == "READY"
    assert len(account.emulator.requests) - before <= 3
    assert not [request for request in account.emulator.requests[before:] if request.method != "GET"]


def test_a_copy_elsewhere_is_the_same_content(account, llama, tmp_path):
    account.run().create("chat", str(llama))
    shutil.copytree(llama, tmp_path / "copy")
    assert account.run().create("chat", str(tmp_path / "copy")).action is Action.NOTHING


def test_one_changed_byte_of_the_weights_is_other_content(account, llama):
    account.run().create("chat", str(llama))
    shard = next(llama.glob("*-00002-*"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(
        ConflictError, match=r"already exists with different content.*mlflow deployments update -t fireworks"
    ):
        account.run().create("chat", str(llama))


def test_another_kind_of_the_same_files_is_other_content(account, llama):
    account.run().create("chat", str(llama))
    with pytest.raises(ConflictError):
        account.run(kind="embedding").create("chat", str(llama))


def test_new_content_is_the_next_revision_and_leaves_the_first_alone(account, llama, tmp_path):
    account.run().create("chat", str(llama))
    first = account.gateway.models.find("chat")
    outcome = account.run().update("chat", str(make_llama(tmp_path / "new", seed=7)))
    assert outcome.action is Action.UPDATE
    assert outcome.to_dict()["model"] == "accounts/acme/models/chat-r2"
    assert account.gateway.models.find("chat") == first
    assert account.run().deployment("chat").current.model.model_id == "chat-r2"
    assert account.run().update("chat", str(tmp_path / "new")).action is Action.NOTHING


@pytest.fixture
def versions(llama, tmp_path):
    """URIs of three models with different content."""
    return [str(llama), *(str(make_llama(tmp_path / f"llama-{seed}", seed=seed)) for seed in (7, 8))]


def current(account):
    shown = describe_deployment(account.run().deployment("chat"))
    return shown["revision"], shown["state"], shown["pending"]


def cut_off_update(account, uri):
    """An update that dies before a file of it has landed."""
    account.emulator.fault("put_object", status=503, times=3)
    with pytest.raises(TransferError, match="run the same command again"):
        account.run(max_workers=1).update("chat", uri)


def test_content_that_is_there_is_not_sent_again(account, versions):
    first, second, third = versions
    account.run(description="Ours.\nAsk Ann.").create("chat", first)
    created = account.gateway.models.find("chat").description
    steps = [
        (second, Action.UPDATE, 2, None),
        (first, Action.RESTORE, 1, 3),
        (third, Action.UPDATE, 3, 4),
        (second, Action.RESTORE, 2, 5),
        (second, Action.NOTHING, 2, 5),
    ]
    for uri, action, number, turn in steps:
        before = len(account.emulator.requests)
        outcome = account.run().update("chat", uri)
        result = outcome.to_dict()
        assert (outcome.action, result["revision"], result["state"]) == (action, number, "READY")
        assert RevisionStamp.read(outcome.model.description).turn == turn
        assert current(account) == (number, "READY", None)
        changes = [request.method for request in account.emulator.requests[before:] if request.method != "GET"]
        if action is Action.RESTORE:
            assert changes == ["PATCH"]
        if action is Action.NOTHING:
            assert changes == []
    assert account.calls("create_model") == [3]
    assert account.gateway.models.find("chat").description == f"{created} turn=3"


def test_a_restored_revision_keeps_its_own_source_and_takes_new_metadata(account, versions, tmp_path):
    first, second, _ = versions
    account.run().create("chat", first)
    account.run().update("chat", second)
    stamp = account.run().deployment("chat").revisions[0].stamp
    shutil.copytree(first, tmp_path / "copy")
    options = {"description": "Back again.", "display_name": "Chat"}
    assert account.run(**options).update("chat", str(tmp_path / "copy")).action is Action.RESTORE
    restored = account.run().deployment("chat").current
    assert restored.stamp == replace(stamp, turn=3)
    assert restored.model.display_name == "Chat"
    assert restored.model.description == restored.stamp.describe("Back again.")


def test_a_dry_run_says_what_would_be_restored(account, versions):
    first, second, _ = versions
    account.run().create("chat", first)
    account.run().update("chat", second)
    before = len(account.emulator.requests)
    outcome = account.run(dry_run=True).update("chat", first)
    assert (
        "DRY RUN  accounts/acme/models/chat: would make revision 1 current again; nothing was changed"
        in summary_lines(outcome)
    )
    assert {request.method for request in account.emulator.requests[before:]} == {"GET"}
    assert current(account) == (2, "READY", None)


def test_create_does_not_go_back(account, versions):
    first, second, _ = versions
    account.run().create("chat", first)
    account.run().update("chat", second)
    with pytest.raises(ConflictError, match="already exists with different content"):
        account.run().create("chat", first)
    assert current(account) == (2, "READY", None)


@pytest.mark.parametrize(
    "trouble", [{"drop": "reset", "act": True, "times": 3}, {"status": 403}], ids=["reply-lost", "refused"]
)
def test_going_back_that_was_cut_off_is_done_by_the_same_command(account, versions, trouble):
    first, second, _ = versions
    account.run().create("chat", first)
    account.run().update("chat", second)
    account.emulator.fault("update_model", **trouble)
    with pytest.raises(FireworksError):
        account.run().update("chat", first)
    account.run().update("chat", first)
    assert current(account) == (1, "READY", None)
    assert account.run().deployment("chat").latest.turn == 3
    assert account.calls("create_model") == [2]


def test_an_unfinished_revision_in_the_middle_is_resumed(account, versions):
    first, second, third = versions
    account.run().create("chat", first)
    cut_off_update(account, second)
    assert current(account) == (1, "READY", "chat-r2")
    account.run().update("chat", third)
    assert current(account) == (3, "READY", "chat-r2")
    cut_off_update(account, second)  # whoever goes on from here, it has its turn already
    assert current(account) == (3, "READY", "chat-r2")
    outcome = account.run().update("chat", second)
    assert (outcome.action, outcome.to_dict()["revision"]) == (Action.RESUME, 2)
    assert current(account) == (2, "READY", None)
    assert account.run().deployment("chat").current.turn == 4
    assert account.calls("create_model", "update_model") == [3, 1]


def test_what_was_given_up_for_an_older_revision_is_not_finished_unasked(account, versions):
    first, second, third = versions
    account.run().create("chat", first)
    account.run().update("chat", second)
    cut_off_update(account, third)
    assert account.run().update("chat", first).action is Action.RESTORE
    assert current(account) == (1, "READY", "chat-r3")
    assert account.run(display_name="Chat").finish("chat").to_dict()["model"] == "accounts/acme/models/chat"
    account.run().update("chat", third)
    assert current(account) == (3, "READY", None)


def test_one_that_is_resumed_without_waiting_is_current_once_it_is_ready(versions):
    first, second, third = versions
    now = [1_800_000_000.0]
    with open_account(landing_seconds=60, clock=lambda: now[0]) as account:

        def update_and_land(uri):
            account.run(synchronous=False).update("chat", uri)
            now[0] += 61

        account.run(synchronous=False).create("chat", first)
        now[0] += 61
        account.run().finish("chat")
        cut_off_update(account, second)
        update_and_land(third)
        account.run().finish("chat")
        assert current(account) == (3, "READY", "chat-r2")
        update_and_land(second)
        assert current(account) == (3, "READY", "chat-r2")
        account.run().finish("chat")
        assert current(account) == (2, "READY", None)
        assert account.calls("create_model") == [3]


def test_a_revision_steps_over_a_name_that_is_taken(account, llama, tmp_path):
    account.run().create("chat", str(llama))
    account.run().create("chat-r2", str(llama))
    outcome = account.run().update("chat", str(make_llama(tmp_path / "new", seed=7)))
    assert outcome.to_dict()["model"] == "accounts/acme/models/chat-r3"


def test_a_name_that_is_a_revision_of_another_is_refused(account, llama, tmp_path):
    account.run().create("chat", str(llama))
    account.run().update("chat", str(make_llama(tmp_path / "new", seed=7)))
    with pytest.raises(ConflictError, match="'chat-r2' is already a revision of deployment 'chat'"):
        account.run().create("chat-r2", str(llama))


def test_a_model_somebody_else_made_is_not_touched(account, llama):
    account.gateway.models.create("chat", {"kind": "HF_BASE_MODEL", "baseModelDetails": {"checkpointFormat": "NATIVE"}})
    for attempt in (lambda: account.run().create("chat", str(llama)), lambda: account.run().update("chat", str(llama))):
        with pytest.raises(ConflictError, match="this plugin did not create"):
            attempt()
    with pytest.raises(ConflictError, match="not created by this plugin"):
        account.run().delete("chat")
    assert account.run(force=True).delete("chat")


def test_a_lost_reply_to_create_is_no_conflict(account, llama):
    account.emulator.fault("create_model", act=True, drop="reset")
    assert account.run().create("chat", str(llama)).to_dict()["state"] == "READY"
    assert account.calls("create_model") == [2]


@pytest.mark.parametrize("operation", ["list_models", "get_upload_endpoint", "validate_upload", "get_model"])
@pytest.mark.parametrize(
    "trouble",
    [{"status": 503}, {"status": 429, "retry_after": 0}, {"drop": "reset"}, {"drop": "close", "act": True}],
    ids=["503", "429", "reset", "reply-lost"],
)
def test_trouble_that_passes_is_not_seen(account, llama, operation, trouble):
    account.emulator.fault(operation, times=2, **trouble)
    assert account.run().create("chat", str(llama)).to_dict()["state"] == "READY"


@pytest.mark.parametrize("trouble", [{"status": 503}, {"drop": "reset", "after_bytes": 10}, {"expired": True}])
def test_trouble_at_storage_is_not_seen_either(account, llama, trouble):
    account.emulator.fault("put_object", times=2, **trouble)
    assert account.run().create("chat", str(llama)).to_dict()["state"] == "READY"


def test_files_that_land_late_are_waited_for(llama):
    with open_account(landing_seconds=0.4) as account:
        run = account.run().run
        waiter = Waiter(run.reporter, sleep=lambda seconds: time.sleep(min(seconds, 0.3)))
        slow = Pipeline(replace(run, waiter=waiter))
        assert slow.create("chat", str(llama)).to_dict()["state"] == "READY"
        assert len(account.emulator.calls("validate_upload")) > 1


def test_waiting_has_a_limit_and_says_how_to_go_on(llama):
    with open_account(landing_seconds=3600) as account:
        with pytest.raises(DeadlineError) as caught:
            account.run(timeout="2m").create("chat", str(llama))
        assert sum(account.waits) == 120
        text = str(caught.value)
        assert "is not READY after 2m" in text
        assert "mlflow deployments update -t fireworks --name chat" in text
        assert caught.value.error_code == "DEADLINE_EXCEEDED"


def test_what_was_left_uploading_is_finished_by_update(llama):
    now = [1_800_000_000.0]
    with open_account(landing_seconds=60, clock=lambda: now[0]) as account:
        outcome = account.run(synchronous=False).create("chat", str(llama))
        assert outcome.to_dict()["state"] == "UPLOADING"
        now[0] += 61
        outcome = account.run(display_name="Chat", description="Ours.").finish("chat")
        assert outcome.to_dict()["state"] == "READY"
        model = account.gateway.models.find("chat")
        assert model.display_name == "Chat"
        assert model.description.startswith("Ours.\nFrom file:///")
        assert account.calls("put_object") == [9]
        assert account.run().create("chat", str(llama)).action is Action.NOTHING


def cut_off(account, llama):
    """A first run that dies on the last shard."""
    account.emulator.fault("put_object", status=503, times=3, path_contains="00003-of-00003")
    with pytest.raises(TransferError, match=r"storage answered 503.*run the same command again"):
        account.run(max_workers=1).create("chat", str(llama))
    assert account.gateway.models.find("chat").state == "UPLOADING"


def test_an_upload_that_was_cut_off_sends_only_what_is_missing(account, llama):
    cut_off(account, llama)
    before = len(account.emulator.calls("put_object"))
    outcome = account.run().create("chat", str(llama))
    assert outcome.action is Action.RESUME
    assert outcome.to_dict()["state"] == "READY"
    again = [request.path.rpartition("/")[2] for request in account.emulator.calls("put_object")[before:]]
    assert again == ["model-00003-of-00003.safetensors"]
    assert account.calls("create_model", "get_upload_endpoint") == [1, 2]
    assert not list((account.state / "uploads").glob("*.sqlite*"))


def test_another_machine_finishes_too(account, llama, tmp_path):
    cut_off(account, llama)
    account.state = tmp_path / "elsewhere"
    assert account.run().create("chat", str(llama)).to_dict()["state"] == "READY"


def test_a_model_that_was_deleted_meanwhile_is_sent_from_the_start(account, llama):
    cut_off(account, llama)
    account.gateway.models.delete("chat")
    time.sleep(1.1)  # creation times are compared to the second
    before = len(account.emulator.calls("put_object"))
    outcome = account.run().create("chat", str(llama))
    assert outcome.to_dict()["state"] == "READY"
    assert len(account.emulator.calls("put_object")) - before == outcome.to_dict()["files"]


def test_two_runs_at_once_are_not_both_let_in(account, llama):
    with (
        Journal(account.state / "uploads", account.gateway.transport.host, "accounts/acme/models/chat"),
        pytest.raises(ConflictError, match="another run on this machine"),
    ):
        account.run().create("chat", str(llama))
    assert account.calls("create_model") == [0]


def test_validation_that_fails_is_quoted_and_final(account, llama):
    refusal = json.dumps({"code": 3, "details": [], "message": "tensor model.norm.weight has the wrong shape"})
    account.emulator.fault("validate_upload", status=400, body=refusal, times=9)
    with pytest.raises(ApiError, match=r"model\.norm\.weight has the wrong shape \(400\)"):
        account.run().create("chat", str(llama))
    assert account.calls("validate_upload") == [1]


def test_a_bad_checkpoint_changes_nothing_remote(account, llama):
    next(llama.glob("*-00002-*")).unlink()
    (llama / "tokenizer.json").unlink()
    edit_json(llama / "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(PreflightError) as caught:
        account.run().create("chat", str(llama))
    assert len(caught.value.problems) >= 3
    assert not [request for request in account.emulator.requests if request.method != "GET"]


@pytest.mark.parametrize("name", ["Chat", "chat_1", "x" * 64])
def test_a_bad_name_asks_nobody(account, llama, name):
    with pytest.raises(InvalidConfigError, match="try '"):
        account.run().create(name, str(llama))
    assert not account.emulator.requests


def test_a_wrong_key_is_noticed_before_the_model_is_read(llama):
    with open_account(api_keys={"another"}) as account:
        with pytest.raises(ApiError, match="check FIREWORKS_API_KEY") as caught:
            account.run().create("chat", str(llama))
        assert caught.value.error_code == "UNAUTHENTICATED"
        assert KEY not in str(caught.value)


def test_a_dry_run_changes_nothing(account, llama):
    outcome = account.run(dry_run=True).create("chat", str(llama))
    assert outcome.dry_run
    assert outcome.to_dict()["state"] == "DRY_RUN"
    assert not [request for request in account.emulator.requests if request.method != "GET"]


def test_an_adapter_goes_up_as_an_addon_of_the_model_it_was_made_for(account, tmp_path):
    adapter = make_adapter(tmp_path / "adapter", base="meta-llama/Llama-3.1-8B-Instruct", hidden=4096)
    outcome = account.run().create("tuned", str(adapter))
    result = outcome.to_dict()
    assert result["kind"] == "HF_PEFT_ADDON"
    assert result["base_model"] == "accounts/fireworks/models/llama-v3p1-8b-instruct"
    assert result["files"] == 2
    assert result["state"] == "READY"


def test_an_adapter_without_its_base_says_what_to_do(account, tmp_path):
    adapter = make_adapter(tmp_path / "adapter", base="acme/unheard-of")
    with pytest.raises(CheckpointError, match=r"acme/unheard-of.*-C base_model="):
        account.run().create("tuned", str(adapter))
    with pytest.raises(CheckpointError, match="accounts/acme/models/nowhere does not exist"):
        account.run(base_model="nowhere").create("tuned", str(adapter))
    assert not [request for request in account.emulator.requests if request.method != "GET"]


def test_delete_takes_all_revisions_and_is_idempotent(account, llama, tmp_path):
    account.run().create("chat", str(llama))
    account.run().update("chat", str(make_llama(tmp_path / "new", seed=7)))
    account.run().create("other", str(llama))
    assert account.run().delete("chat")
    assert not account.run().delete("chat")
    assert list(account.run().deployments()) == ["other"]


def test_what_is_not_there_is_not_found(account, llama):
    for attempt in (
        lambda: account.run().deployment("chat"),
        lambda: account.run().finish("chat"),
        lambda: account.run().update("chat", str(llama)),
    ):
        with pytest.raises(NotFoundError, match=r"there is no deployment 'chat'.*deployments create"):
            attempt()


def test_nobody_at_the_address_is_one_clear_line(llama):
    with open_account() as account:
        account.emulator.stop()
        with pytest.raises(UnavailableError, match=r"refused.*check the network"):
            account.run().create("chat", str(llama))


def test_no_secret_in_any_log_or_error(account, llama, caplog):
    caplog.set_level(logging.DEBUG)
    for name in (None, "httpx", "httpcore", "stamina", "mlflow.fireworks"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    account.emulator.fault("put_object", status=503, times=2)
    account.emulator.fault("put_object", expired=True, skip=2)
    account.emulator.fault("create_model", drop="reset", act=True)
    account.run().create("chat", str(llama))
    everything = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "PUT" in everything
    assert KEY not in everything
    assert "X-Goog-Signature" not in everything
