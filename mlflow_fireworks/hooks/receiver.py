"""The receiver: checks a webhook, writes the job down and answers; the work comes later, from the queue.

========================  ===========================================================================
``202`` ``accepted``      the jobs are written down; their ids are in the answer
``200`` ``duplicate``     they were before: a retry or a replay
``200`` ``ignored``       no rule is about it, for the reason in the answer; ``test`` for MLflow's test events
``401``                   no signature, a wrong one, or too old
``400``, ``408``          cut off; too slow
``413``, ``422``          too large; not such an event
``503``                   the queue is full or away: the sender tries again
========================  ===========================================================================
"""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.hooks.deliveries import ID_LENGTH, Delivery
from mlflow_fireworks.hooks.events import Event, read_hub_event, read_mlflow_event
from mlflow_fireworks.hooks.jobs import Job, name_job
from mlflow_fireworks.hooks.logs import lines_about
from mlflow_fireworks.hooks.queue import Queue
from mlflow_fireworks.hooks.rules import CurrentRules, Rules
from mlflow_fireworks.printable import make_all_printable
from mlflow_fireworks.progress import logger

MAX_BODY_BYTES = 1 << 20
BODY_SECONDS = 30.0
"""MLflow itself gives up after so many (3.17, `webhooks/delivery.py`)."""
OLDEST_SECONDS = 600
"""MLflow signs once and retries with the same time; its backoff and our Retry-After stay far below this."""
SKEW_SECONDS = 60
_RETRY_AFTER_SECONDS = 5
_NOTHING_IN_IT = "no rule can match this kind of event (tags that promotions write themselves are among them)"
_TEST_MODEL = "example_model"
"""MLflow 3.17, `webhooks/types.py`: what its test events are about; nothing else marks them."""


@dataclass(frozen=True)
class Secrets:
    """What senders and people prove themselves with.

    Args:
        mlflow: Of the webhook on the MLflow server; None takes none of its events.
        hub: Of the webhook on the Hugging Face Hub; None takes none of its events.
        people: Of those who may try a dead job again on the page; None: nobody.
    """

    mlflow: SecretStr | None = None
    hub: SecretStr | None = None
    people: SecretStr | None = None


