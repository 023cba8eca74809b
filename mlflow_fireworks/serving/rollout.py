"""From one model to the next with no gap: the new one up, proven to answer, switched to; then the old one retired."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mlflow_fireworks.endpoint_config import HARDWARE_OPTIONS
from mlflow_fireworks.errors import (
    ConflictError,
    DeadlineError,
    FailedStateError,
    FireworksError,
    InvalidConfigError,
    NotFoundError,
    UnavailableError,
)
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.gateway.stamps import EndpointStamp
from mlflow_fireworks.gateway.wire import FAILED, Model
from mlflow_fireworks.names import EndpointName, check_name, enumerate_names
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.bringup import finish, set_aside, start
from mlflow_fireworks.serving.loading import load_adapter
from mlflow_fireworks.serving.places import Endpoint, Place, describe_split, endpoint_at, find_places, list_endpoints
from mlflow_fireworks.serving.routing import Front, choose_front
from mlflow_fireworks.serving.takeover import find_left_over, retire, take_over


def bring_up(run: Run, name: EndpointName, model: Model) -> Endpoint:
    """An endpoint that serves a model and answers; it must not serve another one.

    Raises:
        ConflictError: It serves something else.
        FireworksError: One line that says what happened and what to do.
    """
    existing = list_endpoints(run.gateway).get(name)
    front = choose_front(run, name, existing)
    if existing and existing.current.state == FAILED and existing.is_managed:
        run.reporter.note(f"{existing.current.name} FAILED in an earlier attempt; replacing it")
        if not run.endpoint_config.dry_run:
            run.gateway.deployments.delete(existing.current.name, ignore_checks=True)
        existing = None
    if existing is None:
        deployment = start(run, name, model)
    elif (serving := existing.find_serving(model.name)) is not None:
        deployment = serving
    else:
        raise ConflictError(
            f"endpoint '{name}' serves {existing.current.base_model}; to move it to {model.name} without downtime: "
            + run.commands.update_endpoint(name, model=_short_name(run, model))
        )
    if run.endpoint_config.dry_run or not run.endpoint_config.wait:
        return existing or Endpoint(name, (deployment,), (Place(deployment.base_model, deployment),))
    if existing and len(existing.routed) > 1:
        run.reporter.note(f"{describe_split(existing)}; leaving it unchanged")
        finish(run, deployment)
        return existing
    return _complete(run, front, deployment, find_left_over(run, existing) if existing else ())


def _complete(
    run: Run, front: Front, deployment: OnDemandDeployment, left_over: Collection[OnDemandDeployment]
) -> Endpoint:
    """Let a deployment come up and answer at the endpoint's address; what a move has left is retired then."""
    name = front.name
    try:
        place = take_over(run, front, deployment, moving=False, beside=bool(left_over))
    except (KeyboardInterrupt, UnavailableError):
        run.reporter.warn(
            f"{deployment.name} may still start, and is billed from then on; continue with the same command, or "
            f"take it down with: {run.commands.delete_endpoint(name)}"
        )
        raise
    except (DeadlineError, FailedStateError, NotFoundError):
        raise
    except FireworksError as error:
        if (stamp := EndpointStamp.read(deployment.description)) is None or stamp.since:
            raise
        raise error.reworded(f"{error.message}; {set_aside(run, name, deployment)}") from None
    run.reporter.note(f"READY  endpoint {name} answers at {place.address}")
    retire(run, name, left_over)
    return endpoint_at(name, place)


def move_endpoint(run: Run, endpoint: Endpoint, model: Model) -> Endpoint:
    """Let an endpoint serve another model (or the same on other GPUs).

    What is already up for that model, kept from before or left by a run that was cut off, is used again.

    Args:
        run: The account and the options.
        endpoint: As it is.
        model: What it will serve.

    Raises:
        ConflictError: Adapters are loaded on it, which the new one would not have; or its router divides requests.
        FireworksError: The new one does not come up or does not answer; it is taken down, the old one still answers.
    """
    front = choose_front(run, endpoint.name, endpoint)
    _refuse_to_lose(run, endpoint)
    found = _find_up(run, endpoint, model)
    try:
        new = found or start(run, endpoint.name, model, endpoint.current)
    except FireworksError as error:
        raise error.reworded(f"{error.message}; {_still_answers(endpoint)}") from None
    if run.endpoint_config.dry_run:
        return endpoint
    old = [item for item in endpoint.deployments if item.name != new.name]
    with _cleaned_up(run, new, endpoint, is_ours=found is None):
        place = take_over(run, front, new, moving=True, beside=bool(old))
    run.reporter.note(f"endpoint {endpoint.name} now answers at {place.address} with {place.model}")
    return endpoint_at(endpoint.name, place, retire(run, endpoint.name, old))


def _refuse_to_lose(run: Run, endpoint: Endpoint) -> None:
    """Leave alone what a move would end."""
    adapters = [place.model for place in endpoint.answering if place.loaded]
    if adapters and not run.endpoint_config.force:
        raise ConflictError(
            f"moving endpoint '{endpoint.name}' would drop its adapters ({enumerate_names(adapters)}); unload them "
            "first, or move it anyway with -C force=true"
        )
    if len(endpoint.routed) > 1 and not run.endpoint_config.force:
        raise ConflictError(
            f"{describe_split(endpoint)}; point it to one of them first, or override that with -C force=true"
        )


