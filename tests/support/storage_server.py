"""A storage server that misbehaves on demand, on raw sockets, and shares nothing with the emulator.

Also with resumable sessions, as Google documents them: a POST opens one, PUTs with a Content-Range fill it, what was
cut off is kept in multiples of 256 KiB, and `bytes */N` asks how far it is.
"""

import base64
import contextlib
import re
import socket
import struct
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

import google_crc32c

CHUNK = 256 * 1024


@dataclass(frozen=True)
class Answer:
    """What one request gets.

    Args:
        status: HTTP status and reason.
        headers: More headers.
        body: The answer's body.
        reset_after: Reset the connection after so many body bytes, and answer nothing.
        crc32c: Claimed checksum; the true one when None.
        delay: Seconds before it.
        stall_after: Read no more after so many body bytes, and keep the connection.
        plain: Tell no checksum.
    """

    status: str = "200 OK"
    headers: tuple[str, ...] = ()
    body: bytes = b""
    reset_after: int | None = None
    crc32c: str | None = None
    delay: float = 0.0
    stall_after: int | None = None
    plain: bool = False


OK = Answer()
EXPIRED = Answer(
    "400 Bad Request", body=b"<Error><Code>ExpiredToken</Code><Message>Request has expired.</Message></Error>"
)


@dataclass
class Put:
    """One request as it arrived; `what` is put, start, chunk or probe."""

    what: str

    path: str
    headers: dict[str, str]
    received: int


@dataclass
class StorageServer:
    """Takes files; `script[path]` holds the answers for the next PUTs of that path, then OK.

    Those for sessions are in `script["start /path"]`, `script["chunk /path"]` and `script["probe /path"]`.
    """

    script: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    puts: list[Put] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    sessions: dict[str, bytes] = field(default_factory=dict)
    most_at_once: int = 0

    def __enter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._open = 0
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self._socket.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while line := stream.readline():
                method, target = line.decode().split()[:2]
                path, _, query = target.partition("?")
                headers = {}
                while header := stream.readline().strip():
                    key, _, value = header.decode().partition(":")
                    headers[key.lower()] = value.strip()
                session = query.startswith("upload_id=")
                probes = "*" in headers.get("content-range", "")
                what = "start" if method == "POST" else "put" if not session else "probe" if probes else "chunk"
                with self._lock:
                    self._open += 1
                    self.most_at_once = max(self.most_at_once, self._open)
                    answers = self.script[path if what == "put" else f"{what} {path}"]
                    answer = answers.pop(0) if answers else OK
                    put = Put(what, path, headers, 0)
                    self.puts.append(put)
                try:
                    if not self._answer(connection, stream, put, answer):
                        return
                finally:
                    with self._lock:
                        self._open -= 1

    def _answer(self, connection, stream, put, answer):
        length = int(put.headers["content-length"])
        if answer.stall_after is not None:
            stream.read(answer.stall_after)
            self._stopped.wait(20)
            return False
        data = stream.read(length if answer.reset_after is None else min(length, answer.reset_after))
        put.received = len(data)
        if put.what == "chunk" and put.path in self.sessions:
            self._keep(put, data)
        if answer.reset_after is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RD)
            return False
        if len(data) < length:
            return False
        if put.what != "put" and answer is OK:
            answer = self._answer_session(put)
            data = self.stored.get(put.path, b"")
        elif put.what == "put" and answer.status.startswith("200"):
            self.stored[put.path] = data
        checksum = answer.crc32c or base64.b64encode(google_crc32c.Checksum(data).digest()).decode()
        time.sleep(answer.delay)
        head = [f"HTTP/1.1 {answer.status}", f"Content-Length: {len(answer.body)}", *answer.headers]
        if answer.status.startswith("200") and not answer.plain:
            head.append(f"x-goog-hash: crc32c={checksum}")
        connection.sendall("\r\n".join([*head, "", ""]).encode() + answer.body)
        return True

    def _keep(self, put, data):
        first, total = map(int, re.fullmatch(r"bytes (\d+)-\d+/(\d+)", put.headers["content-range"]).groups())
        kept = self.sessions[put.path][:first] + data
        if len(kept) == total:
            self.stored[put.path] = kept
        self.sessions[put.path] = kept if len(kept) == total else kept[: len(kept) - len(kept) % CHUNK]

    def _answer_session(self, put):
        if put.what == "start":
            self.sessions[put.path] = b""
            return Answer("201 Created", (f"Location: {self.url}{put.path}?upload_id=s3cret{len(self.puts)}",))
        if put.path not in self.sessions:
            return Answer("404 Not Found")
        kept, total = len(self.sessions[put.path]), int(put.headers["content-range"].rpartition("/")[2])
        if kept == total:
            return OK
        return Answer("308 Resume Incomplete", (f"Range: bytes=0-{kept - 1}",) if kept else ())
