"""From one model to the next with no gap: the new one up, proven to answer, switched to; then the old one retired."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mlflow_fireworks.errors import ConflictError, DeadlineError, FireworksError, InvalidConfigError
from mlflow_fireworks.gateway.serving_wire import DeployedModel, OnDemandDeployment
from mlflow_fireworks.gateway.stamps import EndpointStamp
from mlflow_fireworks.gateway.wire import FAILED, Model
from mlflow_fireworks.names import EndpointName, check_name, enumerate_names
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.bringup import bring_up, finish, make_live, set_aside, start, timestamp
from mlflow_fireworks.serving.places import Endpoint, Place, list_endpoints
from mlflow_fireworks.serving.readiness import prove, wait_until_loaded

# Fireworks docs, "deploying LoRAs": adapters cannot be loaded on these.
_QUANTIZED = ("FP8", "FP4", "NF4")


def move_endpoint(run: Run, endpoint: Endpoint, model: Model) -> Endpoint:
    """Let an endpoint serve another model (or the same on other GPUs).

    What is already up for that model, kept from before or left by a run that was cut off, is used again.

    Args:
        run: The account and the options.
        endpoint: As it is.
        model: What it will serve.

    Raises:
        ConflictError: Adapters are loaded on it, which the new one would not have.
        FireworksError: The new one does not come up or does not answer; it is taken down, the old one still answers.
    """
    current = endpoint.current
    adapters = [place.model for place in endpoint.answering if place.loaded]
    if adapters and not run.endpoint_config.force:
        raise ConflictError(
            f"{enumerate_names(adapters)} would be lost: loaded on endpoint '{endpoint.name}', which is about to move "
            "to other GPUs; unload them first, or move all the same with -C force=true"
        )
    reusable = () if run.endpoint_config.hardware or run.endpoint_config.deployment_shape else endpoint.deployments
    found = [item for item in reusable if item.base_model == model.name and item.state != FAILED]
    try:
        new = found[-1] if found else start(run, endpoint.name, model, current)
    except FireworksError as error:
        raise error.reworded(f"{error.message}; {_still_answers(endpoint)}") from None
    if run.endpoint_config.dry_run:
        return endpoint
    with _cleaned_up(run, new, endpoint, is_ours=not found):
        finish(run, new)
        # Asked once more, because nothing says that changing the description leaves Fireworks' routing alone.
        new = finish(run, make_live(run, endpoint.name, new))
    run.reporter.note(f"endpoint {endpoint.name} now answers at {new.base_model}#{new.name}")
    old = [item for item in endpoint.deployments if item.name != new.name]
    _retire(run, old)
    kept = (*old, new) if run.endpoint_config.keep_previous else (new,)
    return Endpoint(endpoint.name, kept, tuple(Place(item.base_model, item) for item in kept))


def load_adapter(run: Run, endpoint: Endpoint, adapter: Model, siblings: Collection[str]) -> Place:
    """Load an adapter on an endpoint, prove that it answers, then unload the revisions that it takes the place of.

    Args:
        run: The account and the options.
        endpoint: What serves its base model.
        adapter: The adapter.
        siblings: Full names of all revisions of its deployment.

    Raises:
        InvalidConfigError: The endpoint cannot take it.
        FireworksError: It does not load or does not answer; it is unloaded, the old one still answers.
    """
    deployment = endpoint.current
    check_fit(adapter, deployment, endpoint.name)
    place = next((place for place in endpoint.answering if place.model == adapter.name), None)
    if run.endpoint_config.dry_run:
        run.reporter.note(f"DRY RUN  {adapter.name} would be loaded on {deployment.name}")
        return place or Place(adapter.name, deployment)
    loaded = place.loaded if place and place.loaded else _load(run, endpoint, adapter)
    try:
        loaded = wait_until_loaded(run, loaded)
        prove(run, Place(adapter.name, deployment, loaded))
    except FireworksError:
        if place is None:
            run.gateway.adapters.unload(loaded)
            run.reporter.warn(f"{adapter.name} was unloaded again; what {endpoint.name} served before still answers")
        raise
    loaded = run.gateway.adapters.describe(loaded, EndpointStamp(endpoint.name, timestamp(run)).describe())
    new = Place(adapter.name, deployment, loaded)
    run.reporter.note(f"{adapter.name} answers at {new.address}")
    if not run.endpoint_config.keep_previous:
        for old in endpoint.answering:
            if old.loaded and old.stamp and old.model in siblings and old.model != adapter.name:
                run.gateway.adapters.unload(old.loaded)
                run.reporter.note(f"unloaded {old.model}")
    return new


def check_fit(adapter: Model, deployment: OnDemandDeployment, endpoint: EndpointName) -> None:
    """Fireworks' rules for adapters on a deployment (docs, "deploying LoRAs").

    Raises:
        InvalidConfigError: With what to do.
    """
    base = adapter.peft_details.base_model
    problem = ""
    if base != deployment.base_model:
        problem = f"it serves {deployment.base_model}, and the adapter belongs to {base}"
    elif not (deployment.enable_addons or deployment.enable_hot_reload_latest_addon):
        problem = "it was made without -C enable_addons=true"
    elif deployment.precision.startswith(_QUANTIZED):
        problem = f"it runs in {deployment.precision}, and adapters need BF16 or FP16"
    if problem:
        raise InvalidConfigError(
            f"{adapter.name} cannot be loaded on endpoint '{endpoint}': {problem}; make one for it with "
            f"-C model={base} -C enable_addons=true -C precision=BF16, or give the adapter GPUs of its own with "
            "-C live_merge=true and another endpoint name"
        )


def _load(run: Run, endpoint: Endpoint, adapter: Model) -> DeployedModel:
    deployment = endpoint.current
    run.reporter.note(f"loading {adapter.name} on {deployment.name}")
    return run.gateway.adapters.load(
        adapter.name,
        deployment.name,
        EndpointStamp(endpoint.name).describe(),
        replace_merged=deployment.enable_hot_reload_latest_addon,
    )


def _retire(run: Run, old: list[OnDemandDeployment]) -> None:
    for deployment in old:
        if run.endpoint_config.keep_previous:
            run.reporter.warn(f"{deployment.name} is kept running, and billed while it is up")
        else:
            # It has answered requests until a moment ago; that is no reason to keep it.
            run.gateway.deployments.delete(deployment.name, ignore_checks=True)
            run.reporter.note(f"retired {deployment.name}")


@contextmanager
def _cleaned_up(run: Run, new: OnDemandDeployment, endpoint: Endpoint, *, is_ours: bool) -> Iterator[None]:
    """Take a new deployment down when it fails; one that was there before is left alone."""
    try:
        yield
    except KeyboardInterrupt:
        if is_ours:
            run.reporter.warn(f"stopped; {new.name} may still come up and is billed then; the same command goes on")
        raise
    except FireworksError as error:
        _take_back(run, new)
        if not is_ours:
            raise error.reworded(f"{error.message}; {_still_answers(endpoint)}") from None
        reason, advice = error.message, "run the same command again, or with other GPUs (-C deployment_shape=)"
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
                f"{model.name} is an adapter, and there is no endpoint '{name}' to load it on; make it with: "
                + run.commands.create_endpoint(name, model=model.peft_details.base_model, enable_addons="true")
                + ", or give the adapter GPUs of its own with -C live_merge=true"
            )
        return load_adapter(run, endpoint, model, siblings)
    if endpoint is None or endpoint.current.state == FAILED or endpoint.current.base_model == model.name:
        return _place_of(bring_up(run, name, model))
    _refuse_to_move(run, endpoint, siblings, moving=moving)
    return _place_of(move_endpoint(run, endpoint, model))


def check_endpoint(run: Run, name: EndpointName, siblings: Collection[str]) -> None:
    """Say what is wrong with an endpoint before the bytes of a model are sent, as far as that is known before.

    Raises:
        InvalidConfigError: Its name cannot be one.
        ConflictError: It serves something else and takes no adapters, so nothing of this deployment could go there.
        LimitError: It is not up, and the run may not start it.
    """
    check_name(name)
    endpoint = list_endpoints(run.gateway).get(name)
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
            f"endpoint '{endpoint.name}' was not made by this plugin; move it all the same with -C force=true"
        )
    if not (moving and endpoint.current.base_model in siblings):
        raise ConflictError(
            f"endpoint '{endpoint.name}' serves {endpoint.current.base_model}; choose another one, or move it "
            "with -C force=true"
        )


def _place_of(endpoint: Endpoint) -> Place:
    return Place(endpoint.current.base_model, endpoint.current)
