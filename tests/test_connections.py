"""Variables about proxies and certificates: what cannot be read is skipped, or named before anything is created."""

import io
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from pydantic import SecretStr

from mlflow_fireworks.connections import advise_certificates, describe_proxy, name_proxy, open_client
from mlflow_fireworks.errors import InvalidConfigError, TransferError, UnavailableError
from mlflow_fireworks.gateway.transport import Transport
from mlflow_fireworks.gateway.wire import Model
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.registry.reach import require_mlflow
from mlflow_fireworks.transfer.storage import Body, make_storage_client, put_file

SECRET = "hunter2"


class Refusing(BaseHTTPRequestHandler):
    """A proxy that writes down whom it was asked for, and lets nobody through."""

    def do_CONNECT(self):
        self.server.asked.append(self.path)
        self.send_error(self.server.status)

    def log_message(self, *args):
        pass


@pytest.fixture
def proxy():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    server.asked, server.status = [], 502
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(url, expected):
    with open_client(timeout=2) as client, pytest.raises(expected):
        client.get(url)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_proxy_of_the_environment_is_asked_for_other_machines_only(proxy, monkeypatch, variable):
    monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.server_port}")

    ask("https://api.example/v1", httpx.ProxyError)
    ask("http://127.0.0.1:9/", httpx.ConnectError)
    ask("http://localhost:9/", httpx.ConnectError)

    assert proxy.asked == ["api.example:443"]


@pytest.mark.parametrize(
    "value",
    [
        "localhost,fd00::/8",
        "[::1]",
        "[fd00::]/8,localhost",
        "::1, 10.0.0.0/8,*.corp",
        "fe80::1%eth0",
        "http://x:99999",
        '"localhost",a:80, ,,',
        "[",
    ],
)
def test_exceptions_that_httpx_cannot_read_are_skipped(proxy, monkeypatch, value):
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("NO_PROXY", f"{value},elsewhere.invalid")

    ask("https://api.example/v1", httpx.ProxyError)
    ask("https://elsewhere.invalid/", httpx.ConnectError)

    assert proxy.asked == ["api.example:443"]


@pytest.mark.parametrize("value", ["*", "fd00::/8,*", "invalid", ".invalid", "10.0.0.0/8,API.invalid"])
def test_exceptions_that_httpx_can_read_are_direct(proxy, monkeypatch, value):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("NO_PROXY", value.lower())

    ask("https://api.invalid/v1", httpx.ConnectError)

    assert proxy.asked == []


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ALL_PROXY", f"socks://u:{SECRET}@h:1", "socks:// is not a proxy scheme .* use socks5://HOST:PORT"),
        ("HTTPS_PROXY", f"ftp://u:{SECRET}@h:1", "use http://HOST:PORT"),
        ("https_proxy", '"http://h:1"', "includes quotes or spaces around"),
        ("HTTPS_PROXY", " http://h:1", "includes quotes or spaces around"),
        ("HTTPS_PROXY", f"http://h:{SECRET}", "it is not a valid URL"),
        ("HTTPS_PROXY", "http://h:99999", "an impossible port"),
        ("HTTPS_PROXY", f"http://u:{SECRET}#q@h:1", "write # as %23"),
        ("HTTPS_PROXY", f"http://u:{SECRET}/q@h:1", "/ as %2F"),
        ("HTTPS_PROXY", f"http://u:12/{SECRET}@h:1", "is read as a path"),
        ("HTTPS_PROXY", f"u:12?{SECRET}@h:1", "is read as a path"),
        ("HTTPS_PROXY", "http:/h:1", "is read as a path"),
        ("HTTPS_PROXY", "http://h:0", "an impossible port"),
        ("HTTPS_PROXY", "http://a b:1", "it has no host"),
        ("HTTPS_PROXY", "http://h:1,http://i:1", "it is not a valid URL"),
        ("HTTPS_PROXY", "http://", "it has no host"),
    ],
)
def test_proxy_that_cannot_be_used_is_named_without_its_value(monkeypatch, variable, value, says):
    monkeypatch.setenv(variable, value)

    with pytest.raises(InvalidConfigError, match=rf"^{variable} cannot be used: .*{says}") as caught:
        open_client()
    assert SECRET not in caught.value.message
    assert caught.value.message.endswith("; fix it, or unset it")


@pytest.mark.parametrize(
    "value", ["http://[fe80::1%eth0]:3128", "http://me:p%40ss@h:1/", "h", "HTTP://H:1", "http://@h:1"]
)
def test_odd_proxies_that_can_be_used_are(monkeypatch, value):
    monkeypatch.setenv("HTTPS_PROXY", value)
    open_client().close()
    assert "p%40" not in name_proxy()


@pytest.mark.parametrize("value", ["*", " * ", "a, *", '"*"'])
def test_no_proxy_of_a_star_means_none_also_for_those_who_ask(proxy, monkeypatch, value):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_port}")
    assert describe_proxy() == f"127.0.0.1:{proxy.server_port} (HTTPS_PROXY)"
    monkeypatch.setenv("NO_PROXY", value)
    assert describe_proxy() is None
    ask("https://127.0.0.2:9/", httpx.ConnectError)
    assert proxy.asked == []


