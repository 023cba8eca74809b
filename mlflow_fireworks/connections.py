"""HTTP clients, with what the environment says about proxies and certificates.

httpx reads the same variables, but ends in a traceback where it cannot: at an IPv6 network in NO_PROXY, for example,
which others skip and OrbStack sets. They are read here before anything is created, and an error names the variable.
"""

import ipaddress
import os
import re
import ssl
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx

from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.installing import install

# A proxy has no business between two processes of one machine.
_DIRECT = ("all://localhost", "all://127.0.0.1", "all://[::1]")
_SCHEMES = ("http", "https", "socks5", "socks5h")
_MAX_PORT = 65535
_HOST = re.compile(r"[^\s%/]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*%\w+")  # a % is for the zone of an IPv6 address only
_OF_REQUESTS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def open_client(*, limits: httpx.Limits | None = None, **options: Any) -> httpx.Client:
    """A client that takes its proxy and its certificates from the environment; only this machine is always direct.

    Plain http leads to this machine only, so the proxy for https (HTTPS_PROXY, else ALL_PROXY) is the one that counts.

    Args:
        limits: Of its connections; httpx's own when None.
        **options: Further arguments of `httpx.Client`.

    Raises:
        InvalidConfigError: A variable cannot be used; names it.
    """
    limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)  # httpx's own defaults
    trust = _load_certificates()
    mounts: dict[str, httpx.BaseTransport | None] = dict.fromkeys(_DIRECT)
    exceptions = _exceptions()
    if "*" not in exceptions and (proxy := _find_proxy()):
        mounts |= {"https://": httpx.HTTPTransport(proxy=proxy, verify=trust, limits=limits)}
        mounts |= dict.fromkeys(_patterns_of(exceptions))
    return httpx.Client(verify=trust, limits=limits, mounts=mounts, trust_env=False, **options)


def _exceptions() -> list[str]:
    return [entry.strip().strip("'\"") for entry in getproxies().get("no", "").split(",")]


def name_proxy() -> str:
    """The proxy for https in a message: its host, and the variable that names it."""
    name, address = _proxy_setting()
    url = httpx.URL(address if "://" in address else f"http://{address}")
    return f"{url.netloc.decode()} ({name})"


def describe_proxy() -> str | None:
    """The proxy that a connection to Fireworks goes through, as `name_proxy` names it; None when there is none.

    Raises:
        InvalidConfigError: It cannot be used; names the variable.
    """
    return name_proxy() if "*" not in _exceptions() and _find_proxy() else None


def find_proxy_for(host: str) -> str | None:
    """The proxy that a connection to a host goes through; None when there is none, or when that is not sure.

    Args:
        host: Of a URL.
    """
    try:
        return None if proxy_bypass(host) else describe_proxy()
    except InvalidConfigError:
        return None


def describe_certificates() -> str:
    """Which certificates are trusted, and what says so.

    Raises:
        InvalidConfigError: They cannot be used; names the variable.
    """
    _load_certificates()
    name = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), None)
    return f"{os.environ[name]} ({name})" if name else "those of certifi"


def advise_certificates() -> str:
    """What to do where a certificate is not trusted. MLflow's HTTP client has variables that httpx does not read."""
    for name in _OF_REQUESTS:
        if (file := os.environ.get(name)) and not os.environ.get("SSL_CERT_FILE"):
            return f"{name} is for MLflow only; set SSL_CERT_FILE to {file} too"
    return "if your company's proxy inspects TLS, set SSL_CERT_FILE to a file with its certificate"


def _load_certificates() -> ssl.SSLContext:
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    # OpenSSL takes several, and passes over those that are missing.
    if folder and not file and not any(Path(part).is_dir() for part in folder.split(os.pathsep)):
        raise InvalidConfigError(f"SSL_CERT_DIR is {folder}, which is not a folder; fix it, or unset it")
    try:
        if file or folder:
            return ssl.create_default_context(cafile=file or None, capath=None if file else folder)
        return httpx.create_ssl_context(trust_env=False)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        key_log = os.environ.get("SSLKEYLOGFILE")
        name, value = ("SSLKEYLOGFILE", key_log) if key_log and _blames(error, key_log) else ("SSL_CERT_FILE", file)
        raise InvalidConfigError(f"{name} is {value}, which cannot be used: {reason}; fix it, or unset it") from None


def _blames(error: OSError | ValueError, path: str) -> bool:
    """Whether it is the file of TLS keys that cannot be opened; ssl tells a file of certificates without its name."""
    return getattr(error, "filename", None) == path or not os.environ.get("SSL_CERT_FILE")


def _find_proxy() -> httpx.Proxy | None:
    """The proxy for https.

    Raises:
        InvalidConfigError: It cannot be used; its value, which may hold a password, is not repeated.
    """
    name, value = _proxy_setting()
    if not value:
        return None

    def refuse(why: str) -> InvalidConfigError:
        return InvalidConfigError(f"{name} cannot be used: {why}; fix it, or unset it")

    if value[:1] in "'\" " or value[-1:] in "'\" ":
        raise refuse("the value includes quotes or spaces around the address; remove them")
    address = value if "://" in value else f"http://{value}"
    kind = address.partition("://")[0].lower()
    if kind not in _SCHEMES:
        hint = "socks5://" if kind.startswith("socks") else "http://"
        raise refuse(f"{kind}:// is not a proxy scheme that httpx supports; use {hint}HOST:PORT")
    try:
        url = httpx.URL(address)
        proxy = httpx.Proxy(url)
        if kind.startswith("socks"):
            httpx.HTTPTransport(proxy=proxy).close()
    except ImportError:
        raise refuse(f"SOCKS needs a package that is missing; install it: {install('httpx[socks]')}") from None
    except (ValueError, httpx.InvalidURL):
        raise refuse("it is not a valid URL; in a password, write # as %23, / as %2F and @ as %40") from None
    if any(mark in f"{url.path}{url.query.decode()}{url.fragment}" for mark in "@:"):
        raise refuse("part of a password or a port is read as a path; in a password, write # as %23 and / as %2F")
    if not _HOST.fullmatch(url.host) or url.fragment or not 0 < (1 if url.port is None else url.port) <= _MAX_PORT:
        raise refuse("it has no host, or an impossible port; use http://HOST:PORT")
    return proxy


def _proxy_setting() -> tuple[str, str]:
    """What sets the proxy for https, and its address; "" when nothing does."""
    found = getproxies()  # the environment's, or else the system's on macOS and Windows
    scheme = next((scheme for scheme in ("https", "all") if found.get(scheme)), None)
    if scheme is None:
        return "", ""
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    name = next((name for name in names if os.environ.get(name)), f"the system's {scheme} proxy")
    return name, found[scheme]


def _patterns_of(hosts: Iterable[str]) -> Iterator[str]:
    """What NO_PROXY names, as patterns of httpx; what httpx could not match is left out, as other programs do."""
    for host in filter(None, hosts):
        pattern = host if "://" in host else f"all://{_host_pattern(host)}"
        try:
            httpx.URL(pattern)
        except (httpx.InvalidURL, ValueError):
            continue
        yield pattern


def _host_pattern(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host if host.lower() == "localhost" else f"*{host}"
    return f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)
