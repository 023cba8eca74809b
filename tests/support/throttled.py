"""A link with a bandwidth, shared by all connections over it, and a storage server at its far end."""

import contextlib
import socket
import threading
import time

_PIECE = 1 << 16


class Link:
    """So many bytes a second in all; nothing is saved up while it stands idle.

    Args:
        bytes_per_second: Bandwidth.
    """

    delay = 0.0

    def __init__(self, bytes_per_second):
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._due = 0.0
        self.carried = 0

    def carry(self, count):
        """Wait as long as these bytes take."""
        with self._lock:
            self._due = max(self._due, time.monotonic() - 0.02) + count / self._rate
            self.carried += count
            due = self._due
        time.sleep(max(0.0, due - time.monotonic()))


class Links:
    """A link for each connection, that is, for each thread that serves one.

    Args:
        bytes_per_second: Bandwidth of each.
        delay: Seconds each way.
    """

    def __init__(self, bytes_per_second, delay=0.0):
        self.delay = delay
        self._rate = bytes_per_second
        self._own = threading.local()

    def carry(self, count):
        """Wait as long as these bytes take."""
        if not hasattr(self._own, "link"):
            self._own.link = Link(self._rate)
        self._own.link.carry(count)


@contextlib.contextmanager
def sink(link):
    """An HTTP server that takes PUTs at the speed of the link and forgets them; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    def serve(connection):
        with connection, contextlib.suppress(OSError), connection.makefile("rb", _PIECE) as stream:
            while stream.readline():
                length = 0
                while header := stream.readline().strip():
                    if header.lower().startswith(b"content-length:"):
                        length = int(header.split(b":")[1])
                while length:
                    count = len(stream.read(min(_PIECE, length)))
                    if not count:
                        return
                    link.carry(count)
                    length -= count
                time.sleep(2 * link.delay)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
