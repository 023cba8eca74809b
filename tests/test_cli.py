import json
import re

import click
import pytest
from click.testing import CliRunner
from support.checkpoints import make_llama

from mlflow_fireworks.cli import main
from mlflow_fireworks.emulator import Emulator


@pytest.fixture
def target(monkeypatch):
    monkeypatch.setenv("FIREWORKS_API_KEY", "fw_key")
    with Emulator() as emulator:
        yield emulator.url.replace("http://", "fireworks://") + "/acme"
        assert not [request for request in emulator.requests if request.method != "GET"]


def test_a_plan_shows_every_file_and_sends_none(target, tmp_path):
    folder = make_llama(tmp_path / "llama", shards=2)
    result = CliRunner().invoke(main, ["plan", "-t", target, "-m", str(folder), "--name", "chat"])
    assert result.exit_code == 0, result.output
    for name in ("config.json", "tokenizer.json", "model-00001-of-00002.safetensors"):
        assert name in result.stdout


def test_a_plan_for_programs(target, tmp_path):
    folder = make_llama(tmp_path / "llama")
    result = CliRunner().invoke(
        main, ["plan", "-t", target, "-m", str(folder), "--name", "chat", "-C", "progress=none", "--json"]
    )
    plan = json.loads(result.stdout)
    assert (plan["action"], plan["state"], plan["dry_run"]) == ("created", "DRY_RUN", True)
    assert sum(file["size"] for file in plan["file_list"]) == plan["bytes"]


@pytest.mark.parametrize("pairs", [["-C", "timeout"], ["-C", "a=1"], ["-C", "timeout=1m", "-C", "timeout=2m"]])
def test_mistakes_are_one_line(target, pairs):
    result = CliRunner().invoke(main, ["plan", "-t", target, "-m", "/nowhere", "--name", "chat", *pairs])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


def commands_of(group, words=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands_of(command, (*words, name))
        else:
            yield *words, name


@pytest.mark.parametrize("words", list(commands_of(main)), ids=" ".join)
def test_every_command_names_itself_as_it_was_typed(words):
    typed = " ".join(("mlflow-fireworks", *words))
    helped = CliRunner().invoke(main, [*words, "--help"], prog_name="mlflow-fireworks")
    assert helped.stdout.startswith(f"Usage: {typed} ")
    mistaken = CliRunner().invoke(main, [*words, "--no-such-option"], prog_name="mlflow-fireworks")
    assert re.search(f"Try '{typed} (--help|-h)' for help\\.", mistaken.stderr)  # click 8.1 names the shortest
