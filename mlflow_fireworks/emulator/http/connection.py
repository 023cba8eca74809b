"""One connection: reads requests off the socket, lets trouble happen where it was scripted, writes answers.

Threads and blocking sockets, from the standard library. Measured on loopback with two cores, PUT bodies:
bare socket sink 3.2 to 7.9 GB/s, this way with crc32c 3.3 to 5.2 GB/s, uvicorn 0.57 GB/s. And a thread that owns
its socket can stop reading, reset, or answer before the body has been read, which ASGI does not let one do.
"""

from __future__ import annotations

import dataclasses
import http
import socket
import struct
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from io import BufferedReader
from threading import Event
from typing import Any, cast

from mlflow_fireworks.emulator.http import admin
from mlflow_fireworks.emulator.http.body import BadBodyError, Body
from mlflow_fireworks.emulator.http.faults import Fault
from mlflow_fireworks.emulator.http.record import RequestRecord
from mlflow_fireworks.emulator.http.request import Request
from mlflow_fireworks.emulator.http.service import Service
from mlflow_fireworks.emulator.protocol.wire import Code, Response, code_of, refusal
from mlflow_fireworks.emulator.storage.signing import StorageError

_MAX_JSON_BYTES = 64 * 1024 * 1024
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 64 * 1024 * 1024
_IDLE_SECONDS = 300.0


@dataclass(frozen=True)
class Wiring:
    """What a connection needs of its server.

    Attributes:
        service: The emulated Fireworks.
        stopping: Set when the server stops; ends stalls.
        log: Takes one readable line per request.
    """

    service: Service
    log: Callable[[str], None]
    stopping: Event = field(default_factory=Event)


