"""A TCP proxy that counts what a server sends, and may keep every request waiting."""

import contextlib
import select
import socket
import threading
import time
from urllib.parse import urlsplit

_PIECE = 1 << 16


class CountingProxy:
    """Stands in front of a server; connections that are open at the same time do not wait for one another.

    Args:
        url: The server's.
        latency: Seconds that pass before a piece that a client sends is handed on.
    """

    def __init__(self, url, latency=0.0):
        self._target = (urlsplit(url).hostname, urlsplit(url).port)
        self._latency = latency
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client):
        with client, socket.create_connection(self._target) as server, contextlib.suppress(OSError):
            while True:
                for end in select.select([client, server], [], [])[0]:
                    piece = end.recv(_PIECE)
                    if not piece:
                        return
                    if end is client:
                        time.sleep(self._latency)
                        server.sendall(piece)
                    else:
                        with self._lock:
                            self.sent += len(piece)
                        client.sendall(piece)
