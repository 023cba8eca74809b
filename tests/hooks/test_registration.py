"""hooks register against a real MLflow server, and hooks run without any receiver."""

import json

import pytest
from click.testing import CliRunner
from support.advice import run
from support.hooks_world import SECRET, wait_until

from mlflow_fireworks.cli import main

pytestmark = pytest.mark.slow


def command(*arguments, **environ):
    return CliRunner().invoke(main, ["hooks", *arguments], env=environ)


def test_registering_makes_a_webhook_that_works_and_again_brings_it_up_to_date(fireworks, registry, hooks, tmp_path):
    hooks.start("--reconcile-every", "0")
    address = hooks.url.removesuffix("/webhooks/mlflow")
    arguments = ["register", "--rules", str(tmp_path / "hooks.yaml"), "--url", address, "--json"]
    (made,) = json.loads(command(*arguments, MLFLOW_FIREWORKS_WEBHOOK_SECRET=SECRET).stdout)
    assert made["made"]
    (again,) = json.loads(command(*arguments, MLFLOW_FIREWORKS_WEBHOOK_SECRET=SECRET).stdout)
    assert (again["id"], again["made"]) == (made["id"], False)
    assert len(registry.client.list_webhooks()) == 1
    registry.promote(1)
    wait_until(lambda: registry.tags(1).get("fireworks.state") == "READY", "version 1 is READY")


def test_a_webhook_that_does_not_arrive_is_told_of(registry, hooks, tmp_path):
    hooks.start("--reconcile-every", "0")
    address = hooks.url.removesuffix("/webhooks/mlflow")
    arguments = ["register", "--rules", str(tmp_path / "hooks.yaml"), "--url"]
    wrong = command(*arguments, address, MLFLOW_FIREWORKS_WEBHOOK_SECRET="another secret")
    assert wrong.exit_code == 1
    assert "it answered 401" in wrong.output
    assert "another secret" not in wrong.output
    assert "set MLFLOW_FIREWORKS_WEBHOOK_SECRET" in command(*arguments, address).output
    without = command(
        *arguments, address, MLFLOW_FIREWORKS_WEBHOOK_SECRET=SECRET, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/x.db"
    )
    assert "only an MLflow server sends webhooks" in without.output


def test_doctor_tells_what_keeps_webhooks_from_arriving(fireworks, registry, hooks, monkeypatch):
    hooks.start("--reconcile-every", "0")
    monkeypatch.setenv("MLFLOW_FIREWORKS_RULES", str(hooks.folder / "hooks.yaml"))
    monkeypatch.setenv("MLFLOW_FIREWORKS_QUEUE", str(hooks.folder / "hooks.db"))
    monkeypatch.setenv("MLFLOW_FIREWORKS_WEBHOOK_SECRET", SECRET)

    def look():
        answer = CliRunner().invoke(main, ["doctor", "--hooks", "--json"])
        return next(check for check in json.loads(answer.stdout)["checks"] if check["subject"] == "webhook")

    assert look()["verdict"] == "note"  # workers do without
    assert command("register", "--url", hooks.url.removesuffix("/webhooks/mlflow")).exit_code == 0
    (made,) = registry.client.list_webhooks()
    faults = {
        "is DISABLED": {"status": "DISABLED"},
        "does not send model_version_alias.created": {"events": ["model_version_tag.set"]},
        "another secret": {"secret": "of somebody else"},
    }
    for words, change in faults.items():
        registry.client.update_webhook(made.webhook_id, **change)
        told = look()
        assert (told["verdict"], words in told["text"]) == ("problem", True), told
        run(told["command"])
        assert look()["verdict"] == "ok"
    hooks.close()
    assert "(Connection refused); is `hooks serve` running there?" in look()["text"]


def test_an_event_is_worked_off_in_a_job_of_its_own(fireworks, registry, hooks, tmp_path):
    registry.promote(2)
    data = {"name": registry.name, "alias": "champion", "version": "2"}
    payload = json.dumps({"entity": "model_version_alias", "action": "created", "data": data})
    rules = ["--rules", str(tmp_path / "hooks.yaml")]
    done = command("run", "--from-env", "--json", *rules, WEBHOOK_PAYLOAD=payload)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)[0]["state"] == "done"
    assert registry.tags(2)["fireworks.state"] == "READY"
    assert command("run", *rules).exit_code == 1
