"""A table in a terminal: no wider than it, and one line for each row."""

from collections.abc import Iterator, Sequence

from mlflow_fireworks.terminal import terminal_width

_GAP = "  "
_LEAST = 8  # of a column, however narrow the terminal


def write_table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> Iterator[str]:
    """The lines of a table; columns that are empty in all rows are left out.

    Where it is too wide, the texts of the widest columns are shortened; a single row becomes a line for each column.

    Args:
        head: Names of the columns.
        rows: Texts, as many as there are columns.
        width: Longest line in characters, 0 for no limit; that of the terminal when None.
    """
    width = terminal_width() if width is None else width
    used = [number for number in range(len(head)) if any(row[number] for row in rows)]
    cells = [[row[number] for number in used] for row in (head, *rows)]
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    room = width - len(_GAP) * (len(sizes) - 1)
    if width and sum(sizes) > room and len(rows) == 1:
        size = max(map(len, cells[0]))
        yield from (f"{name:<{size}}{_GAP}{text}" for name, text in zip(*cells, strict=True))
        return
    while width and sum(sizes) > room and max(sizes) > _LEAST:
        sizes[sizes.index(max(sizes))] -= 1
    for row in cells:
        yield _GAP.join(_shorten(text, size).ljust(size) for text, size in zip(row, sizes, strict=True)).rstrip()


def _shorten(text: str, size: int) -> str:
    """A sentence loses its end; a name or an address its middle, since its end tells more."""
    if len(text) <= size:
        return text
    end = 0 if " " in text else (size - 1) // 2
    return f"{text[: size - 1 - end]}…{text[len(text) - end :]}"
