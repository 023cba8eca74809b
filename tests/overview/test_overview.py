"""The words that people look for: status, logs, revisions, rollback and resume."""

import json

import pytest
from click.testing import CliRunner
from support.checkpoints import make_llama
from support.local_registry import fill_registry, use_copy
from support.ports import free_port
from support.sleeping import replace_sleep

from mlflow_fireworks.cli import main
from mlflow_fireworks.errors import FireworksError, TransferError
from mlflow_fireworks.hooks.approvals import Held
from mlflow_fireworks.hooks.holds import Hold
from mlflow_fireworks.hooks.jobs import Progress, State, Subject
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.overview.table import write_table
from mlflow_fireworks.plugin import FireworksDeploymentClient
from mlflow_fireworks.promotion import promote

QUIET = {"progress": "none"}
LANDING = '{"code": 9, "details": [], "message": "files are landing"}'


@pytest.fixture(autouse=True)
def queue_path(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_FIREWORKS_QUEUE", str(tmp_path / "hooks.db"))
    return str(tmp_path / "hooks.db")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return fill_registry(tmp_path_factory.mktemp("registry"), "chat", versions=2, champion="")


@pytest.fixture
def registry(filled, tmp_path, monkeypatch):
    return use_copy(filled, tmp_path, monkeypatch)


@pytest.fixture
def client(fireworks):
    return FireworksDeploymentClient("fireworks")


def ask(*words, status=0):
    answer = CliRunner().invoke(main, [*words, "--json"])
    assert answer.exit_code == status, answer.output
    return json.loads(answer.stdout)


def tell(*words, status=0):
    answer = CliRunner().invoke(main, list(words))
    assert answer.exit_code == status, answer.output
    return answer


def test_a_deployment_is_one_line_with_its_version_alias_and_endpoint(registry, client):
    registry.set_registered_model_alias("chat", "champion", "2")
    for version in ("1", "2"):
        promote(f"models:/chat/{version}", name="chat", endpoint="prod", config=QUIET)
    [row] = ask("status")
    assert (row["name"], row["revision"], row["state"], row["version"]) == ("chat", 2, "READY", "2")
    assert row["aliases"] == ["champion"]
    address = client.get_endpoint("prod")["address"]
    assert row["endpoints"] == {"prod": address}
    head, line = tell("status").stdout.splitlines()
    assert head.split()[:4] == ["NAME", "REVISION", "STATE", "VERSION"]
    assert "2 @champion" in line
    assert f"prod ({row['replicas']['prod']})" in line
    assert address in line


def test_what_others_made_is_shown_when_asked_for_and_a_wrong_name_is_an_error(client, fireworks, tmp_path):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    assert [row["name"] for row in ask("status")] == ["chat"]
    assert "no deployment" in tell("status", "chta", status=1).output


def test_no_deployment_is_told_on_stderr_and_is_an_empty_list_for_scripts(client):
    answer = tell("status")
    assert (answer.stdout, answer.stderr) == ("", "no deployments yet\n")
    assert ask("status") == []


def test_what_runs_now_is_told_with_its_progress(client, tmp_path, queue_path):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    queue = open_queue(queue_path)
    rule = Rules.model_validate({"rules": [{"name": "champions", "model": "chat", "alias": "champion"}]}).rules[0]
    job = rule.make_job(Subject(kind="alias", name="chat", ref="champion"), "7", "0123456789abcdef", "webhook")
    queue.put(job)
    progress = Progress(text="upload 4 files", size=4096, moved=1024)
    queue.ledger.save(job, state=State.RUNNING, progress=progress)
    [row] = ask("status", "chat")
    assert row["doing"] == "upload 4 files (1.0 KiB of 4.0 KiB), to models:/chat@champion"
    queue.ledger.save(job, state=State.DEAD, error="it broke")
    queue.close()
    assert "failed: it broke" in tell("status").stdout
    assert "it broke" in tell("logs", "chat").stdout


def test_a_queue_that_does_not_answer_costs_a_line_and_not_the_rest(client, tmp_path, monkeypatch):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    monkeypatch.setenv("MLFLOW_FIREWORKS_QUEUE", "redis://127.0.0.1:9/0")
    answer = tell("status")
    assert "the hooks' jobs are not shown" in answer.stderr
    assert "READY" in answer.stdout


def test_revisions_are_listed_and_one_is_put_back(client, tmp_path):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET, endpoint="prod")
    client.update_deployment("chat", str(make_llama(tmp_path / "two", seed=2)), config=QUIET, endpoint="prod")
    assert [(item["revision"], item["current"]) for item in ask("revisions", "chat")] == [(1, False), (2, True)]
    assert "current" in tell("revisions", "chat").stdout.splitlines()[2]
    result = ask("rollback", "chat", "1", "-C", "progress=none")
    assert (result["revision"], result["endpoint"]) == (1, "prod")
    assert client.get_deployment("chat")["endpoints_behind"] == {"prod": 1}
    assert "has no READY revision 7" in tell("rollback", "chat", "7", status=1).output


