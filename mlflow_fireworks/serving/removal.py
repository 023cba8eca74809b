"""Taking models off GPUs, so that they can be deleted."""

from collections.abc import Collection

from mlflow_fireworks.errors import ConflictError, InUseError, InvalidConfigError
from mlflow_fireworks.gateway.serving_wire import DELETED
from mlflow_fireworks.names import DeploymentName, EndpointName, enumerate_names
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.endpoints import delete_router, refuse_unmanaged, take_down
from mlflow_fireworks.serving.places import Endpoint, Place, find_places, list_endpoints
from mlflow_fireworks.waiting import Pending

_LONGEST_GOODBYE_SECONDS = 300.0


def stop_serving(
    run: Run, name: DeploymentName, models: Collection[str], *, cascade: bool, endpoint: EndpointName | None = None
) -> None:
    """Make sure that nothing serves the models of a deployment.

    Args:
        run: The account and the options.
        name: The deployment, for messages.
        models: Full names of all its revisions.
        cascade: Take down what serves them.
        endpoint: Look only at this endpoint; at all when None.

    Raises:
        InUseError: Something serves them, and `cascade` is not set; all of it is named.
        ConflictError: What serves them is not the plugin's, or serves others too, and `force` is not set.
    """
    endpoints = list_endpoints(run.gateway)
    if endpoint:
        endpoints = {key: found for key, found in endpoints.items() if key == endpoint}
    places = find_places(endpoints.values(), models)
    if not places:
        return
    owners = [_owner(endpoints.values(), place) for place in places]
    if not cascade:
        shown = enumerate_names(
            f"{place.model} on endpoint {owner.name}" for place, owner in zip(places, owners, strict=True)
        )
        raise InUseError(
            f"deployment '{name}' still serves: {shown}; to take that down first: "
            + run.commands.delete(name, cascade="true")
        )
    for place, owner in zip(places, owners, strict=True):
        refuse_unmanaged(run, owner, "delete")
        _refuse_shared(run, owner, place, models)
    for owner in {owner.name: owner for owner in owners}.values():
        _lead_away(run, owner, {place.deployment.name for place in places if place.loaded is None})
    for place in places:
        take_off(run, place)
    _wait_until_gone(run, places)


def take_adapter_off(run: Run, name: DeploymentName, models: Collection[str], endpoint: Endpoint) -> None:
    """Unload the adapters of a deployment from one endpoint; the models stay.

    Raises:
        InvalidConfigError: The endpoint is there for the model itself.
    """
    places = find_places([endpoint], models)
    if any(place.loaded is None for place in places):
        raise InvalidConfigError(
            f"endpoint '{endpoint.name}' only serves '{name}'; take it down with: "
            + run.commands.delete_endpoint(endpoint.name)
        )
    if not places:
        run.reporter.note(f"'{name}' is not on endpoint '{endpoint.name}'; nothing to remove")
    for place in places:
        take_off(run, place)
    _wait_until_gone(run, places)


def take_off(run: Run, place: Place) -> None:
    """Unload an adapter, or take the GPUs of a model down."""
    if place.loaded is None:
        take_down(run, place.deployment)
        return
    run.gateway.adapters.unload(place.loaded)
    run.reporter.note(f"unloaded {place.model} from {place.deployment.name}")


def _owner(endpoints: Collection[Endpoint], place: Place) -> Endpoint:
    """What a place was made for; a router of somebody else may lead there, too."""
    return max(
        (item for item in endpoints if place.deployment.name in {found.deployment.name for found in item.places}),
        key=lambda item: place.deployment.name in {own.name for own in item.deployments},
    )


def _lead_away(run: Run, owner: Endpoint, going: Collection[str]) -> None:
    """Let the router of an endpoint lead to what remains of it; without anything, it goes."""
    targets = [item.name for item in owner.routed]
    rest = [target for target in targets if target not in going]
    if owner.router and not rest and targets:
        delete_router(run, owner.router)
    elif owner.router and len(rest) < len(targets):
        run.gateway.routers.update(owner.router, rest, owner.router.display_name)


def _refuse_shared(run: Run, owner: Endpoint, place: Place, models: Collection[str]) -> None:
    """An endpoint of a base model may carry adapters of other deployments."""
    if place.loaded or run.endpoint_config.force:
        return
    others = [other.model for other in owner.places if other.loaded and other.model not in models]
    if others:
        raise ConflictError(
            f"endpoint '{owner.name}' also serves {enumerate_names(others)}; unload them first, or take everything "
            "down with -C force=true"
        )


def _wait_until_gone(run: Run, places: list[Place]) -> None:
    def look() -> bool | Pending:
        for place in places:
            if place.loaded:
                left = run.gateway.adapters.find(place.loaded.name) is not None
            else:
                found = run.gateway.deployments.find(place.deployment.name)
                left = found is not None and found.state != DELETED
            if left:
                return Pending(f"{place.address} is not down yet")
        return True

    limit = format_seconds(_LONGEST_GOODBYE_SECONDS)
    run.waiter.wait(
        look, _LONGEST_GOODBYE_SECONDS, lambda reason: f"{reason} after {limit}; run the same command again"
    )
