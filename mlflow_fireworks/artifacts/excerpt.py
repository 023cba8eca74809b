"""A file made of pieces of a stored one under a header of its own, read through and never written to disk."""

import io
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO, Union

from mlflow_fireworks.artifacts.content import Stored


@dataclass(frozen=True)
class Excerpt:
    """A file of which only the first bytes are new.

    Args:
        whole: The file that the rest lies in.
        header: The first bytes.
        pieces: Beginning and length in bytes of each piece of `whole`, in their new order.
        change: How it differs from `whole`, for its identity: `unwrapped`.
    """

    whole: Union[Stored, "Excerpt"]
    header: bytes
    pieces: tuple[tuple[int, int], ...]
    change: str

    @property
    def stored(self) -> Stored:
        """The file of the source that the bytes come from."""
        return self.whole.stored

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.header) + sum(length for _, length in self.pieces)

    @property
    def origin(self) -> str:
        """Where it comes from."""
        return self.whole.origin

    @property
    def identity(self) -> str | None:
        """What names its content for ever, if there is such a name for the whole."""
        return f"{self.whole.identity}:{self.change}" if self.whole.identity else None

    def is_here(self) -> bool:
        """Whether the stored file lies on this machine."""
        return self.whole.is_here()

    def read(self) -> bytes:
        """All of it."""
        with self.staged() as open_file, open_file() as opened:
            return opened.read()

    @contextmanager
    def staged(self) -> Iterator[Callable[[], BinaryIO]]:
        """Make the stored file available here, and read through it."""
        with self.whole.staged() as open_whole:
            yield lambda: Splice(open_whole(), self.header, self.pieces)


class Splice(io.RawIOBase, BinaryIO):
    """Reads a header, then pieces of a file, as if they were one file.

    A read inside of one piece is one read of the file, and its bytes are passed on without a copy.

    Args:
        whole: The file; closed with this one.
        header: What comes first.
        pieces: Beginning and length in bytes of each piece, in their order here.
    """

    def __init__(self, whole: BinaryIO, header: bytes, pieces: Iterable[tuple[int, int]]) -> None:
        pieces = list(pieces)
        self._whole = whole
        self._header = header
        self._begins = [begin for begin, _ in pieces]
        self._ends = list(accumulate((length for _, length in pieces), initial=len(header)))
        self._position = 0

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
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, fewer only at the end; all that are left for -1."""
        left = max(0, self._ends[-1] - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        parts = []
        while wanted and (part := self._read_part(wanted)):
            parts.append(part)
            wanted -= len(part)
            self._position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any writable buffer
        """Fill a buffer as far as there is something left."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _read_part(self, wanted: int) -> bytes:
        if self._position < len(self._header):
            return self._header[self._position : self._position + wanted]
        number = bisect_right(self._ends, self._position) - 1
        self._whole.seek(self._begins[number] + self._position - self._ends[number])
        return self._whole.read(min(wanted, self._ends[number + 1] - self._position))

    def close(self) -> None:
        """Close the file as well."""
        self._whole.close()
        super().close()
