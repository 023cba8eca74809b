"""A new deployment of an endpoint: made, waited for and asked; or given up, and stopped."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import (
    AlreadyExistsError,
    ConflictError,
    FireworksError,
    InvalidConfigError,
    InvalidRequestError,
    UnexpectedAnswerError,
)
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.gateway.stamps import EndpointStamp, text_of
from mlflow_fireworks.gateway.wire import READY, Model
from mlflow_fireworks.names import EndpointName, number_names
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.hardware import choose_hardware, compare_shape, describe_shapes, scaling_of
from mlflow_fireworks.serving.places import Place
from mlflow_fireworks.serving.prices import describe_cost
from mlflow_fireworks.serving.readiness import prove, wait_until_ready
from mlflow_fireworks.serving.routing import is_direct

_MOST_TRIES = 50


def start(run: Run, name: EndpointName, model: Model, previous: OnDemandDeployment | None = None) -> OnDemandDeployment:
    """Ask for GPUs that serve a model; says what they cost. With `dry_run` nothing is started.

    Args:
        run: The account and the options.
        name: The endpoint.
        model: What it will serve.
        previous: The deployment whose place it will take; its settings are kept where the options name none.

    Raises:
        InvalidConfigError: The model is not READY, or the options contradict each other.
        LimitError: The run may not start GPUs.
        RefusedError: Fireworks refuses; the shapes that fit are named.
        UnexpectedAnswerError: Fireworks left out the shape that the model needs; the deployment was taken down.
    """
    if model.state != READY:
        raise InvalidConfigError(f"{model.name} is {model.state}, not READY, so it cannot be served yet")
    fields = _describe(run, name, model, previous)
    try:
        if run.endpoint_config.dry_run:
            made = _create(run, name, fields, validate_only=True)
        else:
            with run.permit.hold(run, name, lambda: _create(run, name, fields, validate_only=True)):
                made = _create(run, name, fields)
    except InvalidRequestError as error:
        raise _with_shapes(run, model, error) from None
    made = _check_shape(run, name, model, fields, made)
    verb = "DRY RUN  would be" if run.endpoint_config.dry_run else "started"
    run.reporter.note(f"{verb} {made.name} for {model.name}")
    if run.is_billed:
        run.reporter.warn(f"endpoint {name}: billing begins when it is up; {describe_cost(made)}")
    return made


def preview(run: Run, name: EndpointName, model: Model) -> OnDemandDeployment:
    """What `start` would make; nothing is started."""
    fields = _describe(run, name, model, None)
    return _create(run, name, fields, validate_only=True)


def finish(run: Run, deployment: OnDemandDeployment) -> OnDemandDeployment:
    """Wait until a deployment is READY and answers.

    Raises:
        FireworksError: It does not come up or does not answer.
    """
    ready = wait_until_ready(run, deployment)
    if ready.max_replica_count:
        prove(run, Place(ready.base_model, ready))
    return ready


def set_aside(run: Run, name: EndpointName, deployment: OnDemandDeployment) -> str:
    """Stop a deployment that is given up, so that it is billed no longer, in a way that can be undone.

    Returns:
        What became of it and what to do, in words.
    """
    try:
        router = run.gateway.routers.find(name)
        if router and deployment.name in router.deployments:
            return f"{deployment.name} is up and billed: router '{name}' points to it; run the same command again"
        # It may have answered our own question a moment ago; that is no reason to keep it.
        run.gateway.deployments.delete(deployment.name, ignore_checks=True)
    except FireworksError as error:
        reason = error.message.partition(";")[0]
        return f"{deployment.name} could not be taken down ({reason}) and is billed while it is up; delete it manually"
    return (
        f"{deployment.name} was taken down again; it can be restored within seven days (billed again) with: "
        + run.commands.undelete_endpoint(name)
    )


def _describe(run: Run, name: EndpointName, model: Model, previous: OnDemandDeployment | None) -> dict[str, Any]:
    kept: Mapping[str, Any] = scaling_of(previous) if previous else {}
    text = run.endpoint_config.description or (text_of(previous.description) if previous else "")
    policy = {**kept.get("autoscalingPolicy", {}), **run.endpoint_config.scaling.get("autoscalingPolicy", {})}
    return {
        **choose_hardware(run, model, previous),
        **kept,
        **run.endpoint_config.scaling,
        **({"autoscalingPolicy": policy} if policy else {}),
        "baseModel": model.name,
        "description": EndpointStamp(name, direct=is_direct(run, previous)).describe(text),
    }


def _create(
    run: Run, name: EndpointName, fields: Mapping[str, Any], *, validate_only: bool = False
) -> OnDemandDeployment:
    """Make it under the first free one of `prod`, `prod-2`, …; a softly deleted one keeps its id for seven days."""
    taken = {item.deployment_id for item in run.gateway.deployments.list(deleted=True)}
    for deployment_id in islice((free for free in number_names(name) if free not in taken), _MOST_TRIES):
        if made := _create_as(run, deployment_id, name, fields, validate_only=validate_only):
            return made
    raise ConflictError(f"{name} and {_MOST_TRIES - 1} names after it are all taken; choose another endpoint name")


def _create_as(
    run: Run, deployment_id: str, name: EndpointName, fields: Mapping[str, Any], *, validate_only: bool
) -> OnDemandDeployment | None:
    """Make it under an id; None when that is softly deleted, which not every service shows."""
    gateway = run.gateway.deployments
    try:
        return gateway.create(deployment_id, fields, validate_only=validate_only)
    except AlreadyExistsError as error:
        found = gateway.find(deployment_id)
        if found is None or found.is_gone:
            return None
        # This very call's lost first try, or not.
        stamp = EndpointStamp.read(found.description)
        if stamp and stamp.endpoint == name and not stamp.since and found.base_model == fields["baseModel"]:
            return found
        raise ConflictError(f"{deployment_id} was just taken by someone else; run the same command again") from error


def _check_shape(
    run: Run, name: EndpointName, model: Model, fields: Mapping[str, Any], made: OnDemandDeployment
) -> OnDemandDeployment:
    """Compare the shape that came back with the one asked for; Fireworks may leave one out without a word."""
    if compare_shape(fields, made) and not run.endpoint_config.dry_run:
        made = run.gateway.deployments.find(made.name) or made
    problem = compare_shape(fields, made)
    if not problem:
        return made
    harm = ""
    if fields.get("enableAddons") and not (made.deployment_shape and made.enable_addons):
        harm = "adapters would be refused"
    elif model.kind == Kind.EMBEDDING.value:
        harm = "its vectors may be wrong"
    if not harm or run.endpoint_config.dry_run or run.endpoint_config.force:
        run.reporter.warn(f"{problem}{f'; {harm}' if harm else ''}")
        return made
    raise UnexpectedAnswerError(
        f"{problem}, and {harm}; name another shape with -C deployment_shape=, or use it anyway with -C "
        f"force=true; {set_aside(run, name, made)}"
    )


def _with_shapes(run: Run, model: Model, error: InvalidRequestError) -> InvalidRequestError:
    """A refusal of hardware, with what would fit."""
    fitting = describe_shapes(run.gateway.deployments.match_shapes(model.name))
    return error.reworded(f"{error.message}; shapes that fit (-C deployment_shape=): {fitting}") if fitting else error
