"""Which rules may start GPUs that no event asked for, and what waits until somebody says so.

The first comparison of a new rule finds every alias that has been there for years. Uploading what they show costs
little; GPUs cost dollars an hour. So what would start GPUs waits, once for each rule, until a person approves it.

Approvals are kept in the queue's storage, so that all processes on it see the same, and by what the rule means
(`Rule.meaning`): another model, target, endpoint or hardware is another rule.
"""

import time
from collections.abc import Callable, Collection
from typing import Any

from huey.constants import EmptyData
from huey.storage import BaseStorage
from pydantic import BaseModel, ConfigDict, Field

from mlflow_fireworks.hooks.jobs import Job, UnixTime, read_record, to_bytes, to_json
from mlflow_fireworks.names import enumerate_names

_APPROVED = "approved "
_HELD = "held "


class Approval(BaseModel):
    """That a rule may start GPUs.

    Args:
        rule: Title of the rule, for people.
        by: How it was approved: `hooks approve`, or `--yes`.
        given: Unix time in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    rule: str
    by: str
    given: UnixTime = Field(default_factory=time.time)


class Held(BaseModel):
    """What one rule would start, and waits for an approval.

    Args:
        meaning: Of the rule.
        rule: Its title.
        jobs: The promotions that would start an endpoint.
        cost: What they would cost, in words; "" when nobody has asked.
        command: What approves it, to be pasted.
        since: Unix time in seconds.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

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
        self._storage = storage
        self._clock = clock

    def allow(self, meaning: str) -> bool:
        """Whether a rule may start GPUs.

        Args:
            meaning: Of the rule.
        """
        found = self._storage.peek_data(_APPROVED + meaning)
        return found is not EmptyData and read_record(Approval, found) is not None

    def approve(self, meaning: str, rule: str, by: str) -> None:
        """Let a rule start GPUs from now on.

        Args:
            meaning: Of the rule.
            rule: Its title.
            by: How it was approved.
        """
        self._storage.put_data(_APPROVED + meaning, to_bytes(Approval(rule=rule, by=by, given=self._clock())))

    def hold(self, held: Held) -> None:
        """Write down what waits by one rule."""
        self._storage.put_data(_HELD + held.meaning, to_bytes(held))

    def find_held(self, meaning: str) -> Held | None:
        """What waits by one rule."""
        found = self._storage.peek_data(_HELD + meaning)
        return None if found is EmptyData else read_record(Held, found)

    def held(self) -> list[Held]:
        """All that waits, the oldest first."""
        items = self._storage.result_items().items()
        found = (read_record(Held, value) for key, value in items if key.startswith(_HELD))
        return sorted((held for held in found if held), key=lambda held: (held.since, held.rule))

    def release(self, meaning: str) -> None:
        """Forget what waits by one rule."""
        self._storage.delete_data(_HELD + meaning)

    def keep_held(self, meanings: Collection[str]) -> None:
        """Forget what waits by all other rules."""
        for held in self.held():
            if held.meaning not in meanings:
                self.release(held.meaning)

    def close(self) -> None:
        """Let go of the storage."""
        self._storage.close()
