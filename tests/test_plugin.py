"""MLflow's contract, through MLflow: the `mlflow deployments` command and get_deploy_client."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.deployments import BaseDeploymentClient, cli, get_deploy_client
from mlflow.exceptions import MlflowException
from support.checkpoints import make_llama, minilm_folder
from support.local_registry import use_copy

from mlflow_fireworks import plugin
from mlflow_fireworks.config import Config
from mlflow_fireworks.endpoint_config import EndpointConfig
from mlflow_fireworks.local import can_answer
from mlflow_fireworks.option_values import list_options


@pytest.fixture(scope="module")
def filled_registry(tmp_path_factory):
    """A registry's database with two versions of `chat`; the first is the champion."""
    folder = tmp_path_factory.mktemp("registry")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("e", artifact_location=(folder / "artifacts").as_uri())
    client.create_registered_model("chat")
    for seed in (1, 2):
        run = client.create_run(experiment)
        client.log_artifacts(run.info.run_id, str(make_llama(folder / f"llama-{seed}", seed=seed)), "model")
        client.create_model_version("chat", f"runs:/{run.info.run_id}/model", run.info.run_id)
    client.set_registered_model_alias("chat", "champion", "1")
    return folder / "mlflow.db"


@pytest.fixture
def registry(filled_registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return use_copy(filled_registry, tmp_path, monkeypatch)


def mlflow_command(*arguments):
    return CliRunner().invoke(cli.commands, arguments)


def test_mlflow_finds_what_it_looks_for():
    clients = [
        value
        for _, value in inspect.getmembers(plugin, inspect.isclass)
        if issubclass(value, BaseDeploymentClient) and value is not BaseDeploymentClient
    ]
    assert clients == [plugin.FireworksDeploymentClient]
    assert isinstance(get_deploy_client("fireworks:/acme"), plugin.FireworksDeploymentClient)


@pytest.mark.parametrize("method", ["create_deployment", "update_deployment", "get_deployment", "list_deployments"])
def test_signatures_name_what_mlflow_passes(method):
    ours = inspect.signature(getattr(plugin.FireworksDeploymentClient, method)).parameters
    theirs = inspect.signature(getattr(BaseDeploymentClient, method)).parameters
    assert set(theirs) - {"kwargs"} <= set(ours)


def test_making_a_client_needs_no_key_and_no_network():
    assert get_deploy_client("fireworks://nowhere.invalid/acme")


def test_the_life_of_a_deployment_on_the_command_line(fireworks, registry):
    result = mlflow_command(
        "create", "-t", "fireworks", "-m", "models:/chat@champion", "--name", "chat", "-C", "progress=none"
    )
    assert result.exit_code == 0, result.output
    assert "\nfiles deployment chat is created" in result.stdout

    result = mlflow_command("get", "-t", "fireworks", "--name", "chat")
    shown = dict(line.split(": ", 1) for line in result.stdout.splitlines() if ": " in line)
    assert shown["state"] == "READY"
    assert shown["source"] == "models:/chat/1"
    assert shown["model"] == "accounts/acme/models/chat"
    assert not {"None", "{}", "[]"} & set(shown.values())

    result = mlflow_command("update", "-t", "fireworks", "-m", "models:/chat/2", "--name", "chat")
    assert "Deployment chat is updated (with flavor files)" in result.stdout

    result = mlflow_command("list", "-t", "fireworks")
    assert result.stdout.startswith("List of all deployments:\n[{'name': 'chat'")
    assert "chat-r2" in result.stdout

    for _ in range(2):
        result = mlflow_command("delete", "-t", "fireworks", "--name", "chat")
        assert result.exit_code == 0, result.output
        assert "Deployment chat is deleted" in result.stdout
    assert get_deploy_client("fireworks").list_deployments() == []


def test_the_outcome_is_written_on_the_registry_version(fireworks, registry):
    get_deploy_client("fireworks").create_deployment("chat", "models:/chat@champion", config={"progress": "none"})
    tags = registry.get_model_version("chat", "1").tags
    assert tags["fireworks.state"] == "READY"
    assert tags["fireworks.model"] == "accounts/acme/models/chat"
    assert registry.get_model_version("chat", "2").tags == {}


def test_writing_on_the_registry_can_be_switched_off(fireworks, registry):
    get_deploy_client("fireworks").create_deployment("chat", "models:/chat/1", config={"registry_tags": False})
    assert registry.get_model_version("chat", "1").tags == {}


def test_what_python_gets_back_is_plain_and_complete(fireworks, registry):
    client = get_deploy_client("fireworks")
    created = client.create_deployment("chat", "models:/chat/1")
    assert created == json.loads(json.dumps(created))
    assert {"name", "flavor", "state", "model", "revision", "source", "kind", "warnings"} <= set(created)
    got = client.get_deployment("chat")
    assert (got["name"], got["bytes"]) == ("chat", created["bytes"])
    assert client.list_deployments() == [got]
    assert client.update_deployment("chat", config={"display_name": "Chat"})["flavor"]
    assert client.delete_deployment("chat") is None
    with pytest.raises(MlflowException) as caught:
        client.get_deployment("chat")
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_an_alias_that_moves_back_restores_the_revision(fireworks, registry):
    client = get_deploy_client("fireworks")
    quiet = {"progress": "none"}
    client.create_deployment("chat", "models:/chat@champion", config=quiet)
    for version, action in (("2", "updated"), ("1", "restored"), ("2", "restored"), ("2", "unchanged")):
        registry.set_registered_model_alias("chat", "champion", version)
        result = client.update_deployment("chat", "models:/chat@champion", config=quiet)
        got = client.get_deployment("chat")
        assert (result["action"], str(result["revision"]), result["state"]) == (action, version, "READY")
        assert (got["source"], got["model"], "pending" in got) == (f"models:/chat/{version}", result["model"], False)
        assert registry.get_model_version("chat", version).tags["fireworks.revision"] == version
    assert len(fireworks.calls("create_model")) == 2


def test_the_account_is_found_by_the_key(fireworks, registry, monkeypatch):
    monkeypatch.delenv("FIREWORKS_ACCOUNT_ID")
    result = get_deploy_client("fireworks").create_deployment("chat", "models:/chat/1")
    assert result["account"] == result["model"].split("/")[1]


def test_a_long_list_is_read_to_its_end(fireworks):
    client = get_deploy_client("fireworks")
    with client._opened() as deployments:
        for number in range(205):
            deployments.run.gateway.models.create(f"m-{number:03}", {"kind": "EMBEDDING_MODEL", "baseModelDetails": {}})
    assert len(client.list_deployments()) == 205


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["create", "-m", "models:/chat/1", "--name", "Chat"], "try 'chat'"),
        (["create", "-m", "models:/chat/1", "--name", "chat", "-C", "timeot=1m"], "did you mean 'timeout'"),
        (["create", "-m", "models:/chat/1", "--name", "chat", "-C", "timeout=soon"], "-C timeout=soon"),
        (["create", "-m", "models:/chat/9", "--name", "chat"], "chat"),
        (["create", "-m", "models:/chat@nobody", "--name", "chat"], "nobody"),
        (["create", "-m", "models:/chat/1", "--name", "chat", "-C", "min_replicas=1"], "add --endpoint NAME"),
        (["update", "--name", "chat", "-C", "revision=1"], "with --endpoint and without -m"),
        (["update", "--name", "nothing"], "there is no deployment 'nothing'"),
        (["get", "--name", "nothing"], "there is no deployment 'nothing'"),
        (["list", "--endpoint", "prod"], "there is no endpoint 'prod' on account acme (there are none)"),
        (["get-endpoint", "--endpoint", "prod"], "there is no endpoint 'prod'"),
        (["update-endpoint", "--endpoint", "prod"], "mlflow-fireworks endpoint create -t fireworks --name prod"),
    ],
    ids=lambda value: " ".join(value[:1] + value[-1:]) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line_and_change_nothing(fireworks, registry, arguments, line):
    result = mlflow_command(arguments[0], "-t", "fireworks", *arguments[1:])
    assert result.exit_code == 1
    errors = [text for text in result.stderr.splitlines() if text.startswith("Error: ")]
    assert len(errors) == 1, result.stderr
    assert line in errors[0]
    assert "Traceback" not in result.stderr
    assert not [request for request in fireworks.requests if request.method != "GET"]


