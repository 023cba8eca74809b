"""Waiting for GPUs: until they are READY, until an adapter is DEPLOYED, and until there is a first real answer."""

from datetime import datetime, timedelta, timezone

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import DeadlineError, FailedStateError, NotFoundError
from mlflow_fireworks.gateway.serving_wire import (
    DEPLOYED,
    DEPLOYING,
    UPDATING,
    DeployedModel,
    OnDemandDeployment,
)
from mlflow_fireworks.gateway.wire import FAILED, READY
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.inference import COMPLETIONS, EMBEDDINGS, Question, ask
from mlflow_fireworks.serving.places import Place, endpoint_of
from mlflow_fireworks.waiting import Pending

# Users report first answers up to some minutes after READY, and adapters that take ten.
_FRESH = timedelta(minutes=20)


def wait_until_ready(run: Run, deployment: OnDemandDeployment) -> OnDemandDeployment:
    """Wait until Fireworks says READY.

    Raises:
        FailedStateError: It is FAILED; its status is quoted.
        DeadlineError: It takes longer than `ready_timeout`.
        NotFoundError: Somebody deleted it.
    """

    def look() -> OnDemandDeployment | Pending:
        found = run.gateway.deployments.find(deployment.name)
        if found is None or found.is_gone:
            raise NotFoundError(f"{deployment.name} was deleted while it was starting")
        if found.state == FAILED:
            reason = found.status.message or "Fireworks gives no reason"
            raise FailedStateError(f"{found.name} is FAILED: {reason}", server_message=found.status.message)
        if found.state == READY:
            return found
        return Pending(f"{found.deployment_id} is {found.state}: {describe_replicas(found)}")

    return run.waiter.wait(look, run.endpoint_config.ready_timeout, lambda reason: _give_up(run, deployment, reason))


def wait_until_loaded(run: Run, loaded: DeployedModel) -> DeployedModel:
    """Wait until an adapter is DEPLOYED.

    Raises:
        FailedStateError: It did not load; the old official SDK takes STATE_UNSPECIFIED for that.
        DeadlineError: It takes longer than `ready_timeout`.
        NotFoundError: Somebody unloaded it.
    """

    def look() -> DeployedModel | Pending:
        found = run.gateway.adapters.find(loaded.name)
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
        look, run.endpoint_config.ready_timeout, lambda reason: f"{reason} after {limit}; run it again"
    )


def prove(run: Run, place: Place) -> None:
    """Ask for a first real answer: READY is not yet routed, and a model that loads may still not answer.

    Raises:
        RefusedError: It refuses to answer.
        DeadlineError: It does not answer within `ready_timeout`.
    """
    model = run.gateway.models.find(place.model)
    embeds = model is not None and model.kind == Kind.EMBEDDING.value
    question = (
        Question(EMBEDDINGS, {"input": "hello"})
        if embeds
        else Question(COMPLETIONS, {"prompt": "hello", "max_tokens": 1})
    )
    try:
        ask(run, place.address, question, fresh=True, patience=run.endpoint_config.ready_timeout)
    except DeadlineError as error:
        raise DeadlineError(_give_up(run, place.deployment, error.message.partition(" after ")[0])) from None
    run.reporter.note(f"      {place.address} answers")


def is_fresh(place: Place, now: datetime) -> bool:
    """Whether it came up a short while ago, so that Fireworks may not route to it yet."""
    created = (place.loaded or place.deployment).create_time
    times = [_read_time(time) for time in (created, place.deployment.update_time)]
    return any(time is not None and now - time < _FRESH for time in times)


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
    return told or "no replica yet"


def _give_up(run: Run, deployment: OnDemandDeployment, reason: str) -> str:
    name = endpoint_of(deployment)
    return (
        f"{reason} after {format_seconds(run.endpoint_config.ready_timeout)}; it may still come up and be billed: look "
        f"with: {run.commands.get_endpoint(name)}; go on waiting with the same command, or take it down with: "
        + run.commands.delete_endpoint(name)
    )


def _read_time(text: str) -> datetime | None:
    """RFC 3339 with up to nine digits after the point, which Python 3.10 cannot read by itself."""
    try:
        return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
