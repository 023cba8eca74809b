"""Variables about proxies and certificates: what cannot be read is skipped, or named before anything is created."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from pydantic import SecretStr

from mlflow_fireworks.connections import open_client
from mlflow_fireworks.errors import InvalidConfigError, UnavailableError
from mlflow_fireworks.gateway.transport import Transport
from mlflow_fireworks.gateway.wire import Model
from mlflow_fireworks.http import Retry

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
        ("HTTPS_PROXY", "http://", "it has no host"),
    ],
)
def test_proxy_that_cannot_be_used_is_named_without_its_value(monkeypatch, variable, value, says):
    monkeypatch.setenv(variable, value)

    with pytest.raises(InvalidConfigError, match=rf"^{variable} cannot be used: .*{says}") as caught:
        open_client()
    assert SECRET not in caught.value.message
    assert caught.value.message.endswith("; fix it, or unset it")


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


def test_proxy_whose_upstream_is_away_is_asked_again(proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_port}")
    transport = Transport("https://api.example", SecretStr("key"), retry=Retry(attempts=3, wait_initial=0.01))

    with pytest.raises(UnavailableError, match=r"the proxy 127\.0\.0\.1:\d+ \(HTTPS_PROXY\) answered: 502 .*, 3 times"):
        transport.find(Model, "accounts/acme/models/chat")
    assert len(proxy.asked) == 3
