"""Answers that end. Of every server a bounded number of bytes is read, for a bounded time, headers included.

httpx bounds each read from the network only: a server that sends a byte a minute, or bytes for ever, would hold a run
up for as long as it likes, or fill the memory.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar

import httpx

from mlflow_fireworks.progress import format_bytes, format_seconds
from mlflow_fireworks.threads import inheriting

T = TypeVar("T")

# A page of 200 models has some 400 KB, with the longest descriptions.
MOST_BYTES = 32 * 1024 * 1024
MOST_ITEMS = 200_000
MOST_LIST_SECONDS = 600.0
_REST_SECONDS = 60.0
_KNOWN_ENCODINGS = {"", "identity", "gzip", "deflate"}
_UNPACKED = ("content-encoding", "content-length", "transfer-encoding")
_KEPT = ("http_version", "reason_phrase")
# No model takes so long for one answer.
_LONGEST_STREAM_SECONDS = 6 * 3600.0
_DATA = b"data:"
_NO_EVENTS = ("text/html", "application/xhtml", "application/json")


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
    """One request, and its whole answer; see `send`.

    Args:
        http: The client.
        method: HTTP method.
        url: Address, or a path below the client's own.
        most: As for `send`.
        rest: As for `send`.
        seconds: As for `send`.
        **options: Further arguments of `httpx.Client.build_request`.
    """
    return send(http, http.build_request(method, url, **options), most=most, rest=rest, seconds=seconds)


def send(
    http: httpx.Client,
    request: httpx.Request,
    *,
    most: int = MOST_BYTES,
    rest: float = _REST_SECONDS,
    seconds: float | None = None,
) -> httpx.Response:
    """A request that is built already, and its whole answer.

    Args:
        http: The client.
        request: It.
        most: Bytes that an answer may have.
        rest: Seconds that the body of an answer may take.
        seconds: Seconds that all of it may take, headers included; None where what is sent may take any time.

    Raises:
        EndlessAnswerError: It has more bytes, or takes longer.
        httpx.RequestError: As httpx raises it.
    """

    def exchange() -> httpx.Response:
        with closing(_open(http, request)) as response:
            return _read_whole(response, most, rest)

    return exchange() if seconds is None else within(seconds, exchange)


def open_events(
    http: httpx.Client, request: httpx.Request, *, seconds: float, rest: float = _REST_SECONDS
) -> httpx.Response:
    """A request that is answered with server-sent events, for `read_events`; the caller closes the answer.

    Args:
        http: The client.
        request: It.
        seconds: Seconds that may pass until the headers are here.
        rest: As for `send`.

    Returns:
        The answer. What cannot be such events (a refusal, a web page, JSON) is read whole, and closed.

    Raises:
        EndlessAnswerError: It takes longer, or is not read whole within its bounds.
        httpx.RequestError: As httpx raises it.
    """
    response = within(seconds, lambda: _open(http, request))
    if response.is_success and not response.headers.get("content-type", "").lower().startswith(_NO_EVENTS):
        return response
    with closing(response):
        return _read_whole(response, MOST_BYTES, rest)


def read_events(response: httpx.Response, *, quiet: float, most: int = MOST_BYTES) -> Iterator[bytes]:
    """The data of server-sent events, each as soon as it is here (WHATWG HTML, "server-sent events").

    A line ends at a line feed or a carriage return only; JSON may hold U+2028, at which `str.splitlines` splits too.

    Args:
        response: An answer that `open_events` gave.
        quiet: Seconds that the next one may take; comments, which keep a connection alive, do not count as one.
        most: Bytes that one may have.

    Raises:
        EndlessAnswerError: One has more bytes or takes longer, or there is no end of them.
        httpx.RequestError: As httpx raises it.
    """
    began = last = time.monotonic()
    held = bytearray()
    for piece in _pieces(response):
        *ends, rest = piece.replace(b"\r", b"\n").split(b"\n")
        for end in ends:
            line, held = held + end, bytearray()
            if line.startswith(_DATA):
                yield bytes(line.removeprefix(_DATA).strip())
                last = time.monotonic()  # what the reader did in between is not the server's time
        held += rest
        if len(held) > most:
            raise EndlessAnswerError(f"part of its reply is larger than {format_bytes(most)}")
        if time.monotonic() - last > quiet or last - began > _LONGEST_STREAM_SECONDS:
            raise EndlessAnswerError("its reply never ends")
    if held.startswith(_DATA):
        yield bytes(held.removeprefix(_DATA).strip())


def collect(pieces: Iterable[bytes], most: int = MOST_BYTES, rest: float = _REST_SECONDS) -> bytes:
    """The pieces of an answer as a whole.

    Args:
        pieces: Of any HTTP client.
        most: As for `send`.
        rest: As for `send`.

    Raises:
        EndlessAnswerError: It has more bytes, or takes longer.
    """
    content, deadline = bytearray(), time.monotonic() + rest
    for piece in pieces:
        content += piece
        if len(content) > most:
            raise EndlessAnswerError(f"its reply is larger than {format_bytes(most)}")
        if time.monotonic() > deadline:
            raise EndlessAnswerError("its reply never ends")
    return bytes(content)


def take(items: Iterable[T], *, most: int = MOST_ITEMS, seconds: float = MOST_LIST_SECONDS) -> Iterator[T]:
    """The parts of a list that a server gives one by one, or page by page.

    Args:
        items: They, or the pages.
        most: How many there may be.
        seconds: How long the server may take for all of them; what is done with them in between does not count.

    Raises:
        EndlessAnswerError: There are more, or they take longer.
    """
    remaining, left = iter(items), seconds
    for _ in range(most):
        began = time.monotonic()
        try:
            item = next(remaining)
        except StopIteration:
            return
        left -= time.monotonic() - began
        if left < 0:
            break
        yield item
    raise EndlessAnswerError(f"its list does not end: there is more after {most:,}, or after {format_seconds(seconds)}")


def within(seconds: float, work: Callable[[], T]) -> T:
    """Do some work in a thread, which is left to itself when the time is over: a read cannot be ended from outside.

    Args:
        seconds: How long it may take.
        work: It.

    Raises:
        EndlessAnswerError: It takes longer.
    """
    ended: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again below
            ended.put((None, error))

    thread = threading.Thread(target=inheriting(run), name="fireworks-call", daemon=True)
    thread.start()
    try:
        result, error = ended.get(timeout=seconds)
    except queue.Empty:
        raise EndlessAnswerError(f"its reply did not finish within {format_seconds(seconds)}") from None
    thread.join()  # it is at its end, but on a busy machine its caller would go on first
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # there is one where there is no error


def _open(http: httpx.Client, request: httpx.Request) -> httpx.Response:
    """What unpacks to any size is not asked for."""
    request.headers["Accept-Encoding"] = "gzip, deflate"
    return http.send(request, stream=True)


def _pieces(response: httpx.Response) -> Iterator[bytes]:
    if response.headers.get("content-encoding", "").strip().lower() not in _KNOWN_ENCODINGS:
        raise EndlessAnswerError("its reply uses an encoding that was not requested")
    return response.iter_bytes()


def _read_whole(response: httpx.Response, most: int, rest: float) -> httpx.Response:
    """An open answer as one that is complete; what it says of its packing is taken out."""
    content = collect(_pieces(response), most, rest)
    headers = [(name, value) for name, value in response.headers.raw if name.decode().lower() not in _UNPACKED]
    return httpx.Response(
        response.status_code,
        headers=headers,
        content=content,
        request=response.request,
        extensions={name: response.extensions[name] for name in _KEPT if name in response.extensions},
    )
