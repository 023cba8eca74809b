"""The options that the commands of several rooms share, and how they show a result."""

import os
from collections.abc import Mapping
from typing import Any

import click

from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.terminal import say, say_json

_DEFAULT = "fireworks"


def choose_target() -> str:
    """The target of a command that names none: MLFLOW_DEPLOYMENTS_TARGET, where that is a target of this plugin."""
    chosen = os.environ.get("MLFLOW_DEPLOYMENTS_TARGET", "").strip()
    return chosen if chosen.lower().startswith(_DEFAULT) else _DEFAULT


TARGET = click.option(
    "-t",
    "--target",
    default=choose_target,
    show_default="MLFLOW_DEPLOYMENTS_TARGET if that is a fireworks target, else fireworks",
    help="Target URI, as for mlflow deployments.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
PAIRS = click.option("-C", "--config", "pairs", multiple=True, metavar="NAME=VALUE", help="Option; can be repeated.")


def read_pairs(pairs: tuple[str, ...]) -> dict[str, Any]:
    """The options of `-C`, not yet checked.

    Args:
        pairs: Each as it was typed.

    Raises:
        InvalidConfigError: One is no pair, or was given twice.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InvalidConfigError(f"-C {pair}: write NAME=VALUE")
        if key in options:
            raise InvalidConfigError(f"option -C {key} was given twice")
        options[key] = value
    return options


def show(found: Mapping[str, Any], as_json: bool) -> None:
    """Print a result: one line for each field that says something, or JSON.

    Args:
        found: The result.
        as_json: For scripts.
    """
    if as_json:
        say_json(found)
        return
    width = max(map(len, found))
    for name, value in found.items():
        if value not in (None, [], ""):
            say(f"{name:<{width}}  {', '.join(map(str, value)) if isinstance(value, list) else value}")
