"""Signed URLs and session addresses lead to storage, not into the network of whoever uploads."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO

import httpx
import pytest
from pydantic import SecretStr

from mlflow_fireworks.errors import TransferError
from mlflow_fireworks.http import Timeouts, TransientError, is_safe_url
from mlflow_fireworks.transfer.storage import Body, make_storage_client, put_file, start_session

API = "api.fireworks.ai"


@pytest.mark.parametrize(
    ("url", "giver"),
    [
        ("https://storage.googleapis.com/b/o?X-Goog-Signature=x", API),
        ("https://142.250.1.1/b/o", API),
        ("https://[2a00:1450:4001::1]/b/o", API),
        ("https://storage.example:8443/b", API),
        ("http://127.0.0.1:5/b", "127.0.0.1"),
        ("http://localhost:5/b", "::1"),
        ("https://10.1.2.3/b", "10.9.9.9"),
        ("https://10.1.2.3/b", "localhost"),
        ("https://storage.internal/b", "10.9.9.9"),
    ],
)
def test_where_files_may_go(url, giver):
    assert is_safe_url(url, giver)


@pytest.mark.parametrize(
    "url",
    [
        "http://storage.googleapis.com/b",
        "http://127.0.0.1:5/b",
        "https://127.0.0.1:5/b",
        "https://localhost/b",
        "https://me:secret@storage.googleapis.com/b",
        "https://storage.googleapis.com@evil.example/b",
        "https://10.1.2.3/b",
        "https://192.168.0.1/b",
        "https://172.16.0.1/b",
        "https://100.64.0.1/b",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1]/b",
        "https://[fd00:ec2::254]/b",
        "https://[::1]/b",
        "https://[::ffff:169.254.169.254]/b",
        "https://0.0.0.0/b",
        "https://2130706433/b",
        "https://0x7f000001/b",
        "https://127.1/b",
        "https://0177.0.0.1/b",
        "ftp://storage.googleapis.com/b",
        "file:///etc/passwd",
        "//storage.googleapis.com/b",
        "/b",
        "https://",
        "",
        "https://[",
    ],
)
def test_where_an_api_on_the_internet_may_not_send_them(url):
    assert not is_safe_url(url, API)


@pytest.fixture
def listener():
    """Something on this machine that must not hear a byte."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server


@pytest.fixture
def names(monkeypatch, listener):
    """A resolver in which a harmless name leads to this machine, as one that is rebound does."""
    real, port = socket.getaddrinfo, listener.getsockname()[1]
    private = {"storage.example": "127.0.0.1", "api.internal": "10.1.2.3", API: "8.8.8.8"}

    def resolve(host, *args, **kwargs):
        if host in private:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (private[host], port))]
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return port


@pytest.fixture
def heard(listener):
    """What the first connection to it brings."""

    def listen():
        connection, _ = listener.accept()
        with connection:
            return connection.recv(100)

    with ThreadPoolExecutor(1) as pool:
        yield partial(pool.submit(listen).result, 10)


def body():
    return Body("a.json", 1, BytesIO(b"x"), moved=lambda count: None, stop=threading.Event())


def test_a_name_that_leads_to_this_machine_is_refused_when_it_is_connected_to(names, heard):
    with make_storage_client(1, Timeouts(), API) as http, pytest.raises(TransferError) as refused:
        put_file(http, SecretStr(f"https://storage.example:{names}/b?X-Goog-Signature=secret"), body())
    assert heard() == b""
    assert "storage.example, which is 127.0.0.1 here" in refused.value.message
    assert "secret" not in refused.value.message


def test_where_the_api_is_in_a_private_network_its_storage_may_be(names, listener):
    listener.close()
    with make_storage_client(1, Timeouts(), "api.internal") as http, pytest.raises(TransientError) as failed:
        put_file(http, SecretStr(f"https://storage.example:{names}/b"), body())
    assert "private network" not in str(failed.value)  # it was tried, and nobody listens


def test_behind_a_proxy_the_proxy_decides(names, heard, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://storage.example:{names}")
    with make_storage_client(1, Timeouts(), API) as http, pytest.raises(Exception, match=r"proxy|disconnected|closed"):
        put_file(http, SecretStr("https://storage.googleapis.com/b"), body())
    assert heard().startswith(b"CONNECT storage.googleapis.com:443")


@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/", "https://me@storage.example/x", "https://10.0.0.1/", ""]
)
def test_a_session_somewhere_else_is_not_used(location):
    answer = httpx.Response(201, headers={"Location": location})
    http = httpx.Client(transport=httpx.MockTransport(lambda request: answer), verify=False)
    with pytest.raises(TransferError, match="no usable session"):
        start_session(http, SecretStr("https://storage.googleapis.com/b"), "a.json", 1)
