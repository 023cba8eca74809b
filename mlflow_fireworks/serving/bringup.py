"""A new deployment of an endpoint: made, waited for, asked, and only then the one that answers."""

from collections.abc import Mapping
from itertools import count, islice
from typing import Any

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import (
    AlreadyExistsError,
    ConflictError,
    DeadlineError,
    FailedStateError,
    FireworksError,
    InvalidConfigError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
    UnexpectedAnswerError,
)
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.gateway.stamps import EndpointStamp, text_of
from mlflow_fireworks.gateway.wire import FAILED, READY, Model
from mlflow_fireworks.names import EndpointName
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.hardware import choose_hardware, compare_shape, describe_shapes, scaling_of
from mlflow_fireworks.serving.places import Endpoint, Place, list_endpoints
from mlflow_fireworks.serving.prices import describe_cost
from mlflow_fireworks.serving.readiness import prove, wait_until_ready

_MOST_IDS = 50


def bring_up(run: Run, name: EndpointName, model: Model) -> Endpoint:
    """An endpoint that serves a model and answers; it must not serve another one.

    Raises:
        ConflictError: It serves something else.
        FireworksError: One line that says what happened and what to do.
    """
    existing = list_endpoints(run.gateway).get(name)
    if existing and existing.current.state == FAILED and existing.is_managed:
        run.reporter.note(f"{existing.current.name} is FAILED from an earlier try; it is taken down and made again")
        if not run.endpoint_config.dry_run:
            run.gateway.deployments.delete(existing.current.name, ignore_checks=True)
        existing = None
    if existing and existing.current.base_model != model.name:
        raise ConflictError(
            f"endpoint '{name}' serves {existing.current.base_model}; to let it serve {model.name} with no gap: "
            + run.commands.update_endpoint(name, model=_short_name(run, model))
        )
    deployment = existing.current if existing else start(run, name, model)
    if run.endpoint_config.wait and not run.endpoint_config.dry_run:
        try:
            deployment = finish(run, deployment)
        except (KeyboardInterrupt, UnavailableError):
            run.reporter.warn(
                f"{deployment.name} may come up all the same and is billed then; go on with the same command, or take "
                f"it down with: {run.commands.delete_endpoint(name)}"
            )
            raise
        except (DeadlineError, FailedStateError, NotFoundError):
            raise
        except FireworksError as error:
            if (stamp := EndpointStamp.read(deployment.description)) is None or stamp.since:
                raise
            raise error.reworded(f"{error.message}; {set_aside(run, name, deployment)}") from None
        stamp = EndpointStamp.read(deployment.description)
        if stamp and not stamp.since:
            deployment = make_live(run, name, deployment)
        run.reporter.note(f"READY  endpoint {name} answers at {deployment.base_model}#{deployment.name}")
    return Endpoint(name, (deployment,), (Place(deployment.base_model, deployment),))


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
            made = _create(run, name, model, fields, validate_only=True)
        else:
            with run.permit.hold(run, name, lambda: _create(run, name, model, fields, validate_only=True)):
                made = _create(run, name, model, fields)
    except InvalidRequestError as error:
        raise _with_shapes(run, model, error) from None
    made = _check_shape(run, name, model, fields, made)
    verb = "DRY RUN  it would be" if run.endpoint_config.dry_run else "started"
    run.reporter.note(f"{verb} {made.name} for {model.name}")
    if run.is_billed:
        run.reporter.warn(f"endpoint {name}: billing begins when it is up; {describe_cost(made)}")
    return made


def preview(run: Run, name: EndpointName, model: Model) -> OnDemandDeployment:
    """What `start` would make; nothing is started."""
    fields = _describe(run, name, model, None)
    return _create(run, name, model, fields, validate_only=True)


def finish(run: Run, deployment: OnDemandDeployment) -> OnDemandDeployment:
    """Wait until a deployment is READY and answers.

    Raises:
        FireworksError: It does not come up or does not answer.
    """
    ready = wait_until_ready(run, deployment)
    if ready.max_replica_count:
        prove(run, Place(ready.base_model, ready))
    return ready


def make_live(run: Run, name: EndpointName, deployment: OnDemandDeployment) -> OnDemandDeployment:
    """Let a deployment be the one of its endpoint that answers."""
    stamp = EndpointStamp(name, timestamp(run))
    changed = run.gateway.deployments.update(
        deployment, {"description": stamp.describe(text_of(deployment.description))}
    )
    return wait_until_ready(run, changed)


def set_aside(run: Run, name: EndpointName, deployment: OnDemandDeployment) -> str:
    """Stop a deployment that is given up, so that it is billed no longer, in a way that can be undone.

    Returns:
        What became of it and what to do, in words.
    """
    try:
        # It may have answered our own question a moment ago; that is no reason to keep it.
        run.gateway.deployments.delete(deployment.name, ignore_checks=True)
    except FireworksError as error:
        reason = error.message.partition(";")[0]
        return f"{deployment.name} could not be taken down ({reason}) and is billed while it is up; delete it by hand"
    return (
        f"{deployment.name} was taken down again; within seven days it can be brought back (and is billed again) with: "
        + run.commands.undelete_endpoint(name)
    )


def timestamp(run: Run) -> str:
    """Now, as it is written into descriptions."""
    return run.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")


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
        "description": EndpointStamp(name).describe(text),
    }


def _create(
    run: Run, name: EndpointName, model: Model, fields: Mapping[str, Any], *, validate_only: bool = False
) -> OnDemandDeployment:
    """Make it under the first free one of `prod`, `prod-2`, …; a softly deleted one keeps its id for seven days."""
    gateway = run.gateway.deployments
    for deployment_id in islice((name if number == 1 else f"{name}-{number}" for number in count(1)), _MOST_IDS):
        if gateway.find(deployment_id) is not None:
            continue
        try:
            return gateway.create(deployment_id, fields, validate_only=validate_only)
        except AlreadyExistsError as error:
            found = gateway.find(deployment_id)
            if found is None or found.is_gone:  # softly deleted, and not shown by every service
                continue
            # This very call's lost first try, or not.
            if EndpointStamp.read(found.description) == EndpointStamp(name) and found.base_model == model.name:
                return found
            raise ConflictError(
                f"{deployment_id} was taken by somebody else at the same moment; run the same command again"
            ) from error
    raise ConflictError(f"{name} to {name}-{_MOST_IDS} are all taken; choose another name for the endpoint")


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
        f"{problem}, and {harm}; name another shape with -C deployment_shape=, or take it all the same with "
        f"-C force=true; {set_aside(run, name, made)}"
    )


def _with_shapes(run: Run, model: Model, error: InvalidRequestError) -> InvalidRequestError:
    """A refusal of hardware, with what would fit."""
    fitting = describe_shapes(run.gateway.deployments.match_shapes(model.name))
    return error.reworded(f"{error.message}; shapes that fit (-C deployment_shape=): {fitting}") if fitting else error


def _short_name(run: Run, model: Model) -> str:
    """The id of a model of this account; the full name of another's, of which an id alone is not found."""
    return model.model_id if run.gateway.models.full_name(model.model_id) == model.name else model.name
