"""What the control plane and the HTTP layer agree on: a parsed call, a response, and the errors.

Fireworks answers errors as ``{"code": <gRPC number>, "details": [], "message": "..."}`` with the status that
grpc-gateway derives from the number (observed on the live service; see the table in grpc-gateway's
``runtime/errors.go``). There is no textual status name in the body.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

JsonObject = dict[str, Any]
"""A resource as the wire has it. The tables of `messages` say which keys and types it may hold."""


class Code(IntEnum):
    """The gRPC status numbers that the emulator answers with."""

    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
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
    Code.DEADLINE_EXCEEDED: 504,
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
_UNKNOWN = 2
# A fault may ask for any status. Reversed: of the two codes that share 400, the first counts.
_CODE_OF: Mapping[int, int] = {
    **{status: code for code, status in reversed(HTTP_STATUS.items())},
    408: Code.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True)
class Response:
    """A complete HTTP response.

    Attributes:
        status: HTTP status.
        body: The bytes of the body.
        headers: All but ``Content-Length`` and ``Date``.
        why: The reason of a refusal, for the log.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    why: str = ""


def json_response(status: int, body: object, headers: Mapping[str, str] | None = None, *, why: str = "") -> Response:
    """A JSON response with sorted keys, as Fireworks answers."""
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    sent = {"Content-Type": "application/json", **(headers or {})}
    return Response(status, text.encode("utf-8", "replace"), sent, why)


def refusal(status: int, code: int, message: str, *, why: str = "") -> Response:
    """The control plane's error envelope, with a status of its own."""
    return json_response(status, {"code": int(code), "message": message, "details": []}, why=why)


class ApiError(Exception):
    """A refusal of the control plane.

    Attributes:
        code: The gRPC status number.
        message: The developer-facing sentence of the body.
        status: The HTTP status; it follows from the code unless something else was observed.
    """

    def __init__(self, code: Code, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or HTTP_STATUS[code]

    def response(self) -> Response:
        """The refusal as it goes out."""
        return refusal(self.status, self.code, self.message, why=f"code {self.code:d}: {self.message}")


class LostAnswerError(ApiError):
    """A proxy in front of Fireworks gave up waiting; what was asked for may well have been done."""

    def __init__(self, status: int) -> None:
        # The words of Envoy, and those of Cloudflare.
        text = "upstream request timeout" if status == HTTP_STATUS[Code.DEADLINE_EXCEEDED] else f"error code: {status}"
        super().__init__(Code.DEADLINE_EXCEEDED, text, status=status)

    def response(self) -> Response:
        """The refusal as it goes out: plain text, because it is not the gateway's own."""
        return Response(self.status, self.message.encode(), {"Content-Type": "text/plain"}, why=self.message)


class UnknownFieldError(ApiError):
    """The caller sent a field or parameter that Fireworks does not have; also recorded as a failure."""

    def __init__(self, message: str) -> None:
        super().__init__(Code.INVALID_ARGUMENT, message)


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


def code_of(status: int) -> int:
    """The gRPC status number that comes with an HTTP status; "unknown" where none does."""
    return _CODE_OF.get(status, _UNKNOWN)


def timestamp(seconds: float, *, digits: int) -> str:
    """RFC 3339 with the given number of fraction digits and a Z."""
    whole = int(seconds)
    fraction = f"{int((seconds - whole) * 1e9):09d}"[:digits]
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{fraction}Z"
