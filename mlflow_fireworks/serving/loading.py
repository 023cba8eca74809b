"""Adapters on the GPUs of their base: loaded, proven to answer, and only then in the place of the one before.

An adapter is addressed as `model#deployment`: that is the only form that is documented, so its address changes when the
endpoint moves to other GPUs, also where the endpoint has a router. A guess such as `model#router` could be answered by
the base model, and nobody would notice.
"""

from collections.abc import Collection

from mlflow_fireworks.errors import FireworksError, InvalidConfigError
from mlflow_fireworks.gateway.serving_wire import DeployedModel, OnDemandDeployment
from mlflow_fireworks.gateway.stamps import EndpointStamp
from mlflow_fireworks.gateway.wire import Model
from mlflow_fireworks.names import EndpointName
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.places import Endpoint, Place
from mlflow_fireworks.serving.readiness import prove, wait_until_loaded
from mlflow_fireworks.serving.takeover import timestamp

# Fireworks docs, "deploying LoRAs": adapters cannot be loaded on these.
_QUANTIZED = ("FP8", "FP4", "NF4")


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
            run.reporter.warn(
                f"{adapter.name} was unloaded again; endpoint {endpoint.name} still serves what it served before"
            )
        raise
    loaded = run.gateway.adapters.describe(loaded, EndpointStamp(endpoint.name, timestamp(run)).describe())
    new = Place(adapter.name, deployment, loaded)
    run.reporter.note(f"{adapter.name} answers at {new.address}")
    if endpoint.router:
        run.reporter.note("a router cannot name an adapter: that address changes when the endpoint moves to other GPUs")
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
        problem = "it was created without -C enable_addons=true"
    elif deployment.precision.startswith(_QUANTIZED):
        problem = f"it runs in {deployment.precision}, but adapters need BF16 or FP16"
    if problem:
        raise InvalidConfigError(
            f"{adapter.name} cannot be loaded on endpoint '{endpoint}': {problem}; create one for it "
            f"with -C model={base} -C enable_addons=true -C precision=BF16, or give the adapter its own GPUs with "
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