def test_a_rollback_that_does_not_know_where_to_asks(client, tmp_path):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    assert "--endpoint" in tell("rollback", "chat", "1", status=1).output
    for name in ("blue", "green"):
        client.update_deployment("chat", endpoint=name, config=QUIET)
    assert "blue" in tell("rollback", "chat", "1", status=1).output


@pytest.mark.parametrize("earlier", [0, 1], ids=["the first revision", "a later revision"])
def test_an_interrupted_upload_is_resumed_by_its_name(client, fireworks, tmp_path, earlier):
    if earlier:
        client.create_deployment("chat", str(make_llama(tmp_path / "zero", seed=9)), config=QUIET)
    fireworks.fault("put_object", status=403, times=99, skip=2)
    llama = str(make_llama(tmp_path / "one", shards=3))
    deploy = client.update_deployment if earlier else client.create_deployment
    with pytest.raises(TransferError):
        deploy("chat", llama, config={**QUIET, "max_workers": 1})
    fireworks.clear_faults()
    [row] = ask("status")
    assert "is UPLOADING" in row["pending"]
    sent = sum(call.status == 200 for call in fireworks.calls("put_object"))
    result = ask("resume", "chat", "-C", "progress=none")
    assert (result["state"], result["revision"]) == ("READY", earlier + 1)
    assert sum(call.status == 200 for call in fireworks.calls("put_object")) - sent == 9 - 2
    assert "nothing to resume" in tell("resume", "chat").stderr
    assert ask("resume", "chat") == {"name": "chat", "state": "READY"}


def test_what_was_sent_is_only_validated(client, fireworks, tmp_path):
    fireworks.fault("validate_upload", status=400, body=LANDING)
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config={**QUIET, "synchronous": False})
    (tmp_path / "one" / "config.json").unlink()
    assert ask("resume", "chat", "-C", "progress=none")["state"] == "READY"


def test_a_watch_shows_one_table_after_another_until_it_is_stopped(client, tmp_path, monkeypatch):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    replace_sleep(monkeypatch, sleep)
    answer = tell("status", "--watch")
    assert answer.stdout.count("READY") == 2


def test_a_watch_outlasts_an_outage_and_ends_with_a_wrong_key(client, fireworks, tmp_path, monkeypatch):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    fireworks.fault("list_models", status=503, times=2)
    looks = []

    def sleep(seconds):
        looks.extend([seconds] if seconds == 5 else [])  # others are between the tries of one look
        if len(looks) == 2:
            fireworks.fault("list_models", status=401)

    replace_sleep(monkeypatch, sleep)
    answer = tell("status", "--watch", status=1)
    assert "503" in answer.stderr
    assert answer.stdout.count("READY") == 1
    assert "401" in answer.stderr