class BodyError(Exception):
    """A body that is not read; the text says why.

    Args:
        status: HTTP status to answer with.
        reason: For people.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class _Answer:
    """What is answered to a webhook, and noted about it."""

    status: int
    outcome: str
    about: str = ""
    jobs: Sequence[str] = ()
    reason: str = ""

    def to_response(self) -> Response:
        told: dict[str, Any] = {"status": self.outcome}
        if self.outcome in {"refused", "busy"}:
            told["error"] = self.reason
        else:
            told |= {"jobs": [*self.jobs]} | ({"reason": self.reason} if self.reason else {})
        headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if self.outcome == "busy" else None
        return JSONResponse(make_all_printable(told), self.status, headers)


def sign(secret: str, delivery_id: str, timestamp: str, body: bytes) -> str:
    """The `X-MLflow-Signature` of a delivery.

    Source: MLflow 3.17, `webhooks/delivery.py`, and captured deliveries.

    Args:
        secret: Of the webhook.
        delivery_id: `X-MLflow-Delivery-Id`.
        timestamp: `X-MLflow-Timestamp`, Unix time in seconds.
        body: As sent.
    """
    digest = hmac.digest(secret.encode(), f"{delivery_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


class Receiver:
    """Takes webhooks.

    Args:
        queue: Takes the jobs.
        rules: Say which.
        secrets: Of the senders.
        count: Is told the sender and the status of every answer.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        queue: Queue,
        rules: CurrentRules,
        secrets: Secrets,
        count: Callable[[str, int], None] = lambda _sender, _status: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._rules = rules
        self._secrets = secrets
        self._count = count
        self._clock = clock
        self._turn = asyncio.Semaphore(queue.writers)

    def routes(self) -> Sequence[BaseRoute]:
        """The two addresses."""
        return [
            Route("/webhooks/mlflow", self._guarded("mlflow", self._take_mlflow), methods=["POST"]),
            Route("/webhooks/huggingface", self._guarded("huggingface", self._take_hub), methods=["POST"]),
        ]

    async def _take_mlflow(self, request: Request) -> _Answer:
        if self._secrets.mlflow is None:
            return _refuse(401, "no secret for MLflow's webhooks is set here")
        body = await read_body(request, MAX_BODY_BYTES)
        delivery_id, timestamp = _only(request, "x-mlflow-delivery-id"), _only(request, "x-mlflow-timestamp")
        expected = sign(self._secrets.mlflow.get_secret_value(), delivery_id, timestamp, body)
        if not delivery_id or not _is_same(_only(request, "x-mlflow-signature"), expected):
            return _refuse(
                401, "the signature is missing or wrong; does the webhook use the same secret as this receiver?"
            )
        age = self._clock() - int(timestamp) if timestamp.isdecimal() and len(timestamp) < 15 else None  # noqa: PLR2004
        if age is None or not -SKEW_SECONDS <= age <= OLDEST_SECONDS:
            return _refuse(401, "too old, or from the future; are both clocks correct?")
        events = read_mlflow_event(body, delivery_id)
        if any(event.subject.name == _TEST_MODEL for event in events):
            return _Answer(200, "test")
        return await self._take(events)

    async def _take_hub(self, request: Request) -> _Answer:
        if self._secrets.hub is None:
            return _refuse(401, "no secret for the Hub's webhooks is set here")
        if not _is_same(_only(request, "x-webhook-secret"), self._secrets.hub.get_secret_value()):
            return _refuse(
                401, "the secret is missing or wrong; does the webhook use the same secret as this receiver?"
            )
        body = await read_body(request, MAX_BODY_BYTES)
        return await self._take(read_hub_event(body))

    async def _take(self, events: Sequence[Event]) -> _Answer:
        rules = self._rules.current
        jobs = [job for event in events for job in plan_jobs(rules, event)]
        about = ", ".join(f"{event.subject} = {event.version[:12] or 'removed'}" for event in events)
        if not jobs:
            reasons = [rules.explain_nothing(event) for event in events] or [_NOTHING_IN_IT]
            return _Answer(200, "ignored", about, reason="; ".join(reasons))
        try:
            async with self._turn:
                accepted = await run_in_threadpool(self._put, jobs)
        except Exception as error:  # noqa: BLE001 - the sender is to try again, whatever it is
            return replace(self._away(error), about=about)
        if accepted is None:
            return _Answer(503, "busy", about, reason="the queue is full")
        ids = [job.id for job in jobs]
        return _Answer(202, "accepted", about, ids) if accepted else _Answer(200, "duplicate", about, ids)

    def _put(self, jobs: Sequence[Job]) -> int | None:
        """How many of the jobs are new; None when there is no room for them."""
        if self._queue.is_full:
            return None
        return sum(self._queue.put(job) for job in jobs)

    def _away(self, error: Exception) -> _Answer:
        """For the `except` block that caught it."""
        if not self._queue.outage.is_behind(error):
            logger.exception("a webhook could not be stored")
        return _Answer(503, "busy", reason=f"the queue is unavailable ({type(error).__name__})")

    def _guarded(
        self, sender: str, take: Callable[[Request], Awaitable[_Answer]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            with lines_about(delivery=request.headers.get("x-mlflow-delivery-id", "")[:ID_LENGTH]):
                return await respond(request)

        async def respond(request: Request) -> Response:
            try:
                answer = await take(request)
            except BodyError as error:
                answer = _refuse(error.status, str(error))
            except InvalidConfigError as error:
                answer = _refuse(422, error.message)
            except Exception as error:  # noqa: BLE001 - the sender is to try again, whatever it is
                answer = self._away(error)
            self._count(sender, answer.status)
            self._queue.deliveries.note(
                Delivery(
                    received=self._clock(),
                    sender=sender,
                    id=request.headers.get("x-mlflow-delivery-id", ""),
                    status=answer.status,
                    outcome=answer.outcome,
                    about=answer.about,
                    jobs=tuple(answer.jobs),
                    reason=answer.reason,
                )
            )
            return answer.to_response()

        return endpoint


def plan_jobs(rules: Rules, event: Event) -> list[Job]:
    """What the rules make of an event. The same event makes jobs with the same ids."""
    jobs = []
    for rule in rules.matching(event):
        if event.removed and (rule.when_removed == "keep" or rule.names_versions):
            continue
        job = rule.make_job(event.subject, event.version, "", "webhook")
        job_id = name_job(event.id, job.key)
        action = "remove" if event.removed else "promote"
        delivery = "" if event.recurs else event.id
        told = {"action": action, "recurs": event.recurs, "asked": event.at, "delivery": delivery}
        jobs.append(job.model_copy(update={"id": job_id} | told))
    return jobs


def make_app(routes: Sequence[BaseRoute], check: Callable[[], Mapping[str, Any]]) -> Starlette:
    """The application.

    Args:
        routes: Beside `/healthz` and `/readyz`.
        check: Tells whether the parts work: `ok`, and more for people. May take a moment.
    """

    async def health(_: Request) -> Response:
        return JSONResponse({"ok": True})

    async def ready(_: Request) -> Response:
        try:
            found = await run_in_threadpool(check)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not ready
            found = {"ok": False, "error": type(error).__name__}
        return JSONResponse(make_all_printable(dict(found)), 200 if found["ok"] else 503)

    return Starlette(routes=[*routes, Route("/healthz", health), Route("/readyz", ready)])


async def read_body(request: Request, most: int) -> bytes:
    """The body.

    Args:
        request: The request.
        most: Bytes that are not too many.

    Raises:
        BodyError: It is too large, which is found out before all of it is read, too slow, or cut off.
    """
    declared = request.headers.get("content-length", "0")
    if "content-length" in request.headers and "transfer-encoding" in request.headers:
        raise BodyError(400, "has two lengths: Content-Length and Transfer-Encoding")  # what is in between may read one
    too_large = BodyError(413, f"larger than {most} bytes")
    if not declared.isdecimal() or int(declared) > most:
        raise too_large
    body = bytearray()

    async def read() -> None:
        async for part in request.stream():
            body.extend(part)
            if len(body) > most:
                raise too_large

    try:
        await asyncio.wait_for(read(), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise BodyError(408, f"not received within {BODY_SECONDS:.0f} seconds") from None
    except ClientDisconnect:
        raise BodyError(400, "cut off") from None
    return bytes(body)


def _only(request: Request, name: str) -> str:
    """A header that no sender repeats: of two, what is in between may have checked the other."""
    values = request.headers.getlist(name)
    return values[0] if len(values) == 1 else ""


def _is_same(given: str, expected: str) -> bool:
    """Constant in time; headers may hold any Latin-1 character."""
    return hmac.compare_digest(given.encode("latin-1", "replace"), expected.encode())


def _refuse(status: int, error: str) -> _Answer:
    return _Answer(status, "refused", reason=error)
