"""Servers that do not end: pages, bytes and time have bounds, and one line says which was reached."""

import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler

import httpx
import pytest
from pydantic import SecretStr
from support.threaded_server import serving

from mlflow_fireworks.answers import EndlessAnswerError, ask
from mlflow_fireworks.errors import FireworksError, UnavailableError, UnexpectedAnswerError
from mlflow_fireworks.gateway import transport as transport_module
from mlflow_fireworks.gateway.transport import Transport
from mlflow_fireworks.gateway.wire import Page
from mlflow_fireworks.http import Retry, Timeouts

SHORT = Timeouts(connect=1.0, quiet=1.0, answer=1.0, rest=1.0)
BOMB = gzip.compress(b" " * (33 << 20), 1)


class Server(BaseHTTPRequestHandler):
    """Ways not to end."""

    def do_GET(self):
        way = self.path.split("?")[0].rpartition("/")[2]
        self.server.calls = getattr(self.server, "calls", 0) + 1
        try:
            getattr(self, way)()
        except OSError:  # the client has had enough
            return

    def begin(self, *headers):
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def endless(self):
        self.begin()
        while True:
            self.wfile.write(b" " * (1 << 20))

    def dripping(self):
        self.begin()
        for _ in range(100):
            self.wfile.write(b" ")
            time.sleep(0.05)

    def dripping_headers(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(100):
            self.wfile.write(f"X-{number}: x\r\n".encode())
            time.sleep(0.05)

    def bomb(self):
        self.begin(("Content-Encoding", "gzip"), ("Content-Length", str(len(BOMB))))
        self.wfile.write(BOMB)

    def packed_otherwise(self):
        self.begin(("Content-Encoding", "br"))
        self.wfile.write(b"x")

    def packed(self):
        content = gzip.compress(b'{"nextPageToken": ""}')
        self.begin(("Content-Encoding", "gzip"), ("Content-Length", str(len(content))), ("X-Own", "kept"))
        self.wfile.write(content)

    def pages(self):
        self.begin()
        self.wfile.write(json.dumps({"nextPageToken": str(time.monotonic_ns())}).encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def url():
    with serving(Server) as url:
        yield url


@pytest.fixture
def transport(url):
    transport = Transport(url, SecretStr("k"), retry=Retry(attempts=2, wait_initial=0.01), timeouts=SHORT)
    yield transport
    transport.close()


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("endless", "larger than 32.0 MiB"),
        ("bomb", "larger than 32.0 MiB"),
        ("dripping", "never ends"),
        ("dripping_headers", "did not finish within 3s"),
        ("packed_otherwise", "uses an encoding"),
    ],
)
def test_an_answer_that_does_not_end_is_given_up_in_one_line(transport, way, says):
    began = time.monotonic()
    with pytest.raises(UnavailableError) as failed:
        transport.send("GET", f"/{way}", "list the models")
    assert says in failed.value.message
    assert "run the same command again" in failed.value.message
    assert "\n" not in failed.value.message
    assert time.monotonic() - began < 20


def test_a_list_that_does_not_end_is_given_up(transport, monkeypatch):
    monkeypatch.setattr(transport_module, "_MOST_PAGES", 7)
    got = []
    with pytest.raises(UnexpectedAnswerError, match=r"could not list the models: .* never ends the list"):
        got.extend(transport.pages(Page, "/pages", "list the models"))
    assert len(got) == 7


def test_a_list_that_drips_is_given_up(transport, monkeypatch):
    monkeypatch.setattr(transport_module, "_MOST_LIST_SECONDS", 0.0)
    with pytest.raises(FireworksError, match="never ends the list"):
        list(transport.pages(Page, "/pages", "list the models"))


def test_a_packed_answer_is_unpacked_and_keeps_its_headers(url):
    with httpx.Client(verify=False) as http:
        answer = ask(http, "GET", f"{url}/packed", seconds=20)
    assert answer.json() == {"nextPageToken": ""}
    assert (answer.headers["x-own"], answer.status_code, answer.reason_phrase) == ("kept", 200, "OK")
    assert answer.request.method == "GET"


def test_an_answer_within_its_bounds_is_whole():
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=b"x" * 10))) as http:
        assert ask(http, "GET", "http://a/", most=10).content == b"x" * 10
        with pytest.raises(EndlessAnswerError):
            ask(http, "GET", "http://a/", most=9)
    assert threading.active_count() < 50
