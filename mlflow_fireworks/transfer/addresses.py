"""Where files may go, judged by the address that is connected to: a name can lead to any network.

Behind a proxy the proxy finds the address, and decides what it lets through; there only the URL can be judged
(`http.is_safe_url`).
"""

import socket
from collections.abc import Callable
from typing import Any

import httpx

from mlflow_fireworks.errors import TransferError
from mlflow_fireworks.http import is_loopback, read_address


def make_guard(giver: str) -> Callable[[httpx.Request], None]:
    """A hook for requests of a client: it ends a connection to a private address before anything is sent on it.

    Args:
        giver: The host of the API, which gave the URLs. Where that has a private address itself, others may.
    """

    def watch(request: httpx.Request) -> None:
        host = request.url.host
        if not is_loopback(host):  # that has been judged by its look
            request.extensions = {**request.extensions, "trace": _Watch(host, giver)}

    return watch


class _Watch:
    """Is told by httpcore what happens to a request, in its extension `trace`."""

    def __init__(self, host: str, giver: str) -> None:
        self._host = host
        self._giver = giver
        self._is_direct = False

    def __call__(self, event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self._is_direct = info["host"] == self._host
        elif event == "connection.connect_tcp.complete" and self._is_direct:
            stream = info["return_value"]
            address = str(stream.get_extra_info("server_addr")[0])
            if _is_private(address) and not any(map(_is_private, _find_addresses(self._giver))):
                stream.close()
                raise TransferError(
                    f"the upload URLs lead to {self._host}, which is {address} here, in a private network, while "
                    f"{self._giver} is not: nothing was sent; if that is intended, reach it through a proxy "
                    "(HTTPS_PROXY)"
                )


def _is_private(address: str) -> bool:
    found = read_address(address.partition("%")[0])
    return found is not None and not found.is_global


def _find_addresses(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None)} if host else set()
    except OSError:
        return set()
