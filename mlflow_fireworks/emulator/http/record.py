"""The record of what clients did: every request, and what a correct client would not have done."""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

_KEPT_RECORDS = 100_000


@dataclass(frozen=True)
class RequestRecord:
    """One request as the server saw it. Query strings and keys are never recorded.

    Attributes:
        method: HTTP method.
        path: Path without query.
        operation: Name of the operation; empty for an unknown route.
        status: HTTP status of the answer; 0 when the connection was cut instead.
        authorized: Whether an ``Authorization`` header was present.
        received: Length of the request body as received, in bytes.
        seconds: From the first byte of the request to the end of the answer.
        started: Seconds since the epoch.
    """

    method: str
    path: str
    operation: str
    status: int
    authorized: bool
    received: int
    seconds: float
    started: float


@dataclass(frozen=True)
class Failure:
    """Something a correct client would not have done, or a defect of the emulator itself.

    Attributes:
        kind: ``unknown_route``, ``unknown_field``, ``bearer_at_storage``, ``chunked_upload``, ``server_error``.
        detail: What it was.
        method: HTTP method.
        path: Path without query.
    """

    kind: str
    detail: str
    method: str
    path: str


class Record:
    """What happened so far, newest last, bounded. Thread-safe."""

    def __init__(self) -> None:
        self._requests: deque[RequestRecord] = deque(maxlen=_KEPT_RECORDS)
        self._failures: deque[Failure] = deque(maxlen=_KEPT_RECORDS)

    def request(self, request: RequestRecord) -> None:
        """Remember a request."""
        self._requests.append(request)

    def failure(self, failure: Failure) -> None:
        """Remember a failure."""
        self._failures.append(failure)

    def requests(self, operations: str = "*") -> list[RequestRecord]:
        """The requests whose operation matches a shell pattern."""
        return [request for request in self._copy() if fnmatch.fnmatchcase(request.operation, operations)]

    def failures(self) -> list[Failure]:
        """All failures."""
        return list(self._failures.copy())

    def clear(self) -> None:
        """Forget everything."""
        self._requests.clear()
        self._failures.clear()

    def _copy(self) -> Iterator[RequestRecord]:
        return iter(self._requests.copy())