def test_there_are_no_explanations(fireworks, tmp_path):
    (tmp_path / "input.json").write_text('[{"prompt": "hi"}]')
    result = mlflow_command("explain", "-t", "fireworks", "--name", "chat", "-I", str(tmp_path / "input.json"))
    assert result.exit_code == 1
    assert "not supported" in result.stderr


def test_without_a_key_the_error_says_what_to_do(registry):
    result = mlflow_command("list", "-t", "fireworks")
    assert result.exit_code == 1
    assert "set FIREWORKS_API_KEY" in result.stderr
    assert "fireworks://local" in result.stderr


def test_help_names_every_option():
    result = mlflow_command("help", "-t", "fireworks")
    assert result.exit_code == 0
    for name, _, _, text in list_options(Config) + list_options(EndpointConfig):
        assert f"\n  {name}  (" in result.stdout
        assert text in result.stdout


def test_a_dry_run_does_not_read_as_if_it_were_done(fireworks, registry):
    result = mlflow_command("create", "-t", "fireworks", "-m", "models:/chat/1", "--name", "chat", "-C", "dry_run=true")
    assert "(dry run, nothing was changed)" in result.stdout
    assert get_deploy_client("fireworks").list_deployments() == []


@pytest.mark.slow
def test_the_local_fireworks_remembers_between_commands(registry):
    """Two real `mlflow` processes, each with its own local Fireworks."""

    def run(*arguments):
        command = [str(Path(sys.executable).parent / "mlflow"), "deployments", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ, check=False)

    created = run("create", "-t", "fireworks://local", "-m", "models:/chat@champion", "--name", "chat")
    assert created.returncode == 0, created.stderr
    assert "[4/4] validate accounts/local/models/chat" in created.stderr
    assert "READY  accounts/local/models/chat (created, revision 1)" in created.stderr
    listed = run("list", "-t", "fireworks://local")
    assert "'name': 'chat'" in listed.stdout


