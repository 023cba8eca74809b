"""The listening socket on loopback, and a thread for each connection."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import sys
import threading
import time
from functools import partial
from typing import Any

from mlflow_fireworks.emulator.http.connection import Connection, Wiring

_LOOPBACK = "127.0.0.1"
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.02


class Listener(socketserver.ThreadingTCPServer):
    """The listening socket and the threads behind it.

    Not `http.server.HTTPServer`, which looks up the host's name while binding and may wait for DNS.

    Args:
        port: TCP port on loopback; 0 takes a free one.
        wiring: What its connections need.

    Raises:
        OSError: The port is taken.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, port: int, wiring: Wiring) -> None:
        self.wiring = wiring
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._lock = threading.Lock()
        super().__init__((_LOOPBACK, port), partial(Connection, wiring))
        self._thread = threading.Thread(
            target=self.serve_forever, args=(_POLL_SECONDS,), name="fireworks-emulator", daemon=True
        )

    @property
    def url(self) -> str:
        """Base URL of what listens here."""
        return f"http://{_LOOPBACK}:{self.server_address[1]}"

    def start(self) -> None:
        """Accept connections."""
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting, cut what is open, join with a limit."""
        deadline = time.monotonic() + _STOP_SECONDS
        self.wiring.stopping.set()
        self.shutdown()
        self._thread.join(_STOP_SECONDS)
        self.server_close()
        with self._lock:
            remaining = list(self._connections.items())
        for connection, _thread in remaining:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for _connection, thread in remaining:
            thread.join(max(0.0, deadline - time.monotonic()))

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a new connection a thread that `stop` knows of."""
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._lock:
            self._connections[request] = thread
        thread.start()

    def close_request(self, request: Any) -> None:
        """Close a finished connection."""
        with self._lock:
            self._connections.pop(request, None)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about clients that went away; anything else is a defect worth a line."""
        del request, client_address
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.wiring.log(f"error in a connection: {error!r}")
