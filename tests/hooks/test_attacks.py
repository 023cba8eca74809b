"""The receiver and its page, asked by those who mean it ill, over real sockets."""

import json
import socket
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from support.hooks_world import SECRET, wait_until

from mlflow_fireworks.hooks import listening
from mlflow_fireworks.hooks import receiver as receiver_module
from mlflow_fireworks.hooks.jobs import Job, State, Subject
from mlflow_fireworks.hooks.listening import listen, make_server
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.receiver import MAX_BODY_BYTES, Receiver, Secrets, make_app, sign
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.status import StatusPage

TOKEN = "a token for the people"
RULES = Rules.model_validate({"rules": [{"model": "chat", "alias": "champion", "target": "fireworks:/acme"}]})
EVENT = {
    "entity": "model_version_alias",
    "action": "created",
    "data": {"name": "chat", "alias": "champion", "version": "3"},
}
BODY = json.dumps(EVENT).encode()


class Followed:
    current = RULES


@pytest.fixture
def queue(tmp_path):
    with closing(open_queue(str(tmp_path / "queue.db"))) as queue:
        yield queue


@contextmanager
def receiving(queue, host="127.0.0.1"):
    secrets = Secrets(SecretStr(SECRET), SecretStr(SECRET), SecretStr(TOKEN))
    page = StatusPage(queue, CollectorRegistry(), secrets.people, lambda: server.should_exit)
    app = make_app([*Receiver(queue, Followed, secrets).routes(), *page.routes()], lambda: {"ok": True})
    listener = listen(host, 0)
    server = make_server(app, host)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_until(lambda: server.started, "the server listens")
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def port(queue):
    with receiving(queue) as port:
        yield port


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def read_all(connection):
    """What comes until the other side closes."""
    told = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            told += piece
    return told


def exchange(port, head, body=b""):
    with connect(port) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        told = read_all(connection)
    return int(told.split(b" ")[1]), told


def signed(body=BODY, *more, delivery="d-1", length=None, host="hooks.example", framing=None):
    now = str(int(time.time()))
    lines = [
        "POST /webhooks/mlflow HTTP/1.1",
        f"Host: {host}",
        "Connection: close",
        *([f"Content-Length: {len(body) if length is None else length}"] if framing is None else framing),
        f"X-MLflow-Delivery-Id: {delivery}",
        f"X-MLflow-Timestamp: {now}",
        f"X-MLflow-Signature: {sign(SECRET, delivery, now, body)}",
        *more,
    ]
    return "\n".join(lines)


def chunked(body, size=None):
    return f"{len(body) if size is None else size:x}\r\n".encode() + body + b"\r\n0\r\n\r\n"


TE = ["Transfer-Encoding: chunked"]


def test_a_good_delivery_is_taken_however_it_is_sent(port, queue):
    assert exchange(port, signed(), BODY)[0] == 202
    assert exchange(port, signed(delivery="d-2", framing=TE), chunked(BODY))[0] == 202
    assert exchange(port, signed(delivery="d-3", framing=[f"Content-Length: {len(BODY)}"] * 2), BODY)[0] == 202
    assert len(queue.ledger.jobs()) == 3


FORGED = {
    "another signature": ({"more": ["X-MLflow-Signature: v1,AAAA"]}, 401),
    "another id": ({"more": ["X-MLflow-Delivery-Id: d-2"]}, 401),
    "another time": ({"more": ["X-MLflow-Timestamp: 1"]}, 401),
    "a shorter length first": ({"framing": ["Content-Length: 5", f"Content-Length: {len(BODY)}"]}, 400),
    "two lengths in one": ({"framing": [f"Content-Length: {len(BODY)}, 5"]}, 400),
    "a length below zero": ({"framing": ["Content-Length: -1"]}, 400),
    "a length with a sign": ({"framing": ["Content-Length: +5"]}, 400),
    "a length in hex": ({"framing": ["Content-Length: 0x5"]}, 400),
    "a length of 5,000 digits": ({"framing": [f"Content-Length: {'9' * 5000}"]}, 400),
    "a length too large": ({"framing": [f"Content-Length: {MAX_BODY_BYTES + 1}"], "body": b""}, 413),
    "a length and chunks": ({"framing": [*TE, "Content-Length: 0"], "body": chunked(BODY)}, 400),
    "chunks twice": ({"framing": TE * 2, "body": chunked(BODY)}, 400),
    "chunks in gzip": ({"framing": ["Transfer-Encoding: gzip, chunked"], "body": chunked(BODY)}, 400),
    "chunks without a size": ({"framing": TE, "body": b"zz\r\n" + BODY}, 400),
    "chunks without an end": ({"framing": TE, "body": chunked(b"x" * (2 << 20))}, 413),
    "a header of 1 MB": ({"more": ["X-Long: " + "x" * 1_000_000]}, 400),
    "20,000 headers": ({"more": [f"X-{number}: x" for number in range(20_000)]}, 400),
}


@pytest.mark.parametrize("way", FORGED)
def test_what_is_forged_repeated_or_too_large_changes_nothing(port, queue, way):
    sent, status = FORGED[way]
    head = signed(BODY, *sent.get("more", ()), framing=sent.get("framing"))
    assert exchange(port, head, sent.get("body", BODY))[0] == status
    assert queue.ledger.jobs() == []
    assert exchange(port, signed(), BODY)[0] == 202


