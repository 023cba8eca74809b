"""What somebody took off: a rollback, a deleted or paused endpoint. Comparing leaves it so; the next promotion doesn't.

Where a promotion put a revision, and that somebody took it off again, is written into the revision's stamp. So what
was done with other tools, or by Fireworks itself, is known too: the stamp names an endpoint that does not serve it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.gateway.revisions import Deployment, Revision
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.gateway.stamps import Hand, RevisionStamp, TakenOff, text_of
from mlflow_fireworks.names import EndpointName
from mlflow_fireworks.registry.versions import OFF_ENDPOINT, TAKEN_OFF, Tags, correct_versions
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.places import Endpoint, endpoint_of, find_places, list_endpoints


def find_taken_off(
    deployment: Deployment, endpoints: Mapping[EndpointName, Endpoint], gone: Iterable[OnDemandDeployment] = ()
) -> TakenOff | None:
    """What somebody did to the current revision of a deployment after it was put on an endpoint; None for nothing.

    Args:
        deployment: The deployment.
        endpoints: All endpoints of the account.
        gone: What was softly deleted of them, to know since when.
    """
    current = deployment.current
    if current.stamp is None or not current.stamp.endpoint:
        return None
    name = EndpointName(current.stamp.endpoint)
    endpoint = endpoints.get(name)
    if endpoint is None:
        return current.stamp.taken_off or _deleted(name, gone)
    places = find_places([endpoint], {current.model.name})
    if not any(place in endpoint.answering for place in places):
        return current.stamp.taken_off or (None if places else _moved(endpoint))
    if endpoint.current.max_replica_count == 0:
        return TakenOff(Hand.PAUSE, f"endpoint '{name}' was scaled to zero", endpoint.current.update_time)
    return None


def _deleted(name: EndpointName, gone: Iterable[OnDemandDeployment]) -> TakenOff:
    times = [item.delete_time for item in gone if item.is_gone and endpoint_of(item) == name]
    reason = (
        f"endpoint '{name}' was deleted, by a person or by Fireworks, which deletes deployments that had no "
        "requests for seven days"
    )
    return TakenOff(Hand.REMOVAL, reason, max(times, default=""))


def _moved(endpoint: Endpoint) -> TakenOff:
    now = endpoint.answering[0]
    return TakenOff(Hand.ROLLBACK, f"endpoint '{endpoint.name}' was moved to {now.model}", now.since)


def switch_on(run: Run, name: EndpointName, model: str) -> Run:
    """The run for a promotion to an endpoint that somebody scaled to zero: its GPUs start with it.

    Args:
        run: The account and the options.
        name: The endpoint.
        model: Full name of what it is to serve; if it does so already, its replicas are allowed again at once.
    """
    endpoint, options = list_endpoints(run.gateway).get(name), run.endpoint_config
    if endpoint is None or endpoint.current.max_replica_count or options.max_replicas is not None:
        return run
    current, most = endpoint.current, max(1, options.min_replicas or 0)
    if current.base_model == model and not options.dry_run:
        would_be = current.model_copy(update={"max_replica_count": most})
        with run.permit.hold(run, name, lambda: would_be):
            run.gateway.deployments.update(current, {"maxReplicaCount": most})
        run.reporter.note(f"endpoint {name} was scaled to zero; it may scale up to {most} replicas again")
    return replace(run, endpoint_config=options.model_copy(update={"max_replicas": most}))


def note_place(run: Run, model: str, endpoint: EndpointName | None) -> bool:
    """Write down which endpoint a revision was put on last; what somebody did to it before does not count any more.

    Args:
        run: The account and the options.
        model: Full name of the revision's model.
        endpoint: The endpoint; None when it was taken off because its pointer is gone.

    Returns:
        Whether it had been taken off by somebody.
    """
    return _change(run, model, lambda stamp: replace(stamp, endpoint=endpoint or "", taken_off=None))


def note_taken_off(
    run: Run, revision: Revision, endpoint: EndpointName, taken_off: TakenOff, *, in_registry: bool = True
) -> None:
    """Write down that somebody took a revision off an endpoint: in its stamp, and on the registry's version.

    Args:
        run: The account and the options.
        revision: The revision.
        endpoint: The endpoint.
        taken_off: What was done.
        in_registry: Whether the registry is to be asked at all.
    """
    _change(run, revision.model.name, lambda stamp: replace(stamp, endpoint=endpoint, taken_off=taken_off))
    if in_registry:
        correct_tags(run, [revision], {TAKEN_OFF: taken_off.describe()})


def accept_by_hand(run: Run, deployment: Deployment) -> None:
    """A pointer shows by now what somebody had put in the place of what was promoted: it counts as promoted too.

    Args:
        run: The account and the options.
        deployment: As it is.
    """
    if deployment.current.by_hand:
        _change(run, deployment.current.model.name, lambda stamp: replace(stamp, instead=None))


def note_endpoint_deleted(run: Run, endpoint: Endpoint) -> None:
    """Write down that the user of this run has deleted an endpoint, for all that it served.

    Args:
        run: The account and the options.
        endpoint: As it was.
    """
    models = (run.gateway.models.find(model) for model in sorted({place.model for place in endpoint.places}))
    revisions = [Revision.of(model) for model in models if model]
    corrected = correct_tags(run, revisions, OFF_ENDPOINT, endpoint.name)
    done = run.done_by_hand(Hand.REMOVAL, f"endpoint '{endpoint.name}' was deleted")
    for revision in revisions:
        note_taken_off(run, revision, endpoint.name, done, in_registry=corrected)


def correct_tags(run: Run, gone: Collection[Revision], tags: Tags, endpoint: EndpointName | None = None) -> bool:
    """Let the versions that revisions were made from say what became of these.

    What is done on Fireworks is done: a registry that cannot be asked is worth a warning.

    Args:
        run: The account and the options.
        gone: The revisions.
        tags: What is true of their versions now.
        endpoint: Only versions that say that they are on this endpoint.

    Returns:
        Whether they say it; where the registry did not answer, another try would only take time.
    """
    if not run.config.registry_tags:
        return False
    marks = {"fireworks.model": {revision.model.name for revision in gone}}
    marks |= {"fireworks.endpoint": {str(endpoint)}} if endpoint else {}
    updated = {"fireworks.updated": run.now().isoformat(timespec="seconds")}
    sources = [revision.stamp.source for revision in gone if revision.stamp]
    warnings = correct_versions(sources, marks, {**tags, **updated})
    for warning in warnings:
        run.reporter.warn(warning)
    return not warnings


def _change(run: Run, model: str, change: Callable[[RevisionStamp], RevisionStamp]) -> bool:
    """Change a stamp as it is now. What was done is done: a description that cannot be changed is worth a warning."""
    try:
        found = run.gateway.models.find(model)
        stamp = RevisionStamp.read(found.description) if found else None
        if found is None or stamp is None or (changed := change(stamp)) == stamp:
            return False
        run.gateway.models.update(found.model_id, {"description": changed.describe(text_of(found.description))})
    except FireworksError as error:
        run.reporter.warn(f"the description of {model} could not be changed: {error.message}")
        return False
    return stamp.taken_off is not None
