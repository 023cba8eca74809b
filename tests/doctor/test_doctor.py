"""`mlflow-fireworks doctor`: what is wrong is named with what to do, and what is fine stays quiet."""

import json
import shlex
import subprocess
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from support.advice import parse, run
from support.checkpoints import make_llama
from support.local_registry import fill_registry, use_copy
from support.threaded_server import serving

from mlflow_fireworks.cli import main
from mlflow_fireworks.doctor.machine import check_machine
from mlflow_fireworks.errors import TransferError
from mlflow_fireworks.hooks.jobs import State, Subject
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.plugin import FireworksDeploymentClient
from mlflow_fireworks.promotion import promote

QUIET = {"progress": "none"}


@pytest.fixture(autouse=True)
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path / "mlflow.db"


@pytest.fixture
def client(fireworks):
    return FireworksDeploymentClient("fireworks")


def ask(*words, status=0):
    """The checks by subject, the last of each."""
    answer = CliRunner().invoke(main, ["doctor", *words, "--json"])
    assert answer.exit_code == status, answer.output
    found = json.loads(answer.stdout)
    assert found["problems"] == sum(check["verdict"] == "problem" for check in found["checks"])
    return {check["subject"]: check for check in found["checks"]}


def test_a_healthy_account_has_no_problem_and_no_key_is_shown(fireworks):
    answer = CliRunner().invoke(main, ["doctor"])
    assert answer.exit_code == 0, answer.output
    assert "no problem found" in answer.output
    assert "found in FIREWORKS_API_KEY" in answer.output
    assert "fw_key" not in answer.output
    assert not fireworks.calls("create_model")


def test_looking_makes_no_registry(fireworks, registry):
    assert "does not exist yet" in ask()["MLflow registry"]["text"]
    assert not registry.exists()


def test_a_missing_key_is_told_once_and_the_rest_is_looked_at(fireworks, monkeypatch):
    monkeypatch.delenv("FIREWORKS_API_KEY")
    found = ask(status=1)
    assert found["API key"]["verdict"] == "problem"
    assert "Fireworks" not in found
    assert "MLflow registry" in found


def test_an_address_where_nobody_listens_is_told(fireworks, monkeypatch):
    monkeypatch.setenv("FIREWORKS_BASE_URL", "http://127.0.0.1:9")
    assert ask(status=1)["Fireworks"]["verdict"] == "problem"


def test_a_suspended_account_is_told_before_anything_is_sent(fireworks):
    fireworks.behave("account=suspended")
    found = ask(status=1)
    assert "suspended" in (found.get("account") or found["Fireworks"])["text"]


def test_a_quota_that_is_used_up_is_named(fireworks, client):
    client.create_endpoint("prod", {"model": "accounts/fireworks/models/qwen3-8b", **QUIET, "min_replicas": 8})
    assert "count (8 of 8)" in ask()["quota"]["text"]


