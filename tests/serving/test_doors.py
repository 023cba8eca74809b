"""Serving through MLflow's own doors and with independent clients: the `mlflow` command, Python, judges, OpenAI."""

import json

import pytest
from click.testing import CliRunner
from emulator.raw_client import ADDON, Api, adapter_files
from mlflow.deployments import PredictionsResponse, cli, get_deploy_client
from mlflow.exceptions import MlflowException
from mlflow.metrics.genai import model_utils
from support.checkpoints import make_llama

from mlflow_fireworks.cli import main
from mlflow_fireworks.emulator import Emulator

QUIET = {"progress": "none"}


@pytest.fixture
def llamas(tmp_path):
    return [str(make_llama(tmp_path / f"llama-{seed}", seed=seed)) for seed in (1, 2)]


def mlflow_command(*arguments):
    result = CliRunner().invoke(cli.commands, [arguments[0], "-t", "fireworks", *arguments[1:]])
    assert "Traceback" not in result.stderr
    return result


def our_command(*arguments):
    return CliRunner().invoke(main, ["endpoint", *arguments])


def test_from_a_folder_to_an_answer_and_back_on_the_command_line(fireworks, llamas, tmp_path):
    made = mlflow_command("create", "-m", llamas[0], "--name", "chat", "--endpoint", "prod", "-C", "min_replicas=1")
    assert made.exit_code == 0, made.output
    assert "files deployment chat is created" in made.stdout

    (tmp_path / "ask.json").write_text('{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}')
    for where in (["--name", "chat"], ["--endpoint", "prod"]):
        asked = mlflow_command("predict", *where, "-I", str(tmp_path / "ask.json"))
        answer = json.loads(asked.stdout)
        assert answer["choices"][0]["message"]["content"].endswith("Hello")
        assert answer["predictions"][0].endswith("Hello")

    moved = mlflow_command("update", "-m", llamas[1], "--name", "chat", "--endpoint", "prod")
    assert moved.exit_code == 0, moved.output
    assert "'model': 'accounts/acme/models/chat-r2'" in mlflow_command("list-endpoints").stdout
    back = mlflow_command("update", "--name", "chat", "--endpoint", "prod", "-C", "revision=1")
    assert back.exit_code == 0, back.output
    shown = mlflow_command("get-endpoint", "--endpoint", "prod").stdout
    assert "model: accounts/acme/models/chat\n" in shown

    shown = mlflow_command("get", "--name", "chat").stdout
    assert "endpoints: {'prod': 'accounts/acme/routers/prod'}" in shown
    assert "tunable: no: it has no huggingFaceUrl" in shown

    refused = mlflow_command("delete", "--name", "chat")
    assert "still serves: accounts/acme/models/chat on endpoint prod" in refused.stderr
    assert mlflow_command("delete", "--name", "chat", "-C", "cascade=true").exit_code == 0
    assert mlflow_command("list").stdout == "List of all deployments:\n[]\n"
    assert mlflow_command("delete-endpoint", "--endpoint", "prod").exit_code == 0


def test_a_judge_may_be_an_endpoint(client, llamas, monkeypatch):
    client.create_deployment("chat", llamas[0], config=QUIET, endpoint="judge")
    monkeypatch.setenv("MLFLOW_DEPLOYMENTS_TARGET", "fireworks")
    asked_as = model_utils.get_endpoint_type("endpoints:/judge")
    assert asked_as == "llm/v1/chat"
    said = model_utils.score_model_on_payload("endpoints:/judge", "Is this good?", endpoint_type=asked_as)
    assert said.endswith("Is this good?")
    endpoint = client.get_endpoint("judge")
    assert endpoint.endpoint_type == endpoint["endpoint_type"] == "llm/v1/chat"
    assert endpoint.model == "accounts/acme/models/chat"
    assert json.loads(json.dumps(endpoint)) == endpoint


def test_python_asks_many_and_streams(client, llamas):
    client.create_deployment("chat", llamas[0], config=QUIET, endpoint="prod")
    answer = client.predict("chat", ["one", "two"])
    assert isinstance(answer, PredictionsResponse)
    assert [text.split()[-1] for text in answer["predictions"]] == ["one", "two"]
    assert list(answer.get_predictions()[0].str.split().str[-1]) == ["one", "two"]
    pieces = [chunk["choices"][0]["delta"]["content"] for chunk in client.predict_stream("chat", "Hello there")]
    assert "".join(pieces).endswith("Hello there")
    assert client.list_deployments(endpoint="prod") == [client.get_deployment("chat", endpoint="prod")]


def test_the_address_of_an_endpoint_is_what_other_clients_need(fireworks, client, llamas):
    openai = pytest.importorskip("openai")
    client.create_deployment("chat", llamas[0], config=QUIET, endpoint="prod")
    address = client.get_endpoint("prod").address
    other = openai.OpenAI(base_url=f"{fireworks.url}/inference/v1", api_key="fw_key")
    said = other.chat.completions.create(model=address, messages=[{"role": "user", "content": "Hello"}])
    assert said.choices[0].message.content == client.predict("chat", "Hello")["predictions"][0]
    other.close()


