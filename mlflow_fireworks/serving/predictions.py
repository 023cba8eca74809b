"""Answers to many rows: asked within a bound, kept in order, with the rows that failed."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import ApiError, FireworksError, InvalidConfigError, NotFoundError, UnavailableError
from mlflow_fireworks.gateway.revisions import Deployment
from mlflow_fireworks.gateway.wire import READY, Model
from mlflow_fireworks.serving.context import ServingRun
from mlflow_fireworks.serving.inference import CHAT, EMBEDDINGS, Question
from mlflow_fireworks.serving.payloads import Questions, read_inputs
from mlflow_fireworks.serving.places import Endpoint, Place, find_places, list_endpoints
from mlflow_fireworks.serving.readiness import is_fresh

_CONCURRENT_REQUESTS = 8
# With these the request itself is at fault, so the next row may fare better.
_FAULTS_OF_A_ROW = frozenset({400, 413, 422})


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


def predict(run: ServingRun, place: Place, inputs: Any) -> Predictions:
    """Ask the model at a place about every row of the input.

    Raises:
        InvalidConfigError: The input is not understood.
        ApiError: The model refuses every row.
        FireworksError: It cannot be asked.
    """
    questions = read_inputs(inputs, embeds=_embeds(run, place))
    fresh = is_fresh(place, run.now())

    def ask(question: Question) -> dict[str, Any] | FireworksError:
        try:
            return run.inference.ask(place.address, question, fresh=fresh)
        except FireworksError as error:
            return error

    # The first goes alone: it wakes an endpoint that sleeps, and shows what is wrong with all of them.
    answers = [ask(questions.questions[0])]
    _raise_unless_row_fault(answers[0], alone=len(questions.questions) == 1)
    with ThreadPoolExecutor(_CONCURRENT_REQUESTS, thread_name_prefix="predict") as pool:
        try:
            answers += pool.map(ask, questions.questions[1:])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return _collect(questions, answers)


def predict_stream(run: ServingRun, place: Place, inputs: Any) -> Iterator[dict[str, Any]]:
    """Ask for one answer, piece by piece.

    Raises:
        InvalidConfigError: The input is more than one question, or asks for embeddings.
        FireworksError: The model cannot be asked.
    """
    questions = read_inputs(inputs, embeds=_embeds(run, place))
    question = questions.questions[0]
    if len(questions.questions) > 1 or question.operation == EMBEDDINGS:
        raise InvalidConfigError("predict_stream answers one chat or one prompt; use predict for more, or embeddings")
    yield from run.inference.stream(place.address, question, fresh=is_fresh(place, run.now()))


def choose_place(run: ServingRun, deployment: Deployment | None, endpoint: str | None) -> Place:
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
    endpoints = list_endpoints(run.deployments)
    if endpoint and endpoint not in endpoints:
        known = f"there are {', '.join(endpoints)}" if endpoints else "there are none"
        raise NotFoundError(f"there is no endpoint '{endpoint}' on account {run.gateway.account} ({known})")
    if deployment is None:
        if not endpoint:
            raise InvalidConfigError("predict needs the name of a deployment or of an endpoint")
        found = list(endpoints[endpoint].answering)
    else:
        searched: list[Endpoint] = [endpoints[endpoint]] if endpoint else list(endpoints.values())
        found = find_places(searched, [revision.model.name for revision in deployment.revisions])
        if not found:
            raise NotFoundError(
                f"{deployment.current.model.name} is {deployment.current.model.state}, and no endpoint serves it; "
                f"put it on GPUs (billed while they are up) with: {_serve_command(run, deployment.current.model)}"
            )
    place = found[0]
    if place.deployment.state == READY and not place.deployment.max_replica_count:
        owner = next(item.name for item in endpoints.values() if place in item.places)
        raise UnavailableError(
            f"endpoint '{owner}' is switched off (max_replicas=0); switch it on (billed while it is up) with: "
            + run.command("update", owner, "-C max_replicas=1")
        )
    if not place.can_answer or not place.since:
        state = place.loaded.state if place.loaded else place.deployment.state
        raise UnavailableError(
            f"{place.address} is {state} and has not answered yet; see: mlflow deployments get-endpoint "
            f"-t {run.target_uri} --endpoint {place.deployment.deployment_id}"
        )
    return place


def _serve_command(run: ServingRun, model: Model) -> str:
    merge = " -C live_merge=true" if model.peft_details.base_model else ""
    name = model.model_id
    return f"mlflow deployments update -t {run.target_uri} --name {name} --endpoint {name}{merge}"


def _embeds(run: ServingRun, place: Place) -> bool:
    model = run.gateway.find_model(place.model)
    return model is not None and model.kind == Kind.EMBEDDING.value


def _raise_unless_row_fault(answer: dict[str, Any] | FireworksError, *, alone: bool) -> None:
    if isinstance(answer, FireworksError):
        of_the_row = isinstance(answer, ApiError) and answer.status in _FAULTS_OF_A_ROW
        if alone or not of_the_row:
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
        for name, count in (answer.get("usage") or {}).items():
            if isinstance(count, int):
                usage[name] = usage.get(name, 0) + count
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
        raise ApiError(
            f"the answer to {question.operation} has no predictions in it", status=200, server_message=str(answer)[:500]
        ) from None
