"""The part of a Hugging Face Hub that says which repositories exist, on loopback, with its moods."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from support.threaded_server import serving


@dataclass
class HubDirectory:
    """Answers `GET /api/models/<repo>` as the Hub does.

    Args:
        repos: Present names of its repositories.
        renamed: Old names and what they are called now; asked for, they are redirected.
        gated: Repositories that exist and refuse this visitor.
        delay_seconds: How long it takes to answer.
    """

    repos: Sequence[str] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    gated: Sequence[str] = ()
    delay_seconds: float = 0.0
    asked: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve; yields the address."""
        with serving(_Handler, directory=self) as url:
            yield url


class _Handler(BaseHTTPRequestHandler):
    directory: HubDirectory

    def do_GET(self):
        directory = self.directory
        repo = self.path.partition("?")[0].removeprefix("/api/models/")
        directory.asked.append(repo)
        time.sleep(directory.delay_seconds)
        if repo in directory.renamed:
            self._answer(307, {}, {"Location": f"/api/models/{directory.renamed[repo]}"})
        elif repo in directory.gated:
            self._answer(403, {"error": "restricted"}, {"X-Error-Code": "GatedRepo"})
        elif repo in directory.repos:
            self._answer(200, {"id": repo, "sha": "c" * 40, "siblings": []}, {})
        else:
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})

    def _answer(self, status, content, headers):
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
