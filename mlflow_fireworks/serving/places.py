"""Who serves what: endpoints as MLflow sees them, out of Fireworks' deployments and loaded adapters.

The model of a Fireworks deployment cannot change, so an endpoint that moves to another model becomes another
deployment: `prod`, then `prod-2`, `prod-3`, … Which endpoint a deployment (or a loaded adapter) belongs to, and since
when it is the one that answers, is written into its own description, so that any machine sees the same state.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlflow_fireworks.errors import NotFoundError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.gateway.serving_wire import (
    DEPLOYED,
    DEPLOYING,
    UPDATING,
    DeployedModel,
    OnDemandDeployment,
)
from mlflow_fireworks.gateway.stamps import EndpointStamp
from mlflow_fireworks.gateway.wire import FAILED, READY
from mlflow_fireworks.names import EndpointName, did_you_mean, enumerate_names
from mlflow_fireworks.run import Run


@dataclass(frozen=True)
class Place:
    """One model on GPUs.

    Args:
        model: Full name of the model or adapter.
        deployment: The GPUs.
        loaded: The adapter's entry; None for the deployment's own model.
    """

    model: str
    deployment: OnDemandDeployment
    loaded: DeployedModel | None = None

    @property
    def stamp(self) -> EndpointStamp | None:
        """What the plugin wrote on it."""
        return EndpointStamp.read((self.loaded or self.deployment).description)

    @property
    def address(self) -> str:
        """The `model` of a request to it, always fully qualified: short forms reach nothing on a fresh deployment."""
        return f"{self.model}#{self.deployment.name}"

    @property
    def can_answer(self) -> bool:
        """Whether Fireworks says that it is up, or wakes up when it is asked."""
        up = self.deployment.state in (READY, UPDATING)
        return up and (self.loaded is None or self.loaded.state == DEPLOYED)

    @property
    def since(self) -> str:
        """When it became the one that answers; what others made counts from its creation."""
        return self.stamp.since if self.stamp else (self.loaded or self.deployment).create_time


@dataclass(frozen=True)
class Endpoint:
    """All deployments of one name, oldest first; never empty."""

    name: EndpointName
    deployments: tuple[OnDemandDeployment, ...]
    places: tuple[Place, ...]

    @property
    def is_managed(self) -> bool:
        """Whether this plugin made all of it."""
        return all(EndpointStamp.read(deployment.description) for deployment in self.deployments)

    @property
    def current(self) -> OnDemandDeployment:
        """The deployment that answers; before any does, the newest."""
        live = [item for item in self.deployments if _since(item) and item.state != FAILED]
        return max(live, key=_since) if live else self.deployments[-1]

    @property
    def answering(self) -> tuple[Place, ...]:
        """What the current deployment serves: its own model first, then its adapters."""
        return tuple(place for place in self.places if place.deployment.name == self.current.name)


def _since(deployment: OnDemandDeployment) -> str:
    return Place("", deployment).since


def list_endpoints(gateway: Gateway) -> dict[EndpointName, Endpoint]:
    """All endpoints of the account, by name. A deployment without a stamp is one of its own."""
    return group_endpoints(gateway.deployments.list(), tuple(gateway.adapters.list()))


def pick_endpoint(run: Run, name: EndpointName, endpoints: Mapping[EndpointName, Endpoint]) -> Endpoint:
    """One endpoint of all.

    Raises:
        NotFoundError: There is none of that name; says which there are, and the command that makes it.
    """
    if name not in endpoints:
        known = f"there are {enumerate_names(endpoints)}" if endpoints else "there are none"
        next_step = did_you_mean(name, endpoints) or (
            f"make it with: {run.commands.create_endpoint(name, model='DEPLOYMENT')}"
        )
        raise NotFoundError(f"there is no endpoint '{name}' on account {run.gateway.account} ({known}); {next_step}")
    return endpoints[name]


def group_endpoints(
    deployments: Iterable[OnDemandDeployment], loaded: Sequence[DeployedModel]
) -> dict[EndpointName, Endpoint]:
    """Put deployments and the adapters on them together."""
    groups: dict[EndpointName, list[OnDemandDeployment]] = {}
    for deployment in deployments:
        if not deployment.is_gone:
            groups.setdefault(endpoint_of(deployment), []).append(deployment)
    return {
        name: Endpoint(
            name,
            tuple(members := sorted(group, key=lambda item: item.create_time)),
            tuple(place for deployment in members for place in _places_on(deployment, loaded)),
        )
        for name, group in sorted(groups.items())
    }


def endpoint_of(deployment: OnDemandDeployment) -> EndpointName:
    """The endpoint that a deployment belongs to; one without a stamp is one of its own."""
    stamp = EndpointStamp.read(deployment.description)
    return stamp.endpoint if stamp else EndpointName(deployment.deployment_id)


def _places_on(deployment: OnDemandDeployment, loaded: Sequence[DeployedModel]) -> list[Place]:
    """Fireworks also lists a deployment's own model as loaded; that entry says nothing new."""
    adapters = [
        Place(item.model, deployment, item)
        for item in loaded
        if item.deployment == deployment.name
        and item.model != deployment.base_model
        and item.state in (DEPLOYED, DEPLOYING)
    ]
    return [Place(deployment.base_model, deployment), *adapters]


def find_places(endpoints: Iterable[Endpoint], models: Iterable[str]) -> list[Place]:
    """Where any of these models is served, the one that answers now first.

    Args:
        endpoints: All endpoints of the account.
        models: Full names, such as those of all revisions of a deployment.
    """
    wanted = set(models)
    found = [place for endpoint in endpoints for place in endpoint.places if place.model in wanted]
    return sorted(found, key=lambda place: (place.can_answer, bool(place.since), place.since), reverse=True)
