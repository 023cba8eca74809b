"""A tracking server's artifact proxy that lists files truly and then breaks, as told.

It speaks the two calls that MLflow's `HttpArtifactRepository` makes: the listing and the file itself. As servers whose
files are in an object store, it sends whole files only until it is told to know ranges.
"""

import json
import zlib
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from support.threaded_server import serving

ROOT = "/mlflow-artifacts/artifacts"


class MisbehavingStore:
    """The files, what to do to the next requests for each, and the requests that came.

    Args:
        files: Path to content.
        link: What the files are carried over, if it has a bandwidth.
    """

    def __init__(self, files, link=None):
        self.link = link
        self.files = dict(files)
        self.listed = {name: len(content) for name, content in files.items()}
        self.faults = {}
        self.requests = []
        self.knows_ranges = False
        self.sent = Counter()  # bytes by file
        self.url = ""

    def fail(self, name, *faults):
        """One fault for each of the next requests: a status, or `truncate`, `hang up`."""
        self.faults[name] = list(faults)


@contextmanager
def running(store):
    with serving(_Handler, store=store) as url:
        store.url = f"{url}{ROOT}"
        yield store


class _Handler(BaseHTTPRequestHandler):
    store: MisbehavingStore

    def do_GET(self):
        parts = urlsplit(self.path)
        if parts.path == ROOT:
            self._list(parse_qs(parts.query).get("path", [""])[0])
        else:
            self._send_file(unquote(parts.path).removeprefix(f"{ROOT}/"))

    def _list(self, folder):
        prefix = f"{folder}/" if folder else ""
        entries = {}
        for name, size in self.store.listed.items():
            if name.startswith(prefix):
                head, _, rest = name.removeprefix(prefix).partition("/")
                entry = {"path": head, "is_dir": bool(rest)}
                if not rest and size is not None:
                    entry["file_size"] = str(size)
                entries[head] = entry
        self._answer(200, json.dumps({"files": list(entries.values())}).encode())

    def _send_file(self, name):
        self.store.requests.append(name)
        fault = self.store.faults.get(name, [])
        fault = fault.pop(0) if fault else None
        content = self.store.files.get(name)
        status, headers = 200, {}
        if content is not None and self.store.knows_ranges and "Range" in self.headers:
            first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
            headers |= {"Content-Range": f"bytes {first}-{last}/{len(content)}", "ETag": f'"{zlib.crc32(content)}"'}
            content = content[first : last + 1]
            status = 206
        if content is None:
            self._answer(404, b"no such file?X-Amz-Signature=deadbeef")
        elif isinstance(fault, int):
            self._answer(fault, b"broken")
        elif fault == "truncate":  # without a length, the client cannot see that the end is missing
            self.send_response(status)
            for header in headers.items():
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
        elif fault == "hang up":
            self.connection.close()
        else:
            self.store.sent[name] += len(content)
            self._answer(status, content, headers)

    def _answer(self, status, content, headers=None):
        self.send_response(status)
        for header in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(*header)
        self.end_headers()
        if self.store.link is None:
            self.wfile.write(content)
            return
        for start in range(0, len(content), 1 << 16):
            piece = content[start : start + (1 << 16)]
            self.store.link.carry(len(piece))
            self.wfile.write(piece)

    def log_message(self, *_):
        pass
