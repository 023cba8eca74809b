"""An object store on loopback that sends ranges, and breaks while it does: for S3, signed URLs, Azure and Google alike.

Objects are known by the last part of their path. Faults hit the requests for one object in their order.
"""

import hashlib
import json
import socket
import struct
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from support.threaded_server import serving

_PIECE = 1 << 16


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    Args:
        kind: `reset`, `stall` or `close` after so many bytes; or a `status` in place of an answer; `whole` (200 with
            all), `encoded`, `longer`, `shorter` (another Content-Length), `shifted`, `beyond` (another range, or more
            than was asked for); `replace`: the object is another one (`body`) from now on; `weak`, `nameless`, `nodes`
            (an ETag that is a weak one, none, or another one each time).
        after: Bytes of the range that are sent before.
        status: The status.
        headers: Sent along with it.
        body: Sent along with it.
    """

    kind: str
    after: int = 0
    status: int = 0
    headers: tuple = ()
    body: bytes = b"<Error><Code>Broken</Code><Message>http://a/b?signature=secret</Message></Error>"


class RangedServer:
    """The objects, the faults to come, and the ranges that were asked for.

    Args:
        files: Name to content.
        link: What all of it is carried over, if it has a bandwidth.
    """

    def __init__(self, files, link=None):
        self.files = dict(files)
        self.link = link
        self.faults = {}
        self.habits = {}  # of each object: the fault that all other requests for it meet
        self.asked = []  # name, first byte, last byte
        self.sent = {}
        self.conditions = []
        self.headers = {}  # of each object
        self.url = ""
        self.open = 0
        self._digests = {}

    def fail(self, name, *faults):
        self.faults[name] = list(faults)

    def etag(self, name):
        content = self.files[name]
        if self._digests.get(name, (None,))[0] is not content:  # once for each content: it may be large
            self._digests[name] = content, hashlib.md5(content).hexdigest()
        return f'"{self._digests[name][1]}"'

    def generation(self, name):
        return str(int(self.etag(name)[1:13], 16))

    @contextmanager
    def running(self):
        with serving(_Handler, store=self) as self.url:
            yield self


class _Handler(BaseHTTPRequestHandler):
    store: RangedServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        name = unquote(urlsplit(self.path).path).rpartition("/")[2]
        self.send_response(200 if name in self.store.files else 404)
        self.send_header("Content-Length", str(len(self.store.files.get(name, b""))))
        self.send_header("ETag", self.store.etag(name) if name in self.store.files else "")
        self.end_headers()

    def do_GET(self):
        self.store.open += 1
        try:
            self._get()
        finally:
            self.store.open -= 1

    def _get(self):
        store, parts = self.store, urlsplit(self.path)
        name = unquote(parts.path).rpartition("/")[2]
        query = parse_qs(parts.query)
        if query.get("list-type"):  # S3's listing
            self._answer(200, self._list_s3(query.get("prefix", [""])[0]), {"Content-Type": "application/xml"})
            return
        if parts.path == "/storage/v1/b/models/o":  # Google's
            self._answer(200, self._list_google(query.get("prefix", [""])[0]), {"Content-Type": "application/json"})
            return
        if query.get("comp") == ["list"]:  # Azure's
            self._answer(200, self._list_azure(query.get("prefix", [""])[0]), {"Content-Type": "application/xml"})
            return
        if name not in store.files:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {"x-ms-error-code": "BlobNotFound"})
            return
        content = store.files[name]
        asked = self.headers.get("x-ms-range") or self.headers.get("Range")
        begin, _, end = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
        first, last = int(begin), min(int(end or len(content) - 1), len(content) - 1)
        if store.link is not None:
            time.sleep(2 * store.link.delay)
        store.asked.append((name, first, last))
        waiting = store.faults.get(name)
        fault = waiting.pop(0) if waiting else store.habits.get(name, Fault("none"))
        if fault.kind == "replace":
            content = store.files[name] = fault.body
        condition = self.headers.get("If-Match") or query.get("ifGenerationMatch", [None])[0]
        store.conditions.append(condition)
        if fault.kind == "status":
            self._answer(fault.status, fault.body, dict(fault.headers))
        elif condition not in (None, store.etag(name), store.generation(name)):
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self._send(name, content, first, last, fault)

    def _send(self, name, content, first, last, fault):
        store = self.store
        headers = {
            "ETag": store.etag(name),
            "x-goog-generation": store.generation(name),
            "Content-Range": f"bytes {first}-{last}/{len(content)}",
            "Content-Length": str(last + 1 - first),
            **store.headers.get(name, {}),
        }
        if fault.kind in ("nameless", "nodes"):
            del headers["x-goog-generation"]
            headers["ETag"] = f'"{len(store.asked)}"' if fault.kind == "nodes" else ""
        elif fault.kind == "weak":
            headers["ETag"] = f"W/{store.etag(name)}"
        elif fault.kind == "beyond":
            last = min(last + 1000, len(content) - 1)
            headers |= {
                "Content-Range": f"bytes {first}-{last}/{len(content)}",
                "Content-Length": str(last + 1 - first),
            }
        body, status = memoryview(content)[first : last + 1], 206
        if fault.kind == "whole":
            del headers["Content-Range"]
            body, status = memoryview(content), 200
            headers["Content-Length"] = str(len(content))
        elif fault.kind == "encoded":
            headers |= {"Content-Encoding": "gzip"}
            del headers["Content-Length"]
            self.close_connection = True
        elif fault.kind in ("longer", "shorter"):
            headers["Content-Length"] = str(len(body) + (1 if fault.kind == "longer" else -1))
            self.close_connection = True
        elif fault.kind == "shifted":
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{len(content)}"
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.end_headers()
        breaks = fault.kind in ("reset", "close", "stall")
        self._write(name, body[: fault.after] if breaks else body)
        if breaks:
            self._break(fault.kind)

    def _write(self, name, body):
        for start in range(0, len(body), _PIECE):
            piece = body[start : start + _PIECE]
            if self.store.link is not None:
                self.store.link.carry(len(piece))
            self.wfile.write(piece)
            self.store.sent[name] = self.store.sent.get(name, 0) + len(piece)

    def _break(self, kind):
        self.close_connection = True
        self.wfile.flush()
        if kind == "stall":
            time.sleep(2.0)
        elif kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _list_s3(self, prefix):
        entries = "".join(
            f"<Contents><Key>{prefix}{name}</Key><Size>{len(content)}</Size></Contents>"
            for name, content in self.store.files.items()
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()

    def _list_azure(self, prefix):
        blobs = "".join(
            f"<Blob><Name>{prefix}{name}</Name><Properties><Content-Length>{len(content)}</Content-Length>"
            "<BlobType>BlockBlob</BlobType></Properties></Blob>"
            for name, content in self.store.files.items()
        )
        return f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>".encode()

    def _list_google(self, prefix):
        encodings = {name: headers.get("Content-Encoding") for name, headers in self.store.headers.items()}
        items = [
            {"name": f"{prefix}{name}", "size": str(len(content)), "contentEncoding": encodings.get(name)}
            for name, content in self.store.files.items()
        ]
        return json.dumps({"items": items}).encode()

    def _answer(self, status, content, headers=None):
        self.send_response(status)
        for header in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass
