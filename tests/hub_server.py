"""A small Hugging Face Hub on loopback: the listing of a model, and its files with ranges."""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

SHA = "c379e821c9c95d613899e8c4343e4bfee2b0c600"


class HubServer:
    """One repo at one commit.

    Args:
        repo: `org/name`, its present name.
        files: Path to content.
        old_names: Names that lead to it as well.
        gated: Whether its files (not its listing) are refused.
    """

    def __init__(self, repo, files, *, old_names=(), gated=False):
        self.repo = repo
        self.files = files
        self.names = {repo, *old_names}
        self.revisions = {"main": SHA, SHA: SHA, "refs/pr/1": SHA}
        self.gated = gated
        self.knows_ranges = True
        self.failures = 0
        self.status = None
        self.requests = []
        self.url = ""

    @contextmanager
    def running(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # a client that has read enough hangs up
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._route()

    def do_HEAD(self):
        self._route()

    def _route(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if self.hub.status:
            self._answer(self.hub.status, b"{}")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._tell(found[1], found[2] or "main")
        elif found := re.fullmatch(rf"/([^/]+/[^/]+)/resolve/({SHA})/(.+)", path):
            self._send_file(found[3])
        else:
            self._refuse(404, "EntryNotFound")

    def _tell(self, repo, revision):
        if repo not in self.hub.names:
            self._refuse(404, "RepoNotFound")
        elif revision not in self.hub.revisions:
            self._refuse(404, "RevisionNotFound")
        else:
            siblings = [{"rfilename": name, "size": len(content)} for name, content in self.hub.files.items()]
            about = {"id": self.hub.repo, "sha": self.hub.revisions[revision], "siblings": siblings}
            self._answer(200, json.dumps(about).encode())

    def _send_file(self, name):
        content = self.hub.files.get(name)
        if content is None:
            self._refuse(404, "EntryNotFound")
        elif self.hub.gated:
            self._refuse(403, "GatedRepo")
        elif self.command == "GET" and self.hub.failures:
            self.hub.failures -= 1
            self._answer(500, b"")
        else:
            headers = {"ETag": f'"{etag(content)}"', "X-Repo-Commit": SHA}
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if asked and self.hub.knows_ranges:
                start, end = int(asked[1]), int(asked[2] or len(content) - 1)
                headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
                self._answer(206, content[start : end + 1], headers)
            else:
                self._answer(200, content, headers)

    def _refuse(self, status, code):
        self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _answer(self, status, content, headers=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def etag(content):
    return hashlib.sha1(content).hexdigest()


def fill_cache(cache, repo, files, *, revision="main"):
    """Lay out a Hub cache by hand, as huggingface_hub documents it; returns the snapshot's folder."""
    home = cache / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / SHA
    for name, content in files.items():
        blob = home / "blobs" / etag(content)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    ref = home / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(SHA)
    return snapshot
