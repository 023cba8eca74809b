"""A file made of pieces of stored ones under a header of its own, read through and never written to disk."""

import io
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO

from mlflow_fireworks.artifacts.content import OpenPart, Piece, Stored
from mlflow_fireworks.artifacts.sources.ranges import GAP


@dataclass(frozen=True)
class Excerpt:
    """A file of which only the first bytes are new.

    Args:
        header: The first bytes.
        pieces: What follows, in this order.
        origin: Where it comes from, for a person.
        identity: What names its content for ever, or None.
    """

    header: bytes
    pieces: tuple[Piece, ...]
    origin: str
    identity: str | None = None

    @property
    def sources(self) -> tuple[Stored, ...]:
        """The files of the source that the bytes come from."""
        return tuple(dict.fromkeys(piece.file for piece in self.pieces))

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.header) + sum(piece.end - piece.begin for piece in self.pieces)

    @property
    def version(self) -> str:
        """What their stores call the present content of the files."""
        return " ".join(file.version for file in self.sources)

    def cut(self, begin: int, end: int) -> tuple[Piece, ...]:
        """Its bytes from one place behind the header up to another, as pieces of the stored files."""
        found, at = [], len(self.header)
        for piece in self.pieces:
            first, last = max(begin - at, 0), min(end - at, piece.end - piece.begin)
            if first < last:
                found.append(Piece(piece.file, piece.begin + first, piece.begin + last))
            at += piece.end - piece.begin
        return tuple(found)

    def is_here(self) -> bool:
        """Whether all the stored files lie on this machine."""
        return all(file.is_here() for file in self.sources)

    def read(self) -> bytes:
        """All of it."""
        with self.staged() as open_file, open_file() as opened:
            return opened.read()

    @contextmanager
    def staged(self) -> Iterator[Callable[[], BinaryIO]]:
        """Make the stored files available here, and read through them."""
        with ExitStack() as stack:
            openers = {file: stack.enter_context(file.opened()) for file in self.sources}
            yield lambda: Splice(self.header, self.pieces, openers)


class Splice(io.RawIOBase, BinaryIO):
    """Reads a header, then pieces of files, as if they were one file.

    A read inside of one piece is one read of a file, and its bytes are passed on without a copy. At most one file is
    open, and it stays open for pieces that follow one another in it.

    Args:
        header: What comes first.
        pieces: What follows, in this order.
        openers: What opens each file.
    """

    def __init__(self, header: bytes, pieces: Sequence[Piece], openers: Mapping[Stored, OpenPart]) -> None:
        self._header = header
        self._pieces = pieces
        self._openers = openers
        self._ends = list(accumulate((piece.end - piece.begin for piece in pieces), initial=len(header)))
        self._run_ends = _find_run_ends(pieces)
        self._position = 0
        self._opened: tuple[int, BinaryIO] | None = None  # up to which piece, and the file

    def readable(self) -> bool:
        """It is for reading only."""
        return True

    def seekable(self) -> bool:
        """Any place can be read."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; behind the end there is nothing to read."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        if start + offset < 0:
            raise ValueError(f"there is no byte {start + offset}")
        if start + offset < self._position:
            self._close_file()
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """At most so many bytes, none only at the end; all that are left for -1."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(max(1, self._ends[-1] - self._position)), b""))
        wanted = min(size, self._ends[-1] - self._position)
        piece = self._read_part(wanted) if wanted > 0 else b""
        self._position += len(piece)
        return piece

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any writable buffer
        """Fill a buffer as far as one read brings something."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _read_part(self, wanted: int) -> bytes:
        if self._position < len(self._header):
            return self._header[self._position : self._position + wanted]
        number = bisect_right(self._ends, self._position) - 1
        place = self._pieces[number].begin + self._position - self._ends[number]
        file = self._open_file(number, place)
        file.seek(place)
        return file.read(min(wanted, self._ends[number + 1] - self._position))

    def _open_file(self, number: int, place: int) -> BinaryIO:
        last = self._run_ends[number]
        if self._opened is None or self._opened[0] != last:
            self._close_file()
            self._opened = last, self._openers[self._pieces[number].file](place, self._pieces[last].end)
        return self._opened[1]

    def _close_file(self) -> None:
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def close(self) -> None:
        """Close the file that is open as well."""
        self._close_file()
        super().close()


def _find_run_ends(pieces: Sequence[Piece]) -> list[int]:
    """For each piece, the last one of those that follow one another in its file with no more than small gaps."""
    ends = list(range(len(pieces)))
    for number in reversed(range(len(pieces) - 1)):
        one, following = pieces[number], pieces[number + 1]
        if one.file == following.file and 0 <= following.begin - one.end <= GAP:
            ends[number] = ends[number + 1]
    return ends
