"""A TCP proxy that makes trouble with the requests it is told to look for, in front of any HTTP server.

It reads no more of HTTP than where a request begins and where its head ends, so the server behind it may be anybody's.
Clients reach it in the clear, or over TLS when it has a certificate, which can be changed for a worse one.
"""

import contextlib
import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

_PIECE = 1 << 16
_KEPT_REPLY = 1 << 16
_REQUEST = re.compile(rb"[A-Z]+ \S+ HTTP/1\.[01]\r\n")
_TLS_HANDSHAKE = b"\x16"
_SECONDS = 20.0


@dataclass(frozen=True)
class Trouble:
    """What happens to the next requests whose head matches.

    Args:
        on: A regular expression, searched in the request's first line and headers, without case.
        kind: `cut` the connection, `stall` it, or `answer` in the server's place.
        times: How many requests it hits.
        skip: How many matching requests pass unharmed first.
        body: For cut and stall: so many bytes of the request's body reach the server, and then its connection ends.
            None of the request does where this is None.
        reply: For cut and stall: the whole request reaches the server, and so many bytes of the reply's body come
            back; -1 is not even the reply's head, so that the reply is lost.
        close: Cut with FIN instead of RST.
        answer: What is answered.
        then: Called first: to close the door, to change the certificate, …
    """

    on: str
    kind: str = "cut"
    times: int = 1
    skip: int = 0
    body: int | None = None
    reply: int | None = None
    close: bool = False
    answer: bytes = b""
    then: Callable[[], None] = lambda: None


def answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    """A whole HTTP answer."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


@dataclass
class Seen:
    """One request as it came.

    Args:
        head: Its first line and headers.
        trouble: What was done to it.
        received: Bytes of its body that were taken from the client.
        reply: The beginning of the answer, whether the client got it or not.
    """

    head: str
    trouble: Trouble | None = None
    received: int = 0
    reply: bytearray = field(default_factory=bytearray)


class TcpProxy:
    """Forwards connections to a port of this machine. A context manager.

    Args:
        port: Where to.
        certificate: When given, a client that begins with a TLS handshake is served over TLS.
    """

    def __init__(self, port: int, certificate: ssl.SSLContext | None = None) -> None:
        self.target = port
        self.certificate = certificate
        self.seen: list[Seen] = []
        self._troubles: list[list] = []
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()
        self._calm = threading.Event()  # set when stalls end
        self.port = 0

    def __enter__(self):
        self.open()
        return self

    def __exit__(self, *_):
        self.reset()
        self.refuse()

    def open(self) -> None:
        """Listen, on the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Close every connection, and refuse new ones until `open`."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self._listener.close()
        self._cut_all()

    def reset(self) -> None:
        """Forget all trouble and everything seen, end stalls and connections, and listen."""
        with self._lock:
            self._troubles.clear()
            self.seen.clear()
        self._calm.set()
        self._calm = threading.Event()
        self._cut_all()
        if self._listener.fileno() < 0:
            self.open()

    def make(self, trouble: Trouble) -> None:
        """Add trouble; the first that matches a request happens to it."""
        with self._lock:
            self._troubles.append([trouble.skip, trouble.times, trouble])

    def requests(self, on: str) -> list[Seen]:
        """The requests whose head matches."""
        return [seen for seen in self.seen if re.search(on, seen.head, re.IGNORECASE | re.DOTALL)]

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client, self._calm), daemon=True).start()

    def _cut_all(self):
        with self._lock:
            clients, self._clients = self._clients, set()
        for client in clients:
            _cut(client, close=True)  # its own thread closes it

    def _serve(self, client, calm):
        # A socket that is closed while select waits for it is a ValueError.
        with contextlib.closing(client), contextlib.suppress(OSError, ValueError):
            client.settimeout(_SECONDS)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.certificate and client.recv(1, socket.MSG_PEEK) == _TLS_HANDSHAKE:
                with self.certificate.wrap_socket(client, server_side=True) as encrypted:
                    self._connect(encrypted, calm)
            else:
                self._connect(client, calm)

    def _connect(self, client, calm):
        with self._lock:
            self._clients.add(client)
        try:
            with socket.create_connection(("127.0.0.1", self.target)) as server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _Connection(client, server, calm).run(self._begin)
        finally:
            with self._lock:
                self._clients.discard(client)

    def _begin(self, head):
        seen = Seen(head, self._find_trouble(head))
        with self._lock:
            self.seen.append(seen)
        return seen

    def _find_trouble(self, head):
        with self._lock:
            for entry in self._troubles:
                skip, times, trouble = entry
                if not times or not re.search(trouble.on, head, re.IGNORECASE | re.DOTALL):
                    continue
                if skip:
                    entry[0] -= 1
                    return None
                entry[1] -= 1
                return trouble
        return None


