"""What people see of the hooks: a page that is right without JavaScript and live with it, and the same as JSON.

The page shows names of models and deployments, and errors; no keys, no signed URLs.
"""

import asyncio
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from pydantic import SecretStr
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from mlflow_fireworks.errors import ConflictError, FireworksError, NotFoundError, UnavailableError
from mlflow_fireworks.hooks import wording
from mlflow_fireworks.hooks.jobs import format_time
from mlflow_fireworks.hooks.links import Links
from mlflow_fireworks.hooks.queue import Queue
from mlflow_fireworks.hooks.receiver import BodyError, read_body
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.hooks.snapshot import View
from mlflow_fireworks.printable import make_all_printable, make_printable
from mlflow_fireworks.progress import format_bytes

MAX_VIEWERS = 100
_LOOK_SECONDS = 1.0
_HEARTBEAT_SECONDS = 15.0
_MAX_FORM_BYTES = 4096
_SHOWN_DELIVERIES = 20
_SHOWN_AT_ONCE = 8
_STATUSES: dict[type[FireworksError], int] = {NotFoundError: 404, ConflictError: 409, UnavailableError: 503}
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class StatusPage:
    """The page, its live updates, its JSON, `/metrics`, and the button that tries a dead job again.

    Args:
        queue: What is shown.
        metrics: What `/metrics` tells.
        token: Lets people retry; None: nobody may, over the network.
        is_over: Tells that the server is about to end, so that it need not wait for those who look.
        rules: The rules that are followed now.
        rules_fault: Why the rule file cannot be used; "" when it can.
        links: To other pages.
    """

    def __init__(
        self,
        queue: Queue,
        metrics: CollectorRegistry,
        token: SecretStr | None = None,
        is_over: Callable[[], bool] = lambda: False,
        *,
        rules: Callable[[], Iterable[Rule]] = lambda: (),
        rules_fault: Callable[[], str] = lambda: "",
        links: Links = Links(),  # noqa: B008 - frozen
    ) -> None:
        self._queue = queue
        self._view = View(queue, rules_fault)
        self._metrics = metrics
        self._token = token
        self._is_over = is_over
        self._rules = rules
        self._viewers = 0
        self._lock = asyncio.Lock()
        self._shown: tuple[float, str] = (0.0, "")
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            finalize=_show,
        )
        environment.filters |= {"bytes": format_bytes, "exact": format_time}
        environment.globals |= {"wording": wording, "links": links}
        self._template = environment.get_template("page.html")

    def routes(self) -> list[BaseRoute]:
        """Its addresses."""
        return [
            Route("/", self._page),
            Route("/events", self._events),
            Route("/status.json", self._json),
            Route("/metrics", self._tell_metrics),
            Route("/jobs/{job_id}/retry", self._retry, methods=["POST"]),
        ]

    async def _page(self, _: Request) -> Response:
        return await self._show()

    async def _show(self, message: str = "", status: int = 200) -> Response:
        nonce = secrets.token_urlsafe(16)
        content = await run_in_threadpool(self._render, nonce=nonce, message=message)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(content, status, {**_HEADERS, "Content-Security-Policy": policy})

    def _render(self, *, nonce: str = "", message: str = "", only_live: bool = False) -> str:
        snapshot = self._view.look()
        return self._template.render(
            snapshot=snapshot,
            nonce=nonce,
            message=message,
            only_live=only_live,
            rules=tuple(self._rules()),
            deliveries=snapshot.deliveries[:_SHOWN_DELIVERIES],
            at_once=_SHOWN_AT_ONCE,
            can_retry=self._token is not None,
        )

    async def _json(self, _: Request) -> Response:
        snapshot = await run_in_threadpool(self._view.look)
        return JSONResponse(make_all_printable(snapshot.to_dict()), 503 if snapshot.away else 200, headers=_HEADERS)

    async def _tell_metrics(self, request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        told = await run_in_threadpool(encode, self._metrics)
        return Response(told, headers={**_HEADERS, "Content-Type": media_type})

    async def _events(self, _: Request) -> Response:
        if self._viewers >= MAX_VIEWERS:
            return JSONResponse({"error": f"{MAX_VIEWERS} pages are already open; reload manually"}, 503)
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers=_HEADERS)

    async def _stream(self) -> AsyncIterator[str]:
        """The changing part of the page, whenever it changed; a comment when nothing was said for a while."""
        self._viewers += 1
        try:
            sent, told = "", time.monotonic()
            yield ": hello\n\n"
            while not self._is_over():
                content = await self._live()
                if content != sent:
                    sent, told = content, time.monotonic()
                    lines = "".join(f"data: {line}\n" for line in content.splitlines())
                    yield f"event: status\n{lines}\n"
                elif time.monotonic() - told >= _HEARTBEAT_SECONDS:
                    told = time.monotonic()
                    yield ": still here\n\n"
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._viewers -= 1

    async def _live(self) -> str:
        """The changing part, made once a second for all who look."""
        async with self._lock:
            made, content = self._shown
            if time.monotonic() - made >= _LOOK_SECONDS / 2:
                content = await run_in_threadpool(self._render, only_live=True)
                self._shown = (time.monotonic(), content)
            return content

    async def _retry(self, request: Request) -> Response:
        authorization = request.headers.get("authorization", "")
        by_script = authorization[:7].lower() == "bearer "
        given = authorization[7:].strip()
        if not by_script:
            try:
                body = await read_body(request, _MAX_FORM_BYTES)
            except BodyError as error:
                return await self._show("That request did not come from this page's form.", error.status)
            given = parse_qs(body.decode("latin-1")).get("token", [""])[0]

        async def refuse(status: int, text: str) -> Response:
            return JSONResponse({"error": text}, status) if by_script else await self._show(text, status)

        if self._token is None:
            return await refuse(
                403, "This button needs a token: set MLFLOW_FIREWORKS_HOOKS_TOKEN where `hooks serve` runs."
            )
        if not hmac.compare_digest(given.encode(), self._token.get_secret_value().encode()):
            return await refuse(403, "Wrong token. Use the value of MLFLOW_FIREWORKS_HOOKS_TOKEN.")
        try:
            job = await run_in_threadpool(self._queue.retry, request.path_params["job_id"])
        except (NotFoundError, ConflictError, UnavailableError) as error:
            return await refuse(_STATUSES[type(error)], error.message)
        return JSONResponse({"id": job.id}, 202) if by_script else RedirectResponse("/", 303)


def _show(value: Any) -> Any:
    """What stands between braces, as it is shown; what a macro made is so already."""
    return value if isinstance(value, Markup) else make_printable(str(value))
