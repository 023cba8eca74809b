"""The receiver's door: anybody who reaches the port may open connections, so each has its time and its bounds.

uvicorn waits without a limit for the first request of a connection and for the end of its head, and a connection that
sends a byte now and then is never idle to it. What holds a connection open holds one of 1,024 descriptors.
"""

import asyncio
import os
import socket
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.http import is_loopback

HEAD_SECONDS = 20.0
_GOODBYE_SECONDS = 5
_BACKLOG = 1024  # connections of a burst that wait to be accepted
_MOST_CONNECTIONS = 900  # of the 1,024 descriptors that a process has where nobody set more
_PORT_OF_HTTP = 80
_WEBHOOKS = "/webhooks/"


class PromptProtocol(H11Protocol):
    """Closes a connection on which a request does not begin, or its head does not end, within `HEAD_SECONDS`."""

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """As in the base class."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """As in the base class."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """As in the base class."""
        self._stop_clock()
        super().connection_lost(exc)

    def _watch(self) -> None:
        cycle = getattr(self, "cycle", None)  # None before the first request
        if cycle is not None and not cycle.response_complete:
            self._stop_clock()  # whoever answers has limits of its own
        elif self._clock is None:
            self._clock = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


class OwnNamesOnly:
    """Answers browsers under the names of this machine only, for a receiver that listens on loopback.

    A web page whose name suddenly leads to 127.0.0.1 could read the status page as its own. It asks with its name and
    our port; a proxy on this machine that passes its own name on has another port. Webhooks are signed and may come
    by any name.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI wants it."""
        if scope["type"] == "http" and not scope["path"].startswith(_WEBHOOKS) and _is_strange(scope):
            answer = JSONResponse({"error": "this page is for the names of this machine: http://localhost"}, 421)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _is_strange(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"host":
            try:
                parts = urlsplit(f"//{value.decode('latin-1')}")
                host, port = parts.hostname or "", parts.port or _PORT_OF_HTTP
            except ValueError:
                return True
            if port == scope["server"][1] and not is_loopback(host) and not host.endswith(".localhost"):
                return True
    return False


def make_server(app: ASGIApp, host: str = "") -> uvicorn.Server:
    """The server, for sockets of `listen`.

    Args:
        app: The application.
        host: What it listens on.
    """
    options: dict[str, Any] = {
        "http": PromptProtocol,
        "ws": "none",
        "log_config": None,  # they go where ours go, in the same format
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": _GOODBYE_SECONDS,
        "limit_concurrency": _MOST_CONNECTIONS,
    }
    return uvicorn.Server(uvicorn.Config(OwnNamesOnly(app) if is_loopback(host) else app, **options))


def listen(host: str, port: int) -> socket.socket:
    """Take the address before any work begins.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.

    Raises:
        UnavailableError: The address is taken, or not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Only where the protocol is named does asyncio send small answers at once (TCP_NODELAY): 40 ms a delivery.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno) if error.errno else error
        raise UnavailableError(
            f"cannot listen on {host} port {port} ({reason}): is another `hooks serve` running? "
            "choose with --host and --port"
        ) from None
    return listener
