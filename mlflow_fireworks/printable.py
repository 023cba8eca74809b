"""Text that others wrote, made fit to be shown: names, descriptions, messages of servers, settings of checkpoints.

A terminal obeys escape sequences (they set its title, hide what was printed, paste), a line feed begins a line of a log
that nobody wrote, and marks of writing direction show another text than the one that a program reads. So where text
leaves, everything in it that is not printable becomes visible.
"""

from collections.abc import Mapping
from typing import TypeVar, cast

T = TypeVar("T")


def make_printable(text: str) -> str:
    r"""One line that shows what is in a text: white space is blanks, and what has no look of its own is escaped.

    Args:
        text: Anything; `"a\x1b[2J\nb"` becomes `a\x1b[2J b`, with a visible backslash.
    """
    return text if text.isprintable() else "".join(map(_show, text))


def make_all_printable(content: T) -> T:
    """The same for every text in plain values: keys and values of dicts, items of lists and tuples."""
    return cast(T, _show_all(content))


def make_lines_printable(text: str) -> str:
    """The same for each line of a text whose own line feeds are meant."""
    return "\n".join(map(make_printable, text.split("\n")))


def _show(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()


def _show_all(content: object) -> object:
    if isinstance(content, str):
        return make_printable(content)
    if isinstance(content, Mapping):
        return {_show_all(key): _show_all(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(map(_show_all, content))
    return content