@pytest.mark.parametrize(("variable", "value"), [("HTTPS_PROXY", "ftp://proxy"), ("SSL_CERT_FILE", "/nowhere.pem")])
def test_an_environment_that_cannot_be_used_is_named_by_its_variable(fireworks, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    subject = "proxy" if "PROXY" in variable else "certificates"
    assert variable in ask(status=1)[subject]["text"]


def test_an_interrupted_upload_is_told_with_the_command_that_goes_on(client, fireworks, tmp_path):
    fireworks.fault("put_object", status=403, times=99, skip=2)
    with pytest.raises(TransferError):
        client.create_deployment("chat", str(make_llama(tmp_path / "llama")), config={**QUIET, "max_workers": 1})
    fireworks.clear_faults()
    told = ask("chat", status=1)["model"]
    assert "was interrupted, 4 files missing" in told["text"]
    run(told["command"])
    assert ask("chat")["model"]["text"].startswith("accounts/acme/models/chat is READY")


def test_a_failed_revision_is_told_with_fireworks_reason_beside_the_one_that_serves(client, fireworks, tmp_path):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    fireworks.behave("states=failed")
    with pytest.raises(Exception, match="FAILED"):
        client.update_deployment("chat", str(make_llama(tmp_path / "two", seed=2)), config=QUIET)
    found = ask("chat", status=1)
    assert "chat-r2 is FAILED: model preparation failed" in found["model"]["text"]
    assert parse(found["model"]["command"])[1]["config"]


def test_what_nobody_serves_and_what_serves_an_earlier_revision(client, fireworks, tmp_path):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    told = ask("chat")["endpoint"]
    assert told["verdict"] == "note"
    run(told["command"])
    client.update_deployment("chat", str(make_llama(tmp_path / "two", seed=2)), config=QUIET)
    told = ask("chat")["endpoint"]
    assert "serves revision 1, not 2" in told["text"]
    assert parse(told["command"])[0] == "update"
    run(told["command"])
    assert ask("chat")["endpoint"]["verdict"] == "ok"


def test_a_name_that_there_is_not_is_one_line(client):
    answer = CliRunner().invoke(main, ["doctor", "chta"])
    assert answer.exit_code == 1
    assert "no deployment" in answer.output
    assert "Traceback" not in answer.output


@pytest.fixture
def rules(tmp_path, monkeypatch):
    path = tmp_path / "hooks.yaml"
    path.write_text(
        "rules:\n- {name: champions, model: chat, alias: champion}\n- {name: typo, model: caht, tag: a=b}\n"
    )
    monkeypatch.setenv("MLFLOW_FIREWORKS_RULES", str(path))
    monkeypatch.setenv("MLFLOW_FIREWORKS_QUEUE", str(tmp_path / "hooks.db"))
    return path


def test_hooks_that_lack_something_are_told_piece_by_piece(fireworks, rules, filled, tmp_path, monkeypatch):
    use_copy(filled, tmp_path, monkeypatch).set_registered_model_alias("chat", "champion", "1")
    found = ask("--hooks")
    assert found["rules"]["verdict"] == "ok"
    assert found["secrets"]["text"].startswith("for `hooks serve`, set MLFLOW_FIREWORKS_WEBHOOK_SECRET")
    assert parse(found["queue"]["command"])[1]["queue_url"] == str(rules.parent / "hooks.db")
    assert "comparing" in found["webhook"]["text"]
    assert found["behind"]["text"] == "not followed yet: models:/chat@champion (there is no deployment 'chat')"
    assert "typo" in found["matches"]["text"]


def test_a_dead_job_is_told_with_the_command_that_tries_it_again(client, fireworks, rules, tmp_path):
    queue = open_queue(str(tmp_path / "hooks.db"))
    rule = Rules.model_validate({"rules": [{"name": "champions", "model": "chat", "alias": "champion"}]}).rules[0]
    subject = Subject(kind="alias", name="chat", ref="champion")
    job = rule.make_job(subject, "1", "0123456789abcdef", "webhook")
    queue.put(job)
    queue.ledger.save(job, state=State.DEAD, error="it broke")
    queue.close()
    assert "no deployment" in ask("chat", status=1)["model"]["text"]  # and why is what the hooks know
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    told = ask("chat", status=1)["hooks"]
    assert "it broke" in told["text"]
    run(told["command"])  # on this queue, which is not the default one


def test_others_may_read_the_key_in_firectls_file(fireworks, monkeypatch):
    monkeypatch.delenv("FIREWORKS_API_KEY")
    file = Path.home() / ".fireworks" / "auth.ini"
    file.parent.mkdir()
    file.write_text("[default]\napi_key = fw_key\n")
    file.chmod(0o644)
    told = ask()["API key"]
    assert told["verdict"] == "note"
    subprocess.run(shlex.split(told["command"]), check=True)
    assert ask()["API key"]["verdict"] == "ok"


@pytest.mark.parametrize("words", [("doctor", "--json"), ("doctor", "chat", "--json"), ("status",), ("logs", "chat")])
def test_who_only_looks_does_not_wait_for_as_long_as_fireworks_asks(fireworks, words):
    fireworks.fault("*", status=429, retry_after=3600, times=99)
    began = time.monotonic()
    answer = CliRunner().invoke(main, words)
    assert answer.exit_code == 1
    assert "the account's request limit is used up; try again in 1h 0m" in answer.output
    assert time.monotonic() - began < 5


def test_a_full_disk_is_a_problem():
    """A limit of this process on the length of files refuses what is written, as a full disk does."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        found = {check.subject: check for check in check_machine()}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "set MLFLOW_FIREWORKS_HOME to another folder" in found["state"].text
    assert "set TMPDIR to another folder" in found["temporary files"].text


def test_a_registry_that_cannot_be_opened_is_a_problem_and_no_traceback(fireworks, registry):
    registry.write_bytes(b"garbage" * 100)
    text = ask(status=1)["MLflow registry"]["text"]
    assert "not a database" in text
    assert "MLFLOW_TRACKING_URI" in text


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        (401, "Unauthorized", "MLFLOW_TRACKING_USERNAME"),
        (403, "Invalid Host header - possible DNS rebinding attack detected", "--allowed-hosts"),
        (404, "no such page", "MLFLOW_TRACKING_URI"),
    ],
)
def test_a_refusal_of_the_registry_comes_with_what_to_do(fireworks, monkeypatch, status, body, remedy):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with serving(Refusing) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        assert remedy in ask(status=1)["MLflow registry"]["text"]


def test_an_upload_that_this_machine_knows_nothing_of_can_be_resumed_here(client, fireworks, tmp_path, monkeypatch):
    fireworks.fault("put_object", status=403, times=99, skip=2)
    with pytest.raises(TransferError):
        client.create_deployment("chat", str(make_llama(tmp_path / "llama")), config={**QUIET, "max_workers": 1})
    fireworks.clear_faults()
    monkeypatch.setenv("MLFLOW_FIREWORKS_HOME", str(tmp_path / "another machine"))
    told = ask("chat", status=1)["model"]
    assert "no record of its upload" in told["text"]
    run(told["command"])
    assert "is READY" in ask("chat")["model"]["text"]


def delete(client):
    client.delete_endpoint("prod")


def pause(client):
    client.update_endpoint("prod", {"min_replicas": 0, "max_replicas": 0, **QUIET})


def roll_back(client):
    client.update_deployment("chat", config={"revision": 1, **QUIET}, endpoint="prod")


@pytest.mark.parametrize(
    ("act", "words"), [(delete, "was deleted"), (pause, "was scaled to zero"), (roll_back, "was rolled back")]
)
def test_what_somebody_took_off_is_told_with_the_command_that_brings_it_back(client, tmp_path, act, words):
    for seed in (1, 2):
        deploy = client.create_deployment if seed == 1 else client.update_deployment
        deploy("chat", str(make_llama(tmp_path / f"{seed}", seed=seed)), config=QUIET, endpoint="prod")
    act(client)
    told = ask("chat")["endpoint"]
    assert words in told["text"]
    [row] = json.loads(CliRunner().invoke(main, ["status", "--json"]).stdout)
    assert words in row["taken_off"]
    run(told["command"])
    assert ask("chat")["endpoint"]["verdict"] == "ok"
    assert "endpoints_behind" not in client.get_deployment("chat")


def test_a_router_that_leads_elsewhere_is_told(client, fireworks, tmp_path):
    for seed, name in enumerate(("chat", "other")):
        client.create_deployment(name, str(make_llama(tmp_path / name, seed=seed)), config=QUIET, endpoint=f"of-{name}")
    led = {"deployments": ["accounts/acme/deployments/of-other"]}
    url = f"{fireworks.url}/v1/accounts/acme/routers/of-chat"
    httpx.patch(url, json=led, headers={"Authorization": "Bearer fw_key"}).raise_for_status()
    told = ask("chat")["endpoint"]
    assert "requests to of-chat reach accounts/acme/models/other" in told["text"]
    assert parse(told["command"])[1]["endpoint"] == "of-chat"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return fill_registry(tmp_path_factory.mktemp("registry"), "chat", versions=2, champion="")


def test_an_alias_that_moved_on_and_a_version_that_is_gone_are_told(client, filled, tmp_path, monkeypatch):
    registry = use_copy(filled, tmp_path, monkeypatch)
    registry.set_registered_model_alias("chat", "champion", "1")
    promote("models:/chat@champion", name="chat", config=QUIET)
    assert "registry" not in ask("chat")
    registry.set_registered_model_alias("chat", "champion", "2")
    told = ask("chat")["registry"]
    assert "models:/chat@champion is version 2" in told["text"]
    run(told["command"])
    assert "registry" not in ask("chat")
    registry.set_model_version_tag("chat", "2", "fireworks.error", "the next one is faulty")
    assert "the next one is faulty" in ask("chat")["registry"]["text"]
    registry.delete_model_version("chat", "2")
    assert "models:/chat/2 is not in the registry" in ask("chat")["registry"]["text"]


def test_without_a_rule_file_the_queue_is_looked_at_all_the_same(fireworks, rules):
    rules.unlink()
    found = ask("--hooks", status=1)
    assert "--rules" in found["rules"]["text"]
    assert "does not exist yet" in found["queue"]["text"]
