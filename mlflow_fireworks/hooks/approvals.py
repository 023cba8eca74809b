"""Which rules may start GPUs that no event asked for, and what waits until somebody says so.

The first comparison of a new rule finds every alias that has been there for years. Uploading what they show costs
little; GPUs cost dollars an hour. So what would start GPUs waits, once for each rule, until a person approves it.

Approvals are kept in the queue's storage, so that all processes on it see the same, and by what the rule means
(`Rule.meaning`): another model, target, endpoint or hardware is another rule.
"""

import time
from collections.abc import Callable, Collection
from typing import Any

from huey.storage import BaseStorage
from pydantic import Field

from mlflow_fireworks.hooks.jobs import Job, UnixTime, to_json
from mlflow_fireworks.hooks.records import Record, Records
from mlflow_fireworks.names import enumerate_names


class Approval(Record):
    """That a rule may start GPUs.

    Args:
        rule: Title of the rule, for people.
        by: How it was approved: `hooks approve`, or `--yes`.
        given: Unix time in seconds.
    """

    rule: str
    by: str
    given: UnixTime = Field(default_factory=time.time)


class Held(Record):
    """What one rule would start, and waits for an approval.

    Args:
        meaning: Of the rule.
        rule: Its title.
        jobs: The promotions that would start an endpoint.
        cost: What they would cost, in words; "" when nobody has asked.
        command: What approves it, to be pasted.
        since: Unix time in seconds.
    """

    meaning: str
    rule: str
    jobs: tuple[Job, ...] = Field(min_length=1)
    cost: str = ""
    command: str = ""
    since: UnixTime = Field(default_factory=time.time)

    @property
    def endpoints(self) -> list[str]:
        """The endpoints that would be started."""
        return sorted({job.endpoint for job in self.jobs if job.endpoint})

    def asks_for_the_same_as(self, other: "Held") -> bool:
        """Whether both wait for the same endpoints."""
        return (self.rule, self.endpoints) == (other.rule, other.endpoints)

    def tell(self) -> dict[str, Any]:
        """For scripts."""
        told = to_json(self) | {"endpoints": self.endpoints}
        del told["jobs"]
        return told

    def describe(self) -> str:
        """What waits, in one line."""
        count = len(self.endpoints)
        what = self.cost or f"{count} endpoint{'s' if count > 1 else ''} ({enumerate_names(self.endpoints)})"
        return f"rule '{self.rule}' is waiting for approval to start GPUs: {what}"


class Approvals:
    """All approvals and what waits for one, in the key-value part of huey's storage.

    Args:
        storage: Holds nothing else.
        clock: Unix time in seconds.
    """

    def __init__(self, storage: BaseStorage, clock: Callable[[], float] = time.time) -> None:
        self._approved = Records(storage, Approval, "approved ")
        self._held = Records(storage, Held, "held ")
        self._clock = clock

    def allow(self, meaning: str) -> bool:
        """Whether a rule may start GPUs.

        Args:
            meaning: Of the rule.
        """
        return self._approved.find(meaning) is not None

    def approve(self, meaning: str, rule: str, by: str) -> None:
        """Let a rule start GPUs from now on.

        Args:
            meaning: Of the rule.
            rule: Its title.
            by: How it was approved.
        """
        self._approved.put(meaning, Approval(rule=rule, by=by, given=self._clock()))

    def hold(self, held: Held) -> None:
        """Write down what waits by one rule."""
        self._held.put(held.meaning, held)

    def find_held(self, meaning: str) -> Held | None:
        """What waits by one rule."""
        return self._held.find(meaning)

    def held(self) -> list[Held]:
        """All that waits, the oldest first."""
        return sorted(self._held.all(), key=lambda held: (held.since, held.rule))

    def release(self, meaning: str) -> None:
        """Forget what waits by one rule."""
        self._held.forget(meaning)

    def keep_held(self, meanings: Collection[str]) -> None:
        """Forget what waits by all other rules."""
        for held in self.held():
            if held.meaning not in meanings:
                self.release(held.meaning)
