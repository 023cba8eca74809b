"""One file to one signed URL: the requests, each once, and what their answers mean.

Storage is Google Cloud Storage with V4 signed URLs; the headers are part of the signature. Sources: Fireworks
docs, "uploading custom models (REST)"; Fireworks' own dataset uploader in the SDK `fireworks-ai` 1.2; Google's
documentation of signed URLs and resumable uploads. A request carries no API key and follows no redirect, and no
URL ever reaches a message or a log.
"""

import base64
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

import google_crc32c
import httpx
from pydantic import SecretStr

from mlflow_fireworks.answers import EndlessAnswerError, ask
from mlflow_fireworks.connections import open_client
from mlflow_fireworks.errors import TransferError
from mlflow_fireworks.file_errors import lacks_descriptors
from mlflow_fireworks.http import (
    Timeouts,
    TransientError,
    describe_failure,
    is_safe_url,
    is_transient,
)
from mlflow_fireworks.transfer.addresses import make_guard
from mlflow_fireworks.transfer.refusals import SessionGoneError, raise_if_gone, raise_unless_success

# Large pieces are what makes httpx fast. Of 64 KiB to 1 MiB, 512 KiB and this one cost the least CPU over HTTPS, less
# than curl's, and this one over HTTP (tests/benchmarks/README.md).
PIECE = 1 << 20
_MOST_BYTES = 1 << 20  # of an answer: an error in XML has a few KB
# So many pieces are on their way at most between here and what storage has kept.
CHECKSUMS = 1024
Checksums = deque[tuple[int, int]]
"""The checksum of a file's first bytes, by their number, for the last pieces that were read."""
_RESUME_INCOMPLETE = 308
_RESUMABLE = "x-goog-resumable"
_LENGTH_RANGE = "x-goog-content-length-range"


class CorruptError(TransientError):
    """Storage took other bytes than were read here."""


@dataclass(frozen=True)
class SessionState:
    """How far a resumable session is.

    Args:
        offset: Bytes that storage has.
        is_done: It has all of them, and the session is closed.
        crc32c: Storage's checksum of the finished file, when it tells.
    """

    offset: int
    is_done: bool = False
    crc32c: str | None = None


class StoppedError(Exception):
    """Another file failed for good, or the user asked to stop."""


class Body:
    """The bytes of one try: read in large pieces, counted, and hashed as they go by.

    Args:
        name: The file's name, for messages.
        size: Its length in bytes.
        stream: Its bytes, from the start.
        moved: Is told about bytes sent.
        stop: When set, sending ends at the next piece.
        is_here: Whether they are on this machine, so that reading them once more costs little.
    """

    def __init__(
        self,
        name: str,
        size: int,
        stream: BinaryIO,
        *,
        moved: Callable[[int], None],
        stop: threading.Event,
        is_here: bool = True,
    ) -> None:
        self.name = name
        self.size = size
        self.offset = 0
        self.counted = 0
        self._stream = stream
        self._moved = moved
        self._stop = stop
        self._is_here = is_here
        self._checksum: int | None = 0  # of what was read; None after bytes that nobody has read here
        self._checksums = Checksums(maxlen=CHECKSUMS)

    def __iter__(self) -> Iterator[bytes]:
        """The pieces to send.

        Raises:
            StoppedError: `stop` was set.
            TransferError: The file is no longer as long as it was.
        """
        for _ in self._read(self._pass_over(), self.offset):
            pass
        for piece in self._read(self.offset, self.size):
            yield piece
            self._count(len(piece))

    def skip_to(self, offset: int) -> None:
        """Storage has so many bytes already: they are not sent, and read for the checksum only if they are here."""
        self.offset = offset
        self._count(offset)

    def share(self, checksums: "Checksums") -> None:
        """Keep checksums of what was read where later tries of the file find them."""
        self._checksums = checksums

    def _pass_over(self) -> int:
        """Go to where reading must begin so that the checksum is that of all bytes, as far as it can be."""
        if self._is_here or not self.offset:
            return 0
        known = [(place, checksum) for place, checksum in self._checksums if place <= self.offset]
        start, self._checksum = max(known, default=(self.offset, None))
        self._stream.seek(start)
        return start

    def uncount(self) -> None:
        """The try failed: take back what was told about it."""
        self._count(-self.counted)

    def _count(self, count: int) -> None:
        self.counted += count
        if not self._stop.is_set():  # else it is over, and who was told may be at something else
            self._moved(count)

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            if self._stop.is_set():
                raise StoppedError
            piece = self._stream.read(min(PIECE, end - start))
            start += len(piece)
            # Noticed before the last piece leaves, so that storage never takes half of a changed file for the whole.
            if not piece or (start == self.size and self._stream.read(1)):
                raise TransferError(
                    f"{self.name} changed while it was being uploaded: it is no longer {self.size} bytes long"
                )
            if self._checksum is not None:
                self._checksum = google_crc32c.extend(self._checksum, piece)
                self._checksums.append((start, self._checksum))
            yield piece

    @property
    def crc32c(self) -> str | None:
        """Checksum of the pieces so far, as storage writes it; None where some were not read here."""
        return None if self._checksum is None else base64.b64encode(self._checksum.to_bytes(4, "big")).decode()


def make_storage_client(connections: int, timeouts: Timeouts, giver: str = "") -> httpx.Client:
    """An HTTP client for storage: no credentials, no redirects, one pooled connection per worker.

    Args:
        connections: How many.
        timeouts: How long one request may hang.
        giver: The host of the API that gives the URLs; "" for one on the internet.
    """
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    hooks = {"request": [make_guard(giver)]}
    return open_client(timeout=timeouts.for_work(), limits=limits, follow_redirects=False, event_hooks=hooks)