def test_the_official_sdk_asks_an_endpoint(fireworks, client, llamas):
    sdk_of = pytest.importorskip("fireworks", reason="the SDK asks for a newer typing_extensions")
    client.create_deployment("chat", llamas[0], config=QUIET, endpoint="prod")
    address = client.get_endpoint("prod").address
    with sdk_of.Fireworks(base_url=fireworks.url, api_key="fw_key", account_id="acme") as sdk:
        said = sdk.chat.completions.create(model=address, messages=[{"role": "user", "content": "Hello"}])
        assert said.choices[0].message.content == client.predict("chat", "Hello")["predictions"][0]
        pieces = sdk.completions.create(model=address, prompt="Hello", stream=True)
        assert "".join(piece.choices[0].text for piece in pieces)


def test_the_official_sdk_sees_what_was_made(fireworks, client, llamas):
    sdk_of = pytest.importorskip("fireworks", reason="the SDK asks for a newer typing_extensions")
    client.create_deployment("chat", llamas[0], config={**QUIET, "max_replicas": 2}, endpoint="prod")
    with sdk_of.Fireworks(base_url=fireworks.url, api_key="fw_key", account_id="acme") as sdk:
        seen = sdk.deployments.get(deployment_id="prod")
        assert (seen.state, seen.base_model, seen.max_replica_count) == ("READY", "accounts/acme/models/chat", 2)
        assert "Endpoint prod by mlflow-fireworks: live=20" in seen.description


def test_adapters_through_mlflow(fireworks, client):
    api = Api(fireworks.url)
    api.ready("tuned", ADDON, adapter_files())
    api.close()
    client.create_endpoint("base", {"model": "accounts/fireworks/models/qwen3-8b", "enable_addons": True, **QUIET})
    client.update_deployment("tuned", endpoint="base", config=QUIET)
    assert client.get_endpoint("base").adapters == ["accounts/acme/models/tuned"]
    assert client.predict("tuned", "Hello")["predictions"][0].endswith("Hello")
    assert client.predict("tuned", {"prompt": "Hello"})["model"].startswith("accounts/acme/models/tuned#")
    client.delete_deployment("tuned", endpoint="base")
    assert client.get_endpoint("base").adapters == []
    assert client.get_deployment("tuned")["state"] == "READY"


def test_a_dry_run_with_an_endpoint_starts_nothing(fireworks, client, llamas):
    client.create_deployment("chat", llamas[0], config=QUIET)
    client.update_deployment("chat", endpoint="prod", config={**QUIET, "dry_run": True})
    assert client.list_endpoints() == []
    assert len(fireworks.calls("create_deployment")) == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"endpoint": "taken"}, "serves accounts/fireworks/models/qwen3-8b; choose another one"),
        ({"endpoint": "Prod"}, "try 'prod'"),
        ({"endpoint": "prod", "config": {"accelerator_type": "H999"}}, "needs one of NVIDIA_A100_80GB"),
        ({"endpoint": "prod", "config": {"accelerator_count": 2}}, "needs -C accelerator_type"),
    ],
)
def test_an_endpoint_that_cannot_be_is_said_before_a_byte_is_sent(fireworks, client, llamas, asked, message):
    client.create_endpoint("taken", {"model": "accounts/fireworks/models/qwen3-8b", **QUIET})
    with pytest.raises(MlflowException, match=message):
        client.create_deployment("chat", llamas[0], **asked)
    assert fireworks.calls("create_model") == []


def test_when_the_endpoint_fails_the_model_stays_ready_and_the_same_command_goes_on(fireworks, client, llamas):
    fireworks.set_transition("deployments", fails_with="no capacity")
    with pytest.raises(MlflowException, match="no capacity"):
        client.create_deployment("chat", llamas[0], config=QUIET, endpoint="prod")
    assert client.get_deployment("chat")["state"] == "READY"
    fireworks.set_transition("deployments")
    assert client.create_deployment("chat", llamas[0], config=QUIET, endpoint="prod")["action"] == "unchanged"
    assert client.get_endpoint("prod").state == "READY"


def test_what_nothing_serves_says_so_in_one_line(fireworks, client, llamas, tmp_path):
    client.create_deployment("chat", llamas[0], config=QUIET)
    (tmp_path / "ask.json").write_text('[{"prompt": "a"}]')
    refused = mlflow_command("predict", "--name", "chat", "-I", str(tmp_path / "ask.json"))
    assert refused.exit_code == 1
    assert "mlflow deployments update -t fireworks --name chat --endpoint chat" in refused.stderr


def test_an_update_says_which_endpoint_stays_behind(fireworks, client, llamas, caplog):
    client.create_deployment("chat", llamas[0], config=QUIET, endpoint="prod")
    with caplog.at_level("INFO", "mlflow.fireworks"):
        client.update_deployment("chat", llamas[1], config={"progress": "lines"})
    assert "endpoint 'prod' still serves accounts/acme/models/chat; move it with: " in caplog.text


