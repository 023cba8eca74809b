"""A small Hugging Face Hub on loopback: models and their files with ranges, branches that move, and its webhooks."""

import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
from huggingface_hub import constants, file_download
from support.threaded_server import serving

SHA = "c379e821c9c95d613899e8c4343e4bfee2b0c600"
TOKEN, READ_TOKEN = "hf_may_write", "hf_may_only_read"
PAGE = 2


@dataclass
class Repo:
    """A model's repo: the files of each commit, and where its refs (`refs/heads/main`, …) point."""

    name: str
    commits: dict
    refs: dict = field(default_factory=dict)

    def find(self, revision):
        places = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return revision if revision in self.commits else next((self.refs[p] for p in places if p in self.refs), None)


class HubServer:
    """A Hub with one repo at one commit, to begin with.

    Its webhooks are as huggingface_hub 2.4 asks for them (`create_webhook`, …), and what they send is payload
    version 3 of hub-docs `docs/hub/webhooks.md`.

    Args:
        repo: `org/name`, its present name.
        files: Path to content.
        old_names: Names that lead to it as well.
        gated: Whether its files (not its listing) are refused.
    """

    def __init__(self, repo, files, *, old_names=(), gated=False):
        self.files = files
        first = Repo(repo, {SHA: files}, {"refs/heads/main": SHA, "refs/pr/1": SHA})
        self.repos = dict.fromkeys([repo, *old_names], first)
        self.organizations = {repo.partition("/")[0]}
        self.webhooks = {}
        self.sends_webhooks = True
        self.answers = []
        self.gated = gated
        self.knows_ranges = True
        self.failures = 0
        self.status = None
        self.requests = []
        self.url = ""

    @contextmanager
    def running(self):
        with serving(_Handler, hub=self) as self.url:
            yield self

    def stand_in(self, monkeypatch):
        """Be the Hub that huggingface_hub asks, which reads the address of it when it is imported."""
        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)  # till 1.0

    def push(self, repo, files, ref="refs/heads/main"):
        """Put a commit on a branch or tag, and tell the webhooks; returns its sha."""
        sha = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        found = self.repos.setdefault(repo, Repo(repo, {}))
        found.commits[sha] = files
        self.point(repo, ref, sha)
        return sha

    def point(self, repo, ref, sha):
        """Let a ref point to a commit, or to nothing, and tell the webhooks."""
        found = self.repos[repo]
        old = found.refs.get(ref)
        if sha:
            found.refs[ref] = sha
        else:
            found.refs.pop(ref, None)
        moved = {"ref": ref, "oldSha": old, "newSha": sha}
        self.tell(repo, {"event": {"action": "update", "scope": "repo.content"}, "updatedRefs": [moved]})

    def tell(self, repo, event, kind="model"):
        """Send an event to the webhooks that watch the repo; what they answer is kept."""
        about = {"type": kind, "name": repo, "id": "6", "private": False, "owner": {"id": "5"}}
        about["url"] = {"web": f"https://huggingface.co/{repo}", "api": f"https://huggingface.co/api/models/{repo}"}
        watchers = {(kind, repo), ("org", repo.partition("/")[0]), ("user", repo.partition("/")[0])}
        for webhook in self.webhooks.values():
            watched = {(item["type"], item["name"]) for item in webhook["watched"]}
            if watchers & watched and not webhook["disabled"] and self.sends_webhooks:
                payload = event | {"repo": about, "webhook": {"id": webhook["id"], "version": 3}}
                headers = {"X-Webhook-Secret": webhook["secret"]} if webhook["secret"] else {}
                self.answers.append(httpx.post(webhook["url"], json=payload, headers=headers, timeout=30))


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._route()

    def do_HEAD(self):
        self._route()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = urlsplit(self.path).path
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(403 if self.headers.get("Authorization") else 401, b'{"error": "not allowed"}')
        elif path == "/api/settings/webhooks":
            self._keep_webhook({"id": f"{len(self.hub.webhooks) + 1:024x}", "disabled": False, "secret": None} | body)
        elif found := re.fullmatch(r"/api/settings/webhooks/(\w+)(/enable)?", path):
            self._keep_webhook(self.hub.webhooks[found[1]] | ({"disabled": False} if found[2] else body))
        else:
            self._refuse(404, "EntryNotFound")

    def _keep_webhook(self, webhook):
        watches_a_user = [item["name"] for item in webhook["watched"] if item["type"] == "org"]
        if not set(watches_a_user) <= self.hub.organizations:
            self._answer(400, b'{"error": "no such organization"}')
            return
        self.hub.webhooks[webhook["id"]] = webhook
        self._answer(200, json.dumps({"webhook": webhook}).encode())

    def _list_webhooks(self):
        if self.headers.get("Authorization") not in (f"Bearer {TOKEN}", f"Bearer {READ_TOKEN}"):
            self._answer(401, b'{"error": "Invalid username or password."}')
        else:
            self._answer(200, json.dumps([*self.hub.webhooks.values()]).encode())

    def _list_models(self, query):
        author, start = query.get("author", [""])[0], int(query.get("cursor", ["0"])[0])
        names = sorted(name for name in self.hub.repos if not author or name.startswith(f"{author}/"))
        more = f'<{self.hub.url}/api/models?author={author}&cursor={start + PAGE}>; rel="next"'
        models = [{"id": name, "modelId": name} for name in names[start : start + PAGE]]
        self._answer(200, json.dumps(models).encode(), {"Link": more} if names[start + PAGE :] else {})

    def _list_refs(self, name):
        if name not in self.hub.repos:
            self._refuse(404, "RepoNotFound")
            return
        listed = {"branches": [], "converts": [], "tags": []}
        for ref, sha in self.hub.repos[name].refs.items():
            for kind, start in (("branches", "refs/heads/"), ("tags", "refs/tags/")):
                if ref.startswith(start):
                    listed[kind].append({"name": ref.removeprefix(start), "ref": ref, "targetCommit": sha})
        self._answer(200, json.dumps(listed).encode())

    def _route(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if self.hub.status:
            self._answer(self.hub.status, b"{}")
        elif path == "/api/settings/webhooks":
            self._list_webhooks()
        elif path == "/api/models":
            self._list_models(parse_qs(urlsplit(self.path).query))
        elif found := re.fullmatch(r"/api/organizations/([^/]+)/overview", path):
            known = found[1] in self.hub.organizations
            self._answer(200 if known else 404, json.dumps({"name": found[1], "fullname": found[1]}).encode())
        elif found := re.fullmatch(r"/api/organizations/([^/]+)/members", path):  # asked for before 0.36
            self._answer(*((200, b"[]") if found[1] in self.hub.organizations else (404, b"{}")))
        elif found := re.fullmatch(r"/api/models/((?:[^/]+/)?[^/]+)/refs", path):
            self._list_refs(found[1])
        elif found := re.fullmatch(r"/api/models/((?:[^/]+/)?[^/]+)(?:/revision/(.+))?", path):
            self._tell(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/((?:[^/]+/)?[^/]+)/resolve/([0-9a-f]{40})/(.+)", path):
            self._send_file(found[1], found[2], found[3])
        else:
            self._refuse(404, "EntryNotFound")

    def _tell(self, name, revision):
        repo = self.hub.repos.get(name)
        sha = repo and repo.find(revision)
        if repo is None:
            self._refuse(404, "RepoNotFound")
        elif sha is None:
            self._refuse(404, "RevisionNotFound")
        else:
            siblings = [{"rfilename": name, "size": len(content)} for name, content in repo.commits[sha].items()]
            self._answer(200, json.dumps({"id": repo.name, "sha": sha, "siblings": siblings}).encode())

    def _send_file(self, repo, sha, name):
        known = self.hub.repos.get(repo)
        content = known and known.commits.get(sha, {}).get(name)
        if content is None:
            self._refuse(404, "EntryNotFound")
        elif self.hub.gated:
            self._refuse(403, "GatedRepo")
        elif self.command == "GET" and self.hub.failures:
            self.hub.failures -= 1
            self._answer(500, b"")
        else:
            headers = {"ETag": f'"{etag(content)}"', "X-Repo-Commit": sha}
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