def test_the_hubs_secret_may_not_be_repeated(port):
    head = "POST /webhooks/huggingface HTTP/1.1\nHost: a\nConnection: close\nContent-Length: 2"
    secret = f"\nX-Webhook-Secret: {SECRET}"
    assert exchange(port, head + secret + secret, b"{}")[0] == 401
    assert exchange(port, head + secret + "\nX-Webhook-Secret: x", b"{}")[0] == 401
    assert exchange(port, head + secret, b"{}")[0] != 401


@pytest.mark.parametrize("depth", [100_000, 5_000])
def test_a_body_that_is_deeply_nested_is_no_event(port, depth):
    body = b"[" * depth
    assert exchange(port, signed(body), body)[0] == 422
    body = b'{"a": ' + b"9" * 10_000 + b"}"
    assert exchange(port, signed(body, delivery="d-2"), body)[0] == 422


def test_a_slow_body_is_given_up_and_the_connection_closed(port, queue, monkeypatch):
    monkeypatch.setattr(receiver_module, "BODY_SECONDS", 0.3)
    with connect(port) as connection:
        connection.sendall(signed(length=1000).replace("\n", "\r\n").encode() + b"\r\n\r\n{")
        began = time.monotonic()
        assert read_all(connection).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began < 5
    assert [delivery.status for delivery in queue.deliveries.last()] == [408]


def test_a_body_that_is_cut_off_is_no_error_of_the_queue(port, queue, caplog):
    with connect(port) as connection:
        connection.sendall(signed(length=1000).replace("\n", "\r\n").encode() + b"\r\n\r\n{")
        time.sleep(0.1)
    wait_until(queue.deliveries.last, "it is noted", 10)
    assert [delivery.status for delivery in queue.deliveries.last()] == [400]
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("way", ["silent", "half a head", "dripping", "after an answer"])
def test_connections_that_are_held_open_end_and_others_are_answered_meanwhile(port, monkeypatch, way):
    monkeypatch.setattr(listening, "HEAD_SECONDS", 0.7)
    with ExitStack() as stack:
        held = []
        for _ in range(100):
            connection = stack.enter_context(connect(port))
            held.append(connection)
            if way == "after an answer":
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
                connection.sendall(b"GET /he")
            elif way != "silent":
                connection.sendall(b"POST /webhooks/mlflow HTTP/1.1\r\nX-A: ")
        assert exchange(port, signed(), BODY)[0] == 202
        for _ in range(9 if way == "dripping" else 0):
            time.sleep(0.1)
            for connection in held:
                with suppress(OSError):
                    connection.sendall(b"x")
        began = time.monotonic()
        for connection in held:
            read_all(connection)
        assert time.monotonic() - began < 5


REBOUND = ["evil.example", "127.0.0.1.evil.example", "[", "localhost.evil.example"]


@pytest.mark.parametrize("path", ["/", "/status.json", "/metrics", "/events", "/readyz"])
def test_a_web_page_under_a_rebound_name_reads_nothing(port, path):
    for name in REBOUND:
        status, told = exchange(port, f"GET {path} HTTP/1.1\nHost: {name}:{port}\nConnection: close")
        assert status == 421, name
        assert b"http://localhost" in told


@pytest.mark.parametrize(
    "host", ["localhost:{}", "127.0.0.1:{}", "[::1]:{}", "hooks.localhost:{}", "hooks.example.com"]
)
def test_people_of_this_machine_and_those_behind_its_proxy_see_the_page(port, host):
    assert exchange(port, f"GET /status.json HTTP/1.1\nHost: {host.format(port)}\nConnection: close")[0] == 200


def test_a_receiver_for_other_machines_goes_by_any_name(queue):
    with receiving(queue, "0.0.0.0") as port:
        assert exchange(port, f"GET /status.json HTTP/1.1\nHost: hooks.internal:{port}\nConnection: close")[0] == 200


def test_webhooks_come_by_any_name(port):
    assert exchange(port, signed(host=f"hooks.example:{port}"), BODY)[0] == 202


@pytest.mark.parametrize("host", ["127.0.0.1:{}", "evil.example:{}"])
@pytest.mark.parametrize("token", ["", "token=wrong", f"token={'x' * 5000}", "token=%00%ff", "%" * 100])
def test_the_retry_button_is_of_no_use_without_the_token(port, queue, host, token):
    subject = Subject(kind="alias", name="chat", ref="champion")
    job = Job(
        id="d1", subject=subject, deployment="chat", state=State.DEAD, rule="r", version="3", target="fireworks:/acme"
    )
    assert queue.ledger.accept(job)
    head = (
        f"POST /jobs/d1/retry HTTP/1.1\nHost: {host.format(port)}\nConnection: close\nOrigin: https://evil.example\n"
        f"Content-Type: application/x-www-form-urlencoded\nContent-Length: {len(token)}"
    )
    assert exchange(port, head, token.encode())[0] in (403, 413, 421)
    assert queue.ledger.find("d1").state is State.DEAD
    bearer = f"\nAuthorization: Bearer {TOKEN}"
    assert (exchange(port, head + bearer, token.encode())[0] == 202) == ("evil" not in host)


def test_no_websocket_is_opened(port):
    head = (
        f"GET /events HTTP/1.1\nHost: localhost:{port}\nUpgrade: websocket\nConnection: Upgrade\n"
        "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    )
    with connect(port) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        assert connection.recv(12) != b"HTTP/1.1 101"