class _Noted:
    """A request whose answer has not left yet."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._started = time.time()
        self._clock = time.monotonic()

    def record(self, status: int, received: int) -> RequestRecord:
        return RequestRecord(
            method=self._request.method,
            path=self._request.path,
            operation=self._request.operation,
            status=status,
            authorized="authorization" in self._request.headers,
            received=received,
            seconds=time.monotonic() - self._clock,
            started=self._started,
        )


class Connection(BaseHTTPRequestHandler):
    """Serves the requests of one connection, one after the other.

    Args:
        wiring: What it needs of its server.
        *accepted: The connection, its peer and the socket server, as `socketserver` passes them.
    """

    protocol_version = "HTTP/1.1"
    server_version = "mlflow-fireworks-emulator"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = _IDLE_SECONDS
    _body: Body | None = None
    _noted: _Noted | None = None

    def __init__(self, wiring: Wiring, *accepted: Any) -> None:
        self._wiring = wiring  # first: the base class serves the whole connection in its constructor
        super().__init__(*accepted)

    def serve(self) -> None:
        """Serve one request whatever its method."""
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            lower = name.lower()
            headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
        request = Request.read(self.command, self.path, headers)
        self._noted = None if request.path.startswith(admin.PREFIX) else _Noted(request)
        try:
            self._body = Body(cast("BufferedReader", self.rfile), headers)
        except BadBodyError as error:
            self._body = None
            self._send(refusal(400, Code.INVALID_ARGUMENT, str(error)))
            return
        if request.is_of_web_page:
            self._send(refusal(403, Code.PERMISSION_DENIED, "the local Fireworks answers programs, not web pages"))
            return
        try:
            self._exchange(request, self._body)
        except ConnectionError:
            self.close_connection = True
            self._note(0)

    # The base class finds its methods by these names.
    do_GET = do_HEAD = do_POST = serve  # noqa: N815
    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = serve  # noqa: N815

    def _exchange(self, request: Request, body: Body) -> None:
        service = self._wiring.service
        fault = service.faults.take(request.operation, request.path) if request.operation else None
        if fault and fault.pauses_body:
            body.pause_at, body.pause = (
                fault.after_bytes,
                partial(self._wiring.stopping.wait, fault.stall_seconds),
            )
            fault = dataclasses.replace(fault, stall_seconds=0.0, after_bytes=None)
        body.bytes_per_second = fault.bytes_per_second if fault else None
        try:
            if fault is None:
                self._send(self._act(request, body))
            elif fault.after_bytes is not None:
                body.skip(fault.after_bytes)
                self._misbehave(fault, request, None)
            elif fault.replaces_answer and not fault.act:
                if not fault.expired:
                    body.skip(2**63)
                self._misbehave(fault, request, None)
            else:
                self._misbehave(fault, request, self._act(request, body))
        except BadBodyError as error:
            self._send(refusal(400, Code.INVALID_ARGUMENT, str(error)))

    def _act(self, request: Request, body: Body) -> Response:
        service = self._wiring.service
        try:
            if request.path.startswith(admin.PREFIX):
                return admin.answer(service, request.method, request.path, body.read_all(_MAX_JSON_BYTES))
            if not request.at_storage:
                return service.control(request, body.read_all(_MAX_JSON_BYTES))
            service.check_storage(request)
            return service.storage(request, body)
        except StorageError as error:
            return error.response()
        except (ConnectionError, BadBodyError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001  # a defect must be answered and recorded, not end the thread
            self._wiring.log(traceback.format_exc())
            return service.server_error(request, error)

    def _misbehave(self, fault: Fault, request: Request, answer: Response | None) -> None:
        if fault.stall_seconds:
            self._wiring.stopping.wait(fault.stall_seconds)
        if fault.drop:
            self._note(0)
            self._cut(reset=fault.drop == "reset")
        elif fault.expired:
            self._send(StorageError(400, "ExpiredToken", "The provided token has expired.").response())
        elif fault.malformed:
            self._send(Response(200, b'{"name": "accounts/', {"Content-Type": "application/json"}))
        elif fault.status or answer is None:
            self._send(_fault_answer(fault, request))
        else:
            self._send(answer)

    def _note(self, status: int, why: str = "") -> None:
        """Record the request, before its answer leaves: whoever has the answer finds the record."""
        if self._noted is None:
            return
        record = self._noted.record(status, self._body.received if self._body else 0)
        self._noted = None
        self._wiring.service.record.request(record)
        self._wiring.log(_line(record, why))

    def _send(self, answer: Response) -> None:
        unread = self._body is None or not self._body.finished
        if unread:
            self.close_connection = True
        self.send_response_only(answer.status)
        self.send_header("Date", self.date_time_string())
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self._note(answer.status, answer.why)
        self.wfile.flush()
        if unread:
            self._linger()

    def _linger(self) -> None:
        """Take what the client still sends for a while.

        Closing a socket with unread bytes resets the connection, and the reset may overtake the answer.
        """
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(_LINGER_SECONDS)
        deadline = time.monotonic() + _LINGER_SECONDS
        taken = 0
        try:
            while taken < _LINGER_BYTES and time.monotonic() < deadline:
                piece = self.connection.recv(1 << 16)
                if not piece:
                    return
                taken += len(piece)
        except OSError:
            return

    def _cut(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # A zero linger time makes close() send RST. detach() because the reader and the writer
            # hold references that would keep the socket open.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            socket.close(self.connection.detach())
        else:
            self.connection.shutdown(socket.SHUT_RDWR)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Response a request that could not even be parsed; called by the base class."""
        del explain
        self.close_connection = True
        self.command = getattr(self, "command", None) or "GET"
        text = message or http.HTTPStatus(code).phrase
        self._body = None
        self._noted = None
        self._send(refusal(code, Code.INVALID_ARGUMENT, text))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
        """Silence the base class; `serve` logs."""


def _fault_answer(fault: Fault, request: Request) -> Response:
    status = fault.status or http.HTTPStatus.INTERNAL_SERVER_ERROR
    phrase = http.HTTPStatus(status).phrase if status in list(http.HTTPStatus) else "scripted fault"
    if fault.body is not None:
        plain = Response(status, fault.body.encode("utf-8", "replace"), {"Content-Type": "text/plain"})
    elif request.at_storage:
        plain = StorageError(status, phrase.title().replace(" ", ""), phrase).response()
    else:
        plain = refusal(status, code_of(status), phrase)
    headers = dict(plain.headers)
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    return Response(status, plain.body, headers)


def _line(record: RequestRecord, why: str) -> str:
    stamp = time.strftime("%H:%M:%S", time.localtime(record.started))
    size = f" {record.received} bytes" if record.received else ""
    what = record.operation or "unknown"
    head = f"{stamp} {record.status or 'cut'} {record.method} {record.path} {what}{size} {record.seconds * 1000:.0f} ms"
    # Callers choose parts of both: a control character must not reach a terminal.
    return "".join(c if c.isprintable() else "?" for c in (f"{head} ({why})" if why else head))
