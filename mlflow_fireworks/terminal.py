"""What commands print: the only way to standard output and standard error for text that others had a part in."""

import json
import re
import shutil
import sys
import textwrap

import click

from mlflow_fireworks.printable import make_all_printable, make_printable

_COMMAND_AT_THE_END = re.compile(r"(.*: )(mlflow(?:-fireworks)? [a-z].*)")


def terminal_width(*, err: bool = False) -> int:
    """Columns of the terminal; 0 where there is none, so that nothing is cut or wrapped in a pipe."""
    return shutil.get_terminal_size().columns if (sys.stderr if err else sys.stdout).isatty() else 0


def say(text: str, *, err: bool = False) -> None:
    """Print one line.

    Args:
        text: The line.
        err: To standard error.
    """
    _print(make_printable(text), err=err)


def say_wrapped(text: str, indent: int, *, err: bool = False) -> None:
    """Print a line that may be long: in a terminal wrapped between words, and one line elsewhere.

    A command at its end is left whole, so that it works when pasted.

    Args:
        text: The line.
        indent: Of the lines after the first, in columns.
        err: To standard error.
    """
    text, width = make_printable(text), terminal_width(err=err)
    if not 0 < width < len(text):
        say(text, err=err)
        return
    prose, command = found.groups() if (found := _COMMAND_AT_THE_END.fullmatch(text)) else (text, "")
    blanks = " " * indent
    for line in textwrap.wrap(prose, width, subsequent_indent=blanks, break_long_words=False, break_on_hyphens=False):
        say(line, err=err)
    if command:
        say(blanks + command, err=err)


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
            f"the output cannot be written ({error.strerror}), but the command has done its work"
        ) from None
