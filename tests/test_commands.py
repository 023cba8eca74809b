"""Every command that a message prints works when it is pasted."""

import ast
import inspect
import logging
import re
from pathlib import Path

import pytest
from emulator.raw_client import ADDON, Api, adapter_files
from mlflow.deployments import get_deploy_client
from support.advice import can_run, find_commands, parse, run
from support.checkpoints import make_llama

import mlflow_fireworks
from mlflow_fireworks.commands import Commands
from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.hooks.queue import open_queue

QUIET = {"progress": "none"}
QWEN = "accounts/fireworks/models/qwen3-8b"
LANDING = '{"code": 9, "details": [], "message": "files are landing"}'
HERE = Commands(
    "fireworks://127.0.0.1:8000/acme", {"display_name": "Chat 7B", "public": "true"}, {"min_replicas": "1"}, "prod"
)
WRITTEN = {
    "again": HERE.again("chat", "models:/chat@champion", revision=1),
    "finish": HERE.finish("chat"),
    "resume_upload": HERE.resume_upload("chat"),
    "promote": HERE.promote("chat", "models:/chat@champion"),
    "create": HERE.create("chat", "models:/chat@champion"),
    "serve": HERE.serve("chat", "prod", live_merge="true"),
    "delete": HERE.delete("chat", cascade="true"),
    "get": HERE.get("chat"),
    "get_endpoint": HERE.get_endpoint("prod"),
    "list_endpoints": HERE.list_endpoints(),
    "create_endpoint": HERE.create_endpoint("prod", model=QWEN, enable_addons="true"),
    "update_endpoint": HERE.update_endpoint("prod", max_replicas="1"),
    "delete_endpoint": HERE.delete_endpoint("prod", force="true"),
    "undelete_endpoint": HERE.undelete_endpoint("prod"),
    "help": HERE.help(),
    "list_jobs": HERE.list_jobs("/var/lib/hooks.db"),
    "retry_job": HERE.retry_job("0123456789abcdef"),
    "approve": HERE.approve("champions", "/var/lib/hooks.db"),
    "resume": HERE.resume("chat", "/var/lib/hooks.db"),
    "start_worker": HERE.start_worker("/var/lib/hooks.db"),
    "register": HERE.register("https://hooks.example.com"),
    "start_emulator": HERE.start_emulator("/var/lib/fireworks"),
    "play": HERE.play({"url-life": "15m", "names": "kept"}),
}


def test_each_kind_of_command_is_tried():
    kinds = [name for name, _ in inspect.getmembers(Commands, inspect.isfunction) if not name.startswith("_")]
    assert sorted(WRITTEN) == sorted(kinds)


@pytest.mark.parametrize("command", WRITTEN.values(), ids=WRITTEN)
def test_the_real_programs_take_it(command):
    parse(command)
    assert find_commands(f"it failed; go on with: {command}") == [command]


@pytest.mark.parametrize("odd", ["s3://bucket/my model", "C:\\models\\chat", "it's", "$HOME/`x`", "--name", "ü&|>", ""])
def test_what_a_user_wrote_comes_back_as_it_was(odd):
    assert parse(HERE.create("chat", f"x{odd}"))[1]["model_uri"] == f"x{odd}"
    assert parse(HERE.retry_job("1", f"/a{odd}"))[1]["queue_url"] == f"/a{odd}"


TYPED = re.compile(
    r"mlflow deployments (?:create|update|delete|get|list|help|predict|run-local)\b"
    r"|mlflow-fireworks (?:endpoint|hooks|emulator|promote|plan)\b"
)


