"""What is loaded, and how long it takes, before anything is asked for. Figures: `benchmarks/startup.py`."""

import os
import subprocess
import sys
from importlib.metadata import version

import click
import pytest
from click.testing import CliRunner
from support.checkpoints import make_llama

from mlflow_fireworks.cli import main
from mlflow_fireworks.cli.menu import Menu, load_command
from mlflow_fireworks.commands import Commands
from mlflow_fireworks.installing import install

HEAVY = {"mlflow", "huggingface_hub", "httpx", "requests", "pydantic", "huey", "starlette", "mlflow_fireworks.errors"}
MENUS = {"main": main, "hooks": main.menus["hooks"]}


def loaded_by(*arguments):
    program = (
        "import sys\n"
        "from mlflow_fireworks.cli import main\n"
        f"main({list(arguments)!r}, standalone_mode=False)\n"
        f"print('loaded:', sorted({HEAVY!r} & set(sys.modules)))"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], ["hooks", "--help"], ["hooks", "-h"]])
def test_help_and_version_load_nothing_heavy(arguments):
    assert loaded_by(*arguments).splitlines()[-1] == "loaded: []"


def test_the_help_names_the_command_that_messages_name():
    assert f"\n  {Commands.help()}\n" in CliRunner().invoke(main, ["--help"]).stdout


def packages_loaded_by(program, **environment):
    program += "\nimport sys\nprint('loaded:', *{name.partition('.')[0] for name in sys.modules})"
    command, environ = [sys.executable, "-c", program], os.environ | environment
    told = subprocess.run(command, capture_output=True, text=True, env=environ, check=True, timeout=120)
    return set(told.stdout.rpartition("loaded:")[2].split()) - sys.stdlib_module_names


@pytest.mark.slow
def test_a_plan_loads_little_beyond_mlflow_and_the_clients_of_the_hub_and_http(tmp_path):
    model = make_llama(tmp_path / "llama")
    arguments = ["plan", "-t", "fireworks://local", "-m", str(model), "--name", "chat", "-C", "progress=none"]
    plan = f"from mlflow_fireworks.cli import main\nmain({arguments!r}, standalone_mode=False)"
    needed = "import mlflow.deployments, httpx, stamina, google_crc32c, huggingface_hub.hf_api"
    added = packages_loaded_by(plan, MLFLOW_FIREWORKS_HOME=str(tmp_path / "home")) - packages_loaded_by(needed)
    assert added <= {"mlflow_fireworks", "httpcore", "httpcore2", "jinja2", "markupsafe"}


@pytest.mark.skipif(version("click").startswith("8.1."), reason="click 8.1 ends the line of a command at `e.g.`")
@pytest.mark.parametrize("name", MENUS)
def test_the_menus_say_what_the_commands_say(name):
    menu, group = MENUS[name], MENUS[name].load()
    context = click.Context(group)
    told = {
        command: group.get_command(context, command).get_short_help_str(1000)
        for command in group.list_commands(context)
    }
    assert {**menu.lines, **{below: item.help for below, item in menu.menus.items()}} == told
    assert name == "main" or menu.help == group.help


@pytest.mark.parametrize(
    "arguments", [["plan", "--help"], ["endpoint", "create", "--help"], ["hooks", "jobs", "--help"]]
)
def test_commands_are_found_through_the_menus(arguments):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "--json" in result.stdout


@pytest.mark.parametrize("arguments", [["plam"], ["hooks", "serv"]])
def test_an_unknown_command_is_told(arguments):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "No such command" in result.stderr


def menu_of(module, packages):
    return Menu("menu", lambda: load_command(module, "group", packages), {"go": "Go."})


def test_a_missing_package_of_an_extra_is_named_with_what_installs_it(tmp_path, monkeypatch):
    (tmp_path / "needs_a_queue.py").write_text("import no_such_queue.storage\n")
    monkeypatch.syspath_prepend(tmp_path)
    menu = menu_of("needs_a_queue", ("no_such_queue", "and_more"))
    assert CliRunner().invoke(menu, ["--help"]).exit_code == 0
    result = CliRunner().invoke(menu, ["go"])
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: this needs no_such_queue, which is not installed: {install('no_such_queue', 'and_more')}\n"
    )


def test_any_other_failed_import_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "is_broken.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(CliRunner().invoke(menu_of("is_broken", ()), ["go"]).exception, ModuleNotFoundError)
