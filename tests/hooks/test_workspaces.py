"""Two models of one name in two workspaces of an MLflow server are two: for events, for comparing and on Fireworks."""

import json
import os
import subprocess
from contextlib import closing

import mlflow
import pytest
from click.testing import CliRunner
from pydantic import ValidationError
from support.checkpoints import make_llama
from support.hooks_world import COMMAND, SECRET, Hooks, jobs_of, wait_until
from support.mlflow_server import running_server, sends_webhooks

from mlflow_fireworks.cli import main
from mlflow_fireworks.hooks.events import read_mlflow_event
from mlflow_fireworks.hooks.jobs import State
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.receiver import plan_jobs
from mlflow_fireworks.hooks.reconcile import reconcile
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.worker import Worker
from mlflow_fireworks.plugin import FireworksDeploymentClient
from mlflow_fireworks.registry.workspaces import in_workspace


def make_rules(*workspaces, **fields):
    rules = [
        {"name": name or "none", "model": "chat", "alias": "champion", "deployment": f"{name or 'none'}-{{model}}"}
        | ({"workspace": name} if name else {})
        | fields
        for name in workspaces
    ]
    return Rules.model_validate({"rules": rules})


def event(workspace=None, **payload):
    data = {"name": "chat", "alias": "champion", "version": "1"}
    body = {"entity": "model_version_alias", "action": "created", "data": data} | payload
    return read_mlflow_event(json.dumps(body | ({"workspace": workspace} if workspace else {})).encode(), "d")


def asked_by(rules, workspace=None):
    return [job.deployment for one in event(workspace) for job in plan_jobs(rules, one)]


def test_an_event_is_for_the_rules_of_its_workspace_only():
    rules = make_rules("team-a", "team-b")
    assert asked_by(rules, "team-a") == ["team-a-chat"]
    assert asked_by(rules, "team-b") == ["team-b-chat"]
    assert asked_by(rules, "team-c") == []
    assert asked_by(rules) == []  # of a server without workspaces


def test_a_rule_without_a_workspace_is_about_the_current_one(monkeypatch):
    rules = make_rules(None)
    assert asked_by(rules) == ["none-chat"]
    assert asked_by(rules, "default") == ["none-chat"]
    assert asked_by(rules, "team-a") == []
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team-a")
    assert asked_by(rules, "team-a") == ["none-chat"]
    assert asked_by(rules, "default") == []


def test_why_an_event_of_another_workspace_is_ignored_is_said():
    (one,) = event("team-c")
    assert "'team-a' asks for workspace 'team-a'" in make_rules("team-a").explain_nothing(one)


def test_two_workspaces_with_one_name_on_fireworks_are_refused():
    with pytest.raises(ValidationError, match="lead to the same deployment and would overwrite each other"):
        make_rules("team-a", "team-b", deployment="{model}")
    assert len(make_rules("team-a", "team-b", deployment="{workspace}-{model}").rules) == 2


@pytest.mark.parametrize("name", ["Team A", "a", "../b"])
def test_what_cannot_be_a_workspace_is_refused(name):
    with pytest.raises(ValidationError, match="workspace"):
        make_rules(name)