@pytest.mark.parametrize(
    "path", sorted(Path(mlflow_fireworks.__file__).parent.rglob("*.py")), ids=lambda path: path.stem
)
def test_no_command_is_typed_by_hand(path):
    """But for help texts, which are read and not pasted: docstrings, and the whole of `target_help`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body.pop(0)
        if isinstance(node, ast.FunctionDef) and node.name == "target_help":
            node.body.clear()
        if isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "help"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not TYPED.search(node.value), f"line {node.lineno}: {node.value}"


@pytest.fixture(scope="module")
def llamas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llamas")
    return [str(make_llama(folder / str(seed), seed=seed)) for seed in (1, 2)]


@pytest.fixture
def chat(client, llamas):
    """A deployment of two revisions, so that its name is not the id of its current model."""
    client.create_deployment("chat", llamas[0], config=QUIET)
    client.update_deployment("chat", llamas[1], config=QUIET)
    return client


def advice(action, caplog, *, fails=True):
    """The commands that are printed when something is tried, each of them taken by the real program."""
    caplog.clear()
    text = ""
    if fails:
        with pytest.raises(FireworksError) as caught:
            action()
        text = caught.value.message
    else:
        action()
    found = find_commands("\n".join([text, *caplog.messages]))
    assert found, text
    for command in found:
        parse(command)
    return found


def test_a_model_that_nobody_serves_is_put_on_gpus(chat, caplog):
    [command] = advice(lambda: chat.predict("chat", "Hello"), caplog)
    run(command)
    assert chat.predict("chat", "Hello")["predictions"]


def test_its_endpoint_has_a_name_that_is_free(chat, caplog):
    chat.create_endpoint("chat", {"model": QWEN, **QUIET})
    [command] = advice(lambda: chat.predict("chat", "Hello"), caplog)
    run(command)
    assert chat.get_deployment("chat")["endpoints"].keys() == {"chat-2"}


def test_an_adapter_that_nobody_serves_is_merged(fireworks, client, caplog):
    api = Api(fireworks.url)
    api.ready("lora", ADDON, adapter_files())
    api.close()
    [command] = advice(lambda: client.predict("lora", "Hello"), caplog)
    run(command)
    assert client.predict("lora", "Hello")["predictions"]


def test_other_content_becomes_the_next_revision(chat, llamas, tmp_path, caplog):
    third = str(make_llama(tmp_path / "a third", seed=3))
    [command] = advice(lambda: chat.create_deployment("chat", third, config=QUIET), caplog)
    run(command)
    assert chat.get_deployment("chat")["revision"] == 3


def test_what_is_missing_is_made(client, caplog):
    [command] = advice(lambda: client.get_deployment("chat"), caplog)
    assert not can_run(command)
    for action in (
        lambda: client.get_endpoint("prod"),
        lambda: client.predict(endpoint="prod", inputs="Hello"),
    ):
        [command] = advice(action, caplog)
        run(command.replace("DEPLOYMENT", QWEN))
        client.delete_endpoint("prod", {"hard": True})


def test_an_endpoint_that_serves_another_model_is_moved(chat, caplog):
    chat.update_deployment("chat", endpoint="prod", config=QUIET)
    for model in (QWEN, "chat", "chat-r2"):
        wanted = QWEN if model == QWEN else "accounts/acme/models/chat-r2"
        if chat.get_endpoint("prod")["model"] != wanted:
            [command] = advice(lambda model=model: chat.create_endpoint("prod", {"model": model}), caplog)
            run(command)
        assert chat.get_endpoint("prod")["model"] == wanted


def test_an_endpoint_that_stayed_with_the_first_revision_is_moved_to_the_next(chat, llamas, tmp_path, caplog):
    chat.update_deployment("chat", endpoint="prod", config=QUIET)
    third = str(make_llama(tmp_path / "third", seed=3))
    caplog.set_level(logging.INFO, "mlflow.fireworks")
    [command] = advice(lambda: chat.update_deployment("chat", third, config={"progress": "lines"}), caplog, fails=False)
    run(command)
    assert chat.get_endpoint("prod")["model"].endswith("/chat-r3")


def test_a_deployment_that_serves_is_deleted_with_its_endpoint(chat, caplog):
    chat.update_deployment("chat", endpoint="prod", config=QUIET)
    [command] = advice(lambda: chat.delete_deployment("chat"), caplog)
    run(command)
    assert chat.list_deployments() == []
    assert chat.list_endpoints() == []


def test_an_endpoint_that_is_switched_off_is_switched_on(chat, caplog):
    chat.update_deployment("chat", endpoint="prod", config=QUIET)
    chat.update_endpoint("prod", {"max_replicas": 0, **QUIET})
    [command] = advice(lambda: chat.predict("chat", "Hello"), caplog)
    run(command)
    assert chat.predict("chat", "Hello")["predictions"]


def test_what_others_made_and_serve_is_deleted_in_two_steps(fireworks, client, caplog):
    api = Api(fireworks.url)
    api.ready("theirs")
    api.close()
    client.create_endpoint("prod", {"model": "theirs", **QUIET})
    [force] = advice(lambda: client.delete_deployment("theirs"), caplog)
    [cascade] = advice(lambda: client.delete_deployment("theirs", {"force": True}), caplog)
    assert "cascade" not in force
    run(cascade)
    assert client.list_deployments() == []


def test_what_was_asked_of_an_endpoint_is_asked_again(fireworks, client, caplog):
    api = Api(fireworks.url)
    api.call("POST", "/deployments?deploymentId=gpus", json={"baseModel": QWEN, "acceleratorType": "NVIDIA_H100_80GB"})
    api.close()
    wanted = {"max_replicas": 3, "scale_to_zero_window": "15m", "load_targets": {"concurrent_requests": 8}, **QUIET}
    [command] = advice(lambda: client.update_endpoint("gpus", wanted), caplog)
    run(command)
    changed = client.get_endpoint("gpus")
    assert (changed["max_replicas"], changed["scale_to_zero_window"]) == (3, "900s")


def test_the_options_of_an_upload_are_repeated_when_it_is_gone_on_with(fireworks, client, llamas, caplog):
    options = {"display_name": "Chat 7B", "max_workers": 3, "shard_size": "off", "timeout": "0.01s", **QUIET}
    fireworks.fault("validate_upload", status=400, body=LANDING, times=9)
    finish, again = advice(lambda: client.create_deployment("chat", llamas[0], config=options), caplog)
    for command in (finish, again):
        given = dict(pair.split("=", 1) for pair in parse(command)[1]["config"])
        assert (given.pop("resend", None) == "true") == (command == again)
        assert given == {
            "display_name": "Chat 7B",
            "max_workers": "3",
            "shard_size": "off",
            "timeout": "0.01",
            "progress": "none",
        }


def test_what_others_made_is_deleted_by_force(fireworks, client, llamas, caplog):
    api = Api(fireworks.url)
    api.ready("theirs")
    for action in (
        lambda: client.delete_deployment("theirs"),
        lambda: client.create_deployment("theirs", llamas[0], config=QUIET),
    ):
        [command] = advice(action, caplog)
        run(command)
        assert client.list_deployments() == []
        api.ready("theirs")
    api.call("POST", "/deployments?deploymentId=gpus", json={"baseModel": QWEN, "acceleratorType": "NVIDIA_H100_80GB"})
    api.close()
    [command] = advice(lambda: client.update_endpoint("gpus", {"max_replicas": 2}), caplog)
    run(command)
    [command] = advice(lambda: client.delete_endpoint("gpus"), caplog)
    run(command)
    assert client.list_endpoints() == []


def test_an_adapter_without_an_endpoint_of_its_base_gets_one(fireworks, client, caplog):
    api = Api(fireworks.url)
    api.ready("lora", ADDON, adapter_files())
    api.close()
    [command] = advice(lambda: client.update_deployment("lora", endpoint="prod", config=QUIET), caplog)
    run(command)
    client.update_deployment("lora", endpoint="prod", config=QUIET)
    [command] = advice(lambda: client.delete_deployment("lora", {"force": True}), caplog)
    run(command)
    assert client.list_deployments() == []


def test_an_upload_that_does_not_become_ready_is_gone_on_with(fireworks, chat, tmp_path, caplog):
    third = str(make_llama(tmp_path / "third", seed=3))
    for again in (0, 1):
        fireworks.fault("validate_upload", status=400, body=LANDING, times=1)
        options = {"timeout": "0.001s", **QUIET}
        commands = advice(lambda: chat.update_deployment("chat", third, config=options), caplog)  # noqa: B023 - now
        assert len(commands) == 2
        run(commands[again].replace("timeout=0.001", "timeout=10"))
        assert chat.get_deployment("chat")["state"] == "READY"
        assert chat.get_deployment("chat")["revision"] == 3
        api = Api(fireworks.url)
        api.call("DELETE", "/models/chat-r3")
        api.close()


def test_an_endpoint_waits_for_a_model_that_is_not_ready(fireworks, client, llamas, caplog):
    fireworks.fault("validate_upload", status=400, body=LANDING, times=1)
    options = {"synchronous": False, **QUIET}
    [command] = advice(
        lambda: client.create_deployment("chat", llamas[0], config=options, endpoint="prod"), caplog, fails=False
    )
    run(command)
    assert client.get_endpoint("prod")["model"].endswith("/chat")


def test_an_endpoint_that_comes_up_late_is_looked_at_or_taken_down(fireworks, chat, caplog):
    fireworks.set_transition("deployments", seconds=3600)
    chat.create_endpoint("prod", {"model": "chat", "wait": False, **QUIET})
    commands = advice(lambda: chat.predict("chat", "Hello"), caplog)
    commands += advice(
        lambda: chat.create_endpoint("prod", {"model": "chat", "ready_timeout": "0.01s", **QUIET}), caplog
    )
    assert len(commands) >= 3
    for command in commands:
        run(command)
    assert chat.list_endpoints() == []


@pytest.fixture
def late_tuning(monkeypatch):
    with Emulator(tunability_seconds=3600) as fireworks:
        monkeypatch.setenv("FIREWORKS_BASE_URL", fireworks.url)
        monkeypatch.setenv("FIREWORKS_API_KEY", "fw_key")
        monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", "acme")
        yield fireworks


def test_tunability_that_is_late_is_looked_at(late_tuning, llamas, tmp_path, caplog):
    client = get_deploy_client("fireworks")
    client.create_deployment("chat", llamas[0], config=QUIET)
    third = str(make_llama(tmp_path / "third", seed=3))
    options = {"hugging_face_url": "acme/llama", "watch_tunable": True, "tunable_timeout": "0.01s", **QUIET}
    [command] = advice(lambda: client.update_deployment("chat", third, config=options), caplog, fails=False)
    assert "chat-r2" in run(command).stdout


def test_a_dead_job_is_found_where_it_is(tmp_path, caplog):
    queue = open_queue(str(tmp_path / "my jobs.db"))
    [command] = advice(lambda: queue.retry("nobody"), caplog)
    queue.close()
    assert parse(command)[1]["queue_url"] == str(tmp_path / "my jobs.db")
    run(command)


@pytest.mark.parametrize("options", [{"wonders": "1"}, {"max_workers": "many"}])
def test_an_option_that_is_none_leads_to_the_help(client, options, caplog):
    [command] = advice(lambda: client.create_deployment("chat", "/tmp", config=options), caplog)
    assert "Options (-C name=value)" in run(command).stdout