def test_an_endpoint_goes_back_with_the_content(fireworks, client, llamas):
    client.create_deployment("chat", llamas[0], config=QUIET, endpoint="prod")
    client.update_deployment("chat", llamas[1], config=QUIET, endpoint="prod")
    back = client.update_deployment("chat", llamas[0], config=QUIET, endpoint="prod")
    assert (back["action"], back["address"]) == ("restored", "accounts/acme/routers/prod")
    assert client.get_endpoint("prod").model == "accounts/acme/models/chat"
    assert client.predict("chat", {"prompt": "Hello"})["model"] == back["address"]
    other = client.create_endpoint("other", {"model": "chat", **QUIET})
    assert other["model"] == "accounts/acme/models/chat"
    assert len(fireworks.calls("create_model")) == 2


@pytest.mark.slow
def test_tunability_is_waited_for(monkeypatch, llamas, caplog):
    with Emulator(tunability_seconds=1.5) as fireworks:
        monkeypatch.setenv("FIREWORKS_BASE_URL", fireworks.url)
        monkeypatch.setenv("FIREWORKS_API_KEY", "fw_key")
        monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", "acme")
        client = get_deploy_client("fireworks")
        options = {**QUIET, "hugging_face_url": "acme/llama"}
        created = client.create_deployment("chat", llamas[0], config={**options, "watch_tunable": True})
        assert "supervised LoRA" in created["tunable"]
        assert client.get_deployment("chat")["tunable"] == created["tunable"]
        impatient = {**options, "watch_tunable": True, "tunable_timeout": "0.2s"}
        late = client.create_deployment("late", llamas[1], config=impatient)
        assert late["tunable"] == "not yet: Fireworks checks about every 30 minutes"
        assert "is not tunable yet after 0s" in caplog.text


def test_the_endpoint_command(fireworks, client, llamas):
    client.create_deployment("chat", llamas[0], config=QUIET)
    made = our_command("create", "--name", "prod", "-C", "model=chat", "-C", "progress=none", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["state"] == "READY"
    assert our_command("update", "--name", "prod", "-C", "max_replicas=2").exit_code == 0
    assert "max_replicas              2" in our_command("get", "--name", "prod").stdout
    assert our_command("list").stdout.splitlines()[1] == "prod  READY  1 ready   accounts/acme/routers/prod"
    assert json.loads(our_command("list", "--json").stdout)[0]["name"] == "prod"
    assert our_command("delete", "--name", "prod", "-C", "hard=true").exit_code == 0
    assert json.loads(our_command("list", "--json").stdout) == []
    assert our_command("list").stderr == "no endpoints yet\n"
    wrong = our_command("create", "--name", "prod", "-C", "modle=chat")
    assert wrong.stderr == ("Error: unknown option -C modle; did you mean 'model'?\n")
    assert "scale_to_zero_window  (duration, default —)" in our_command("options").stdout


@pytest.mark.parametrize("typo", ["prodd", "prd", "porod"])
def test_a_typo_does_not_read_as_if_the_billing_had_ended(fireworks, client, llamas, typo):
    client.create_deployment("chat", llamas[0], config=QUIET, endpoint="prod")
    result = our_command("delete", "--name", typo)
    assert result.exit_code == 1
    assert f"there is no endpoint '{typo}' on account acme (there are prod); did you mean 'prod'?" in result.stderr
    assert [item["name"] for item in client.list_endpoints()] == ["prod"]
    client.delete_endpoint(typo, QUIET)  # MLflow's own call may be repeated
    assert [item["name"] for item in client.list_endpoints()] == ["prod"]
    assert our_command("delete", "--name", "prod", "-C", "progress=none").exit_code == 0
    assert client.list_endpoints() == []


def test_an_endpoint_on_an_earlier_revision_is_flagged(client, llamas):
    client.create_deployment("chat", llamas[0], config=QUIET, endpoint="prod")
    assert "endpoints_behind" not in client.get_deployment("chat")
    client.update_deployment("chat", llamas[1], config=QUIET)
    for found in (client.get_deployment("chat"), *client.list_deployments()):
        assert (found["revision"], found["endpoints_behind"]) == (2, {"prod": 1})
    client.update_deployment("chat", endpoint="prod", config=QUIET)
    assert "endpoints_behind" not in client.get_deployment("chat")


def test_what_was_left_unfinished_is_pending_though_a_newer_one_is_ready(fireworks, client, llamas):
    landing = '{"code": 9, "details": [], "message": "files are landing"}'
    fireworks.fault("validate_upload", status=400, body=landing, times=1)
    client.create_deployment("chat", llamas[0], config={**QUIET, "synchronous": False})
    client.update_deployment("chat", llamas[1], config=QUIET)
    found = client.get_deployment("chat")
    assert (found["model"], found["pending"]) == ("accounts/acme/models/chat-r2", "chat")
    client.update_deployment("chat", llamas[0], config=QUIET)
    assert "pending" not in client.get_deployment("chat")