@pytest.mark.slow
@pytest.mark.skipif(can_answer(), reason="with torch it stays and answers: tests/serving/test_real_answers.py")
def test_a_rehearsal_goes_all_the_way_and_says_that_nothing_answers(registry):
    command = [str(Path(sys.executable).parent / "mlflow"), "deployments", "run-local", "-t", "fireworks"]
    rehearsed = subprocess.run(
        [*command, "-m", "models:/chat/2", "--name", "rehearsal"],
        capture_output=True, text=True, timeout=120, env=os.environ, check=False,
    )  # fmt: skip
    assert rehearsed.returncode == 0, rehearsed.stderr
    assert "READY  accounts/local/models/rehearsal (created, revision 1)" in rehearsed.stderr
    assert "no model runs here, so nothing answers" in rehearsed.stderr


def test_a_revision_and_a_registry_version_are_two_numbers_and_both_are_shown(fireworks, registry):
    client = get_deploy_client("fireworks")
    options = {"progress": "none"}
    client.create_deployment("chat", "models:/chat/2", config=options)
    updated = client.update_deployment("chat", "models:/chat/1", config=options, endpoint="prod")
    assert (updated["revision"], updated["version"]) == (2, "1")
    for found in (client.get_deployment("chat"), *client.list_deployments()):
        assert (found["revision"], found["version"]) == (2, "1")
    back = client.update_deployment("chat", config={**options, "version": 2}, endpoint="prod")
    assert (back["revision"], back["version"]) == (1, "2")
    assert client.get_endpoint("prod")["model"].endswith("/chat")
    for wrong, text in (
        (
            {"version": 7},
            r"'chat' has no READY revision of version 7; READY revisions: 2 \(revision 1\), 1 \(revision 2\)",
        ),
        ({"version": 2, "revision": 1}, "-C revision or -C version is for update with --endpoint"),
        ({"version": "latest"}, "-C version=latest"),
    ):
        with pytest.raises(MlflowException, match=text):
            client.update_deployment("chat", config={**options, **wrong}, endpoint="prod")


def test_what_the_files_say_and_what_fireworks_says_have_names_of_their_own(fireworks, caplog):
    """all-MiniLM-L6-v2: its files say 256 tokens and float32, Fireworks detects 512 and serves FP16."""
    caplog.set_level("INFO", "mlflow.fireworks")
    client = get_deploy_client("fireworks")
    created = client.create_deployment("minilm", str(minilm_folder()), config={"verify_hugging_face": False})
    assert (created["checkpoint_context_length"], created["checkpoint_dtype"]) == (256, "float32")
    assert "checkpoint: context 256, float32 · Fireworks: context 512, FP16" in caplog.text
    for found in (created, client.get_deployment("minilm"), *client.list_deployments()):
        assert (found["context_length"], found["precision"]) == (512, "FP16")
    client.create_endpoint("prod", {"model": "minilm", "progress": "none", "max_context_length": 128})
    assert client.get_endpoint("prod")["served_context_length"] == 128
