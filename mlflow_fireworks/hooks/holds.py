"""What is not promoted for now, because a person said so or did so, as all processes on one queue see it.

``by hand``    `hooks hold`: nothing of a rule or a deployment is promoted; events are kept, the newest counts later.
``taken off``  a rollback, a deletion or a pause: what a person did stays so until the pointer moves, or is set again.

Both are lifted by `hooks resume`. The facts about what was taken off are on Fireworks and in the registry; what is here
was found there by the last comparison.
"""

import time
from collections.abc import Callable, Collection
from typing import Any, Literal

from huey.storage import BaseStorage
from pydantic import Field

from mlflow_fireworks.hooks.jobs import Job, UnixTime, to_json
from mlflow_fireworks.hooks.records import Record, Records

BY_HAND, TAKEN_OFF = "by hand", "taken off"

_PROOF_SECONDS = 300.0


class Hold(Record):
    """One hold.

    Args:
        kind: Why: see the module.
        what: The title of a rule, or a deployment.
        reason: For people; "" when nobody gave one.
        by: Name of the user; "" when that is not known.
        since: Unix time in seconds; of what was taken off with other tools, when that was found.
        until: Unix time in seconds at which it ends by itself; 0 when it does not.
        job: What would be promoted; None for those by hand.
        command: What lifts it, to be pasted.
    """

    kind: Literal["by hand", "taken off"]
    what: str
    reason: str = ""
    by: str = ""
    since: UnixTime = Field(default_factory=time.time)
    until: UnixTime = 0.0
    job: Job | None = None
    command: str = ""

    @property
    def key(self) -> str:
        """What names it in the storage."""
        return f"{self.kind} {self.job.key if self.job else self.what}"

    def is_about(self, job: Job) -> bool:
        """Whether a promotion is held by it."""
        return job.key == self.job.key if self.job else self.what in (job.rule, job.deployment)

    def is_same_act(self, other: "Hold", since: float) -> bool:
        """Whether another hold tells of what this one does, perhaps found by another trace.

        An endpoint that has moved is seen before its mover, having proven it, writes down who did it.

        Args:
            other: The other.
            since: Unix time in seconds of what it tells of; 0 when that is not known.
        """
        versions = {hold.job.version for hold in (self, other) if hold.job}
        return len(versions) == 1 and (0 < since <= self.since + _PROOF_SECONDS or self.reason == other.reason)

    def is_over(self, now: float) -> bool:
        """Whether it has ended by itself."""
        return bool(self.until) and self.until <= now

    def describe(self) -> str:
        """In one line, without its age: `chat is held by alice: the evaluation is not done`."""
        by = f" by {self.by}" if self.by else ""
        verb = "is held" if self.kind == BY_HAND else "was taken off"
        return f"{self.what} {verb}{by}" + (f": {self.reason}" if self.reason else "")

    def tell(self) -> dict[str, Any]:
        """For scripts."""
        told = to_json(self) | {"deployment": self.job.deployment if self.job else None}
        return told | {"version": self.job.version if self.job else None, "job": None}


class Holds:
    """All holds, in the key-value part of huey's storage.

    Args:
        storage: Holds nothing else.
        clock: Unix time in seconds.
    """

    def __init__(self, storage: BaseStorage, clock: Callable[[], float] = time.time) -> None:
        self._records = Records(storage, Hold)
        self._clock = clock

    def put(self, hold: Hold) -> None:
        """Write one down; one about the same is replaced."""
        self._records.put(hold.key, hold)

    def lift(self, hold: Hold) -> None:
        """Forget one."""
        self._records.forget(hold.key)

    def all(self) -> list[Hold]:
        """Those that are in force, the oldest first."""
        now = self._clock()
        return sorted((hold for hold in self._records.all() if not hold.is_over(now)), key=lambda hold: hold.since)

    def find_by_hand(self, job: Job) -> Hold | None:
        """What a person holds a promotion with; of several the one that ends last."""
        found = [hold for hold in self.all() if hold.kind == BY_HAND and hold.is_about(job)]
        return max(found, key=lambda hold: hold.until or float("inf"), default=None)

    def find(self, key: str) -> Hold | None:
        """The one of a key."""
        return next((hold for hold in self.all() if hold.key == key), None)

    def keep_taken_off(self, keys: Collection[str]) -> list[Hold]:
        """Forget what is not off any more; returns that."""
        over = [hold for hold in self.all() if hold.kind == TAKEN_OFF and hold.key not in keys]
        for hold in over:
            self.lift(hold)
        return over
