"""The address of an endpoint that never changes: a Fireworks router of its name, pointed to what is to answer.

One call points a router elsewhere. How soon all requests follow is not documented: what it pointed to before stays up
until they are seen to have followed, and for a while longer.
"""

from contextlib import suppress
from dataclasses import dataclass

from mlflow_fireworks.endpoint_config import HARDWARE_OPTIONS
from mlflow_fireworks.errors import (
    AlreadyExistsError,
    BusyError,
    ConflictError,
    FireworksError,
    InvalidConfigError,
    UnavailableError,
)
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment, Router
from mlflow_fireworks.gateway.stamps import EndpointStamp, RouterStamp
from mlflow_fireworks.http import is_loopback
from mlflow_fireworks.names import EndpointName
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.places import Endpoint, Place
from mlflow_fireworks.serving.readiness import prove
from mlflow_fireworks.waiting import Pending

# Users saw up to four minutes between READY and the first routed request; of routers nothing is known.
_LAG_SECONDS = 300.0
_LONGEST_SILENCE_SECONDS = 900.0
_MADE_BY_FIREWORKS = "Fireworks itself has created one with that name, which cannot be changed"


@dataclass(frozen=True)
class Front:
    """Whether an endpoint is reached by way of a router.

    Args:
        name: The endpoint, and its router.
        wanted: Whether it has one, or gets one.
        why_none: Why not, where nobody has asked for that.
    """

    name: EndpointName
    wanted: bool
    why_none: str = ""


def choose_front(run: Run, name: EndpointName, endpoint: Endpoint | None) -> Front:
    """Decide whether an endpoint is reached by way of a router, before anything is started.

    Args:
        run: The account and the options.
        name: The endpoint.
        endpoint: As it is; None when there is none yet.

    Raises:
        ConflictError: Somebody else made the router of that name, and `force` is not set.
        InvalidConfigError: The options ask for what cannot be, or would take away the address that clients use.
    """
    routers, option = run.gateway.routers.list(), run.endpoint_config.router
    router = next((item for item in routers or () if item.router_id == name), None)
    is_own = router is not None and RouterStamp.read(router.display_name) is not None
    if router and not is_own and not router.auto_generated and not run.endpoint_config.force:
        raise ConflictError(
            f"there is a router '{name}' that this plugin did not create; choose another name for the endpoint, "
            "or take "
            "the router over with -C force=true"
        )
    refused = f"endpoint '{name}' has the address {router.name}, which would be lost" if router and is_own else ""
    if is_direct(run, endpoint.current if endpoint else None):
        if refused:
            raise InvalidConfigError(f"{refused}; omit -C router=false, or choose another endpoint name")
        return Front(name, wanted=False)
    why_none = ""
    if routers is None:
        why_none = f"{run.gateway.transport.host} has none"
    elif router and router.auto_generated:
        why_none = _MADE_BY_FIREWORKS
    elif not _is_multi_region(run, endpoint):
        why_none = "routers only work with multi-region placements, such as -C placement=GLOBAL"
        if refused and endpoint and endpoint.routed:
            raise InvalidConfigError(f"{refused}: {why_none}; choose another endpoint name")
    if why_none and option == "true":
        raise InvalidConfigError(f"endpoint '{name}' cannot have a router: {why_none}; omit -C router=true")
    return Front(name, not why_none, why_none)


def is_direct(run: Run, deployment: OnDemandDeployment | None) -> bool:
    """Whether somebody wants no router: the options of this run, or of the one that made what answers now."""
    if run.endpoint_config.router != "auto":
        return run.endpoint_config.router == "false"
    stamp = EndpointStamp.read(deployment.description) if deployment else None
    return stamp is not None and stamp.direct


