"""A person's word that rules may start GPUs: `hooks approve`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlflow_fireworks.errors import NotFoundError
from mlflow_fireworks.hooks.approvals import Held
from mlflow_fireworks.hooks.queue import Queue, again
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.names import did_you_mean, enumerate_names

_BY = "hooks approve"


@dataclass(frozen=True)
class Approved:
    """What somebody has approved.

    Args:
        rule: Title of the rule.
        endpoints: Those that waited for it, whose promotions were enqueued.
    """

    rule: str
    endpoints: tuple[str, ...] = ()

    def tell(self) -> dict[str, Any]:
        """For scripts."""
        return {"rule": self.rule, "endpoints": list(self.endpoints)}

    def describe(self) -> str:
        """In one line."""
        now = f"; queued: {enumerate_names(self.endpoints)}" if self.endpoints else ""
        return f"approved: rule '{self.rule}' may start GPUs within its limits{now}"


def approve_rules(queue: Queue, title: str | None, load: Callable[[], Rules], by: str = "") -> list[Approved]:
    """Let rules start GPUs, and enqueue what waited for that.

    Args:
        queue: Holds what waits.
        title: Of one rule; None means all that wait, or else all that may start GPUs at all.
        load: Reads the rule file; asked only when nothing waits.
        by: Name of the user.

    Raises:
        NotFoundError: There is nothing to approve.
        InvalidConfigError: As `load_rules`.
    """
    waiting = [held for held in queue.approvals.held() if title in (None, held.rule)]
    if waiting:
        return [_approve_held(queue, held, by) for held in waiting]
    known: dict[str, Rule] = {rule.title: rule for rule in load() if rule.endpoint}
    chosen = known if title is None else {title: known[title]} if title in known else {}
    if not chosen:
        if title is None:
            raise NotFoundError("there is nothing to approve: no rule has endpoint:, so none starts GPUs")
        raise NotFoundError(
            f"there is no rule '{title}' that starts GPUs; those that do: {enumerate_names(known) or 'none'}; "
            + did_you_mean(title, known)
        )
    for rule in chosen.values():
        queue.approvals.approve(rule.meaning, rule.title, _BY)
    return [Approved(name) for name in chosen]


def _approve_held(queue: Queue, held: Held, by: str) -> Approved:
    """In this order: whoever dies between leaves something approved that the next comparison finds."""
    queue.approvals.approve(held.meaning, held.rule, _BY)
    for job in held.jobs:
        queue.put(again(job, "approval", by))
    queue.approvals.release(held.meaning)
    return Approved(held.rule, tuple(held.endpoints))
