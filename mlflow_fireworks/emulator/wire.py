"""What both sides of the HTTP layer agree on: errors, one parsed call, and the switches of a running emulator.

Fireworks answers errors as ``{"code": <gRPC number>, "details": [], "message": "..."}`` with the status that
grpc-gateway derives from the number (observed on the live service; see the table in grpc-gateway's
``runtime/errors.go``). There is no textual status name in the body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

# What is larger would hardly run on a CPU, and a rehearsal with 140 GB must not fill the disk.
_LARGEST_RUN_BYTES = 1024**3

JsonObject = dict[str, Any]
"""A resource as the wire has it. The tables of `messages` say which keys and types it may hold."""


class Code(IntEnum):
    """The gRPC status numbers that the emulator answers with."""

    INVALID_ARGUMENT = 3
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


HTTP_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}


class ApiError(Exception):
    """A refusal of the control plane.

    Attributes:
        code: The gRPC status number, from which the HTTP status follows.
        message: The developer-facing sentence of the body.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class UnknownFieldError(ApiError):
    """The caller sent a field or parameter that Fireworks does not have; also recorded as a failure."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.INVALID_ARGUMENT, message)


@dataclass(frozen=True)
class Options:
    """How strict, how fast and how forgetful the emulator is.

    Attributes:
        landing_seconds: How long after its PUT has finished a file counts as uploaded. Until then
            ``validateUpload`` answers code 9, as Fireworks does while files land.
        tunability_seconds: How long after READY (or after ``huggingFaceUrl`` was set) the tunability flags
            appear. Fireworks runs that check about every 30 minutes.
        url_expiry_seconds: Life of a signed URL.
        api_keys: The keys that are accepted; None accepts every non-empty key.
        accounts: The accounts that exist, the first one being the key's own; empty lets every account exist.
        chunked_uploads: What storage does with ``Transfer-Encoding: chunked``: ``drop`` answers 200 and keeps
            nothing, which clients of Fireworks report of the real storage; ``store`` takes it.
        routing_seconds: How long after READY a deployment still answers inference with 404, as the live service
            has been seen to do for minutes.
        bare_model_routes: Whether a model name without ``#deployment`` reaches its default deployment. Reports
            differ; by default it is the 404 that Fireworks' own notebook warns of.
        suspended_accounts: Accounts whose inference is refused with 412.
        seed: Makes the ids that the server chooses repeatable.
        keep_everything: Keep the bytes of every file instead of small files and safetensors headers only.
        answers: Run uploaded models on this machine's CPU, so that inference gives real answers; needs the packages
            of the extra ``local``. Files of up to 1 GiB are kept for that.
    """

    landing_seconds: float = 0.0
    tunability_seconds: float = 0.0
    url_expiry_seconds: int = 3600
    api_keys: frozenset[str] | None = None
    accounts: tuple[str, ...] = ()
    chunked_uploads: Literal["drop", "store"] = "drop"
    keep_everything: bool = False
    answers: bool = False
    routing_seconds: float = 0.0
    bare_model_routes: bool = False
    suspended_accounts: frozenset[str] = frozenset()
    seed: int | None = None

    def keeps(self, size: int) -> bool:
        """Whether all bytes of a file of that size are kept."""
        return self.keep_everything or (self.answers and size <= _LARGEST_RUN_BYTES)

    @property
    def own_account(self) -> str:
        """The account that ``verifyApiKey`` reports."""
        return self.accounts[0] if self.accounts else "local"


@dataclass(frozen=True)
class Call:
    """One control-plane request after routing and parsing; knows nothing of sockets.

    Attributes:
        path: The variable parts of the path, such as ``account`` and ``model``.
        query: The parsed query parameters, camelCase.
        body: The parsed JSON body, camelCase.
        host: The ``Host`` header, which signed URLs point back to.
        headers_out: Extra response headers that the operation may set.
    """

    path: dict[str, str]
    query: JsonObject
    body: JsonObject
    host: str
    headers_out: dict[str, str] = field(default_factory=dict)


Clock = Callable[[], float]
"""Seconds since the epoch; injected so that tests can move time."""
