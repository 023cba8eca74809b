"""A person's word that something is not promoted for now, and that it is again: `hooks hold` and `hooks resume`."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.errors import NotFoundError
from mlflow_fireworks.hooks.findings import compare
from mlflow_fireworks.hooks.history import Entry
from mlflow_fireworks.hooks.holds import Hold
from mlflow_fireworks.hooks.queue import Queue, again
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.subjects import find_subjects
from mlflow_fireworks.hooks.taken_off import hold_of
from mlflow_fireworks.names import did_you_mean, enumerate_names


@dataclass(frozen=True)
class Resumed:
    """What may be promoted again.

    Args:
        hold: What was lifted.
        job: Id of the promotion that was enqueued for it; "" when there was none to enqueue.
    """

    hold: Hold
    job: str = ""

    def tell(self) -> dict[str, Any]:
        """For scripts."""
        return {"what": self.hold.what, "kind": self.hold.kind, "reason": self.hold.reason, "job": self.job or None}

    def describe(self) -> str:
        """In one line."""
        job = self.hold.job
        if job is None:
            return f"resumed: {self.hold.what}; events that arrived in the meantime are acted on now"
        return f"resumed: {self.hold.what}; queued: {job.subject} = {job.version} (job {self.job})"


def hold_promotions(
    queue: Queue, what: str, load: Callable[[], Rules], *, seconds: float | None, reason: str, by: str
) -> Hold:
    """Promote nothing of a rule or a deployment for now; what runs already does not move its endpoint.

    Args:
        queue: Holds the promotions.
        what: Title of a rule, or a deployment.
        load: Reads the rule file.
        seconds: For how long; None until somebody resumes it.
        reason: For others.
        by: Name of the user.

    Raises:
        NotFoundError: There is no such rule or deployment.
        UnavailableError: A registry does not answer that has to be asked for the names of deployments.
    """
    _require_known(queue, what, load)
    now = time.time()
    until, command = now + seconds if seconds else 0.0, Commands.resume(what, queue.path)
    hold = Hold(kind="by hand", what=what, reason=reason, by=by, since=now, until=until, command=command)
    queue.holds.put(hold)
    queue.history.add(Entry.of_hold(hold, "hold", "held"), f"{hold.key} {hold.since}")
    return hold


def resume_promotions(queue: Queue, what: str, load: Callable[[], Rules], by: str) -> list[Resumed]:
    """End the holds of a rule or a deployment, and bring back what somebody took off of it.

    Args:
        queue: Holds the promotions.
        what: Title of a rule, or a deployment.
        load: Reads the rule file; asked only when the queue knows of nothing that is held.
        by: Name of the user.

    Raises:
        NotFoundError: Nothing of that name is held.
        UnavailableError: A registry or Fireworks does not answer that has to be asked what is held.
    """
    found = [hold for hold in queue.holds.all() if _is_meant(hold, what)]
    found = found or [hold for hold in _find_taken_off(queue, load()) if _is_meant(hold, what)]
    if not found:
        known = dict.fromkeys(hold.what for hold in queue.holds.all())
        hint = did_you_mean(what, known)
        raise NotFoundError(
            f"'{what}' is not on hold; on hold: {enumerate_names(known) or 'none'}" + (f"; {hint}" if hint else "")
        )
    return [_resume(queue, hold, by) for hold in found]


def _is_meant(hold: Hold, what: str) -> bool:
    return what in (hold.what, hold.job.rule if hold.job else "")


def _resume(queue: Queue, hold: Hold, by: str) -> Resumed:
    """In this order: whoever dies between leaves something that can be resumed again."""
    job = again(hold.job, "by hand", by) if hold.job else None
    if job:
        queue.put(job)
    queue.holds.lift(hold)
    queue.wake(hold)
    entry = Entry.of_hold(hold, "resume", "resumed", by)
    queue.history.add(entry, f"resume {hold.key} {entry.at}")
    return Resumed(hold, job.id if job else "")


def _find_taken_off(queue: Queue, rules: Rules) -> Iterator[Hold]:
    """On Fireworks and in the registry, where this queue has not looked yet."""
    for finding in compare(rules, queue.ledger.jobs()):
        if finding.taken_off:
            yield hold_of(finding.job, finding.taken_off, queue.path)


def _require_known(queue: Queue, what: str, load: Callable[[], Rules]) -> None:
    """A hold of a name that is misspelt would hold nothing, when it matters."""
    if any(what == job.deployment for job in queue.ledger.jobs()):
        return
    rules = load()
    titles = [rule.title for rule in rules]
    if what in titles:
        return
    deployments = dict.fromkeys(
        rule.name_deployment(subject, version) for rule in rules for subject, version in find_subjects(rule)
    )
    if what not in deployments:
        known = [*titles, *deployments]
        hint = did_you_mean(what, known)
        raise NotFoundError(
            f"there is no rule or deployment '{what}'; there are: {enumerate_names(known)}"
            + (f"; {hint}" if hint else "")
        )
