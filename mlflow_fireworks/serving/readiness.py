"""Waiting for GPUs: until they are READY, until an adapter is DEPLOYED, and until there is a first real answer."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import (
    BusyError,
    DeadlineError,
    FailedStateError,
    FireworksError,
    NotFoundError,
    UnavailableError,
    UnexpectedAnswerError,
)
from mlflow_fireworks.gateway.serving_wire import (
    DEPLOYED,
    DEPLOYING,
    UPDATING,
    DeployedModel,
    OnDemandDeployment,
)
from mlflow_fireworks.gateway.stamps import RevisionStamp, parse_time
from mlflow_fireworks.gateway.wire import FAILED, READY, Model
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.inference import COMPLETIONS, EMBEDDINGS, Question, ask
from mlflow_fireworks.serving.places import Place, endpoint_of
from mlflow_fireworks.waiting import Pending

# Users report first answers up to some minutes after READY, and adapters that take ten.
_FRESH_SECONDS = 20 * 60.0
_OUTAGES = (BusyError, UnavailableError)
_TEXTS = ("A quiet morning by the sea.", "Invoice 4711 is overdue!")


def wait_until_ready(run: Run, deployment: OnDemandDeployment) -> OnDemandDeployment:
    """Wait until Fireworks says READY.

    Raises:
        FailedStateError: It is FAILED; its status is quoted.
        DeadlineError: It takes longer than `ready_timeout`.
        NotFoundError: Somebody deleted it.
    """

    def look() -> OnDemandDeployment | Pending:
        try:
            found = _look_at(run, deployment)
        except _OUTAGES as error:
            return _unseen(deployment.deployment_id, error)
        if found.state == READY:
            return found
        return Pending(f"{found.deployment_id} is {found.state}: {describe_replicas(found)}")

    place = Place(deployment.base_model, deployment)
    return run.waiter.wait(look, run.endpoint_config.ready_timeout, lambda reason: _give_up(run, place, reason))


def wait_until_loaded(run: Run, loaded: DeployedModel) -> DeployedModel:
    """Wait until an adapter is DEPLOYED.

    Raises:
        FailedStateError: It did not load; the old official SDK takes STATE_UNSPECIFIED for that.
        DeadlineError: It takes longer than `ready_timeout`.
        NotFoundError: Somebody unloaded it.
    """

    def look() -> DeployedModel | Pending:
        try:
            found = run.gateway.adapters.find(loaded.name)
        except _OUTAGES as error:
            return _unseen(loaded.model, error)
        if found is None:
            raise NotFoundError(f"{loaded.model} was unloaded from {loaded.deployment} while it was loading")
        if found.state == DEPLOYED:
            return found
        if found.state in (DEPLOYING, UPDATING):
            return Pending(f"{found.model} is {found.state}")
        reason = found.status.message or f"state {found.state}"
        raise FailedStateError(
            f"{found.model} could not be loaded on {found.deployment}: {reason}", server_message=reason
        )

    limit = format_seconds(run.endpoint_config.ready_timeout)
    return run.waiter.wait(
        look, run.endpoint_config.ready_timeout, lambda reason: f"{reason} after {limit}; run the same command again"
    )


def prove(run: Run, place: Place, limit: float | None = None) -> str:
    """Ask for a first real answer: READY is not yet routed, and a model that loads may still not answer, or nonsense.

    An answer counts whatever Fireworks says of the replicas; a refusal does not, while it says that they still start.

    Args:
        run: The account and the options.
        place: What is asked.
        limit: Longest wait for an answer, in seconds; `ready_timeout` when None.

    Returns:
        Full name of the deployment that has answered; empty where the service does not tell.

    Raises:
        RefusedError: It refuses to answer.
        UnexpectedAnswerError: Its answer is empty, or its vectors cannot be right.
        FailedStateError: The deployment is FAILED by now.
        NotFoundError: Somebody deleted it.
        DeadlineError: It does not answer within `ready_timeout`.
    """
    model = run.gateway.models.find(place.model)
    embeds = model is not None and model.kind == Kind.EMBEDDING.value
    question = (
        Question(EMBEDDINGS, {"input": list(_TEXTS)})
        if embeds
        else Question(COMPLETIONS, {"prompt": "hello", "max_tokens": 1})
    )

    def starting() -> str:
        try:
            found = _look_at(run, place.deployment)
        except _OUTAGES:
            return ""
        return describe_replicas(found) if found.replica_stats.is_starting else ""

    limit = run.endpoint_config.ready_timeout if limit is None else limit
    try:
        answer = ask(run, place.address, question, fresh=True, patience=limit, starting=starting)
    except DeadlineError as error:
        raise DeadlineError(_give_up(run, place, error.message.rpartition(" after ")[0])) from None
    fault = _fault_of_vectors(answer.body) if embeds else _fault_of_text(answer.body)
    # By way of a router the answer may still be that of the model before; each is asked at its own address first.
    if model and embeds and not fault and not place.router and (doubt := _doubt_length(answer.body, model)):
        if not run.endpoint_config.force:
            fault = f"{doubt}; to let it answer anyway: -C force=true"
        else:
            run.reporter.warn(f"{place.address}: {doubt}")
    if fault:
        raise UnexpectedAnswerError(f"{place.address} answers, but {fault}", server_message=str(answer.body)[:500])
    return answer.deployment


def is_fresh(place: Place, now: datetime) -> bool:
    """Whether it came up a short while ago, so that Fireworks may not route to it yet."""
    created = (place.loaded or place.deployment).create_time
    return any(now.timestamp() - parse_time(time) < _FRESH_SECONDS for time in (created, place.deployment.update_time))


def describe_replicas(deployment: OnDemandDeployment) -> str:
    """How far the replicas are, in words."""
    stats = deployment.replica_stats
    counts = {
        "waiting for GPUs": stats.pending_scheduling_replica_count,
        "downloading the model": stats.downloading_model_replica_count,
        "initializing": stats.initializing_replica_count,
        "ready": stats.ready_replica_count,
    }
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    if told or deployment.state != READY:
        return told or "no replica yet"
    return "no replica is up; a request starts one" if deployment.max_replica_count else "paused: max_replicas is 0"


def _unseen(what: str, error: FireworksError) -> Pending:
    """What cannot be seen may well be coming up; an outage of Fireworks' API is no reason to give it up."""
    return Pending(f"{what} cannot be checked: {error.message.partition(';')[0]}")


