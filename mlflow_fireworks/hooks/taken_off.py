"""What somebody took off, as far as it keeps one promotion from being done."""

from collections.abc import Iterable, Mapping

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.endpoint_config import parse_both
from mlflow_fireworks.gateway.revisions import Deployment
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.gateway.stamps import Hand, TakenOff, parse_time
from mlflow_fireworks.hooks.holds import Hold
from mlflow_fireworks.hooks.jobs import Job
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.hooks.subjects import read_tags
from mlflow_fireworks.names import DeploymentName, EndpointName
from mlflow_fireworks.opening import open_deployments
from mlflow_fireworks.progress import Silent
from mlflow_fireworks.registry.pointers import Pinned
from mlflow_fireworks.registry.versions import TAKEN_OFF
from mlflow_fireworks.serving.places import Endpoint
from mlflow_fireworks.serving.taken_off import accept_by_hand, find_taken_off
from mlflow_fireworks.target import parse_target


def find_on_endpoint(
    rule: Rule,
    job: Job,
    existing: Deployment,
    endpoints: Mapping[EndpointName, Endpoint],
    gone: Iterable[OnDemandDeployment] = (),
) -> TakenOff | None:
    """What somebody did to the current revision of a deployment on the endpoint of a job.

    Args:
        rule: Of the job: one that asks for no replicas is not paused by anybody.
        job: The job.
        existing: The deployment.
        endpoints: All endpoints of the account.
        gone: What was softly deleted of them.
    """
    stamp = existing.current.stamp
    if stamp is None or stamp.endpoint != job.endpoint:
        return None
    found = find_taken_off(existing, endpoints, gone)
    if found and found.hand is Hand.PAUSE:
        _, options = parse_both(rule.config, rule.endpoint)
        return found if options.max_replicas != 0 else None
    return found


def hold_of(job: Job, found: TakenOff, queue: str | None) -> Hold:
    """What somebody took off, as a hold.

    Args:
        job: What would bring it back.
        found: What was done.
        queue: The queue's file, for the command; None where the environment names it, or it is the default.
    """
    hold = Hold(kind="taken off", what=job.deployment, reason=found.reason, by=found.by, job=job)
    since = parse_time(found.since)
    told = {"command": Commands.resume(job.deployment, queue)} | ({"since": since} if since else {})
    return hold.model_copy(update=told)


def accept_replacement(job: Job) -> None:
    """What somebody put there without a promotion is what the pointer shows by now.

    Args:
        job: What would promote it.

    Raises:
        FireworksError: Fireworks cannot be asked.
    """
    with open_deployments(parse_target(job.target), reporter=Silent()) as deployments:
        accept_by_hand(deployments.run, deployments.find(DeploymentName(job.deployment)))


def find_against(rule: Rule, job: Job, pinned: Pinned) -> TakenOff | None:
    """What keeps a promotion from being done: what a person did after it was asked for.

    What no event and no person has asked for also stays off when it is the very version that was taken off.

    Args:
        rule: Of the job.
        job: The job.
        pinned: What its pointer shows.

    Raises:
        FireworksError: Fireworks or the registry cannot be asked.
    """
    name = DeploymentName(job.deployment)
    with open_deployments(parse_target(job.target), reporter=Silent()) as deployments:
        existing, endpoints = deployments.list_existing().get(name), deployments.list_endpoints()
        if existing is None:
            text = read_tags(job.subject, pinned.version).get(TAKEN_OFF)
            found, is_it = TakenOff.of_text(Hand.REMOVAL, text) if text else None, True
        else:
            is_up = job.endpoint is None or job.endpoint in endpoints
            gone = () if is_up else tuple(deployments.run.gateway.deployments.list(deleted=True))
            current, displaced = existing.current, existing.displaced
            found = find_on_endpoint(rule, job, existing, endpoints, gone)
            if found is None and current.source != pinned.uri:
                found = current.by_hand
            is_it = pinned.uri in (current.source, displaced.source if displaced else "")
    if found is None:
        return None
    is_later = parse_time(found.since) > job.asked_at
    return found if is_later or (is_it and not job.is_asked_for) else None
