"""The options that the commands of several rooms share."""

import os

import click

_DEFAULT = "fireworks"


def choose_target() -> str:
    """The target of a command that names none: MLFLOW_DEPLOYMENTS_TARGET, where that is a target of this plugin."""
    chosen = os.environ.get("MLFLOW_DEPLOYMENTS_TARGET", "").strip()
    return chosen if chosen.lower().startswith(_DEFAULT) else _DEFAULT


TARGET = click.option(
    "-t",
    "--target",
    default=choose_target,
    show_default="MLFLOW_DEPLOYMENTS_TARGET where that is a fireworks target, else fireworks",
    help="Target URI, as for mlflow deployments.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