@pytest.mark.parametrize("payload", [{"workspace": 7}, {"workspace": None}, {"timestamp": 5}, {"timestamp": "soon"}])
def test_odd_workspaces_and_times_in_an_event_do_no_harm(payload):
    (one,) = event(**payload)
    assert (one.subject.workspace, one.at) == ("", 0.0)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of an MLflow server with workspaces."""
    folder = tmp_path_factory.mktemp("mlflow-workspaces")
    with running_server(folder, str(folder / "kept"), "--enable-workspaces", **sends_webhooks()) as url:
        yield url


@pytest.fixture(scope="module")
def filled(server, tmp_path_factory):
    """In two workspaces a model of one name, each with another checkpoint."""
    client = mlflow.MlflowClient(server)
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, workspace in enumerate(("team-a", "team-b")):
        client.create_workspace(workspace)
        with in_workspace(workspace):
            run_id = client.create_run(client.create_experiment("hooks")).info.run_id
            client.log_artifacts(run_id, str(make_llama(folder / workspace, seed=seed)), "model")
            client.create_registered_model("chat")
            client.create_model_version("chat", f"runs:/{run_id}/model", run_id)
    return client


def contents():
    """The fingerprint of what each deployment holds."""
    found = FireworksDeploymentClient("fireworks").list_deployments()
    return {item["name"]: item["content"] for item in found if item["state"] == "READY"}


@pytest.mark.slow
def test_events_and_comparing_bring_up_each_model_out_of_its_workspace(
    fireworks, filled, server, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    rules = make_rules("team-a", "team-b")
    (tmp_path / "hooks.yaml").write_text(json.dumps(rules.model_dump(mode="json", exclude_unset=True)))
    hooks = Hooks(tmp_path, os.environ | {"MLFLOW_FIREWORKS_WEBHOOK_SECRET": SECRET})
    try:
        hooks.start("--reconcile-every", "0", "--retry-after", "0.5s")
        command = [COMMAND, "hooks", "register", "--url", f"http://127.0.0.1:{hooks.port}"]
        command += ["--rules", str(tmp_path / "hooks.yaml")]
        told = subprocess.run(command, env=hooks.environ, capture_output=True, text=True, timeout=120, check=False)
        assert told.stdout.count("created and tested") == 2, told.stderr
        with in_workspace("team-a"):
            filled.set_registered_model_alias("chat", "champion", "1")
        wait_until(lambda: set(contents()) == {"team-a-chat"}, "the model of the first workspace is READY")
        wait_until(lambda: jobs_of(hooks)[0]["state"] == "done", "its promotion is over")
        assert [job["rule"] for job in jobs_of(hooks)] == ["team-a"]
        with in_workspace("team-a"):
            assert filled.get_model_version("chat", "1").tags["fireworks.deployment"] == "team-a-chat"
    finally:
        hooks.close()
        for workspace in ("team-a", "team-b"):
            with in_workspace(workspace):
                for webhook in filled.list_webhooks():
                    filled.delete_webhook(webhook.webhook_id)
    with in_workspace("team-b"):
        filled.set_registered_model_alias("chat", "champion", "1")
        assert "fireworks.deployment" not in filled.get_model_version("chat", "1").tags
    with closing(open_queue(str(tmp_path / "hooks.db"))) as queue:
        (missing,) = reconcile(queue, rules, dead_too=True).enqueued
        assert (missing.deployment, missing.subject.workspace) == ("team-b-chat", "team-b")
        Worker(queue, rules).work(missing.id)
        assert queue.ledger.find(missing.id).state is State.DONE
        assert reconcile(queue, rules, dead_too=True).describe(None) == "nothing to do"
    found = contents()
    assert set(found) == {"team-a-chat", "team-b-chat"}
    assert found["team-a-chat"] != found["team-b-chat"]
    with in_workspace("team-b"):
        assert filled.get_model_version("chat", "1").tags["fireworks.deployment"] == "team-b-chat"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workspace", "said"),
    [
        (
            None,
            "names no workspace, but the MLflow server has 3 (default, team-a, team-b); add one to the rule, for",
        ),
        ("team-c", "rule 'team-c' names workspace 'team-c', which the MLflow server does not have; it has: default, "),
    ],
)
def test_the_start_is_refused_where_it_is_open_which_workspace_is_meant(  # noqa: PLR0917
    fireworks, filled, server, tmp_path, monkeypatch, workspace, said
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_FIREWORKS_WEBHOOK_SECRET", SECRET)
    rules = make_rules(workspace)
    (tmp_path / "hooks.yaml").write_text(json.dumps(rules.model_dump(mode="json", exclude_unset=True)))
    for command in (["worker"], ["reconcile"]):
        options = ["--rules", str(tmp_path / "hooks.yaml"), "--queue", str(tmp_path / "queue.db")]
        told = CliRunner().invoke(main, ["hooks", *command, *options])
        assert told.exit_code == 1
        assert said in told.stderr


@pytest.mark.slow
def test_a_workspace_on_a_server_without_them_is_refused(fireworks, mlflow_server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    (tmp_path / "hooks.yaml").write_text(json.dumps(make_rules("team-a").model_dump(mode="json", exclude_unset=True)))
    options = ["--rules", str(tmp_path / "hooks.yaml"), "--queue", str(tmp_path / "queue.db")]
    told = CliRunner().invoke(main, ["hooks", "reconcile", *options])
    assert told.exit_code == 1
    assert (
        "but the registry has no workspaces; remove workspace: from the rule, or start the MLflow server" in told.stderr
    )
