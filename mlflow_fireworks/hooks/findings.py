"""What every pointer shows now against what is on Fireworks now, and what somebody took off that."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlflow_fireworks.config import Config
from mlflow_fireworks.errors import FireworksError, UnavailableError
from mlflow_fireworks.gateway.revisions import Deployment, Revision
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.gateway.stamps import Hand, TakenOff
from mlflow_fireworks.gateway.wire import READY
from mlflow_fireworks.hooks.costs import is_up
from mlflow_fireworks.hooks.jobs import Job, State, Subject, newest_of_each
from mlflow_fireworks.hooks.queue import again
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.subjects import find_subjects, has_home, read_tags, was_promoted_last
from mlflow_fireworks.hooks.taken_off import find_on_endpoint
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.names import DeploymentName, EndpointName
from mlflow_fireworks.opening import open_deployments
from mlflow_fireworks.registry.versions import TAKEN_OFF
from mlflow_fireworks.serving.places import Endpoint, find_places
from mlflow_fireworks.target import parse_target

# Somebody may wait for a comparison; its questions are small.
_RETRY, _TIMEOUTS = Retry(attempts=3), Timeouts(connect=5.0, quiet=9.0)


@dataclass(frozen=True)
class Finding:
    """One pointer and whether Fireworks is where it points.

    Args:
        rule: The rule that is about it.
        job: What would bring it there.
        missing: Why it is not there, for a person; "" when it is.
        endpoint: What the job's endpoint is now; None when it is not up.
        taken_off: What somebody did to it after it was there; None when nobody did.
        was_deleted: Whether the deployment itself is what is gone.
        by_hand: By whom what the pointer shows was put there, without a promotion; None when nobody did.
    """

    rule: Rule
    job: Job
    missing: str = ""
    endpoint: Endpoint | None = None
    taken_off: TakenOff | None = None
    was_deleted: bool = False
    by_hand: TakenOff | None = None

    @property
    def starts_endpoint(self) -> bool:
        """Whether what is missing would start GPUs that are not up now."""
        is_promotion = self.job.action == "promote" and self.taken_off is None
        return bool(self.missing and self.job.endpoint and is_promotion and self.endpoint is None)


@dataclass(frozen=True)
class _Account:
    deployments: Mapping[DeploymentName, Deployment]
    endpoints: Mapping[EndpointName, Endpoint]
    gone: Sequence[OnDemandDeployment] = ()
    prefix: str = ""
    """Of the full names of its models."""

    @property
    def models(self) -> set[str]:
        """The full names of all models."""
        return {model for deployment in self.deployments.values() for model in deployment.models}


@dataclass(frozen=True)
class _Memory:
    """What is remembered of one deployment: its newest job, and the last that succeeded."""

    newest: Job | None = None
    done: Job | None = None


def compare(rules: Rules, jobs: Sequence[Job]) -> Iterator[Finding]:
    """Compare every pointer of every rule with Fireworks. Where two lead to one deployment, the first rule counts.

    A rule whose registry or account cannot be asked does not hold the others up, but nothing is removed then.

    Args:
        rules: The rules.
        jobs: What is remembered, newest first: which versions share their content, and what is there of pointers that
            are gone.

    Raises:
        UnavailableError: At the end: the registry or Fireworks could not be asked for some rules, which are named.
    """
    newest, done = newest_of_each(jobs), newest_of_each(job for job in jobs if job.state is State.DONE)
    accounts: dict[str, _Account | FireworksError] = {}
    taken: set[str] = set()
    there: set[Subject] = set()
    unanswered: list[tuple[Rule, FireworksError]] = []
    for rule in rules:
        try:
            account = _look_once(accounts, rule.target)
            for subject, version in find_subjects(rule):
                job = rule.make_job(subject, version, uuid.uuid4().hex[:16], "reconcile")
                there.add(job.subject)
                if job.key not in taken:
                    taken.add(job.key)
                    yield _compare(rule, job, account, _Memory(newest.get(job.key), done.get(job.key)))
        except FireworksError as error:  # noqa: PERF203 - each rule for itself
            unanswered.append((rule, error))
    if unanswered:
        raise _join(unanswered)
    for job in _find_promoted(jobs):
        found = rules.find(job.rule)
        if found is None or found.when_removed == "keep" or job.key in taken:
            continue
        only_the_rule_changed = job.subject in there or not found.matches(job.subject)
        if not only_the_rule_changed and has_home(job.subject):
            removal = again(job, "reconcile").model_copy(update={"action": "remove"})
            yield Finding(found, removal, f"{job.subject} no longer exists")


def _find_promoted(jobs: Iterable[Job]) -> Iterator[Job]:
    """The last promotion of each key of which something may be on Fireworks, be it half a model."""

    def counts(job: Job) -> bool:
        given_up = job.state in (State.DEAD, State.DISMISSED)
        return job.state is State.DONE or (given_up and job.action == "promote")

    return (job for job in newest_of_each(filter(counts, jobs)).values() if job.action == "promote")


def _look_once(accounts: dict[str, _Account | FireworksError], target: str) -> _Account:
    """One that does not answer is not waited for by each rule."""
    if target not in accounts:
        try:
            accounts[target] = _look_at(target)
        except FireworksError as error:
            accounts[target] = error
    found = accounts[target]
    if isinstance(found, FireworksError):
        raise found
    return found


def _join(unanswered: Sequence[tuple[Rule, FireworksError]]) -> UnavailableError:
    """One error for all rules; those with the same reason are named together."""
    titles: dict[str, list[str]] = {}
    for rule, error in unanswered:
        titles.setdefault(error.message, []).append(f"'{rule.title}'")
    parts = [f"rule{'s' if len(found) > 1 else ''} {', '.join(found)}: {reason}" for reason, found in titles.items()]
    places = dict.fromkeys(error.where for _, error in unanswered if isinstance(error, UnavailableError))
    return UnavailableError("; ".join(parts), where=" and ".join(place for place in places if place))


def _look_at(target: str) -> _Account:
    options = Config(progress="lines")  # tells when Fireworks does not answer
    with open_deployments(parse_target(target), options, retry=_RETRY, timeouts=_TIMEOUTS) as deployments:
        existing, endpoints, gateway = (
            deployments.list_existing(),
            deployments.list_endpoints(),
            deployments.run.gateway,
        )
        stamps = (item.current.stamp for item in existing.values())
        somebody_deleted = any(stamp and stamp.endpoint and stamp.endpoint not in endpoints for stamp in stamps)
        gone = tuple(gateway.deployments.list(deleted=True)) if somebody_deleted else ()
        return _Account(existing, endpoints, gone, gateway.models.full_name(""))


def _compare(rule: Rule, job: Job, account: _Account, memory: _Memory) -> Finding:
    endpoint = account.endpoints.get(EndpointName(job.endpoint)) if job.endpoint else None
    missing = _describe_missing(job, account, memory.done)
    existing = account.deployments.get(DeploymentName(job.deployment))
    return Finding(
        rule,
        job,
        missing,
        endpoint if endpoint and is_up(endpoint) else None,
        _find_taken_off(rule, job, account, memory, is_missing=bool(missing)),
        existing is None,
        existing.current.by_hand if existing and not missing else None,
    )


def _describe_missing(job: Job, account: _Account, done: Job | None) -> str:
    existing = account.deployments.get(DeploymentName(job.deployment))
    if existing is None:
        return f"there is no deployment '{job.deployment}'"
    current = existing.current
    if current.model.state != READY:
        return f"'{job.deployment}' is {current.model.state}"
    if not _holds_version(current, job, done):
        return f"'{job.deployment}' holds {current.source or 'something this plugin did not create'}"
    if job.endpoint:
        endpoint = account.endpoints.get(EndpointName(job.endpoint))
        if endpoint is None or not find_places([endpoint], {current.model.name}):
            return f"endpoint '{job.endpoint}' does not serve {current.model.name}"
    return ""


def _holds_version(revision: Revision, job: Job, done: Job | None) -> bool:
    """Whether a revision is what the pointer shows, or another version with the same content."""
    same = done is not None and done.version == job.version and done.result.get("model") == revision.model.name
    return same or revision.source == job.subject.pin(job.version)


def _find_taken_off(rule: Rule, job: Job, account: _Account, memory: _Memory, *, is_missing: bool) -> TakenOff | None:
    """What somebody did to the very version that a pointer shows, by whatever is known of it."""
    existing = account.deployments.get(DeploymentName(job.deployment))
    if existing and _holds_version(existing.current, job, memory.done):
        if found := find_on_endpoint(rule, job, existing, account.endpoints, account.gone):
            return found
        if is_missing and _was_on_endpoint(memory.done, job):
            return TakenOff(Hand.REMOVAL, f"it was taken off endpoint '{job.endpoint}', not with this plugin")
    if not is_missing:
        return None
    if existing and existing.displaced and _holds_version(existing.displaced, job, memory.done):
        return existing.current.by_hand
    newest = memory.newest
    if newest and newest.state is State.HELD and newest.asks_for_the_same_as(job):
        return TakenOff.of_text(Hand.REMOVAL, newest.error)
    return _find_deleted(job, account, memory.done)


def _was_on_endpoint(done: Job | None, job: Job) -> bool:
    is_same = done is not None and done.version == job.version and done.action == "promote"
    return bool(is_same and job.endpoint and done and done.result.get("endpoint") == job.endpoint)


def _find_deleted(job: Job, account: _Account, done: Job | None) -> TakenOff | None:
    """Whether somebody deleted what a version was made into: the registry's tags and the last promotion tell it."""
    existing = account.deployments.get(DeploymentName(job.deployment))
    tags = read_tags(job.subject, job.version)
    told = tags.get(TAKEN_OFF, "") if tags.get("fireworks.state") == "DELETED" else ""  # else of what was done before
    text = told or f"deployment '{job.deployment}' was deleted, not with this plugin"
    if existing is None and done and done.action == "promote" and done.version == job.version:
        return TakenOff.of_text(Hand.REMOVAL, text)
    model = tags.get("fireworks.model", "")
    if tags.get("fireworks.deployment") != job.deployment or not model.startswith(account.prefix):
        return None
    if existing is None and TAKEN_OFF in tags:
        return TakenOff.of_text(Hand.REMOVAL, tags[TAKEN_OFF])
    is_lost = tags.get("fireworks.state") == READY and model not in account.models
    return TakenOff(Hand.REMOVAL, text) if is_lost and was_promoted_last(job.subject, job.version) else None