def test_a_proxy_that_is_not_there_is_named_and_not_taken_for_the_api(monkeypatch):
    for value, named in (("http://127.0.0.1:9", "127.0.0.1:9"), ("none", "none"), ("http://[::1]:9", "[::1]:9")):
        monkeypatch.setenv("HTTPS_PROXY", value)
        transport = Transport("https://api.example", SecretStr("key"), retry=Retry(attempts=1))
        with pytest.raises(UnavailableError) as caught:
            transport.find(Model, "accounts/acme/models/chat")
        assert f"(through the proxy {named} (HTTPS_PROXY))" in caught.value.message
    monkeypatch.setenv("NO_PROXY", "api.example")
    transport = Transport("https://api.example", SecretStr("key"), retry=Retry(attempts=1))
    with pytest.raises(UnavailableError) as caught:
        transport.find(Model, "accounts/acme/models/chat")
    assert "by way of" not in caught.value.message


def test_several_folders_of_certificates_are_taken_as_openssl_takes_them(monkeypatch, tmp_path):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", f"/nowhere{os.pathsep}{tmp_path}")
    open_client().close()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_that_only_mlflow_reads_are_pointed_at(monkeypatch, variable):
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert "SSL_CERT_FILE to a file with its certificate" in advise_certificates()
    monkeypatch.setenv(variable, "/etc/corp.pem")
    assert advise_certificates() == f"{variable} is for MLflow only; set SSL_CERT_FILE to /etc/corp.pem too"


def test_all_proxy_does_not_matter_where_there_is_one_for_https(proxy, monkeypatch):
    """GNOME sets both."""
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_port}")

    ask("https://api.example/v1", httpx.ProxyError)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SSL_CERT_FILE", "/nope/ca.pem"),
        ("SSL_CERT_FILE", "/etc/passwd"),
        ("SSL_CERT_FILE", "/etc"),
        ("SSL_CERT_FILE", '"/etc/ssl/certs/ca-certificates.crt"'),
        ("SSL_CERT_DIR", "/nope"),
        ("SSLKEYLOGFILE", "/nope/keys"),
    ],
)
def test_file_of_certificates_or_keys_that_cannot_be_used_is_named(monkeypatch, variable, value):
    if variable == "SSL_CERT_DIR":
        monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv(variable, value)

    with pytest.raises(InvalidConfigError, match=f"^{variable} is {value}, which .*; fix it, or unset it$"):
        open_client()


@pytest.mark.parametrize("status", [401, 403, 407])
def test_refusal_of_a_proxy_is_final_at_once_and_names_the_proxy(proxy, monkeypatch, status):
    """Each further try with a wrong password would bring the account nearer to being locked."""
    proxy.status = status
    monkeypatch.setenv("https_proxy", f"http://me:{SECRET}@127.0.0.1:{proxy.server_port}")
    transport = Transport("https://api.example", SecretStr("key"))

    with pytest.raises(UnavailableError) as caught:
        transport.find(Model, "accounts/acme/models/chat")

    assert proxy.asked == ["api.example:443"]
    assert caught.value.message.startswith(
        f"cannot talk to api.example: the proxy 127.0.0.1:{proxy.server_port} (https_proxy) answered: {status} "
    )
    assert caught.value.message.endswith("; check its user name and password, and whether it allows this host")
    assert SECRET not in caught.value.message


@pytest.mark.parametrize("status", [403, 407])
def test_refusal_of_a_proxy_during_an_upload_is_final_too(proxy, monkeypatch, status):
    proxy.status = status
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{SECRET}@127.0.0.1:{proxy.server_port}")
    body = Body("a.safetensors", 3, io.BytesIO(b"abc"), moved=lambda _: None, stop=threading.Event())
    url = SecretStr("https://storage.example/a?X-Goog-Signature=1")

    with make_storage_client(1, Timeouts()) as http, pytest.raises(TransferError) as caught:
        put_file(http, url, body)

    named = f"the proxy 127.0.0.1:{proxy.server_port} (HTTPS_PROXY) answered: {status} "
    assert caught.value.message.startswith(f"cannot send a.safetensors to storage: {named}")
    assert proxy.asked == ["storage.example:443"]
    assert SECRET not in caught.value.message


def test_registry_behind_a_proxy_that_refuses_is_asked_for_once(proxy, monkeypatch):
    proxy.status = 407
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{SECRET}@127.0.0.1:{proxy.server_port}")

    with pytest.raises(UnavailableError, match=r"does not answer \(the proxy answered 407 ") as caught:
        require_mlflow("https://registry.example")
    assert proxy.asked == ["registry.example:443"]
    assert SECRET not in caught.value.message


def test_proxy_whose_upstream_is_away_is_asked_again(proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_port}")
    transport = Transport("https://api.example", SecretStr("key"), retry=Retry(attempts=3, wait_initial=0.01))

    with pytest.raises(UnavailableError, match=r"the proxy 127\.0\.0\.1:\d+ \(HTTPS_PROXY\) answered: 502 .*, 3 times"):
        transport.find(Model, "accounts/acme/models/chat")
    assert len(proxy.asked) == 3
