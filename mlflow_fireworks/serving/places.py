"""Who serves what: endpoints as MLflow sees them, out of Fireworks' deployments, loaded adapters and routers.

The model of a Fireworks deployment cannot change, so an endpoint that moves to another model becomes another
deployment: `prod`, then `prod-2`, `prod-3`, … Which endpoint a deployment (or a loaded adapter) belongs to is written
into its own description, so that any machine sees the same state. Which of them answers is what the router of the
endpoint's name says; where there is none, the one that was the last to be written down as live.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlflow_fireworks.errors import NotFoundError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.gateway.serving_wire import (
    DEPLOYED,
    DEPLOYING,
    UPDATING,
    DeployedModel,
    OnDemandDeployment,
    Router,
)
from mlflow_fireworks.gateway.stamps import EndpointStamp, RouterStamp
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
        router: Full name of the router that leads here; empty where none does. Nothing says how an adapter could be
            reached by way of a router.
    """

    model: str
    deployment: OnDemandDeployment
    loaded: DeployedModel | None = None
    router: str = ""

    @property
    def stamp(self) -> EndpointStamp | None:
        """What the plugin wrote on it."""
        return EndpointStamp.read((self.loaded or self.deployment).description)

    @property
    def address(self) -> str:
        """The `model` of a request to it, always fully qualified: short forms reach nothing on a fresh deployment."""
        return self.router or f"{self.model}#{self.deployment.name}"

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
class Share:
    """What part of an endpoint's requests a deployment gets.

    Args:
        deployment: The deployment.
        part: Between 0 and 1; None where it follows the load, or nothing is up.
    """

    deployment: OnDemandDeployment
    part: float | None


@dataclass(frozen=True)
class Endpoint:
    """All deployments of one name, oldest first, and its router; one of the two is always there.

    Args:
        name: Its name, and that of its router.
        deployments: What was made for it.
        places: What runs on those, and on what its router leads to.
        router: The router of its name.
        routed: What the router leads to, as far as it is there. Somebody may have it lead to deployments that are not
            the endpoint's.
    """

    name: EndpointName
    deployments: tuple[OnDemandDeployment, ...]
    places: tuple[Place, ...]
    router: Router | None = None
    routed: tuple[OnDemandDeployment, ...] = ()

    @property
    def is_managed(self) -> bool:
        """Whether this plugin made all of it."""
        if self.router and RouterStamp.read(self.router.display_name) is None:
            return False
        stamps = [EndpointStamp.read(item.description) for item in (*self.deployments, *self.routed)]
        return all(stamp is not None and stamp.endpoint == self.name for stamp in stamps)

    @property
    def current(self) -> OnDemandDeployment:
        """The deployment that answers; before any does, the newest."""
        if self.routed:
            return max(self.routed, key=_since)
        live = [item for item in self.deployments if _since(item) and item.state != FAILED]
        return max(live, key=_since) if live else self.deployments[-1]

    @property
    def answering(self) -> tuple[Place, ...]:
        """What the current deployment serves: its own model first, then its adapters."""
        return tuple(place for place in self.places if place.deployment.name == self.current.name)

    @property
    def unused(self) -> tuple[OnDemandDeployment, ...]:
        """Its deployments that no request to it reaches; they are billed all the same."""
        used = {item.name for item in (*self.routed, self.current)}
        return tuple(item for item in self.deployments if item.name not in used)

    @property
    def shares(self) -> tuple[Share, ...]:
        """What the router leads to, with the part of each: every replica gets as much (docs, "routers")."""
        replicas = {item.name: item.replica_count for item in self.routed if item.state in (READY, UPDATING)}
        total = sum(replicas.values())
        told = self.router is not None and self.router.even_load is None and total > 0
        return tuple(Share(item, replicas.get(item.name, 0) / total if told else None) for item in self.routed)

    def find_serving(self, model: str) -> OnDemandDeployment | None:
        """What answers requests to the endpoint with a model; None where something else does."""
        return next((item for item in self.routed or (self.current,) if item.base_model == model), None)


def _since(deployment: OnDemandDeployment) -> str:
    return Place("", deployment).since


def list_endpoints(gateway: Gateway) -> dict[EndpointName, Endpoint]:
    """All endpoints of the account, by name. A deployment without a stamp is one of its own."""
    return group_endpoints(gateway.deployments.list(), tuple(gateway.adapters.list()), gateway.routers.list() or ())


