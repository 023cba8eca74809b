"""Waiting for GPUs: until they are READY, until an adapter is DEPLOYED, and until there is a first real answer."""

from datetime import datetime, timedelta, timezone

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import ApiError, DeadlineError, NotFoundError
from mlflow_fireworks.gateway.serving_wire import (
    DEPLOYED,
    DEPLOYING,
    UPDATING,
    DeployedModel,
    OnDemandDeployment,
)
from mlflow_fireworks.gateway.wire import FAILED, READY
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.serving.context import ServingRun
from mlflow_fireworks.serving.inference import COMPLETIONS, EMBEDDINGS, Inference, Question
from mlflow_fireworks.serving.places import Place, read_endpoint_stamp
from mlflow_fireworks.waiting import Pending

# Users report first answers up to some minutes after READY, and adapters that take ten.
_FRESH = timedelta(minutes=20)


def wait_until_ready(run: ServingRun, deployment: OnDemandDeployment) -> OnDemandDeployment:
    """Wait until Fireworks says READY.

    Raises:
        ApiError: It is FAILED; its status is quoted.
        DeadlineError: It takes longer than `ready_timeout`.
        NotFoundError: Somebody deleted it.
    """

    def look() -> OnDemandDeployment | Pending:
        found = run.deployments.find(deployment.name)
        if found is None or found.is_gone:
            raise NotFoundError(f"{deployment.name} was deleted while it was starting")
        if found.state == FAILED:
            reason = found.status.message or "Fireworks gives no reason"
            raise ApiError(f"{found.name} is FAILED: {reason}", status=200, server_message=found.status.message)
        if found.state == READY:
            return found
        return Pending(f"{found.deployment_id} is {found.state}: {describe_replicas(found)}")

    return run.waiter.wait(look, run.config.ready_timeout, lambda reason: _give_up(run, deployment, reason))


def wait_until_loaded(run: ServingRun, loaded: DeployedModel) -> DeployedModel:
    """Wait until an adapter is DEPLOYED.

    Raises:
        ApiError: It did not load; the old official SDK takes STATE_UNSPECIFIED for that.
        DeadlineError: It takes longer than `ready_timeout`.
        NotFoundError: Somebody unloaded it.
    """

    def look() -> DeployedModel | Pending:
        found = run.deployments.find_loaded(loaded.name)
        if found is None:
            raise NotFoundError(f"{loaded.model} was unloaded from {loaded.deployment} while it was loading")
        if found.state == DEPLOYED:
            return found
        if found.state in (DEPLOYING, UPDATING):
            return Pending(f"{found.model} is {found.state}")
        reason = found.status.message or f"state {found.state}"
        raise ApiError(
            f"{found.model} could not be loaded on {found.deployment}: {reason}", status=200, server_message=reason
        )

    limit = format_seconds(run.config.ready_timeout)
    return run.waiter.wait(look, run.config.ready_timeout, lambda reason: f"{reason} after {limit}; run it again")


def prove(run: ServingRun, place: Place) -> None:
    """Ask for a first real answer: READY is not yet routed, and a model that loads may still not answer.

    Raises:
        ApiError: It refuses to answer.
        DeadlineError: It does not answer within `ready_timeout`.
    """
    model = run.gateway.find_model(place.model)
    embeds = model is not None and model.kind == Kind.EMBEDDING.value
    question = (
        Question(EMBEDDINGS, {"input": "hello"})
        if embeds
        else Question(COMPLETIONS, {"prompt": "hello", "max_tokens": 1})
    )
    patient = Inference(
        run.gateway, run.waiter, run.inference.request_timeout, run.config.ready_timeout, run.inference.retry
    )
    try:
        patient.ask(place.address, question, fresh=True)
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


def _give_up(run: ServingRun, deployment: OnDemandDeployment, reason: str) -> str:
    stamp = read_endpoint_stamp(deployment.description)
    name = stamp.endpoint if stamp else deployment.deployment_id
    return (
        f"{reason} after {format_seconds(run.config.ready_timeout)}; it may still come up and be billed: look with "
        f"'mlflow deployments get-endpoint -t {run.target_uri} --endpoint {name}', go on waiting with the same command,"
        f" or take it down with '{run.command('delete', name)}'"
    )


def _read_time(text: str) -> datetime | None:
    """RFC 3339 with up to nine digits after the point, which Python 3.10 cannot read by itself."""
    try:
        return datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
