"""MLflow's five endpoint calls, on Fireworks' on-demand deployments."""

from typing import Any

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import ConflictError, FailedPreconditionError, InvalidConfigError, NotFoundError
from mlflow_fireworks.gateway.revisions import group_deployments
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.gateway.wire import Model
from mlflow_fireworks.serving.bringup import bring_up, finish
from mlflow_fireworks.serving.context import ServingRun
from mlflow_fireworks.serving.options import HARDWARE_OPTIONS
from mlflow_fireworks.serving.places import (
    Endpoint,
    EndpointStamp,
    Place,
    list_endpoints,
    read_endpoint_stamp,
    text_of,
)
from mlflow_fireworks.serving.prices import dollars_per_hour
from mlflow_fireworks.serving.readiness import describe_replicas
from mlflow_fireworks.serving.rollout import move_endpoint
from mlflow_fireworks.target import check_name


def create_endpoint(run: ServingRun, name: str) -> dict[str, Any]:
    """Put a model on GPUs; running it again goes on where it stopped, or does nothing.

    Args:
        run: The account and the options; `model` is needed.
        name: The endpoint.

    Returns:
        As `describe_endpoint`.

    Raises:
        ConflictError: An endpoint of that name serves something else.
        FireworksError: One line that says what happened and what to do.
    """
    check_name(name)
    model = find_served(run, run.config.model)
    made = describe_endpoint(bring_up(run, name, model), model.kind)
    return made | ({"state": "DRY_RUN"} if run.config.dry_run else {})


def update_endpoint(run: ServingRun, name: str) -> dict[str, Any]:
    """Change an endpoint: replicas and windows in place; another model or other GPUs by a new deployment, with no gap.

    Raises:
        ConflictError: The plugin did not make it, and `force` is not set.
        NotFoundError: There is none of that name.
        FireworksError: One line that says what happened and what to do.
    """
    endpoint = find_endpoint(run, name)
    refuse_unmanaged(run, endpoint, "change")
    given = run.config.model_fields_set
    if given & {*HARDWARE_OPTIONS, "model"}:
        model = find_served(run, run.config.model or endpoint.current.base_model)
        return describe_endpoint(move_endpoint(run, endpoint, model), model.kind)
    changes = run.config.scaling
    if run.config.description is not None:
        stamp = read_endpoint_stamp(endpoint.current.description) or EndpointStamp(name)
        changes["description"] = stamp.describe(run.config.description)
    if changes and not run.config.dry_run:
        run.deployments.update(endpoint.current, changes)
        if run.config.wait:
            finish(run, endpoint.current)
    return get_endpoint(run, name)


def delete_endpoint(run: ServingRun, name: str) -> bool:
    """Take all GPUs of an endpoint down; False when there was nothing to take down.

    Raises:
        ConflictError: The plugin did not make it, and `force` is not set.
    """
    endpoint = list_endpoints(run.deployments).get(name)
    if endpoint is None:
        run.reporter.note(f"there is no endpoint '{name}' on account {run.gateway.account}; nothing to delete")
        return False
    refuse_unmanaged(run, endpoint, "delete")
    for deployment in endpoint.deployments:
        take_down(run, deployment)
    return True


def take_down(run: ServingRun, deployment: OnDemandDeployment) -> None:
    """Delete a deployment, whether or not it answered requests a short while ago; our own first question is one."""
    try:
        run.deployments.delete(deployment.name, hard=run.config.hard)
    except FailedPreconditionError as error:
        run.reporter.note(f"{deployment.name}: {error.server_message}; deleting it as asked")
        run.deployments.delete(deployment.name, hard=run.config.hard, ignore_checks=True)
    run.reporter.note(f"deleted {deployment.name}")


def list_all(run: ServingRun) -> list[dict[str, Any]]:
    """All endpoints, those made by others included (`managed` tells them apart)."""
    endpoints = list_endpoints(run.deployments).values()
    kinds = {model.name: model.kind for model in run.gateway.list_models()} if endpoints else {}
    return [describe_endpoint(endpoint, kinds.get(endpoint.current.base_model, "")) for endpoint in endpoints]


def get_endpoint(run: ServingRun, name: str) -> dict[str, Any]:
    """One endpoint.

    Raises:
        NotFoundError: There is none of that name.
    """
    endpoint = find_endpoint(run, name)
    model = run.gateway.find_model(endpoint.current.base_model)
    return describe_endpoint(endpoint, model.kind if model else "")


def find_endpoint(run: ServingRun, name: str) -> Endpoint:
    """One endpoint.

    Raises:
        NotFoundError: There is none of that name.
    """
    endpoints = list_endpoints(run.deployments)
    if name not in endpoints:
        known = f"there are {', '.join(endpoints)}" if endpoints else "there are none"
        raise NotFoundError(
            f"there is no endpoint '{name}' on account {run.gateway.account} ({known}); make it with: "
            + run.command("create", name, "-C model=DEPLOYMENT")
        )
    return endpoints[name]


def find_served(run: ServingRun, named: str | None) -> Model:
    """The model that an option names: a deployment's current revision, a model id, or a full name.

    Raises:
        InvalidConfigError: Nothing is named.
        NotFoundError: There is no such thing.
    """
    if not named:
        raise InvalidConfigError("an endpoint needs a model: -C model=DEPLOYMENT (or a Fireworks model's full name)")
    if "/" not in named:
        deployments = group_deployments(run.gateway.list_models())
        if named in deployments:
            return deployments[named].current.model
    model = run.gateway.find_model(named)
    if model is None:
        raise NotFoundError(f"there is no deployment or model '{named}' on account {run.gateway.account}")
    return model


def refuse_unmanaged(run: ServingRun, endpoint: Endpoint, verb: str) -> None:
    """Leave alone what others have made.

    Raises:
        ConflictError: The plugin did not make it, and `force` is not set.
    """
    if not (endpoint.is_managed or run.config.force):
        raise ConflictError(
            f"endpoint '{endpoint.name}' was not made by this plugin; to {verb} it all the same: "
            + run.command("delete" if verb == "delete" else "update", endpoint.name, "-C force=true")
        )


def describe_endpoint(endpoint: Endpoint, kind: str) -> dict[str, Any]:
    """An endpoint as `get` and `list` show it, and as MLflow's own callers read it (`endpoint_type`, `task`)."""
    current = endpoint.current
    task = "llm/v1/embeddings" if kind == Kind.EMBEDDING.value else "llm/v1/chat"
    policy = current.autoscaling_policy
    return {
        "name": endpoint.name,
        "endpoint_type": task,
        "task": task,
        "state": current.state,
        "status": f"{current.status.code} {current.status.message}".strip(),
        "model": current.base_model,
        "deployment": current.name,
        "address": Place(current.base_model, current).address,
        "adapters": [place.model for place in endpoint.answering if place.loaded],
        "replicas": describe_replicas(current),
        "min_replicas": current.min_replica_count,
        "max_replicas": current.max_replica_count,
        "accelerator_type": current.accelerator_type or None,
        "accelerator_count": current.accelerator_count or None,
        "precision": current.precision or None,
        "deployment_shape": current.deployment_shape or None,
        "scale_to_zero_window": policy.scale_to_zero_window or None,
        "region": current.region or None,
        "dollars_per_replica_hour": dollars_per_hour(current),
        "managed": endpoint.is_managed,
        "others": [item.name for item in endpoint.deployments if item.name != current.name],
        "description": text_of(current.description) or None,
        "created": current.create_time or None,
        "updated": current.update_time or None,
    }
