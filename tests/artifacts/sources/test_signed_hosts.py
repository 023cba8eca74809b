"""A server that signs URLs for a host which only it knows, as for MinIO in a network of containers."""

import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

import pytest
from support.threaded_server import serving

from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.registry.reach import require_host

API = "/api/2.0/mlflow-artifacts"


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        path = urlsplit(self.path).path
        if path.startswith(f"{API}/presigned/"):
            answer = {"url": "http://minio.invalid:9000/models/x?X-Amz-Signature=s3cret", "headers": {}, "file_size": 9}
        else:
            answer = {"files": [{"path": "config.json", "is_dir": False, "file_size": "9"}]}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def signing(monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    with serving(Server) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        yield


@pytest.mark.slow  # three looks within three seconds
def test_the_host_is_named_before_anything_is_fetched(signing, tmp_path):
    source = open_source("mlflow-artifacts:/chat", workspace=tmp_path)

    with pytest.raises(UnavailableError, match=r"^the server signs URLs for minio\.invalid, which this") as caught:
        source.store.read_beginning("config.json", 5)

    assert "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false" in caught.value.message
    assert "s3cret" not in caught.value.message


def test_a_host_behind_a_proxy_is_the_proxys_to_find(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    require_host("http://minio.invalid:9000/x")


def test_a_host_that_was_found_is_not_looked_up_again(monkeypatch):
    require_host("http://localhost:9000/x")
    monkeypatch.setattr("socket.getaddrinfo", lambda *_: pytest.fail("looked up again"))
    require_host("http://localhost:9001/y")


def test_a_lookup_that_fails_for_a_moment_is_tried_again(monkeypatch):
    pauses, answers = [], [OSError(-3, "Temporary failure in name resolution"), None]

    def look_up(*_):
        if answer := answers.pop(0):
            raise answer

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    require_host("http://flaky.example/x", pauses.append)
    assert pauses == [1.0]