class _Connection:
    """One client's connection and the server's, carried by one thread."""

    def __init__(self, client, server, calm):
        self.client, self.server, self.calm = client, server, calm
        self.seen = Seen("")
        self._came_back = -1  # bytes of the reply's body; -1 before the end of its head

    def run(self, begin):
        while True:
            ready, _, _ = select.select([self.client, self.server], [], [], _SECONDS)
            source, carry = (self.server, self._give_back) if self.server in ready else (self.client, self._pass_on)
            piece = source.recv(_PIECE) if ready else b""
            if piece and source is self.client and _REQUEST.match(piece):
                self.seen, self._came_back = begin(piece.partition(b"\r\n\r\n")[0].decode("latin-1")), -1
            if not piece or not carry(piece):
                return

    def _pass_on(self, piece):
        trouble = self.seen.trouble
        head, gap, body = piece.partition(b"\r\n\r\n") if _REQUEST.match(piece) else (b"", b"", piece)
        if trouble is None or trouble.reply is not None:
            self.server.sendall(piece)
            self.seen.received += len(body)
            return True
        if trouble.kind == "answer":
            self._answer(trouble, body)
            return False
        if trouble.body is None:
            return self._misbehave(trouble)
        body = body[: trouble.body - self.seen.received]
        self.server.sendall(head + gap + body)
        self.seen.received += len(body)
        if self.seen.received < trouble.body:
            return True
        # The server is done with the broken request before the client can come back.
        self.server.shutdown(socket.SHUT_WR)
        while self.server.recv(_PIECE):
            pass
        return self._misbehave(trouble)

    def _give_back(self, piece):
        trouble = self.seen.trouble
        if len(self.seen.reply) < _KEPT_REPLY:
            self.seen.reply += piece
        if trouble is None:
            self.client.sendall(piece)
            return True
        if trouble.reply == -1:
            return self._misbehave(trouble)
        if self._came_back < 0:
            head, gap, piece = piece.partition(b"\r\n\r\n")
            self.client.sendall(head + gap)
            self._came_back = 0
        piece = piece[: trouble.reply - self._came_back]
        self.client.sendall(piece)
        self._came_back += len(piece)
        return self._came_back < trouble.reply or self._misbehave(trouble)

    def _answer(self, trouble, body):
        trouble.then()
        self.seen.reply += trouble.answer
        self.client.sendall(trouble.answer)
        self.client.shutdown(socket.SHUT_WR)
        self.seen.received += len(body)
        while piece := self.client.recv(_PIECE):
            self.seen.received += len(piece)

    def _misbehave(self, trouble):
        trouble.then()
        if trouble.kind == "stall":
            self.calm.wait(_SECONDS)
        _cut(self.client, close=trouble.close)
        return False


def _cut(connection, *, close):
    """End a connection in good order (FIN) or not (RST)."""
    with contextlib.suppress(OSError):
        if close:
            connection.shutdown(socket.SHUT_RDWR)
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