def test_a_table_fits_the_terminal_and_loses_nothing_in_a_pipe():
    head = ("NAME", "EMPTY", "ADDRESS", "NOW")
    rows = [("chat", "", "accounts/acme/routers/prod", "upload 4 files to chat"), ("embedder-of-texts", "", "", "")]
    assert list(write_table(head, rows, 40)) == [
        "NAME          ADDRESS       NOW",
        "chat          accoun…/prod  upload 4 fi…",
        "embedd…texts",
    ]
    assert list(write_table(head, rows[:1], 40)) == [
        "NAME     chat",
        "ADDRESS  accounts/acme/routers/prod",
        "NOW      upload 4 files to chat",
    ]
    assert list(write_table(head, rows, 0))[1].endswith("  accounts/acme/routers/prod  upload 4 files to chat")


@pytest.fixture
def failed(queue_path):
    """A promotion that was given up before there was anything on Fireworks."""
    rule = Rules.model_validate({"rules": [{"name": "champions", "model": "chat", "alias": "champion"}]}).rules[0]
    job = rule.make_job(Subject(kind="alias", name="chat", ref="champion"), "7", "0123456789abcdef", "webhook")
    queue = open_queue(queue_path)
    queue.put(job)
    queue.ledger.save(job, state=State.DEAD, error="it broke")
    queue.close()
    return job


def test_what_failed_before_it_was_there_is_shown_by_every_word(client, failed):
    for words in (["status"], ["status", "chat"], ["logs", "chat"]):
        assert "it broke" in tell(*words).stdout
    [row] = ask("status")
    assert (row["name"], row["revision"], row["state"]) == ("chat", None, None)
    assert "no deployment" in tell("status", "chta", status=1).output
    assert ask("status", "-t", "fireworks:/somebody-else") == []


def test_a_registry_that_is_away_is_asked_once(registry, client, monkeypatch):
    for name in ("one", "two", "three"):
        promote("models:/chat/1", name=name, config=QUIET)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    answer = tell("status")
    assert answer.stdout.count("READY") == 3
    assert answer.stderr.count("aliases are not shown") == 1


def test_an_endpoint_that_is_not_ready_says_so(client, fireworks, tmp_path):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    fireworks.set_transition("deployments", fails_with="no capacity")
    with pytest.raises(FireworksError, match="no capacity"):
        client.create_endpoint("prod", {"model": "chat", **QUIET})
    assert "prod (FAILED" in tell("status").stdout


def test_an_earlier_failure_does_not_count_once_a_newer_revision_is_ready(client, fireworks, tmp_path):
    fireworks.behave("states=failed")
    with pytest.raises(FireworksError, match="FAILED"):
        client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    assert ask("status")[0]["pending"] == "chat is FAILED"
    fireworks.behave("states=plain")
    client.update_deployment("chat", str(make_llama(tmp_path / "two", seed=2)), config=QUIET)
    assert ask("status")[0]["pending"] is None


def test_what_waits_for_a_person_or_a_worker_is_shown(client, queue_path):
    rule = Rules.model_validate({"rules": [{"name": "champions", "model": "chat", "alias": "champion"}]}).rules[0]
    job = rule.make_job(Subject(kind="alias", name="chat", ref="champion"), "7", "0123456789abcdef", "reconcile")
    queue = open_queue(queue_path)
    started = job.model_copy(update={"endpoint": "prod"})
    queue.approvals.hold(Held(meaning="m", rule="champions", jobs=(started,), command="mlflow-fireworks hooks approve"))
    assert ask("status")[0]["doing"].startswith("rule 'champions' is waiting for approval")
    assert "waiting for approval" in tell("doctor", "chat").stdout
    queue.approvals.release("m")
    queue.put(job.model_copy(update={"created": job.created - 60}))
    assert ask("status")[0]["doing"] == "queued, to models:/chat@champion"
    assert f"mlflow-fireworks hooks worker --queue {queue_path}" in tell("status").stderr
    queue.holds.put(Hold(kind="by hand", what="chat", reason="incident 4711"))
    assert ask("status")[0]["doing"] == "chat is held: incident 4711"
    queue.close()
