"""A table in a terminal: as wide as it is, and one line for each row."""

import shutil
import sys
from collections.abc import Iterator, Sequence

_GAP = "  "
_LEAST = 8  # of the last column, however narrow the terminal


def write_table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> Iterator[str]:
    """The lines of a table; columns that are empty in all rows are left out.

    Args:
        head: Names of the columns.
        rows: Texts, as many as there are columns.
        width: Longest line in characters, where the last column ends in …; that of the terminal when None, and no limit
            where stdout is none, so that nothing is lost in a pipe.
    """
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    used = [number for number in range(len(head)) if any(row[number] for row in rows)]
    cells = [[row[number] for number in used] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    room = max(width - before, _LEAST) if width else 0
    for row in cells:
        parts = [text.ljust(size) for text, size in zip(row[:-1], widths, strict=False)]
        yield _GAP.join([*parts, *(_shorten(text, room) for text in row[-1:])]).rstrip()


def _shorten(text: str, room: int) -> str:
    return text if not room or len(text) <= room else f"{text[: room - 1]}…"
