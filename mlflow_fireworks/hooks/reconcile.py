"""Level-triggered: what the registry shows now against what is on Fireworks now, whatever events were lost."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.endpoint_config import parse_both
from mlflow_fireworks.errors import FireworksError, UnavailableError
from mlflow_fireworks.gateway.stamps import TakenOff, parse_time
from mlflow_fireworks.hooks.approvals import Held
from mlflow_fireworks.hooks.costs import describe_starts
from mlflow_fireworks.hooks.findings import Finding, compare
from mlflow_fireworks.hooks.history import Entry
from mlflow_fireworks.hooks.holds import Hold
from mlflow_fireworks.hooks.jobs import Job, State, newest_of_each
from mlflow_fireworks.hooks.queue import Queue
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.taken_off import accept_replacement, hold_of
from mlflow_fireworks.progress import logger
from mlflow_fireworks.promotion import write_removal, write_taken_off
from mlflow_fireworks.registry.workspaces import in_workspace

_ENDED_BADLY = (State.DEAD, State.HELD)


@dataclass(frozen=True)
class Compared:
    """What follows from a comparison.

    Args:
        enqueued: Jobs for what is missing.
        waiting: Deployments that are missing something too, and have a job that runs or waits.
        given_up: The jobs that failed at what is still missing, or were dismissed.
        held: What would start GPUs, and waits for an approval.
        holds: What somebody took off, and stays off.
    """

    enqueued: Sequence[Job]
    waiting: Sequence[str]
    given_up: Sequence[Job]
    held: Sequence[Held] = ()
    holds: Sequence[Hold] = ()

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
        parts += [f"{hold.describe()} (resume it with {hold.command})" for hold in self.holds]
        if self.waiting:
            parts.insert(0, f"in progress or waiting: {', '.join(self.waiting)}")
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
    taken_off: list[Hold] = []
    for finding in _holding_on_error(queue, compare(rules, jobs), held):
        wanted[finding.job.key] = finding
        newest = queue.ledger.newest(finding.job.key)
        is_busy = finding.job.key in busy or (newest is not None and not newest.state.is_final)
        if finding.taken_off and not is_busy:
            taken_off.append(_leave_off(queue, finding))
        elif not finding.missing:
            _go_on_from(queue, finding)
        elif is_busy:
            waiting.append(finding.job.deployment)
        elif newest is not None and newest.asks_for_the_same_as(finding.job) and newest.state in passed_over:
            given_up.append(newest)
        elif _needs_approval(finding, queue, approve=approve):
            held.setdefault(finding.rule.meaning, []).append(finding)
        else:
            queue.put(finding.job)
            enqueued.append(finding.job)
    _clear_failures(queue, jobs, wanted)  # only now, when every registry and account has answered
    records = _hold(queue, held)
    queue.approvals.keep_held(held)
    queue.holds.keep_taken_off([hold.key for hold in taken_off])
    return Compared(enqueued, waiting, given_up, records, taken_off)


def _leave_off(queue: Queue, finding: Finding) -> Hold:
    """Write down what somebody took off; what is new is logged, put into the history and on the registry's version."""
    job, found = finding.job, finding.taken_off
    assert found is not None  # noqa: S101 - for the type checker: the caller has looked
    hold = hold_of(job, found, queue.path)
    known = queue.holds.find(hold.key)
    if known and known.is_same_act(hold, parse_time(found.since)):
        if known.reason != hold.reason:  # by another trace, which may tell more
            queue.holds.put(hold.model_copy(update={"since": known.since}))
        return known
    if not found.since:  # nobody knows when; from now on, so that what is asked for later counts
        found = replace(found, since=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"))
        hold = hold_of(job, found, queue.path)
    queue.holds.put(hold)
    queue.history.add(Entry.of_hold(hold, found.hand.value), f"{hold.key} {hold.since}")
    logger.warning("%s; resume it with: %s", hold.describe(), hold.command)
    _correct_tags(finding, found)
    return hold


def _go_on_from(queue: Queue, finding: Finding) -> None:
    """The pointer shows by now what somebody had put there by hand: as if it had been promoted, and told as that."""
    if finding.by_hand is None:
        return
    queue.history.add(Entry.of_hand(finding.job, finding.by_hand), f"{finding.job.key} {finding.by_hand.since}")
    accept_replacement(finding.job)


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
    """Whether a promotion would start GPUs that nobody has asked for."""
    if not finding.starts_endpoint:
        return False
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
        record = Held(meaning=meaning, rule=rule.title, jobs=jobs)
        known = queue.approvals.find_held(meaning)
        if known and known.asks_for_the_same_as(record):
            records.append(known)
            continue
        command = Commands.approve(rule.title, queue.path)
        record = record.model_copy(update={"cost": describe_starts(rule, jobs), "command": command})
        queue.approvals.hold(record)
        logger.warning("%s; approve it with: %s", record.describe(), command)
        records.append(record)
    return records


def _correct_tags(finding: Finding, found: TakenOff) -> None:
    """Let the registry say what somebody took off, also with other tools; once, when it is found out."""
    options, _ = parse_both(finding.rule.config, finding.rule.endpoint)
    job = finding.job
    if job.subject.is_on_hub or not options.registry_tags:
        return
    with in_workspace(job.subject.workspace):
        warnings = [write_taken_off(job.subject.name, job.version, found.describe())]
        if finding.was_deleted or (job.endpoint and finding.endpoint is None):
            warnings.append(write_removal(job.subject.name, job.deployment, deleted=finding.was_deleted))
    for warning in filter(None, warnings):
        logger.warning("%s", warning)


def _clear_failures(queue: Queue, jobs: Iterable[Job], wanted: Mapping[str, Finding]) -> None:
    """End the failures that nobody can mend, and what was left off: no rule asks for it, or it is right by now.

    They are superseded, not dismissed: who asks for the same again gets it.
    """
    for job in newest_of_each(jobs).values():
        finding = wanted.get(job.key)
        if job.state not in _ENDED_BADLY or (finding and (finding.missing or finding.taken_off)):
            continue
        reason = "Fireworks is up to date by now" if finding else "no rule requires it any more"
        with queue.locks.hold(job.key) as held:
            now = queue.ledger.find(job.id)
            if held and now and now.state in _ENDED_BADLY and queue.ledger.is_newest(now):
                logger.info("%s: %s; job %s is closed", job.deployment, reason, job.id)
                queue.ledger.save(now, state=State.SUPERSEDED, error=f"{reason} ({now.error})")
