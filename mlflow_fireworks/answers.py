"""Answers that end. Of every server a bounded number of bytes is read, for a bounded time, headers included.

httpx bounds each read from the network only: a server that sends a byte a minute, or bytes for ever, would hold a run
up for as long as it likes, or fill the memory.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx

from mlflow_fireworks.progress import format_bytes, format_seconds

T = TypeVar("T")

# A page of 200 models has some 400 KB, with the longest descriptions.
MOST_BYTES = 32 * 1024 * 1024
_REST_SECONDS = 60.0
_KNOWN_ENCODINGS = {"", "identity", "gzip", "deflate"}
_UNPACKED = ("content-encoding", "content-length", "transfer-encoding")


class EndlessAnswerError(Exception):
    """An answer that did not end within its bounds; the text says which."""


def ask(
    http: httpx.Client,
    method: str,
    url: str,
    *,
    most: int = MOST_BYTES,
    rest: float = _REST_SECONDS,
    seconds: float | None = None,
    **options: Any,
) -> httpx.Response:
    """One request, and its whole answer.

    Args:
        http: The client.
        method: HTTP method.
        url: Address, or a path below the client's own.
        most: Bytes that an answer may have.
        rest: Seconds that the body of an answer may take.
        seconds: Seconds that all of it may take, headers included; None where what is sent may take any time.
        **options: Further arguments of `httpx.Client.stream`.

    Raises:
        EndlessAnswerError: It has more bytes, or takes longer.
        httpx.RequestError: As httpx raises it.
    """

    def send() -> httpx.Response:
        with http.stream(method, url, headers=_plain(options.pop("headers", None)), **options) as response:
            content = _read(response, most, time.monotonic() + rest)
        headers = [(name, value) for name, value in response.headers.raw if name.decode().lower() not in _UNPACKED]
        return httpx.Response(
            response.status_code,
            headers=headers,
            content=content,
            request=response.request,
            extensions={name: response.extensions[name] for name in _KEPT if name in response.extensions},
        )

    return send() if seconds is None else _within(seconds, send)


_KEPT = ("http_version", "reason_phrase")


def _plain(headers: Any) -> httpx.Headers:
    """What unpacks to any size is not asked for."""
    return httpx.Headers({"Accept-Encoding": "gzip, deflate", **dict(headers or {})})


def _read(response: httpx.Response, most: int, deadline: float) -> bytes:
    if response.headers.get("content-encoding", "").strip().lower() not in _KNOWN_ENCODINGS:
        raise EndlessAnswerError("its answer is packed in a way that was not asked for")
    content = bytearray()
    for piece in response.iter_bytes():
        content += piece
        if len(content) > most:
            raise EndlessAnswerError(f"its answer has more than {format_bytes(most)}")
        if time.monotonic() > deadline:
            raise EndlessAnswerError("its answer does not end")
    return bytes(content)


def _within(seconds: float, work: Callable[[], T]) -> T:
    """Do some work in a thread, which is left to itself when the time is over: a read cannot be ended from outside."""
    ended: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again below
            ended.put((None, error))

    threading.Thread(target=run, name="fireworks-call", daemon=True).start()
    try:
        result, error = ended.get(timeout=seconds)
    except queue.Empty:
        raise EndlessAnswerError(f"its answer did not end within {format_seconds(seconds)}") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # there is one where there is no error
