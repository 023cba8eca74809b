"""Answers to many rows: asked within a bound, kept in order, with the rows that failed."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import (
    FireworksError,
    InvalidConfigError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
    UnexpectedAnswerError,
)
from mlflow_fireworks.gateway.revisions import Deployment
from mlflow_fireworks.gateway.wire import READY
from mlflow_fireworks.names import EndpointName, number_names
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.inference import CHAT, EMBEDDINGS, Question, ask, stream
from mlflow_fireworks.serving.payloads import Questions, read_inputs
from mlflow_fireworks.serving.places import Place, endpoint_of, find_places, list_endpoints, pick_endpoint
from mlflow_fireworks.serving.readiness import is_fresh

_CONCURRENT_REQUESTS = 8


@dataclass(frozen=True)
class Predictions:
    """What the model answered.

    Args:
        values: One for each row, in order: a text, a vector, or None where the row failed.
        usage: Tokens, added up.
        failures: What went wrong, by row.
        whole: The complete answer, when one payload was given.
    """

    values: list[Any]
    usage: dict[str, int] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    whole: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """`predictions` and `usage`, `errors` if there are any, and the fields of a whole answer."""
        errors = [{"row": row, "error": text} for row, text in sorted(self.failures.items())]
        return {
            **self.whole,
            "predictions": self.values,
            "usage": self.usage,
            **({"errors": errors} if errors else {}),
        }


def predict(run: Run, place: Place, inputs: Any) -> Predictions:
    """Ask the model at a place about every row of the input.

    Raises:
        InvalidConfigError: The input is not understood.
        RefusedError: The model refuses every row.
        FireworksError: It cannot be asked.
    """
    questions = read_inputs(inputs, embeds=_embeds(run, place))
    fresh = is_fresh(place, run.now())

    def attempt(question: Question) -> dict[str, Any] | FireworksError:
        try:
            return ask(run, place.address, question, fresh=fresh).body
        except FireworksError as error:
            return error

    # The first goes alone: it wakes an endpoint that sleeps, and shows what is wrong with all of them.
    answers = [attempt(questions.questions[0])]
    _raise_unless_row_fault(answers[0], alone=len(questions.questions) == 1)
    with ThreadPoolExecutor(_CONCURRENT_REQUESTS, thread_name_prefix="predict") as pool:
        try:
            answers += pool.map(attempt, questions.questions[1:])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return _collect(questions, answers)


def predict_stream(run: Run, place: Place, inputs: Any) -> Iterator[dict[str, Any]]:
    """Ask for one answer, piece by piece.

    Raises:
        InvalidConfigError: The input is more than one question, or asks for embeddings.
        FireworksError: The model cannot be asked.
    """
    questions = read_inputs(inputs, embeds=_embeds(run, place))
    question = questions.questions[0]
    if len(questions.questions) > 1 or question.operation == EMBEDDINGS:
        raise InvalidConfigError(
            "predict_stream takes a single chat or prompt; use predict for several, or for embeddings"
        )
    yield from stream(run, place.address, question, fresh=is_fresh(place, run.now()))


def choose_place(run: Run, deployment: Deployment | None, endpoint: EndpointName | None) -> Place:
    """Where to ask.

    Args:
        run: The account.
        deployment: The MLflow deployment, when one is named.
        endpoint: The endpoint, when one is named.

    Raises:
        InvalidConfigError: Neither is named.
        NotFoundError: Nothing serves it; says the command that would.
        UnavailableError: It is not up yet.
    """
    endpoints = list_endpoints(run.gateway)
    named = pick_endpoint(run, endpoint, endpoints) if endpoint else None
    if deployment is None:
        if named is None:
            raise InvalidConfigError("predict needs the name of a deployment or of an endpoint")
        found = list(named.answering)
    else:
        found = find_places([named] if named else endpoints.values(), deployment.models)
        if not found:
            raise NotFoundError(
                f"{deployment.current.model.name} is {deployment.current.model.state}, but no endpoint serves "
                f"it; put it on GPUs (billed while they are up) with: {_serve_command(run, deployment, endpoints)}"
            )
    place = found[0]
    if place.deployment.state == READY and not place.deployment.max_replica_count:
        owner = endpoint_of(place.deployment)
        raise UnavailableError(
            f"endpoint '{owner}' is switched off (max_replicas=0); switch it on (billed while it is up) with: "
            + run.commands.update_endpoint(owner, max_replicas="1")
        )
    if not place.can_answer or not (place.since or place.router):
        state = place.loaded.state if place.loaded else place.deployment.state
        raise UnavailableError(
            f"{place.address} is {state} and has not answered yet; check with: "
            + run.commands.get_endpoint(endpoint_of(place.deployment))
        )
    # Nothing says that a request to a router wakes what sleeps behind it; one to its own address does.
    return place if place.deployment.replica_count else replace(place, router="")


def _serve_command(run: Run, deployment: Deployment, endpoints: Collection[EndpointName]) -> str:
    """Serves a deployment on an endpoint of its own, under its name or the next one that is free."""
    endpoint = next(name for name in map(EndpointName, number_names(deployment.name)) if name not in endpoints)
    merge = {"live_merge": "true"} if deployment.current.model.peft_details.base_model else {}
    return run.commands.serve(deployment.name, endpoint, **merge)


def _embeds(run: Run, place: Place) -> bool:
    model = run.gateway.models.find(place.model)
    return model is not None and model.kind == Kind.EMBEDDING.value


def _raise_unless_row_fault(answer: dict[str, Any] | FireworksError, *, alone: bool) -> None:
    # Where the request itself is at fault, the next row may fare better.
    if isinstance(answer, FireworksError) and (alone or not isinstance(answer, InvalidRequestError)):
        raise answer


def _collect(questions: Questions, answers: list[dict[str, Any] | FireworksError]) -> Predictions:
    values: list[Any] = [None] * questions.rows
    usage: dict[str, int] = {}
    failures: dict[int, str] = {}
    for question, answer in zip(questions.questions, answers, strict=True):
        if isinstance(answer, FireworksError):
            failures |= dict.fromkeys(question.rows, answer.message)
            continue
        found = _values_of(question, answer)
        if questions.is_single:
            values = found
        elif len(question.rows) == 1:
            values[question.rows[0]] = found[0] if len(found) == 1 else found
        else:
            for row, value in zip(question.rows, found, strict=True):
                values[row] = value
        for name, tokens in (answer.get("usage") or {}).items():
            if isinstance(tokens, int):
                usage[name] = usage.get(name, 0) + tokens
    if len(failures) == questions.rows:
        raise next(answer for answer in answers if isinstance(answer, FireworksError))
    whole = answers[0] if questions.is_single and isinstance(answers[0], dict) else {}
    return Predictions(values, usage, failures, whole)


def _values_of(question: Question, answer: Mapping[str, Any]) -> list[Any]:
    """The texts or vectors in an answer of the OpenAI shape."""
    try:
        if question.operation == EMBEDDINGS:
            vectors = [item["embedding"] for item in sorted(answer["data"], key=lambda item: item.get("index", 0))]
            if len(question.rows) not in (1, len(vectors)):
                raise KeyError(question.operation)  # noqa: TRY301 - one answer for all of them
            return vectors
        if question.operation == CHAT:
            return [choice["message"].get("content") for choice in answer["choices"]]
        return [choice["text"] for choice in answer["choices"]]
    except (KeyError, TypeError, AttributeError):
        said = str(answer.get("error") or "")[:300]
        raise UnexpectedAnswerError(
            f"the answer to {question.operation} has no predictions in it{f': {said}' if said else ''}",
            server_message=str(answer)[:500],
        ) from None
