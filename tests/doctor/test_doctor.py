"""`mlflow-fireworks doctor`: what is wrong is named with what to do, and what is fine stays quiet."""

import json
import shlex

import mlflow
import pytest
from click.testing import CliRunner
from support.advice import find_commands, parse, run
from support.checkpoints import make_llama

from mlflow_fireworks.cli import main
from mlflow_fireworks.errors import TransferError
from mlflow_fireworks.hooks.jobs import State, Subject
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.plugin import FireworksDeploymentClient

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
    text = ask("chat", status=1)["model"]["text"]
    assert "files were not uploaded" in text
    [command] = find_commands(text)
    run(command)
    assert ask("chat")["model"]["text"].startswith("accounts/acme/models/chat is READY")


def test_a_failed_revision_is_told_with_fireworks_reason_beside_the_one_that_serves(client, fireworks, tmp_path):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    fireworks.behave("states=failed")
    with pytest.raises(Exception, match="FAILED"):
        client.update_deployment("chat", str(make_llama(tmp_path / "two", seed=2)), config=QUIET)
    found = ask("chat", status=1)
    assert "chat-r2 is FAILED: model preparation failed" in found["model"]["text"]
    assert find_commands(found["model"]["text"])


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


def test_hooks_that_lack_something_are_told_piece_by_piece(fireworks, rules):
    mlflow.MlflowClient().create_registered_model("chat")
    found = ask("--hooks")
    assert found["rules"]["verdict"] == "ok"
    assert found["secrets"]["text"].startswith("for `hooks serve`, set MLFLOW_FIREWORKS_WEBHOOK_SECRET")
    assert found["queue"]["command"] == "mlflow-fireworks hooks worker"
    assert "comparing" in found["webhook"]["text"]
    assert "typo" in found["matches"]["text"]


def test_a_dead_job_is_told_with_the_command_that_tries_it_again(client, fireworks, rules, tmp_path):
    client.create_deployment("chat", str(make_llama(tmp_path / "one")), config=QUIET)
    queue = open_queue(str(tmp_path / "hooks.db"))
    rule = Rules.model_validate({"rules": [{"name": "champions", "model": "chat", "alias": "champion"}]}).rules[0]
    subject = Subject(kind="alias", name="chat", ref="champion")
    job = rule.make_job(subject, "1", "0123456789abcdef", "webhook")
    queue.put(job)
    queue.ledger.save(job, state=State.DEAD, error="it broke")
    queue.close()
    told = ask("chat", status=1)["hooks"]
    assert "it broke" in told["text"]
    assert shlex.split(told["command"])[-1] == job.id
