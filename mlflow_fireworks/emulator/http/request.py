"""The head of a request, and what it asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from typing_extensions import Self

from mlflow_fireworks.emulator.protocol import routes
from mlflow_fireworks.emulator.storage.signing import BUCKET


@dataclass(frozen=True)
class Request:
    """The head of an HTTP request, and its operation.

    Attributes:
        method: HTTP method.
        path: Path without query, percent-encoded.
        query: Query string without the question mark.
        headers: Names in lower case.
        route: The control-plane route and its path variables; None for storage and unknown paths.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    route: tuple[routes.Route, dict[str, str]] | None

    @classmethod
    def read(cls, method: str, target: str, headers: Mapping[str, str]) -> Self:
        """Read a request head and find its route."""
        path, _, query = target.partition("?")
        return cls(method, path, query, headers, routes.match(method, path))

    @property
    def is_of_web_page(self) -> bool:
        """Whether a web page in somebody's browser sends it, be it under a name that was bound to this machine anew.

        The emulator takes any key and has an admin plane, so that it may be driven by programs of this machine only.
        """
        host, origin = f"//{self.headers.get('host', '')}", self.headers.get("origin", "")
        try:
            named = {urlsplit(host).hostname, urlsplit(origin).hostname}
        except ValueError:
            return True
        is_foreign = not named <= {None, "127.0.0.1", "localhost", "::1"}
        return is_foreign or origin == "null" or self.headers.get("sec-fetch-site") == "cross-site"

    @property
    def at_storage(self) -> bool:
        """Whether it is addressed to the bucket."""
        return self.path.startswith(f"/{BUCKET}/")

    @property
    def upload_id(self) -> str:
        """The resumable session that the request names, if any."""
        match = re.search(r"(?:^|&)upload_id=([\w-]{1,100})(?:&|$)", self.query)
        return match[1] if match and self.at_storage else ""

    @property
    def operation(self) -> str:
        """Name of the operation; empty for an unknown path."""
        if self.at_storage:
            return routes.storage_operation(self.method, session=bool(self.upload_id))
        if self.method == "POST" and self.path in routes.INFERENCE:
            return routes.INFERENCE[self.path]
        return self.route[0].operation if self.route else ""