def put_file(http: httpx.Client, url: SecretStr, body: Body) -> None:
    """Send a file in one PUT to its signed URL, and compare checksums if storage tells its own.

    Raises:
        TransientError: A failure that may pass; CorruptError among them.
        ExpiredUrlError: The URL is no longer good.
        StoppedError: The body was told to stop.
        TransferError: Anything else.
    """
    # With a length httpx does not send chunks, which Google's storage drops silently.
    headers = {**_signed_headers(url, body.size), "Content-Length": str(body.size)}
    response = _send(http, "PUT", url, body.name, headers=headers, body=body)
    raise_unless_success(response, body.name, body.size)
    compare(body, _read_crc32c(response))


def wants_session(url: SecretStr) -> bool:
    """Whether a signed URL is for starting a resumable session instead of a PUT: its signature says so."""
    return _RESUMABLE in _signed_names(url)


def start_session(http: httpx.Client, url: SecretStr, name: str, size: int) -> SecretStr:
    """Open a resumable session at a signed URL; its URI is a credential that lives for a week.

    Raises:
        TransientError: A failure that may pass.
        ExpiredUrlError: The URL is no longer good.
        TransferError: Anything else.
    """
    headers = {**_signed_headers(url, size), _RESUMABLE: "start", "Content-Length": "0"}
    response = _send(http, "POST", url, name, headers=headers)
    raise_unless_success(response, name, size)
    uri = response.headers.get("location", "")
    if not is_safe_url(uri, httpx.URL(url.get_secret_value()).host):
        raise TransferError(
            f"storage opened no usable session for {name}; upload it in a single request with -C resumable=false"
        )
    return SecretStr(uri)


def ask_state(http: httpx.Client, session: SecretStr, name: str, size: int) -> SessionState:
    """How much of a file a session has.

    Raises:
        TransientError: A failure that may pass; SessionGoneError among them.
        TransferError: Anything else.
    """
    headers = {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
    response = _send(http, "PUT", session, name, headers=headers)
    if response.status_code == _RESUME_INCOMPLETE:
        offset = _read_offset(response)
        if offset > size:
            raise SessionGoneError(f"{name}: its resumable session has {offset} bytes of {size}")
        if offset == size > 0:
            raise TransientError(f"{name}: storage has all of it but does not complete the upload")
        return SessionState(offset)
    raise_if_gone(response, name)
    raise_unless_success(response, name, size)
    return SessionState(size, is_done=True, crc32c=_read_crc32c(response))


def put_rest(http: httpx.Client, session: SecretStr, body: Body) -> bool:
    """Send a file from `body.offset` on to its session; False when storage still wants more.

    Raises:
        TransientError: A failure that may pass; SessionGoneError and CorruptError among them.
        StoppedError: The body was told to stop.
        TransferError: Anything else.
    """
    content_range = f"bytes {body.offset}-{body.size - 1}/{body.size}" if body.size else "bytes */0"
    headers = {"Content-Range": content_range, "Content-Length": str(body.size - body.offset)}
    response = _send(http, "PUT", session, body.name, headers=headers, body=body)
    if response.status_code == _RESUME_INCOMPLETE:
        return False
    raise_if_gone(response, body.name)
    raise_unless_success(response, body.name, body.size)
    compare(body, _read_crc32c(response))
    return True


def _send(
    http: httpx.Client,
    method: str,
    url: SecretStr,
    name: str,
    *,
    headers: Mapping[str, str],
    body: Body | None = None,
) -> httpx.Response:
    try:
        return ask(http, method, url.get_secret_value(), most=_MOST_BYTES, content=body or b"", headers=headers)
    except EndlessAnswerError as error:
        raise TransferError(f"cannot send {name} to storage: {error}; check the network in between") from None
    except httpx.RequestError as error:
        if is_transient(error):
            raise TransientError(f"{name}: {describe_failure(error)}", is_busy=lacks_descriptors(error)) from None
        raise TransferError(f"cannot send {name} to storage: {describe_failure(error)}") from None


def _signed_names(url: SecretStr) -> set[str]:
    """The headers that are part of a V4 signature."""
    query = parse_qs(urlsplit(url.get_secret_value()).query)
    return set(";".join(query.get("X-Goog-SignedHeaders", [])).lower().split(";"))


def _signed_headers(url: SecretStr, size: int) -> dict[str, str]:
    """Type and length range, as Fireworks signs them; a URL that signs one of them only gets that one.

    Google refuses a signed header that is missing, and an `x-goog-` header that is not signed.
    """
    headers = {"content-type": "application/octet-stream", _LENGTH_RANGE: f"{size},{size}"}
    signed = _signed_names(url)
    if not signed & {*headers, _RESUMABLE}:
        return headers
    return {name: value for name, value in headers.items() if name in signed}


def _read_offset(response: httpx.Response) -> int:
    """Bytes that a 308 answer says storage has: `Range: bytes=0-N`, or none without that header."""
    found = re.fullmatch(r"bytes=0-(\d+)", response.headers.get("range", ""))
    return int(found[1]) + 1 if found else 0


def compare(body: Body, theirs: str | None) -> None:
    """Hold storage's checksum against what was read here.

    Raises:
        CorruptError: They differ.
    """
    if theirs is not None and body.crc32c not in (None, theirs):
        raise CorruptError(f"{body.name}: storage received different bytes from those that were sent (crc32c differs)")


def _read_crc32c(response: httpx.Response) -> str | None:
    """The checksum that Google's storage tells as `x-goog-hash: crc32c=<base64>`."""
    found = re.search(r"crc32c=([A-Za-z0-9+/=]+)", ",".join(response.headers.get_list("x-goog-hash")))
    return found[1] if found else None
