"""Level-triggered: what the registry shows now against what is on Fireworks now, whatever events were lost."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.config import Config
from mlflow_fireworks.deployments import open_deployments
from mlflow_fireworks.endpoint_config import parse_both
from mlflow_fireworks.errors import FireworksError, UnavailableError
from mlflow_fireworks.gateway.revisions import Deployment
from mlflow_fireworks.gateway.wire import READY
from mlflow_fireworks.hooks.approvals import Held
from mlflow_fireworks.hooks.costs import describe_starts, is_up
from mlflow_fireworks.hooks.jobs import Job, State, Subject
from mlflow_fireworks.hooks.queue import Queue, again
from mlflow_fireworks.hooks.rules import Rule, Rules
from mlflow_fireworks.hooks.subjects import find_subjects, has_home
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.names import DeploymentName, EndpointName
from mlflow_fireworks.progress import logger
from mlflow_fireworks.promotion import write_removal
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
        was_deleted: Whether its deployment was there before, so that somebody deleted it.
        was_taken_down: Whether its endpoint was up for this very version before, so that somebody took it down.
    """

    rule: Rule
    job: Job
    missing: str = ""
    endpoint: Endpoint | None = None
    was_deleted: bool = False
    was_taken_down: bool = False

    @property
    def starts_endpoint(self) -> bool:
        """Whether what is missing would start GPUs that are not up now."""
        is_promotion = self.job.action == "promote"
        return bool(self.missing and self.job.endpoint and is_promotion and self.endpoint is None)


@dataclass(frozen=True)
class _Account:
    deployments: Mapping[DeploymentName, Deployment]
    endpoints: Mapping[EndpointName, Endpoint]


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
    done = _newest_of_each(job for job in jobs if job.state is State.DONE)
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
                    yield _compare(rule, job, account, done.get(job.key))
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
            yield Finding(found, removal, f"{job.subject} is gone")


@dataclass(frozen=True)
class Compared:
    """What follows from a comparison.

    Args:
        enqueued: Jobs for what is missing.
        waiting: Deployments that are missing something too, and have a job that runs or waits.
        given_up: The jobs that failed at what is still missing, or were dismissed.
        held: What would start GPUs, and waits for an approval.
    """

    enqueued: Sequence[Job]
    waiting: Sequence[str]
    given_up: Sequence[Job]
    held: Sequence[Held] = ()

    def describe(self, queue: str | None) -> str:
        """All of it in one line, for people.

        Args:
            queue: The queue's file, for the commands; None where the environment names it.
        """
        words = {State.DEAD: "given up", State.DISMISSED: "dismissed"}
        parts = [
            f"{words[job.state]}: {job.deployment} (retry with {Commands.retry_job(job.id, queue)})"
            for job in self.given_up
        ]
        if self.held:
            parts.append(f"not approved yet: {', '.join(held.rule for held in self.held)}")
        if self.waiting:
            parts.insert(0, f"in work or waiting: {', '.join(self.waiting)}")
        if self.enqueued:
            parts.insert(0, f"to do: {', '.join(job.deployment for job in self.enqueued)}")
        return "; ".join(parts) or "nothing to do"


def reconcile(queue: Queue, rules: Rules, *, dead_too: bool, approve: bool = False) -> Compared:
    """Enqueue what is missing, as far as the registries answer. What would start GPUs by a new rule waits.

    Args:
        queue: Takes the jobs.
        rules: The rules.
        dead_too: Also try again what was given up on for the version that is still asked for; but not what
            somebody dismissed.
        approve: Approve all rules (`--yes`).

    Returns:
        What was enqueued, and what is missing nevertheless.

    Raises:
        UnavailableError: As `compare`; what was found missing for the other rules is enqueued.
    """
    try:
        found = _enqueue_missing(queue, rules, dead_too=dead_too, approve=approve)
    except Exception as error:
        message = error.message if isinstance(error, FireworksError) else type(error).__name__
        queue.ledger.save_comparison(message, error.where if isinstance(error, UnavailableError) else "")
        raise
    queue.ledger.save_comparison("")
    return found


def _enqueue_missing(queue: Queue, rules: Rules, *, dead_too: bool, approve: bool) -> Compared:
    passed_over = {State.DISMISSED} if dead_too else {State.DISMISSED, State.DEAD}
    queue.ledger.prune()
    jobs = queue.ledger.jobs()
    busy = {job.key for job in jobs if not job.state.is_final}  # it may end after Fireworks was looked at
    enqueued: list[Job] = []
    waiting: list[str] = []
    given_up: list[Job] = []
    wanted: dict[str, Finding] = {}
    held: dict[str, list[Finding]] = {}
    for finding in _holding_on_error(queue, compare(rules, jobs), held):
        wanted[finding.job.key] = finding
        if not finding.missing:
            continue
        newest = queue.ledger.newest(finding.job.key)
        if finding.job.key in busy or (newest is not None and not newest.state.is_final):
            waiting.append(finding.job.deployment)
        elif newest is not None and newest.asks_for_the_same_as(finding.job) and newest.state in passed_over:
            given_up.append(newest)
        elif _needs_approval(finding, queue, approve=approve):
            held.setdefault(finding.rule.meaning, []).append(finding)
        else:
            _correct_tags(finding)
            queue.put(finding.job)
            enqueued.append(finding.job)
    _clear_failures(queue, jobs, wanted)  # only now, when every registry and account has answered
    records = _hold(queue, held)
    queue.approvals.keep_held(held)
    return Compared(enqueued, waiting, given_up, records)


