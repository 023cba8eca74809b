"""One question to a model, and its answer: Fireworks' OpenAI-style data plane.

Rules of its own, unlike the control plane's: an endpoint that sleeps answers 503 at once and wakes up, a busy one
answers 429, and one that has just become READY may answer 404, 503 and the like, or nothing, for some minutes.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx

from mlflow_fireworks.answers import EndlessAnswerError, open_events, read_events, send
from mlflow_fireworks.errors import UnavailableError, UnexpectedAnswerError
from mlflow_fireworks.gateway.refusals import is_about_quota, refusal
from mlflow_fireworks.http import (
    TRANSIENT_STATUSES,
    TransientError,
    describe_failure,
    find_page,
    is_transient,
    transient_status,
)
from mlflow_fireworks.in_between import IN_BETWEEN
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.run import Run
from mlflow_fireworks.waiting import Pending

CHAT = "chat/completions"
COMPLETIONS = "completions"
EMBEDDINGS = "embeddings"

_PREFIX = "/inference/v1/"
# Fireworks docs, "autoscaling": the code of the 503 that a deployment scaled to zero answers at once.
_SCALING_UP = "DEPLOYMENT_SCALING_UP"
# A test in Fireworks' training SDK and two public proxies know this header of answers; no documentation does.
_ANSWERED_BY = "fireworks-deployment"
_CONNECT_SECONDS = 20.0
# A model that answers 500 for so long is broken; 404, 502, 503 and the like come from what is in front of it.
_LONGEST_500_SECONDS = 300.0
# The most texts that OpenAI's API takes at once, 2,048, as vectors of 4,096 numbers of 22 characters: 185 MB.
_MOST_BYTES = 256 * 1024 * 1024
_END = b"[DONE]"
_SHOWN = 300


@dataclass(frozen=True)
class Question:
    """One request to a model.

    Args:
        operation: CHAT, COMPLETIONS or EMBEDDINGS.
        body: Fields of the request but `model`.
        rows: Which rows of the user's input it answers.
    """

    operation: str
    body: Mapping[str, Any]
    rows: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Answer:
    """The whole answer to a question.

    Args:
        body: The JSON object.
        deployment: Full name of the deployment that it comes from; empty where the service does not tell.
    """

    body: dict[str, Any]
    deployment: str = ""


@dataclass
class _Early:
    """A model that became READY a short while ago: which of its refusals are "not yet".

    Args:
        run: The account.
        starting: For the first question of all: what its replicas still do; see `ask`.
        broken_since: When it answered 500 first.
    """

    run: Run
    starting: Callable[[], str] | None = None
    broken_since: float | None = None

    def excuse(self, response: httpx.Response) -> str:
        """Why another answer may come later; empty when this one is final."""
        if self.starting and (told := self.starting()):
            return f"is READY, but its replicas are not: {told}"
        passes = {httpx.codes.NOT_FOUND, *TRANSIENT_STATUSES}
        if response.status_code not in passes or is_about_quota(response):
            return ""
        if response.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
            now = self.run.waiter.clock()
            self.broken_since = now if self.broken_since is None else self.broken_since
            return "is READY but returns errors" if now - self.broken_since < _LONGEST_500_SECONDS else ""
        return "is READY but not reachable yet"


def ask(
    run: Run,
    address: str,
    question: Question,
    *,
    fresh: bool,
    patience: float | None = None,
    starting: Callable[[], str] | None = None,
) -> Answer:
    """The whole answer to a question.

    Args:
        run: The account and the options.
        address: A router, or the fully qualified model: `accounts/A/models/M#accounts/A/deployments/D`.
        question: What is asked.
        fresh: It became READY a short while ago, so 404, 503 and the like mean "not routed yet".
        patience: Longest wait for a model that starts up, in seconds; the run's when None.
        starting: For the first question to a fresh one: what its replicas still do, in words; empty when one is ready.
            While they do something, any refusal is "not yet", and so is silence.

    Raises:
        RefusedError: The model or Fireworks refuses.
        UnexpectedAnswerError: The answer is no JSON object.
        DeadlineError: It did not start up in time.
        UnavailableError: No answer at all.
    """
    limit = run.total_timeout if patience is None else patience
    early = _Early(run, starting) if fresh else None
    response = _open(run, address, question, limit, early, in_pieces=False)
    answer = _read_object(response.content)
    if answer is None:
        raise _unexpected(response, address, "a JSON object")
    return Answer(answer, response.headers.get(_ANSWERED_BY, ""))


def stream(run: Run, address: str, question: Question, *, fresh: bool) -> Iterator[dict[str, Any]]:
    """The answer piece by piece, as chunks of the OpenAI shape; see `ask`.

    Raises:
        FireworksError: As `ask`.
        UnexpectedAnswerError: It is no such stream, or the model stopped with an error.
        UnavailableError: It broke off.
    """
    question = Question(question.operation, {**question.body, "stream": True}, question.rows)
    early = _Early(run) if fresh else None
    with closing(_open(run, address, question, run.total_timeout, early, in_pieces=True)) as response:
        try:
            yield from _read_chunks(run, response, address)
        except EndlessAnswerError as error:
            raise _endless(address, error) from None
        except httpx.RequestError as error:
            raise UnavailableError(f"the answer from {address} was cut off: {describe_failure(error)}") from None


def _open(
    run: Run, address: str, question: Question, limit: float, early: _Early | None, *, in_pieces: bool
) -> httpx.Response:
    """The first good response; waits for a model that starts up."""
    silence_passes = early is not None and early.starting is not None

    def look() -> httpx.Response | Pending:
        response = _send(run, address, question, in_pieces=in_pieces, silence_passes=silence_passes)
        return response if response.is_success else _judge(run, address, response, early)

    def look_early() -> httpx.Response | Pending:
        try:
            return look()
        except TransientError as error:  # one loop waits for all of it
            return Pending(f"{_short(address)} is READY but not reachable yet ({error})")

    def look_often() -> httpx.Response | Pending:
        return run.retry.call(look, run.reporter.note)

    try:
        return run.waiter.wait(
            look_early if early else look_often,
            limit,
            lambda reason: f"{reason} after {format_seconds(limit)}; ask again later",
        )
    except TransientError as error:
        raise UnavailableError(f"{address}: {error}, {run.retry.attempts} times; ask again later") from None


def _judge(run: Run, address: str, response: httpx.Response, early: _Early | None) -> Pending:
    """What an answer outside 2xx means: "not yet", or an error."""
    if _is_scaling_up(response):
        return Pending(f"{_short(address)} is scaled to zero and starting up (503)")
    if early and (excuse := early.excuse(response)):
        return Pending(f"{_short(address)} {excuse} ({response.status_code})")
    failure = None if early or is_about_quota(response) else transient_status(response)
    if failure:
        raise TransientError(f"{_short(address)} answered {failure}", failure.retry_after)
    raise refusal(response, f"get an answer from {address}", run.gateway.transport.host)


def _send(run: Run, address: str, question: Question, *, in_pieces: bool, silence_passes: bool) -> httpx.Response:
    http, host = run.gateway.transport.http, run.gateway.transport.host
    quiet = run.request_timeout
    request = http.build_request(
        "POST",
        _PREFIX + question.operation,
        json={**question.body, "model": address},
        timeout=httpx.Timeout(quiet, connect=_CONNECT_SECONDS),
    )
    until_headers = _CONNECT_SECONDS + quiet
    try:
        if in_pieces:
            return open_events(http, request, seconds=until_headers, rest=quiet)
        return send(http, request, most=_MOST_BYTES, rest=quiet, seconds=until_headers + quiet)
    except EndlessAnswerError as error:
        raise _endless(address, error) from None
    except httpx.RequestError as error:
        if isinstance(error, httpx.ReadTimeout) and not silence_passes:
            raise UnavailableError(
                f"{address} sent nothing for {format_seconds(quiet)}; "
                "allow more with MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT (seconds), or ask for fewer tokens"
            ) from None
        if is_transient(error):
            raise TransientError(f"{host}: {describe_failure(error)}") from error
        raise UnavailableError(f"cannot talk to {host}: {describe_failure(error)}") from None


def _is_scaling_up(response: httpx.Response) -> bool:
    return response.status_code == httpx.codes.SERVICE_UNAVAILABLE and _SCALING_UP in response.text


def _short(address: str) -> str:
    """The deployment's part of an address, for progress."""
    return address.rpartition("#")[2]


