"""A server that takes PUT bodies and throws them away, as fast as Python can: the other end of every benchmark.

Every client of a benchmark talks to the same sink, in a process of its own. It answers nothing but 200, and can slow
each connection down to a rate, and delay every answer, as a distant server would.
"""

import argparse
import contextlib
import socket
import ssl
import sys
import threading
import time

_BUFFER = 1 << 20
_MAX_HEAD = 1 << 16
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Rate:
    """Holds one connection to a number of bytes a second; zero is no limit."""

    def __init__(self, bytes_a_second: float) -> None:
        self._rate = bytes_a_second
        self._due = time.monotonic()

    def wait(self, count: int) -> None:
        if self._rate:
            self._due = max(self._due, time.monotonic() - 0.05) + count / self._rate
            time.sleep(max(0.0, self._due - time.monotonic()))


def serve_connection(connection: socket.socket, rate: float, delay: float) -> None:
    buffer = bytearray(_BUFFER)
    limit = Rate(rate)
    # With a limit, a small window makes the sender feel it at once.
    step = min(_BUFFER, int(rate / 20)) if rate else _BUFFER
    view = memoryview(buffer)[:step]
    with contextlib.suppress(OSError), connection:
        while True:
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(_MAX_HEAD)
                if not data:
                    return
                head += data
            lines, _, body = head.partition(b"\r\n\r\n")
            time.sleep(delay)
            headers = dict(line.lower().split(b":", 1) for line in lines.split(b"\r\n")[1:])
            if b"100-continue" in headers.get(b"expect", b""):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            left = int(headers[b"content-length"]) - len(body)
            limit.wait(len(body))
            while left:
                count = connection.recv_into(view, min(step, left))
                if not count:
                    return
                left -= count
                limit.wait(count)
            time.sleep(delay)
            connection.sendall(_ANSWER)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=0.0, help="bytes a second for each connection")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds added each way")
    parser.add_argument("--cert", help="PEM file with certificate and key: serve HTTPS")
    options = parser.parse_args()
    context = None
    if options.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.cert)
    listener = socket.socket()
    if options.rate:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), listener.shutdown(socket.SHUT_RDWR)), daemon=True).start()

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            secured = context.wrap_socket(connection, server_side=True) if context else connection
            serve_connection(secured, options.rate, options.delay)

    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