def _find_up(run: Run, endpoint: Endpoint, model: Model) -> OnDemandDeployment | None:
    """What is already up for a model: what answers with it, else the newest; unless other GPUs are asked for."""
    if run.endpoint_config.model_fields_set & HARDWARE_OPTIONS:
        return None
    found = [item for item in endpoint.deployments if item.base_model == model.name and item.state != FAILED]
    return endpoint.find_serving(model.name) or (found[-1] if found else None)


@contextmanager
def _cleaned_up(run: Run, new: OnDemandDeployment, endpoint: Endpoint, *, is_ours: bool) -> Iterator[None]:
    """Take a new deployment down when it fails; one that was there before is left alone."""
    try:
        yield
    except KeyboardInterrupt:
        if is_ours:
            run.reporter.warn(
                f"interrupted; {new.name} may still start, and is billed from then on; resume with the same command"
            )
        raise
    except FireworksError as error:
        _take_back(run, new)
        if not is_ours:
            raise error.reworded(f"{error.message}; {_still_answers(endpoint)}") from None
        reason, advice = error.message, "run the same command again, or choose other GPUs (-C deployment_shape=)"
        if isinstance(error, DeadlineError):  # its message says what to do about GPUs that are not there any more
            reason, advice = reason.partition(";")[0], "allow more time with -C ready_timeout="
        undone = set_aside(run, endpoint.name, new)
        raise error.reworded(f"{reason}; {_still_answers(endpoint)}; {advice}; {undone}") from None


def _take_back(run: Run, new: OnDemandDeployment) -> None:
    """Let a deployment that failed after all not be the one that answers, also when it is brought back later."""
    try:
        found = run.gateway.deployments.find(new.name)
        if found and found.description != new.description and not found.is_gone:
            run.gateway.deployments.update(found, {"description": new.description})
    except FireworksError as error:
        run.reporter.warn(f"the description of {new.name} could not be changed back: {error.message}")


def _still_answers(endpoint: Endpoint) -> str:
    return f"{endpoint.current.name} still answers on endpoint '{endpoint.name}' with {endpoint.current.base_model}"


def serve_deployment(
    run: Run, name: EndpointName, model: Model, siblings: Collection[str], *, live_merge: bool, moving: bool
) -> Place:
    """Put a model of an MLflow deployment on an endpoint: a base model on GPUs, an adapter on those of its base.

    Args:
        run: The account and the options.
        name: The endpoint.
        model: The revision that is to answer.
        siblings: Full names of all revisions of the deployment.
        live_merge: Give an adapter GPUs of its own, merged into its base.
        moving: The endpoint may serve something else now.

    Returns:
        Where it answers.

    Raises:
        ConflictError: The endpoint serves something else and may not move, or is not the plugin's.
        InvalidConfigError: An adapter does not fit.
        FireworksError: It does not come up or does not answer.
    """
    endpoint = list_endpoints(run.gateway).get(name)
    merged = live_merge or (endpoint is not None and endpoint.current.base_model in siblings)
    if model.peft_details.base_model and not merged:
        if endpoint is None:
            raise InvalidConfigError(
                f"{model.name} is an adapter, and there is no endpoint '{name}' to load it on; create one with: "
                + run.commands.create_endpoint(name, model=model.peft_details.base_model, enable_addons="true")
                + ", or give the adapter its own GPUs with -C live_merge=true"
            )
        return load_adapter(run, endpoint, model, siblings)
    if endpoint is None or endpoint.current.state == FAILED or endpoint.find_serving(model.name):
        return _place_of(bring_up(run, name, model), model)
    _refuse_to_move(run, endpoint, siblings, moving=moving)
    return _place_of(move_endpoint(run, endpoint, model), model)


def check_endpoint(run: Run, name: EndpointName, siblings: Collection[str]) -> None:
    """Say what is wrong with an endpoint before the bytes of a model are sent, as far as that is known before.

    Raises:
        InvalidConfigError: Its name cannot be one, or it cannot have the router that is asked for.
        ConflictError: It serves something else and takes no adapters, so nothing of this deployment could go there.
        LimitError: It is not up, and the run may not start it.
    """
    check_name(name)
    endpoint = list_endpoints(run.gateway).get(name)
    choose_front(run, name, endpoint)
    if endpoint is None or endpoint.current.state == FAILED:
        run.permit.check(run, name)
        return
    if not (endpoint.current.enable_addons or endpoint.current.enable_hot_reload_latest_addon):
        _refuse_to_move(run, endpoint, siblings, moving=True)


def _refuse_to_move(run: Run, endpoint: Endpoint, siblings: Collection[str], *, moving: bool) -> None:
    if run.endpoint_config.force:
        return
    if not endpoint.is_managed:
        raise ConflictError(
            f"endpoint '{endpoint.name}' was not created by this plugin; move it anyway with -C force=true"
        )
    if not (moving and endpoint.current.base_model in siblings):
        raise ConflictError(
            f"endpoint '{endpoint.name}' serves {endpoint.current.base_model}; choose another one, or move it "
            "with -C force=true"
        )


def _place_of(endpoint: Endpoint, model: Model) -> Place:
    """Where an endpoint answers with a model; with a dry run, where it answers now."""
    return next((place for place in find_places([endpoint], {model.name})), endpoint.answering[0])


def _short_name(run: Run, model: Model) -> str:
    """The id of a model of this account; the full name of another's, of which an id alone is not found."""
    return model.model_id if run.gateway.models.full_name(model.model_id) == model.name else model.name