def _look_at(run: Run, deployment: OnDemandDeployment) -> OnDemandDeployment:
    found = run.gateway.deployments.find(deployment.name)
    if found is None or found.is_gone:
        raise NotFoundError(f"{deployment.name} was deleted while it was starting")
    if found.state == FAILED:
        raise FailedStateError(f"{found.name} is FAILED: {found.status.reason}", server_message=found.status.message)
    return found


def _fault_of_text(answer: Mapping[str, Any]) -> str:
    """What is wrong with a completion; its one token may well have no text."""
    choices, usage = answer.get("choices"), answer.get("usage")
    if isinstance(usage, Mapping) and usage.get("completion_tokens") and choices:
        return ""
    if isinstance(choices, list) and any(
        isinstance(choice, Mapping) and (choice.get("text") or choice.get("finish_reason")) for choice in choices
    ):
        return ""
    return "with nothing: no text and no tokens"


def _fault_of_vectors(answer: Mapping[str, Any]) -> str:
    """What is wrong with the vectors of two texts; Fireworks serves wrong ones from hardware meant for other models."""
    hint = "; embedding models need an embedding shape: -C deployment_shape=accounts/fireworks/deploymentShapes/NAME"
    items = answer.get("data") if isinstance(answer.get("data"), list) else None
    vectors: list[Any] = [item.get("embedding") for item in items or () if isinstance(item, Mapping)]
    if len(vectors) != len(_TEXTS) or not all(isinstance(vector, list) and vector for vector in vectors):
        return f"not with a vector for each of {len(_TEXTS)} texts{hint}"
    if len({len(vector) for vector in vectors}) > 1:
        return f"its vectors differ in length ({' and '.join(str(len(vector)) for vector in vectors)}){hint}"
    if not all(isinstance(number, int | float) and math.isfinite(number) for vector in vectors for number in vector):
        return f"its vectors contain values that are not finite numbers{hint}"
    if all(math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) for one, other in zip(*vectors, strict=True)):
        return f"two different texts get the same vector{hint}"
    return ""


def _doubt_length(answer: Mapping[str, Any], model: Model) -> str:
    """How vectors differ in length from what the checkpoint says, in words; empty where it does not say."""
    stamp, found = RevisionStamp.read(model.description), len(answer["data"][0]["embedding"])
    if stamp is None or stamp.vector_length in (None, found):
        return ""
    return (
        f"its vectors have {found} numbers, and those of the checkpoint {stamp.vector_length}: Fireworks is not known "
        "to run all modules of sentence-transformers"
    )


def _give_up(run: Run, place: Place, reason: str) -> str:
    waited = f"{reason} after {format_seconds(run.endpoint_config.ready_timeout)}"
    if place.loaded:
        return f"{waited}; run the same command again, or allow more time with -C ready_timeout="
    name = endpoint_of(place.deployment)
    return (
        f"{waited}; it may still start, and is billed from "
        f"then on; check with: {run.commands.get_endpoint(name)}; keep waiting with the same command, or take "
        "it down with: " + run.commands.delete_endpoint(name)
    )
