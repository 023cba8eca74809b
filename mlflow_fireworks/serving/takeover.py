"""From one deployment of an endpoint to the next: what is up becomes what answers, and what answered before goes."""

from collections.abc import Iterable

from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.gateway.stamps import EndpointStamp, RouterStamp, text_of
from mlflow_fireworks.names import EndpointName
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.bringup import finish
from mlflow_fireworks.serving.places import Endpoint, Place
from mlflow_fireworks.serving.readiness import wait_until_ready
from mlflow_fireworks.serving.routing import Front, is_direct, lead_to


def take_over(run: Run, front: Front, deployment: OnDemandDeployment, *, moving: bool, beside: bool) -> Place:
    """Let a deployment come up, answer, and be what the address of its endpoint reaches.

    Args:
        run: The account and the options.
        front: Whether that address is a router.
        deployment: What is to answer.
        moving: Whether something else has answered so far.
        beside: Whether something else of the endpoint is up, which goes afterwards.

    Returns:
        Where it answers.

    Raises:
        FireworksError: It does not come up or does not answer; the address reaches what it reached.
    """
    ready = finish(run, deployment)
    stamp = EndpointStamp.read(ready.description)
    if stamp is None:  # somebody else's
        return Place(ready.base_model, ready)
    if not stamp.since:
        ready = make_live(run, front.name, ready)
        if moving:  # nothing says that changing the description leaves Fireworks' routing alone
            ready = finish(run, ready)
    place = lead_to(run, front, ready, beside=beside)
    if moving and stamp.since and not place.router:  # the last one to be made live is the one that answers
        ready = finish(run, make_live(run, front.name, ready))
        place = Place(ready.base_model, ready)
    return place


def find_left_over(run: Run, endpoint: Endpoint) -> tuple[OnDemandDeployment, ...]:
    """What answered before and was to go when the last move was cut off; not what is kept because somebody wants that.

    What has never answered may be about to: another run may be bringing it up.
    """
    stamp = RouterStamp.read(endpoint.router.display_name) if endpoint.router and endpoint.routed else None
    if stamp is None or stamp.keeps_previous or run.endpoint_config.keep_previous:
        return ()
    stamps = {item.name: EndpointStamp.read(item.description) for item in endpoint.unused}
    return tuple(item for item in endpoint.unused if (found := stamps[item.name]) is not None and found.since)


def retire(run: Run, name: EndpointName, old: Iterable[OnDemandDeployment]) -> tuple[OnDemandDeployment, ...]:
    """Take down what an endpoint was served by before; what is kept, because it is wanted or led to, is returned."""
    kept = []
    led = {
        target: router.router_id
        for router in run.gateway.routers.list() or ()
        if router.router_id != name and not router.auto_generated
        for target in router.deployments
    }
    for deployment in old:
        if run.endpoint_config.keep_previous or deployment.name in led:
            why = f": router '{led[deployment.name]}' points to it" if deployment.name in led else ""
            run.reporter.warn(
                f"{deployment.name} is kept running, and billed while it is up{why}; take it down with: "
                + run.commands.delete_endpoint(name, unused="true")
            )
            kept.append(deployment)
        else:
            # It has answered requests until a moment ago; that is no reason to keep it.
            run.gateway.deployments.delete(deployment.name, ignore_checks=True)
            run.reporter.note(f"took down {deployment.name}")
    return tuple(kept)


def make_live(run: Run, name: EndpointName, deployment: OnDemandDeployment) -> OnDemandDeployment:
    """Write on a deployment that it is the one of its endpoint that answers from now on."""
    stamp = EndpointStamp(name, timestamp(run), is_direct(run, deployment))
    changed = run.gateway.deployments.update(
        deployment, {"description": stamp.describe(text_of(deployment.description))}
    )
    return wait_until_ready(run, changed)


def timestamp(run: Run) -> str:
    """Now, as it is written into descriptions."""
    return run.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
