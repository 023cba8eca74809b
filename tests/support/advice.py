"""Commands out of messages, run as somebody does who pastes them."""

import re
import shlex

import click
from click.testing import CliRunner
from mlflow.cli import cli as mlflow_program

from mlflow_fireworks.cli import main as own_program
from mlflow_fireworks.config import parse_config
from mlflow_fireworks.emulator.__main__ import command as emulator_program
from mlflow_fireworks.endpoint_config import parse_both, parse_endpoint_config

PROGRAMS = {"mlflow": mlflow_program, "mlflow-fireworks": own_program}
_WORD = r"""(?:'[^']*'|"[^"]*"|[^\s'"`;,)]|[;,](?=\S))+"""
_COMMAND = re.compile(
    rf"mlflow(?:-fireworks)? (?:deployments|doctor|endpoint|hooks|emulator|promote|resume|rollback)(?: {_WORD})+"
)
_PLACEHOLDERS = {"MODEL_URI", "DEPLOYMENT", "https://HOST"}


def find_commands(text):
    """Every command in a message, as it would be copied out of it."""
    return _COMMAND.findall(text)


def parse(command):
    """What the real program makes of a command: the name of the last command and its parameters.

    Raises:
        click.UsageError: The program does not take it.
        InvalidConfigError: It names an option that there is not, or a value that does not fit.
    """
    program, *words = shlex.split(command)
    if words[0] == "emulator":  # passed through by our own program
        return "emulator", emulator_program.make_context("emulator", words[1:]).params
    found: click.Command = PROGRAMS[program]
    context = None
    while isinstance(found, click.Group):
        context = click.Context(found, parent=context, info_name=words[0])
        name, found, words = found.resolve_command(context, words)
    parameters = found.make_context(name, list(words), parent=context).params
    _check_options(is_about_endpoint=shlex.split(command)[1] == "endpoint", parameters=parameters)
    return name, parameters


def _check_options(*, is_about_endpoint, parameters):
    pairs = parameters.get("pairs") or parameters.get("config") or ()
    options = dict(pair.split("=", 1) for pair in pairs)
    if is_about_endpoint:
        parse_endpoint_config(options)
    elif parameters.get("endpoint"):
        parse_both(options, parameters["endpoint"])
    else:
        parse_config(options)


def can_run(command):
    """Whether nothing in it is for the reader to fill in."""
    return not _PLACEHOLDERS & set(re.split(r"[\s=]", command))


def run(command):
    """Run it in this process, as the shell would.

    Raises:
        AssertionError: It failed.
    """
    program, *words = shlex.split(command)
    result = CliRunner().invoke(PROGRAMS[program], words)
    assert result.exit_code == 0, f"{command}\n{result.output}"
    return result
