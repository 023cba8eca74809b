"""Who serves what: endpoints as MLflow sees them, out of Fireworks' deployments and loaded adapters.

The model of a Fireworks deployment cannot change, so an endpoint that moves to another model becomes another
deployment: `prod`, then `prod-2`, `prod-3`, … Which endpoint a deployment (or a loaded adapter) belongs to, and since
when it is the one that answers, is written into its own description, so that any machine sees the same state.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlflow_fireworks.gateway.deployments import DeploymentGateway
from mlflow_fireworks.gateway.serving_wire import (
    DEPLOYED,
    DEPLOYING,
    UPDATING,
    DeployedModel,
    OnDemandDeployment,
)
from mlflow_fireworks.gateway.wire import FAILED, READY

_NOT_YET = "no"
_STAMP = re.compile(r"Endpoint (?P<endpoint>\S+) by mlflow-fireworks: live=(?P<since>\S+)")
# Fireworks docs: a description is shorter than 1,000 characters.
_DESCRIPTION_MAX = 999


@dataclass(frozen=True)
class EndpointStamp:
    """What the plugin writes into the description of what serves.

    Args:
        endpoint: The MLflow endpoint it belongs to.
        since: When it became the one that answers (RFC 3339, UTC); empty before.
    """

    endpoint: str
    since: str = ""

    def describe(self, text: str = "") -> str:
        """The description: the user's text, then the stamp."""
        stamp = f"Endpoint {self.endpoint} by mlflow-fireworks: live={self.since or _NOT_YET}"
        return f"{text[: _DESCRIPTION_MAX - len(stamp) - 1]}\n{stamp}" if text else stamp


def read_endpoint_stamp(description: str) -> EndpointStamp | None:
    """The stamp in a description, or None when the plugin did not write it."""
    found = _STAMP.search(description)
    return EndpointStamp(found["endpoint"], found["since"].replace(_NOT_YET, "")) if found else None


def text_of(description: str) -> str:
    """The user's part of a description."""
    return _STAMP.sub("", description).strip()


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
        return read_endpoint_stamp((self.loaded or self.deployment).description)

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

    name: str
    deployments: tuple[OnDemandDeployment, ...]
    places: tuple[Place, ...]

    @property
    def is_managed(self) -> bool:
        """Whether this plugin made all of it."""
        return all(read_endpoint_stamp(deployment.description) for deployment in self.deployments)

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


def list_endpoints(gateway: DeploymentGateway) -> dict[str, Endpoint]:
    """All endpoints of the account, by name. A deployment without a stamp is one of its own."""
    return group_endpoints(gateway.list(), tuple(gateway.list_loaded()))


def group_endpoints(deployments: Iterable[OnDemandDeployment], loaded: Sequence[DeployedModel]) -> dict[str, Endpoint]:
    """Put deployments and the adapters on them together."""
    groups: dict[str, list[OnDemandDeployment]] = {}
    for deployment in deployments:
        if not deployment.is_gone:
            stamp = read_endpoint_stamp(deployment.description)
            groups.setdefault(stamp.endpoint if stamp else deployment.deployment_id, []).append(deployment)
    return {
        name: Endpoint(
            name,
            tuple(members := sorted(group, key=lambda item: item.create_time)),
            tuple(place for deployment in members for place in _places_on(deployment, loaded)),
        )
        for name, group in sorted(groups.items())
    }


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