def _read_chunks(run: Run, response: httpx.Response, address: str) -> Iterator[dict[str, Any]]:
    """One JSON object for each event, until `[DONE]`. Where that is left out, the last one says why the model ended."""
    chunk: dict[str, Any] | None = None
    is_whole, has_ended = response.is_closed, False
    for data in () if is_whole else read_events(response, quiet=run.request_timeout):
        if data == _END:
            has_ended = True
            break
        chunk = _read_object(data)
        if chunk is None:
            raise UnexpectedAnswerError(
                f"{address} sent a chunk that is not a JSON object; ask again, without streaming",
                server_message=data[:_SHOWN].decode(errors="replace"),
            )
        if chunk.get("error"):
            raise UnexpectedAnswerError(f"{address} stopped while answering: {str(chunk['error'])[:_SHOWN]}")
        has_ended = has_ended or _has_finished(chunk)
        yield chunk
    if chunk is None and not has_ended:
        raise _unexpected(response, address, "server-sent events", is_whole=is_whole)
    if not has_ended:
        raise UnavailableError(f"the answer from {address} was cut off: it ended without a finish_reason; ask again")


def _has_finished(chunk: Mapping[str, Any]) -> bool:
    choices = chunk.get("choices")
    return isinstance(choices, list) and any(isinstance(one, dict) and one.get("finish_reason") for one in choices)


def _read_object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unexpected(response: httpx.Response, address: str, wanted: str, *, is_whole: bool = True) -> UnexpectedAnswerError:
    """A success that is not what was asked for."""
    begin = f"could not get an answer from {address}: {response.request.url.netloc.decode()} answered with"
    page = find_page(response) if is_whole else None
    if page is not None:
        return UnexpectedAnswerError(f"{begin} a web page, “{page}”, so {IN_BETWEEN}", server_message=page)
    told = " ".join(response.text[:_SHOWN].split()) if is_whole else ""
    kind = response.headers.get("content-type", "")[:_SHOWN] or "without a content type"
    return UnexpectedAnswerError(
        f"{begin} something that is not {wanted} ({kind}{f': “{told}”' if told else ''}); perhaps {IN_BETWEEN}",
        server_message=told,
    )


def _endless(address: str, error: EndlessAnswerError) -> UnavailableError:
    return UnavailableError(
        f"cannot read the answer from {address}: {error}; allow more time with "
        "MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT (seconds), ask for less at once, or check the network in between"
    )
