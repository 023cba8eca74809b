"""Request bodies off a blocking socket: by Content-Length or chunked, in large pieces, counted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader

PIECE_BYTES = 1 << 20
_MAX_LINE = 8192
_SLICE_SECONDS = 0.01


class BadBodyError(Exception):
    """The framing of the body is broken; the connection cannot be used any further."""


class CutError(ConnectionError):
    """The client went away before the end of its body."""


class Body:
    """The body of one request.

    Args:
        stream: The connection, positioned after the request head.
        headers: Names in lower case.

    Attributes:
        received: Bytes read so far.
        pause_at: Call `pause` once this many bytes have been read.
        bytes_per_second: Read no faster than this.

    Raises:
        BadBodyError: The head announces no usable length.
    """

    def __init__(self, stream: BufferedReader, headers: Mapping[str, str]) -> None:
        self.received = 0
        self.pause_at: int | None = None
        self.pause: Callable[[], object] = _go_on
        self.bytes_per_second: int | None = None
        self._stream = stream
        coding = headers.get("transfer-encoding", "").strip().lower()
        length = headers.get("content-length", "0" if not coding else "")
        if coding not in ("", "chunked") or (coding and length):
            raise BadBodyError("unsupported Transfer-Encoding")
        if not coding and not re.fullmatch(r"[0-9]{1,18}", length):
            raise BadBodyError("invalid Content-Length")
        self._chunked = bool(coding)
        self._left = 0 if coding else int(length)
        self.finished = not coding and not self._left

    def __iter__(self) -> Iterator[bytes]:
        """The rest of the body, in pieces as they arrive.

        Raises:
            CutError: The client went away.
            BadBodyError: A chunk header is malformed.
        """
        while not self.finished:
            piece = self.read()
            if piece:
                yield piece

    def read(self, limit: int = PIECE_BYTES) -> bytes:
        """At most `limit` bytes; empty only at the end of the body."""
        limit = self._obstruct(limit)
        if self._chunked and not self._left and not self.finished:
            self._next_chunk()
        if self.finished:
            return b""
        # read1 hands over what one system call brings, straight into the bytes object, without the
        # buffer in between; that is what makes this as fast as a bare socket.
        piece = self._stream.read1(min(limit, self._left, PIECE_BYTES))
        if not piece:
            raise CutError("the client closed the connection inside the request body")
        self.received += len(piece)
        self._left -= len(piece)
        if not self._left:
            if self._chunked:
                self._line()
            else:
                self.finished = True
        return piece

    def _obstruct(self, limit: int) -> int:
        """Pause and slow down where that was scripted."""
        if self.pause_at is not None:
            if self.received >= self.pause_at:
                self.pause_at = None
                self.pause()
            else:
                limit = min(limit, self.pause_at - self.received)
        if self.bytes_per_second:
            time.sleep(_SLICE_SECONDS)
            limit = min(limit, max(1, int(self.bytes_per_second * _SLICE_SECONDS)))
        return limit

    def read_all(self, limit: int) -> bytes:
        """The whole body of a small request.

        Raises:
            BadBodyError: It is longer than `limit`.
        """
        pieces = []
        for piece in self:
            pieces.append(piece)
            if self.received > limit:
                raise BadBodyError("request body too large")
        return b"".join(pieces)

    def skip(self, count: int) -> None:
        """Read and forget up to `count` bytes."""
        end = self.received + count
        while not self.finished and self.received < end:
            self.read(end - self.received)

    def _next_chunk(self) -> None:
        size = self._line().partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9a-fA-F]{1,15}", size):
            raise BadBodyError("invalid chunk size")
        self._left = int(size, 16)
        if not self._left:
            while self._line():
                pass  # trailers
            self.finished = True

    def _line(self) -> bytes:
        line = self._stream.readline(_MAX_LINE)
        if not line.endswith(b"\n"):
            raise CutError("the client closed the connection inside a chunk header")
        return line.rstrip(b"\r\n")


def _go_on() -> None:
    return
