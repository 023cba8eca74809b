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
    _print(make_printable(text), err=err)


def say_json(content: object) -> None:
    """Print plain values as JSON, for scripts.

    Args:
        content: The values.
    """
    _print(json.dumps(make_all_printable(content), indent=2))


def _print(text: str, *, err: bool = False) -> None:
    try:
        click.echo(text, err=err)
    except BrokenPipeError:  # click ends the command without a word: nobody reads on
        raise
    except OSError as error:
        if err:  # there is no other place to say it
            return
        raise click.ClickException(
            f"what this command prints cannot be written ({error.strerror}); what it did is done all the same"
        ) from None