def _holding_on_error(
    queue: Queue, findings: Iterator[Finding], held: Mapping[str, list[Finding]]
) -> Iterator[Finding]:
    """What waits is told also when some registry does not answer."""
    try:
        yield from findings
    except UnavailableError:
        _hold(queue, held)
        raise


def _needs_approval(finding: Finding, queue: Queue, *, approve: bool) -> bool:
    """Whether a promotion would start GPUs that nobody has asked for; what somebody took down is asked for again."""
    if not finding.starts_endpoint:
        return False
    if finding.was_taken_down:
        return True
    rule = finding.rule
    if queue.approvals.allow(rule.meaning):
        return False
    if approve:
        queue.approvals.approve(rule.meaning, rule.title, "--yes")
        logger.info("rule '%s' may start GPUs: approved with --yes", rule.title)
    return not approve


def _hold(queue: Queue, held: Mapping[str, Sequence[Finding]]) -> list[Held]:
    """Write down what waits for an approval; what is new is logged, once, with what it would cost."""
    records = []
    for meaning, findings in held.items():
        rule, jobs = findings[0].rule, tuple(finding.job for finding in findings)
        taken_down = {str(finding.job.endpoint) for finding in findings if finding.was_taken_down}
        record = Held(
            meaning=meaning,
            rule=rule.title,
            jobs=jobs,
            taken_down=tuple(sorted(taken_down)),
            deleted=tuple(sorted(finding.job.deployment for finding in findings if finding.was_deleted)),
        )
        known = queue.approvals.find_held(meaning)
        if known and known.asks_for_the_same_as(record):
            records.append(known)
            continue
        for finding in findings:
            _correct_tags(finding)
        command = Commands.approve(rule.title, queue.path)
        record = record.model_copy(update={"cost": describe_starts(rule, jobs), "command": command})
        queue.approvals.hold(record)
        logger.warning("%s; approve it with: %s", record.describe(), command)
        records.append(record)
    return records


def _correct_tags(finding: Finding) -> None:
    """Let the registry say what somebody deleted, or took down, by hand; once, when it is found out."""
    options, _ = parse_both(finding.rule.config, finding.rule.endpoint)
    job = finding.job
    if not (finding.was_deleted or finding.was_taken_down) or job.subject.is_on_hub or not options.registry_tags:
        return
    if warning := write_removal(job.subject.name, job.deployment, deleted=finding.was_deleted):
        logger.warning("%s", warning)


def _clear_failures(queue: Queue, jobs: Iterable[Job], wanted: Mapping[str, Finding]) -> None:
    """End the failures that nobody can mend: of what no rule asks for any more, or what is right by now.

    They are superseded, not dismissed: who asks for the same again gets it.
    """
    for job in _newest_of_each(jobs).values():
        finding = wanted.get(job.key)
        if job.state is not State.DEAD or (finding and finding.missing):
            continue
        reason = "Fireworks is as it should be by now" if finding else "no rule asks for it any more"
        with queue.locks.hold(job.key) as held:
            now = queue.ledger.find(job.id)
            if held and now and now.state is State.DEAD and queue.ledger.is_newest(now):
                logger.info("%s: %s; the failure of job %s is over", job.deployment, reason, job.id)
                queue.ledger.save(now, state=State.SUPERSEDED, error=f"{reason} ({now.error})")


def _newest_of_each(jobs: Iterable[Job]) -> dict[str, Job]:
    """The first job of each key."""
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(job.key, job)
    return found


def _find_promoted(jobs: Iterable[Job]) -> Iterator[Job]:
    """The last promotion of each key of which something may be on Fireworks, be it half a model."""

    def counts(job: Job) -> bool:
        given_up = job.state in (State.DEAD, State.DISMISSED)
        return job.state is State.DONE or (given_up and job.action == "promote")

    return (job for job in _newest_of_each(filter(counts, jobs)).values() if job.action == "promote")


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
        return _Account(deployments.list_existing(), deployments.list_endpoints())


def _compare(rule: Rule, job: Job, account: _Account, done: Job | None) -> Finding:
    endpoint = account.endpoints.get(EndpointName(job.endpoint)) if job.endpoint else None
    was_up = done is not None and done.version == job.version and done.result.get("endpoint") == job.endpoint
    return Finding(
        rule,
        job,
        _describe_missing(job, account, done),
        endpoint if endpoint and is_up(endpoint) else None,
        done is not None and done.action == "promote" and DeploymentName(job.deployment) not in account.deployments,
        bool(job.endpoint) and endpoint is None and was_up,
    )


def _describe_missing(job: Job, account: _Account, done: Job | None) -> str:
    existing = account.deployments.get(DeploymentName(job.deployment))
    if existing is None:
        return f"there is no deployment '{job.deployment}'"
    current = existing.current
    if current.model.state != READY:
        return f"'{job.deployment}' is {current.model.state}"
    source = current.stamp.source if current.stamp else ""
    same = done is not None and done.version == job.version and done.result.get("model") == current.model.name
    if source != job.subject.pin(job.version) and not same:
        return f"'{job.deployment}' holds {source or 'something this plugin did not make'}"
    if job.endpoint:
        endpoint = account.endpoints.get(EndpointName(job.endpoint))
        if endpoint is None or not find_places([endpoint], {current.model.name}):
            return f"endpoint '{job.endpoint}' does not serve {current.model.name}"
    return ""
