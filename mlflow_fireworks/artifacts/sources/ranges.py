"""Any range of a file in a remote store as a stream, which goes on in the middle where the connection broke.

What a store can do is a function, `OpenRange`; `clients` has one for each kind of store.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from mlflow_fireworks.errors import RangeError, ReplacedError
from mlflow_fireworks.http import TransientError

# Of a download that breaks, at most so much is fetched again; and pieces of this size stay in a core's cache.
PIECE = 1 << 18
# Reading on over a gap of this size costs less than another request.
GAP = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class Answer:
    """A range of a file, as a store sends it.

    Args:
        read: Gives so many further bytes, fewer where there are no more for now, none at the end.
        close: Ends it, read or not.
        headers: As in HTTP, by their names in lower case: `content-range`, without which it is no range;
            `content-length`, `content-encoding`.
        version: What names the file's content as it is now (an ETag, a generation, a time); empty where the store tells
            none.
    """

    read: Callable[[int], bytes]
    close: Callable[[], object]
    headers: Mapping[str, str]
    version: str = ""


OpenRange = Callable[[str, int, int, str | None], Answer]
"""Asks for a file's bytes from a first one up to another, of the version that an earlier answer told (None: any).

SourceError means that another try is useless; any other exception is tried again."""


def whole_files_only(name: str, begin: int, end: int, version: str | None) -> Answer:  # noqa: ARG001 - an OpenRange
    """The `OpenRange` of a store that has none."""
    raise RangeError("this store cannot send part of a file")


def check_answer(answer: Answer, begin: int, end: int, size: int, version: str | None) -> None:
    """Hold what a store says about its answer against what was asked for. More than that may follow; it is not read.

    Args:
        answer: The store's.
        begin: The first byte that was asked for.
        end: The one behind the last.
        size: The file's length in bytes, as planned.
        version: What an earlier answer told.

    Raises:
        RangeError: It is something else; says what.
        ReplacedError: It is of another file than was planned.
    """
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if found is None:
        raise RangeError("this server only sends whole files")
    first, last, total = found.groups()
    if total != "*" and int(total) != size:
        raise ReplacedError(f"it has {int(total):,} bytes now, not {size:,}")
    if version and answer.version and name_weakly(answer.version) != name_weakly(version):
        raise ReplacedError("it has been replaced")
    if int(first) != begin or int(last) + 1 < end:
        raise RangeError(f"the server sent the bytes {first}-{last}, but {begin}-{end - 1} were requested")
    length = answer.headers.get("content-length")
    if length is not None and length != str(int(last) + 1 - begin):
        raise RangeError(f"the server announced {length} bytes, but {int(last) + 1 - begin} as a range")
    # Some stores hand out how an object was encoded when it was written; its bytes are sent as they are, and counted.
    encoding = answer.headers.get("content-encoding", "identity")
    if length is None and encoding not in ("", "identity"):
        raise RangeError(f"the server sent the bytes encoded ({encoding}) instead of unchanged")


def name_weakly(version: str) -> str:
    """A version without the mark of a weak ETag: a gateway that compresses makes one of it, and its neighbour may not.

    Args:
        version: As a store tells it.
    """
    return version.removeprefix("W/")


def read_pieces(pieces: Iterator[bytes]) -> Callable[[int], bytes]:
    """The `read` of an answer that comes in pieces of any size.

    Args:
        pieces: Its bytes.
    """
    left = memoryview(b"")

    def read(size: int) -> bytes:
        nonlocal left
        left = left or memoryview(next(pieces, b""))
        piece, left = bytes(left[:size]), left[size:]
        return piece

    return read


class RangeStream(io.RawIOBase, BinaryIO):
    """Reads some bytes of a remote file from any place on: one request, as long as all goes well and in order.

    Nothing is read ahead, so whoever reads slowly slows down the store.

    Args:
        open_answer: Asks for the bytes from one place up to another.
        begin: Where reading starts; places count from the beginning of the file.
        end: Where it ends.
        retried: Does one read, again where a failure may pass. A read that brings something begins the count anew.
    """

    def __init__(
        self,
        open_answer: Callable[[int, int], Answer],
        begin: int,
        end: int,
        retried: Callable[[Callable[[], bytes]], bytes],
    ) -> None:
        self._open_answer = open_answer
        self._retried = retried
        self._position = begin
        self._end = end
        self._answer: Answer | None = None
        self._reached = 0  # by the answer

    def readable(self) -> bool:
        """It is for reading only."""
        return True

    def seekable(self) -> bool:
        """Any place can be read."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; what lies behind the end is not read."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """At most so many bytes, none only at the end; all that are left for -1.

        Raises:
            SourceError: They cannot be had, or are those of another file now.
        """
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(PIECE), b""))
        wanted = min(size, PIECE, self._end - self._position)
        if wanted <= 0:
            return b""
        piece = self._retried(lambda: self._read_once(wanted))
        self._position += len(piece)
        return piece

    def _read_once(self, wanted: int) -> bytes:
        try:
            answer = self._find_answer()
            piece = answer.read(wanted)
        except BaseException:
            self._drop_answer()
            raise
        self._reached += len(piece)
        if not piece:
            self._drop_answer()
            raise TransientError("the download was cut off")
        return piece

    def _find_answer(self) -> Answer:
        """The answer that comes to the wanted place next."""
        while self._answer and self._reached < self._position <= self._reached + GAP:
            skipped = self._answer.read(min(PIECE, self._position - self._reached))
            if not skipped:
                raise TransientError("the download was cut off")
            self._reached += len(skipped)
        if self._answer is None or self._reached != self._position:
            self._drop_answer()
            self._answer = self._open_answer(self._position, self._end)
            self._reached = self._position
        return self._answer

    def _drop_answer(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            with suppress(Exception):  # it is broken, and its client may say so once more
                answer.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._drop_answer()
        super().close()
