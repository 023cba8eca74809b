"""What was promoted, held, taken off and brought back, by whom, and how it ended: one line each, kept for good."""

import time
from typing import Any

from huey.storage import BaseStorage
from pydantic import Field

from mlflow_fireworks.gateway.stamps import TakenOff, parse_time
from mlflow_fireworks.hooks.holds import Hold
from mlflow_fireworks.hooks.jobs import Job, State, UnixTime, show_time, to_json
from mlflow_fireworks.hooks.records import Record, Records

_EVENT, _COMPARISON, _PERSON = "event", "reconcile", "person"


class Entry(Record):
    """One line.

    Args:
        at: Unix time in seconds at which it was over, or a person did it.
        what: `promotion` or `removal`; of holds `hold`, `resume`, `rollback`, `removal`, `pause` or `replacement`.
        who: `event`, `reconcile` or `person`.
        by: Name of the user, where a person is known to have asked for it.
        rule: Title of the rule; "" for what was held without one.
        pointer: What the rule follows: `models:/chat@champion`.
        target: Deployment target.
        deployment: Name on Fireworks; of a hold what was named.
        endpoint: The endpoint; None when there is none.
        before: The version that was promoted last before; "" when there was none.
        after: The version that it is about.
        outcome: The state a job ended in; of holds `held`, `resumed` or `off`.
        seconds: From the event to the end.
        reason: Why, in one line.
        job: Id of the job; "" without one.
    """

    at: UnixTime = Field(default_factory=time.time)
    what: str
    who: str
    by: str = ""
    rule: str = ""
    pointer: str = ""
    target: str = ""
    deployment: str = ""
    endpoint: str | None = None
    before: str = ""
    after: str = ""
    outcome: str = ""
    seconds: float = 0.0
    reason: str = ""
    job: str = ""

    @classmethod
    def of_job(cls, job: Job, before: str) -> "Entry":
        """A job that is over.

        Args:
            job: The job.
            before: The version that was promoted last before.
        """
        who = {"webhook": _EVENT, "reconcile": _COMPARISON}.get(job.cause, _PERSON)
        return cls(
            at=job.updated,
            what="removal" if job.action == "remove" else "promotion",
            who=who,
            outcome=job.state.value,
            before=before,
            seconds=round(job.updated - job.created, 3),
            reason=job.error,
            **_fields_of(job),
        )

    @classmethod
    def of_hold(cls, hold: Hold, what: str, outcome: str = "off", by: str = "") -> "Entry":
        """A hold, or its end.

        Args:
            hold: The hold.
            what: Kind of the entry.
            outcome: As above.
            by: Who did it; the one who holds when "".
        """
        fields = _fields_of(hold.job) if hold.job else {"deployment": hold.what}
        told = {"by": by or hold.by, "reason": hold.reason, "at": time.time() if by else hold.since}
        return cls(what=what, who=_PERSON, outcome=outcome, **fields | told)

    @classmethod
    def of_hand(cls, job: Job, done: TakenOff) -> "Entry":
        """What somebody promoted without the hooks.

        Args:
            job: What would have promoted it.
            done: What it replaced.
        """
        told = {"by": done.by, "at": parse_time(done.since), "reason": done.reason, "job": ""}
        return cls(what="promotion", who=_PERSON, outcome=State.DONE.value, **_fields_of(job) | told)

    def tell(self) -> dict[str, Any]:
        """For scripts."""
        told = to_json(self)
        return told | {"from": told.pop("before") or None, "to": told.pop("after") or None}

    def describe(self) -> str:
        """For people, in one line."""
        asked = f"{self.who} ({self.by})" if self.by else self.who
        moved = " -> ".join(part for part in (self.before, self.after) if part)
        place = f"{self.deployment}" + (f" on {self.endpoint}" if self.endpoint else "")
        line = f"{show_time(self.at)}  {self.what:<11}  {self.outcome:<10}  {place}" + (f" {moved}" if moved else "")
        line += f"  by {asked}" + (f", took {self.seconds:.0f} s" if self.seconds >= 1 else "")
        return line + (f": {self.reason}" if self.reason else "")


class History:
    """All lines, in the key-value part of huey's storage.

    Args:
        storage: Holds nothing else.
    """

    def __init__(self, storage: BaseStorage) -> None:
        self._records = Records(storage, Entry)

    def add(self, entry: Entry, key: str) -> None:
        """Write a line down, once.

        Args:
            entry: The line.
            key: Names what happened: who tells it again writes nothing.
        """
        self._records.put_if_new(key, entry)

    def all(self) -> list[Entry]:
        """All lines, the oldest first."""
        return sorted(self._records.all(), key=lambda entry: entry.at)


def _fields_of(job: Job) -> dict[str, Any]:
    return {
        "by": job.by,
        "rule": job.rule,
        "pointer": str(job.subject),
        "target": job.target,
        "deployment": job.deployment,
        "endpoint": job.endpoint,
        "after": job.version,
        "job": job.id,
    }
