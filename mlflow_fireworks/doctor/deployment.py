"""Why a deployment is not READY, or does not answer."""

from collections.abc import Iterator

from mlflow_fireworks.deployments import Deployments, describe_serving
from mlflow_fireworks.doctor.check import Check, look, note, ok, problem
from mlflow_fireworks.errors import ConflictError, FireworksError
from mlflow_fireworks.gateway.revisions import Deployment, Revision
from mlflow_fireworks.gateway.stamps import Hand
from mlflow_fireworks.gateway.wire import FAILED, READY
from mlflow_fireworks.names import DeploymentName, EndpointName, enumerate_names
from mlflow_fireworks.pipeline.delivery import open_journal
from mlflow_fireworks.pipeline.validation import retry_as_next
from mlflow_fireworks.progress import count_files
from mlflow_fireworks.registry.model_uri import version_in
from mlflow_fireworks.registry.versions import find_aliased, find_version
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.places import Endpoint
from mlflow_fireworks.serving.readiness import describe_replicas
from mlflow_fireworks.serving.taken_off import find_taken_off

_SHOWN = 5


def check_deployment(deployments: Deployments, name: DeploymentName) -> Iterator[Check]:
    """Look at a deployment: its models, what serves it, and what the registry says of it.

    Args:
        deployments: Of the account.
        name: The deployment.

    Raises:
        NotFoundError: There is none of that name.
    """
    found, run = deployments.find(name), deployments.run
    current, awaited = found.current, found.awaited
    if current.is_ready:
        version = version_in(current.source)
        made_from = f", made from version {version}" if version else ""
        yield ok("model", f"{current.model.name} is READY (revision {current.number}{made_from})")
        if not current.stamp:
            yield note("model", "its description does not say that this plugin created it; was it edited?")
    if awaited:
        yield look("model", lambda: _check_awaited(run, name, awaited))
    if current.stamp:
        yield from _check_registry(run, name, current.source)
    yield from _check_serving(deployments, found)


def _check_awaited(run: Run, name: DeploymentName, revision: Revision) -> Check:
    """A revision that is not READY: what it lacks, and the command that goes on."""
    model, stamp, resume = revision.model, revision.stamp, run.commands.resume_upload(name)
    told = f"{model.name} is {model.state}"
    if stamp is None:
        return problem("model", f"{told}; this plugin did not create it, so whoever did must finish it")
    if model.state == FAILED:
        again = retry_as_next(run.commands, stamp)
        return problem("model", f"{told}: {model.status.reason}; retry it as the next revision:", again)
    try:
        with open_journal(run, model.name) as journal:
            missing = journal.missing(stamp.fingerprint, model.create_time)
    except ConflictError:
        return note("model", f"{told}: another run on this machine is uploading it")
    if missing is None:
        text = "this machine has no record of its upload; unless another one is at it, upload what is missing:"
        return problem("model", f"{told}: {text}", resume)
    if missing:
        text = f"its upload was interrupted, {count_files(len(missing))} missing ({enumerate_names(missing, _SHOWN)})"
        return problem("model", f"{told}: {text}; resume with:", resume)
    return problem(
        "model", f"{told}: all files were uploaded, but it was not validated yet:", run.commands.finish(name)
    )


def _check_registry(run: Run, name: DeploymentName, source: str) -> Iterator[Check]:
    """Whether its version is still there, whether an alias has moved on, and what promotions wrote on the versions."""
    made_from = version_in(source)
    if not made_from:
        return
    try:
        version, aliased = find_version(source), find_aliased(source)
    except FireworksError as error:
        yield note("registry", error.message)
        return
    if version is None:
        yield note(
            "registry", f"{source} is not in the registry; was it deleted, or is MLFLOW_TRACKING_URI another one?"
        )
    elif aliased and made_from not in {str(other.version) for other in aliased.values()}:
        shown = enumerate_names(f"{alias} is version {other.version}" for alias, other in aliased.items())
        command = run.commands.promote(name, next(iter(aliased))) if len(aliased) == 1 else None
        yield note("registry", f"no alias shows version {made_from}: {shown}", command)
    known = {str(other.version): other.tags for other in (version, *aliased.values()) if other}
    for number, tags in known.items():
        if tags.get("fireworks.deployment", name) == name and (failure := tags.get("fireworks.error")):
            yield note("registry", f"the last promotion of version {number} failed: {failure}")


def _check_serving(deployments: Deployments, found: Deployment) -> Iterator[Check]:
    """What serves it, and what somebody took off."""
    endpoints, commands, current = deployments.list_endpoints(), deployments.run.commands, found.current
    shown, taken_off = describe_serving(found, endpoints), find_taken_off(found, endpoints)
    last = EndpointName(current.stamp.endpoint if current.stamp and current.stamp.endpoint else found.name)
    for endpoint, address in shown["endpoints"].items():
        yield _check_endpoint(deployments.run, endpoints[endpoint], address)
        answering = {place.model for place in endpoints[endpoint].answering}
        if not answering & found.models:
            text = f"requests to {endpoint} reach {enumerate_names(sorted(answering))}; move it back with:"
            yield note("endpoint", text, commands.serve(found.name, endpoint))
        behind = shown["endpoints_behind"].get(endpoint)
        if behind and not (taken_off and endpoint == last):
            command = commands.serve(found.name, endpoint)
            yield note("endpoint", f"{endpoint} serves revision {behind}, not {current.number}", command)
    if taken_off:
        is_paused = taken_off.hand is Hand.PAUSE
        command = commands.update_endpoint(last, max_replicas="1") if is_paused else commands.serve(found.name, last)
        yield note("endpoint", f"{taken_off.describe()}; bring it back with:", command)
    elif not shown["endpoints"] and current.is_ready:
        text = "no endpoint serves it, so it cannot answer yet; an endpoint starts GPUs, which are billed"
        yield note("endpoint", text, commands.serve(found.name, last))


def _check_endpoint(run: Run, endpoint: Endpoint, address: str) -> Check:
    current = endpoint.current
    told = f"{endpoint.name} is {current.state} ({describe_replicas(current)}): {address}"
    if current.state == READY:
        return ok("endpoint", told)
    if status := current.status.describe():
        told += f"; {status}"
    if current.state == FAILED:
        return problem("endpoint", told, run.commands.delete_endpoint(endpoint.name))
    return note("endpoint", told, run.commands.get_endpoint(endpoint.name))
