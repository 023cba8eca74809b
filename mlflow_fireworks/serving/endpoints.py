"""MLflow's five endpoint calls, on Fireworks' on-demand deployments."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from mlflow_fireworks.config import Kind
from mlflow_fireworks.endpoint_config import HARDWARE_OPTIONS
from mlflow_fireworks.errors import (
    ConflictError,
    FailedPreconditionError,
    InvalidConfigError,
    NotFoundError,
    RefusedError,
)
from mlflow_fireworks.gateway.revisions import group_deployments
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment, Router
from mlflow_fireworks.gateway.stamps import EndpointStamp, RouterStamp, text_of
from mlflow_fireworks.gateway.wire import Model
from mlflow_fireworks.names import DeploymentName, EndpointName, check_name, enumerate_names
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.bringup import finish
from mlflow_fireworks.serving.places import Endpoint, endpoint_of, list_endpoints, pick_endpoint
from mlflow_fireworks.serving.prices import describe_cost, dollars_per_hour
from mlflow_fireworks.serving.readiness import describe_replicas
from mlflow_fireworks.serving.rollout import bring_up, move_endpoint
from mlflow_fireworks.serving.routing import choose_front
from mlflow_fireworks.serving.takeover import take_over


def create_endpoint(run: Run, name: EndpointName) -> dict[str, Any]:
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
    model = find_served(run, run.endpoint_config.model)
    made = describe_endpoint(run, bring_up(run, name, model), model.kind)
    return made | ({"state": "DRY_RUN"} if run.endpoint_config.dry_run else {})


def update_endpoint(run: Run, name: EndpointName) -> dict[str, Any]:
    """Change an endpoint: replicas and windows in place; another model or other GPUs by a new deployment, with no gap.

    Where its router divides requests, replicas are those of the deployment that was made live last.

    Raises:
        ConflictError: The plugin did not make it, and `force` is not set.
        NotFoundError: There is none of that name.
        FireworksError: One line that says what happened and what to do.
    """
    endpoint = find_endpoint(run, name)
    refuse_unmanaged(run, endpoint, "change")
    given = run.endpoint_config.model_fields_set
    if given & {*HARDWARE_OPTIONS, "model", "router"}:
        model = find_served(run, run.endpoint_config.model or endpoint.current.base_model)
        return describe_endpoint(run, move_endpoint(run, endpoint, model), model.kind)
    changes = run.endpoint_config.scaling
    if run.endpoint_config.description is not None:
        stamp = EndpointStamp.read(endpoint.current.description) or EndpointStamp(name)  # `force` is set
        changes["description"] = stamp.describe(run.endpoint_config.description)
    if changes and not run.endpoint_config.dry_run:
        run.gateway.deployments.update(endpoint.current, changes)
        if run.endpoint_config.wait:
            finish(run, endpoint.current)
    return get_endpoint(run, name)


def delete_endpoint(run: Run, name: EndpointName) -> bool:
    """Take an endpoint down, or only its deployments that are not used; False when there was nothing to take down.

    The router goes first: what it leads to must not go before it does.

    Raises:
        ConflictError: The plugin did not make it, or somebody else's router leads to it, and `force` is not set.
    """
    endpoint = list_endpoints(run.gateway).get(name)
    if endpoint is None:
        if (router := run.gateway.routers.find(name)) and RouterStamp.read(router.display_name):
            delete_router(run, router)
            return True
        run.reporter.note(f"there is no endpoint '{name}' on account {run.gateway.account}; nothing to delete")
        return False
    refuse_unmanaged(run, endpoint, "delete")
    going = endpoint.unused if run.endpoint_config.unused else endpoint.deployments
    _refuse_led_to(run, endpoint, going)
    if endpoint.router and not run.endpoint_config.unused:
        delete_router(run, endpoint.router)
    for deployment in going:
        take_down(run, deployment)
    return bool(going)


def delete_router(run: Run, router: Router) -> None:
    """Delete a router; requests to it fail at once."""
    run.gateway.routers.delete(router)
    run.reporter.note(f"deleted {router.name}")


def _refuse_led_to(run: Run, endpoint: Endpoint, going: Collection[OnDemandDeployment]) -> None:
    names = {item.name for item in going}
    others = [router for router in run.gateway.routers.list() or () if router.router_id != endpoint.name]
    led = [router.name for router in others if not router.auto_generated and names & {*router.deployments}]
    if led and not run.endpoint_config.force:
        raise ConflictError(
            f"{enumerate_names(led)} routes requests to endpoint '{endpoint.name}', and would fail; to delete it "
            f"anyway: {run.commands.delete_endpoint(endpoint.name, force='true')}"
        )


def take_down(run: Run, deployment: OnDemandDeployment) -> None:
    """Delete a deployment, whether or not it answered requests a short while ago; our own first question is one."""
    try:
        run.gateway.deployments.delete(deployment.name, hard=run.endpoint_config.hard)
    except FailedPreconditionError as error:
        run.reporter.note(f"{deployment.name}: {error.server_message}; deleting it as asked")
        run.gateway.deployments.delete(deployment.name, hard=run.endpoint_config.hard, ignore_checks=True)
    run.reporter.note(f"deleted {deployment.name}")


def undelete_endpoint(run: Run, name: EndpointName) -> dict[str, Any]:
    """Bring back the deployment of an endpoint that was deleted last; it is billed again while it is up.

    It takes its old place: what failed to take over does not answer now, either, and a deleted endpoint does, at the
    address that it had.

    Raises:
        NotFoundError: None was deleted within the last seven days.
        FireworksError: It does not come up, or does not answer.
    """
    gone = [item for item in run.gateway.deployments.list(deleted=True) if item.is_gone and endpoint_of(item) == name]
    if not gone:
        raise NotFoundError(
            f"endpoint '{name}' cannot be restored: it was not deleted in the last seven days, or was deleted "
            f"with -C hard=true; list the endpoints with: {run.commands.list_endpoints()}"
        )
    brought = run.gateway.deployments.undelete(max(gone, key=lambda item: item.delete_time or item.update_time))
    run.reporter.note(f"restored {brought.name} with {brought.base_model}")
    if run.is_billed:
        run.reporter.warn(f"endpoint {name}: billing begins when it is up; {describe_cost(brought)}")
    endpoint = find_endpoint(run, name)
    if endpoint.current.name == brought.name:
        take_over(run, choose_front(run, name, endpoint), brought, moving=False, beside=False)
    elif endpoint.router and RouterStamp.read(endpoint.router.display_name):
        # Somebody wants it to be up; else the next run would take it for what a move has left.
        kept = RouterStamp(keeps_previous=True).describe()
        run.gateway.routers.update(endpoint.router, endpoint.router.deployments, kept)
    return get_endpoint(run, name)


def list_all(run: Run) -> list[dict[str, Any]]:
    """All endpoints, those made by others included (`managed` tells them apart)."""
    endpoints = list_endpoints(run.gateway).values()
    # Of an account's thousands of models, those that are served; and they may be another account's.
    kinds = {name: _find_kind(run, name) for name in {endpoint.current.base_model for endpoint in endpoints}}
    return [describe_endpoint(run, endpoint, kinds[endpoint.current.base_model]) for endpoint in endpoints]


def get_endpoint(run: Run, name: EndpointName) -> dict[str, Any]:
    """One endpoint.

    Raises:
        NotFoundError: There is none of that name.
    """
    endpoint = find_endpoint(run, name)
    return describe_endpoint(run, endpoint, _find_kind(run, endpoint.current.base_model))


def _find_kind(run: Run, model: str) -> str:
    """What a served model is to Fireworks; empty where it is gone, or another account's that may not be seen."""
    try:
        found = run.gateway.models.find(model)
    except RefusedError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        return ""
    return found.kind if found else ""


