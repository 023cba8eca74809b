"""What commands print: the only way to standard output and standard error for text that others had a part in."""

import json

import click

from mlflow_fireworks.printable import make_all_printable, make_printable


def say(text: str, *, err: bool = False) -> None:
    """Print one line.

    Args:
        text: The line.
        err: To standard error.
    """
    click.echo(make_printable(text), err=err)


def say_json(content: object) -> None:
    """Print plain values as JSON, for scripts.

    Args:
        content: The values.
    """
    click.echo(json.dumps(make_all_printable(content), indent=2))
