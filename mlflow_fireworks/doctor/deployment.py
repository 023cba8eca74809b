"""Why a deployment is not READY, or does not answer."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from mlflow_fireworks.deployments import Deployments, describe_serving
from mlflow_fireworks.doctor.check import Check, look, note, ok, problem
from mlflow_fireworks.errors import ConflictError, FireworksError
from mlflow_fireworks.gateway.revisions import Revision
from mlflow_fireworks.gateway.wire import FAILED, READY
from mlflow_fireworks.names import DeploymentName, EndpointName
from mlflow_fireworks.pipeline.delivery import refuse_unsent
from mlflow_fireworks.pipeline.validation import describe_failure
from mlflow_fireworks.registry.model_uri import version_in
from mlflow_fireworks.registry.versions import find_version
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.endpoints import get_endpoint


def check_deployment(deployments: Deployments, name: DeploymentName) -> Iterator[Check]:
    """Look at a deployment: its models, what serves it, and what the registry says of it.

    Args:
        deployments: Of the account.
        name: The deployment.

    Raises:
        NotFoundError: There is none of that name.
    """
    found, run = deployments.find(name), deployments.run
    current, unfinished = found.current, found.unfinished
    if current.is_ready:
        version = version_in(current.stamp.source) if current.stamp else None
        made_from = f", made from version {version}" if version else ""
        yield ok("model", f"{current.model.name} is READY (revision {current.number}{made_from})")
    if unfinished and unfinished.turn > (current.turn if current.is_ready else 0):
        yield look("model", lambda: _check_unfinished(run, name, unfinished))
    if current.stamp:
        yield from _check_tags(current.stamp.source)
    shown = describe_serving(found, deployments.list_endpoints())
    for endpoint in shown["endpoints"]:
        yield look("endpoint", partial(_check_endpoint, run, EndpointName(endpoint)))
        if behind := shown["endpoints_behind"].get(endpoint):
            command = run.commands.serve(name, EndpointName(endpoint))
            yield note("endpoint", f"{endpoint} serves revision {behind}, not {current.number}", command)
    if not shown["endpoints"] and current.is_ready:
        command = run.commands.serve(name, EndpointName(name))
        yield note(
            "endpoint",
            "no endpoint serves it, so it cannot answer yet; an endpoint starts GPUs, which are billed",
            command,
        )


def _check_unfinished(run: Run, name: DeploymentName, revision: Revision) -> Check:
    """A revision that is not READY: what it lacks, and the command that goes on."""
    model, stamp = revision.model, revision.stamp
    if stamp is None:
        return problem(
            "model", f"{model.name} is {model.state}; this plugin did not create it, so whoever did must finish it"
        )
    if model.state == FAILED:
        return problem("model", describe_failure(run.commands, stamp, model).message)
    try:
        refuse_unsent(run, model, stamp)
    except ConflictError as error:
        return note("model", f"{model.name} is {model.state}: {error.message}")
    return problem("model", f"{model.name} is {model.state}: not validated yet", run.commands.finish(name))


def _check_tags(source: str) -> Iterator[Check]:
    """What a promotion wrote on the registry's version."""
    try:
        version = find_version(source)
    except FireworksError as error:
        yield note("registry", error.message)
        return
    if version and (failure := version.tags.get("fireworks.error")):
        yield note("registry", f"the last promotion of {source} failed: {failure}")


def _check_endpoint(run: Run, name: EndpointName) -> Check:
    found: Mapping[str, Any] = get_endpoint(run, name)
    told = f"{name} is {found['state']} ({found['replicas']}): {found['address']}"
    if found["state"] == READY:
        return ok("endpoint", told)
    if found["state"] == FAILED:
        return problem("endpoint", f"{told}; {found['status']}", run.commands.delete_endpoint(name))
    return note("endpoint", f"{told}; {found['status']}", run.commands.get_endpoint(name))