def pick_endpoint(run: Run, name: EndpointName, endpoints: Mapping[EndpointName, Endpoint]) -> Endpoint:
    """One endpoint of all.

    Raises:
        NotFoundError: There is none of that name; says which there are, and the command that makes it.
    """
    if name not in endpoints:
        known = f"there are {enumerate_names(endpoints)}" if endpoints else "there are none"
        next_step = did_you_mean(name, endpoints) or (
            f"create it with: {run.commands.create_endpoint(name, model='DEPLOYMENT')}"
        )
        raise NotFoundError(f"there is no endpoint '{name}' on account {run.gateway.account} ({known}); {next_step}")
    return endpoints[name]


def group_endpoints(
    deployments: Iterable[OnDemandDeployment], loaded: Sequence[DeployedModel], routers: Iterable[Router]
) -> dict[EndpointName, Endpoint]:
    """Put deployments, the adapters on them and the routers in front of them together.

    Routers that Fireworks made by itself say nothing new, nor do those that lead to nothing.
    """
    living = {item.name: item for item in deployments if not item.is_gone}
    groups: dict[EndpointName, list[OnDemandDeployment]] = {}
    for deployment in living.values():
        groups.setdefault(endpoint_of(deployment), []).append(deployment)
    in_front = {EndpointName(router.router_id): router for router in routers if not router.auto_generated}
    found = {}
    for name in sorted({*groups, *in_front}):
        own, router = sorted(groups.get(name, ()), key=lambda item: item.create_time), in_front.get(name)
        routed = tuple(living[target] for target in router.deployments if target in living) if router else ()
        led = {item.name: router.name for item in routed} if router else {}
        members = {item.name: item for item in (*own, *routed)}
        places = [place for item in members.values() for place in _places_on(item, loaded, led.get(item.name, ""))]
        if members:
            found[name] = Endpoint(name, tuple(own), tuple(places), router, routed)
    return found


def endpoint_of(deployment: OnDemandDeployment) -> EndpointName:
    """The endpoint that a deployment belongs to; one without a stamp is one of its own."""
    stamp = EndpointStamp.read(deployment.description)
    return stamp.endpoint if stamp else EndpointName(deployment.deployment_id)


def _places_on(deployment: OnDemandDeployment, loaded: Sequence[DeployedModel], router: str) -> list[Place]:
    """Fireworks also lists a deployment's own model as loaded; that entry says nothing new."""
    adapters = [
        Place(item.model, deployment, item)
        for item in loaded
        if item.deployment == deployment.name
        and item.model != deployment.base_model
        and item.state in (DEPLOYED, DEPLOYING)
    ]
    return [Place(deployment.base_model, deployment, router=router), *adapters]


def endpoint_at(name: EndpointName, place: Place, others: Iterable[OnDemandDeployment] = ()) -> Endpoint:
    """An endpoint that answers at a place, as it is once that has been arranged.

    Args:
        name: Its name.
        place: Where it answers.
        others: Its deployments that are up beside it.
    """
    led = (place.deployment,) if place.router else ()
    stamp = RouterStamp().describe()
    router = Router(name=place.router, display_name=stamp, deployments=(place.deployment.name,)) if led else None
    return Endpoint(name, (*others, place.deployment), (place,), router, led)


def describe_split(endpoint: Endpoint) -> str:
    """Which deployments the requests to an endpoint are divided among, in words."""
    parts = enumerate_names(
        f"{share.deployment.deployment_id} ({share.deployment.base_model}, "
        + (f"{share.part:.0%})" if share.part is not None else "by load)")
        for share in endpoint.shares
    )
    return f"router '{endpoint.name}' splits requests between {parts}"


def find_places(endpoints: Iterable[Endpoint], models: Iterable[str]) -> list[Place]:
    """Where any of these models is served, the one that answers now first.

    A router that also leads to other models is no address of these: each is reached at its own.

    Args:
        endpoints: All endpoints of the account.
        models: Full names, such as those of all revisions of a deployment.
    """
    wanted = set(models)
    found = []
    for endpoint in endpoints:
        shared = any(item.base_model not in wanted for item in endpoint.routed)
        for place in endpoint.places:
            if place.model in wanted:
                rank = place.can_answer, bool(place.router), place.since
                found.append((rank, replace(place, router="") if shared else place))
    return [place for _, place in sorted(found, key=lambda item: item[0], reverse=True)]
