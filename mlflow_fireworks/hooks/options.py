"""The options that commands of the hooks share."""

from pathlib import Path
from typing import Any

import click

from mlflow_fireworks.credentials import read_credential
from mlflow_fireworks.home import state_folder
from mlflow_fireworks.option_values import read_duration
from mlflow_fireworks.redaction import learn_uri


class Duration(click.ParamType):  # type: ignore[type-arg]  # older clicks know no argument
    """A duration such as 90s, 30m or 2h, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        try:
            return float(str(read_duration(value)))
        except ValueError as error:
            self.fail(f"'{value}' {error}", param, ctx)


RULES = click.option(
    "--rules",
    "rules_path",
    type=click.Path(path_type=Path),
    default="hooks.yaml",
    show_default=True,
    envvar="MLFLOW_FIREWORKS_RULES",
    help="The rule file.",
)
QUEUE_VARIABLE = "MLFLOW_FIREWORKS_QUEUE"
QUEUE = click.option(
    "--queue",
    "queue_url",
    envvar=QUEUE_VARIABLE,
    help="SQLite file, or redis://… if several machines share the work. "
    "[default: hooks.db in the plugin's state folder]",
)


def locate_queue(url: str | None) -> str:
    """The queue that is meant.

    Args:
        url: As of `find_queue_url`; without one it is the default one.

    Raises:
        CredentialsError: There is a file of secrets for it that cannot be read.
    """
    return find_queue_url(url) or str(state_folder() / "hooks.db")


def find_queue_url(url: str | None) -> str:
    """The queue that is named: as given, else in a file of secrets; empty when it is not. Its password is hidden.

    Raises:
        CredentialsError: There is a file of secrets for it that cannot be read.
    """
    found = url or read_credential(QUEUE_VARIABLE).value
    learn_uri(found)
    return found