def find_endpoint(run: Run, name: EndpointName) -> Endpoint:
    """One endpoint.

    Raises:
        NotFoundError: There is none of that name.
    """
    return pick_endpoint(run, name, list_endpoints(run.gateway))


def find_served(run: Run, named: str | None) -> Model:
    """The model that an option names: a deployment's current revision, a model id, or a full name.

    Raises:
        InvalidConfigError: Nothing is named.
        NotFoundError: There is no such thing.
    """
    if not named:
        raise InvalidConfigError("an endpoint needs a model: -C model=DEPLOYMENT (or a Fireworks model's full name)")
    if "/" not in named:
        deployments = group_deployments(run.gateway.lookup.find(named))
        if found := deployments.get(DeploymentName(named)):
            return found.current.model
    model = run.gateway.models.find(named)
    if model is None:
        raise NotFoundError(f"there is no deployment or model '{named}' on account {run.gateway.account}")
    return model


def refuse_unmanaged(run: Run, endpoint: Endpoint, verb: str) -> None:
    """Leave alone what others have made.

    Raises:
        ConflictError: The plugin did not make it, and `force` is not set.
    """
    if not (endpoint.is_managed or run.endpoint_config.force):
        change = run.commands.delete_endpoint if verb == "delete" else run.commands.update_endpoint
        raise ConflictError(
            f"endpoint '{endpoint.name}' was not created by this plugin; to {verb} it anyway: "
            + change(endpoint.name, force="true")
        )


def describe_endpoint(run: Run, endpoint: Endpoint, kind: str) -> dict[str, Any]:
    """An endpoint as `get` and `list` show it, and as MLflow's own callers read it (`endpoint_type`, `task`).

    `others` are billed, and no request to the endpoint reaches them; `remove_others` is the command that ends that.
    """
    current = endpoint.current
    task = "llm/v1/embeddings" if kind == Kind.EMBEDDING.value else "llm/v1/chat"
    policy = current.autoscaling_policy
    return {
        "name": endpoint.name,
        "endpoint_type": task,
        "task": task,
        "state": current.state,
        "status": current.status.describe(),
        "model": current.base_model,
        "deployment": current.name,
        "address": endpoint.answering[0].address,
        "router": endpoint.router.name if endpoint.router and endpoint.routed else None,
        "shares": _describe_shares(endpoint),
        "adapters": [place.model for place in endpoint.answering if place.loaded],
        "replicas": describe_replicas(current),
        "min_replicas": current.min_replica_count,
        "max_replicas": current.max_replica_count,
        "accelerator_type": current.accelerator_type or None,
        "accelerator_count": current.accelerator_count or None,
        "served_precision": current.precision or None,
        "served_context_length": current.max_context_length or None,
        "deployment_shape": current.deployment_shape or None,
        "scale_to_zero_window": policy.scale_to_zero_window or None,
        "region": current.region or None,
        "dollars_per_replica_hour": dollars_per_hour(current),
        "managed": endpoint.is_managed,
        "others": [item.name for item in endpoint.unused],
        "remove_others": run.commands.delete_endpoint(endpoint.name, unused="true") if endpoint.unused else None,
        "description": text_of(current.description) or None,
        "created": current.create_time or None,
        "updated": current.update_time or None,
    }


def _describe_shares(endpoint: Endpoint) -> list[dict[str, Any]]:
    """What part of the requests each deployment gets, where the router leads to several."""
    shares = endpoint.shares if len(endpoint.routed) > 1 else ()
    return [
        {"deployment": item.deployment.name, "model": item.deployment.base_model, "share": item.part} for item in shares
    ]