def lead_to(run: Run, front: Front, new: OnDemandDeployment, *, beside: bool) -> Place:
    """Point the router of an endpoint to a deployment that is up, and see that requests follow.

    Args:
        run: The account and the options.
        front: What `choose_front` said.
        new: What is to answer.
        beside: Whether something else of the endpoint is up, which goes afterwards.

    Returns:
        Where it answers: at the router, or at its own address where there can be none after all.

    Raises:
        FireworksError: It does not answer by way of the router, which points where it pointed before.
    """
    direct = Place(new.base_model, new)
    if not front.wanted:
        _tell_none(run, front.name, front.why_none)
        return direct
    place = Place(new.base_model, new, router=run.gateway.routers.full_name(front.name))
    before = run.gateway.routers.find(front.name)
    if before and before.auto_generated:
        _tell_none(run, front.name, _MADE_BY_FIREWORKS)
        return direct
    is_there = before is not None and before.deployments == (new.name,)
    if is_there and not beside:
        return place
    may_do_without = before is None and run.endpoint_config.router == "auto"
    try:
        if not is_there:
            _point(run, front.name, before, new)
        if new.max_replica_count:
            first_limit = min(run.endpoint_config.ready_timeout, _LONGEST_SILENCE_SECONDS)
            _follow(run, place, *((_lag_of(run), None) if before else (0.0, first_limit)))
    except FireworksError as error:
        if not is_there:
            _point_back(run, front.name, before)
        if may_do_without and not isinstance(error, ConflictError | BusyError | UnavailableError):
            _tell_none(run, front.name, error.message)
            return direct
        raise
    return place


def _tell_none(run: Run, name: EndpointName, why: str) -> None:
    if why:
        run.reporter.note(f"endpoint {name} has no router ({why}): its address changes when it moves to another model")


def _point(run: Run, name: EndpointName, before: Router | None, new: OnDemandDeployment) -> None:
    display_name = RouterStamp(run.endpoint_config.keep_previous).describe()
    if before is None:
        try:
            run.gateway.routers.create(name, [new.name], display_name)
        except AlreadyExistsError:  # this very call's lost first try, or not
            found = run.gateway.routers.find(name)
            if found is None or found.deployments != (new.name,) or RouterStamp.read(found.display_name) is None:
                raise ConflictError(
                    f"router '{name}' was just taken by someone else; run the same command again"
                ) from None
    else:
        run.gateway.routers.update(before, [new.name], display_name)
    run.reporter.note(f"router {name} points to {new.deployment_id}")


def _follow(run: Run, place: Place, lag: float, limit: float | None) -> None:
    """Ask by way of the router until all that is known says that requests reach the new deployment.

    Where answers tell which deployment they come from, none may have come from another one for as long as routing may
    lag; where they do not tell, that time must have passed.

    Args:
        run: The account and the options.
        place: The deployment, and the router that leads to it.
        lag: How long routing may lag, in seconds.
        limit: Longest wait for one answer, in seconds; `ready_timeout` when None.
    """
    quiet_since = run.waiter.clock()

    def look() -> bool | Pending:
        nonlocal quiet_since
        reached = prove(run, place, limit)
        if reached not in ("", place.deployment.name):
            quiet_since = run.waiter.clock()
            return Pending(f"requests to {place.router} still reach {reached}")
        if run.waiter.clock() - quiet_since >= lag:
            return True
        return Pending(f"allowing {format_seconds(lag)} for requests to {place.router} to follow")

    longest = lag + run.endpoint_config.ready_timeout
    run.waiter.wait(look, longest, lambda reason: f"{reason} after {format_seconds(longest)}")


def _point_back(run: Run, name: EndpointName, before: Router | None) -> None:
    """Let the router point where it pointed, and wait until requests do so again."""
    routers = run.gateway.routers
    try:
        if before is None:
            if (made := routers.find(name)) and RouterStamp.read(made.display_name):
                routers.delete(made)
            return
        routers.update(before, before.deployments, before.display_name)
        run.reporter.note(f"router {name} points to its previous target again")
    except FireworksError as error:
        run.reporter.warn(f"router {name} could not be changed back: {error.message}; run the same command again")
        return
    old = run.gateway.deployments.find(before.deployments[0]) if len(before.deployments) == 1 else None
    if old and not old.is_gone:
        with suppress(FireworksError):
            _follow(run, Place(old.base_model, old, router=before.name), _lag_of(run), _LONGEST_SILENCE_SECONDS)


def _lag_of(run: Run) -> float:
    if run.endpoint_config.routing_lag is not None:
        return run.endpoint_config.routing_lag
    return 0.0 if is_loopback(run.gateway.transport.http.base_url.host) else _LAG_SECONDS


def _is_multi_region(run: Run, endpoint: Endpoint | None) -> bool:
    """Whether what answers next can be anywhere in several regions."""
    if endpoint and not run.endpoint_config.model_fields_set & HARDWARE_OPTIONS:
        return bool(endpoint.current.placement.multi_region)
    return "multiRegion" in run.endpoint_config.where
