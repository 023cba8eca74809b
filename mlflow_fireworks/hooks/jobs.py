"""What is to be promoted, what became of it, and where that is written down.

::

    QUEUED ─► RUNNING ─► DONE
      ▲  │       ├─────► DEAD         failed for good; remains visible, and can be tried again by hand
      │  │       └─────► SUPERSEDED   what it pointed to has moved on
      └──┼─ a try failed
         ├─────────────► SUPERSEDED   a newer job for the same deployment came in
         └─────────────► DISMISSED    somebody does not want it, also after it was DEAD

A job says which pointer (an alias, a tag, a branch) a deployment follows, not which version: that is read when the
work begins and again before it is finished. So events may come twice, late, or in the wrong order.
"""

import hashlib
import time
from collections.abc import Callable
from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar

from huey.constants import EmptyData
from huey.storage import BaseStorage
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SerializationInfo

from mlflow_fireworks.progress import logger
from mlflow_fireworks.registry.model_uri import LATEST
from mlflow_fireworks.registry.uri_types import HubUri, RegisteredUri

RecordT = TypeVar("RecordT", bound=BaseModel)

_ASKED_FOR = frozenset({"webhook", "by hand", "approval"})
_COMPARISON = "comparison"  # no job's key: those hold a space
_KEPT_JOBS = 1000
_KEPT_SECONDS = 24 * 3600.0
"""An id is a delivery's memory too: it is kept far longer than a delivery may be old."""


def format_time(moment: float) -> str:
    """A Unix time in seconds as RFC 3339 in UTC: `2026-11-26T14:05:00.250Z`."""
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write_time(moment: float, info: SerializationInfo) -> float | str | None:
    if not (info.context or {}).get(_FOR_SCRIPTS):
        return moment
    return format_time(moment) if moment else None


_FOR_SCRIPTS = "for scripts"
UnixTime = Annotated[float, PlainSerializer(_write_time)]
"""Unix time in seconds, and 0 for never. It is stored as that number; `to_json` makes it RFC 3339, or null."""


class State(str, Enum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    SUPERSEDED = "superseded"
    DEAD = "dead"
    DISMISSED = "dismissed"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self not in (State.QUEUED, State.RUNNING)


class Subject(BaseModel):
    """A pointer in a registry that a deployment follows.

    Args:
        kind: `alias`, `tag` (the newest version that has it) or `version` (the newest one, or the one named) of a
            registered MLflow model; `branch` or `hub_tag` of a Hugging Face repo.
        name: The registered model, or the repo as `org/name`.
        ref: The alias; `key=value`; a version number or ""; the branch; the tag.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["alias", "tag", "version", "branch", "hub_tag"]
    name: str
    ref: str = ""

    @property
    def is_on_hub(self) -> bool:
        """Whether it is a Hugging Face repo."""
        return self.kind in ("branch", "hub_tag")

    @property
    def uri(self) -> RegisteredUri | HubUri:
        """The model URI that means the same; of a tag, which no URI can name, that of the newest version."""
        if self.is_on_hub:
            return HubUri(self.name, self.ref or None)
        if self.kind == "alias":
            return RegisteredUri(self.name, alias=self.ref)
        if self.kind == "version" and self.ref:
            return RegisteredUri(self.name, self.ref)
        return RegisteredUri(self.name, stage=LATEST)

    def __str__(self) -> str:
        """For people: `models:/chat@champion`."""
        return f"models:/{self.name} with tag {self.ref}" if self.kind == "tag" else str(self.uri)

    def pin(self, version: str) -> str:
        """The model URI of a version (or, on the Hub, of a commit) of it."""
        return str(self.uri.at(version))


class Progress(BaseModel):
    """How far a running job is.

    Args:
        text: The step or the last thing it told.
        step: Number of the step, from 1; 0 before the first.
        steps: How many there are.
        size: Bytes to move; 0 when none are moving.
        moved: Bytes moved.
        began: Unix time in seconds at which they began to move.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: str = ""
    step: int = 0
    steps: int = 0
    size: int = 0
    moved: int = 0
    began: UnixTime = 0.0


class Job(BaseModel):
    """One promotion (or removal) to be done.

    Args:
        id: Made from what caused it, so that the same delivery is the same job.
        action: `promote`, or `remove` when the pointer is gone.
        rule: Name of the rule that asked for it.
        subject: The pointer it follows.
        version: The version or commit that the pointer showed when it was last read.
        target: Deployment target, as for `mlflow deployments -t`.
        deployment: Name on Fireworks.
        endpoint: The endpoint to be moved, or None.
        cause: What asked for it, for people: `webhook`, `reconcile`, `by hand`, `approval`.
        recurs: Whether its id may come again for something new, as when a branch goes from A to B, back, and to B.
        state: How far it is.
        attempts: Tries that failed.
        strikes: Those of them whose failure does not pass by itself; a few of these end it.
        waits_for: What the next try waits for, for people; "" when that is not known.
        crashes: Tries that ended with the worker's death.
        worker: The heartbeat's id of who took it up last; "" before, and where nobody tells.
        taken_up: Unix time in seconds at which that was.
        created: Unix time in seconds.
        updated: Unix time in seconds of the last change.
        not_before: Unix time in seconds of the next try.
        error: Why the last try failed, or why it was superseded; one line.
        result: What `promote` returned.
        progress: While it runs.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    action: Literal["promote", "remove"] = "promote"
    rule: str
    subject: Subject
    version: str
    target: str
    deployment: str
    endpoint: str | None = None
    cause: str = "webhook"
    recurs: bool = False
    state: State = State.QUEUED
    attempts: int = 0
    strikes: int = 0
    waits_for: str = ""
    crashes: int = 0
    worker: str = ""
    taken_up: UnixTime = 0.0
    created: UnixTime = Field(default_factory=time.time)
    updated: UnixTime = Field(default_factory=time.time)
    not_before: UnixTime = 0.0
    error: str = ""
    result: dict[str, Any] = {}
    progress: Progress = Progress()

    @property
    def key(self) -> str:
        """What only one job at a time may work on."""
        return f"{self.target} {self.deployment}"

    @property
    def is_asked_for(self) -> bool:
        """Whether an event or a person asked for it, and not a comparison with what may have been there for years."""
        return self.cause in _ASKED_FOR

    def asks_for_the_same_as(self, other: "Job") -> bool:
        """Whether both want one thing done with one version."""
        return (self.action, self.version) == (other.action, other.version)


class Comparison(BaseModel):
    """The last time that the registry was compared with Fireworks.

    Args:
        error: Why it could not be done for all rules; "" when it was.
        unreachable: What did not answer, for a headline; "" when it failed for another reason.
        failing_since: Unix time in seconds of the first of those that failed in a row; 0 when the last one did not.
        succeeded: Unix time in seconds of the last one without an error; 0 when there was none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    error: str = ""
    unreachable: str = ""
    failing_since: UnixTime = 0.0
    succeeded: UnixTime = 0.0


def name_job(*causes: str) -> str:
    """The id of the job that something causes: the same for the same causes."""
    return hashlib.sha256("\n".join(causes).encode()).hexdigest()[:16]


class Ledger:
    """All jobs, in the key-value part of huey's storage: SQLite and Redis alike, with the same code.

    Whoever holds a job's key writes its record, so no record has two writers.

    Args:
        jobs: For the records.
        heads: For the newest job of each key.
        clock: Unix time in seconds.
    """

    def __init__(self, jobs: BaseStorage, heads: BaseStorage, clock: Callable[[], float] = time.time) -> None:
        self._jobs = jobs
        self._heads = heads
        self._clock = clock
        self._told: set[str] = set()

    def accept(self, job: Job) -> bool:
        """Write a new job down; False when its id is known already, and not for something that has passed."""
        if not self._jobs.put_if_empty(job.id, to_bytes(job)):
            known = self.find(job.id)
            # A record that cannot be read must not make its event a duplicate, which would lose it.
            if known and not (job.recurs and self._has_passed(known)):
                return False
            self._jobs.put_data(job.id, to_bytes(job))
        self._heads.put_data(job.key, job.id.encode())
        return True

    def _has_passed(self, known: Job) -> bool:
        if not known.state.is_final:
            return False
        return known.state is State.DEAD or not self.is_newest(known)

    def find(self, job_id: str) -> Job | None:
        """One job."""
        found = self._jobs.peek_data(job_id)
        return None if found is EmptyData else read_record(Job, found)

    def save(self, job: Job, **changes: Any) -> Job:
        """Write a job's new state down.

        Args:
            job: As it was.
            changes: Its new fields.

        Returns:
            The job as it is now.
        """
        job = job.model_copy(update={**changes, "updated": self._clock()})
        self._jobs.put_data(job.id, to_bytes(job))
        return job

    def is_newest(self, job: Job) -> bool:
        """Whether no newer job came in for the same key.

        The head alone does not tell: whoever wrote the job down may have died before it made it the head.
        """
        head = self.newest(job.key)
        return head is None or head.id == job.id or head.created < job.created

    def newest(self, key: str) -> Job | None:
        """The newest job of a key."""
        head = self._heads.peek_data(key)
        return None if head is EmptyData else self.find(bytes(head).decode())

    def jobs(self) -> list[Job]:
        """All jobs that can be read, newest first."""
        return self.read()[0]

    def read(self) -> tuple[list[Job], list[str]]:
        """All jobs, newest first, and the ids of those that cannot be read; each of these is logged once."""
        found = {key: read_record(Job, value) for key, value in self._jobs.result_items().items()}
        unreadable = sorted(str(key) for key, job in found.items() if job is None)
        for job_id in unreadable:
            if job_id not in self._told:
                self._told.add(job_id)
                logger.warning("job %s cannot be read: it is damaged, or of another release", job_id)
        return sorted((job for job in found.values() if job), key=lambda job: job.created, reverse=True), unreadable

    def comparison(self) -> Comparison | None:
        """How the last comparison with the registry went; None before the first."""
        found = self._heads.peek_data(_COMPARISON)
        return None if found is EmptyData else read_record(Comparison, found)

    def save_comparison(self, error: str, unreachable: str = "") -> None:
        """Write down how a comparison went.

        Args:
            error: Why it could not be done; "" when it was.
            unreachable: What did not answer, for a headline.
        """
        last, moment = self.comparison() or Comparison(), self._clock()
        now = Comparison(succeeded=moment)
        if error:
            since = last.failing_since or moment
            now = Comparison(error=error, unreachable=unreachable, failing_since=since, succeeded=last.succeeded)
        self._heads.put_data(_COMPARISON, to_bytes(now))

    def close(self) -> None:
        """Let go of the storage."""
        self._jobs.close()
        self._heads.close()

    def prune(self) -> None:
        """Forget old jobs that are over.

        Of each key the last that succeeded stays, as the memory of what is where, and a failure that nothing followed.
        """
        done: set[str] = set()
        for number, job in enumerate(self.jobs()):
            last_done = job.state is State.DONE and job.key not in done
            if last_done:
                done.add(job.key)
            old = number >= _KEPT_JOBS and self._clock() - job.updated > _KEPT_SECONDS
            failure = job.state in (State.DEAD, State.DISMISSED) and self.is_newest(job)
            if old and job.state.is_final and not last_done and not failure:
                self._jobs.delete_data(job.id)


def to_json(record: BaseModel) -> dict[str, Any]:
    """A record for scripts, its times as RFC 3339 in UTC."""
    return record.model_dump(mode="json", context={_FOR_SCRIPTS: True})


def to_bytes(record: BaseModel) -> bytes:
    """A record as it is stored."""
    return record.model_dump_json().encode()


def read_record(kind: type[RecordT], value: bytes) -> RecordT | None:
    """A stored record; None for one that a different release wrote in a way that this one cannot read.

    Args:
        kind: What it should be.
        value: As stored.
    """
    try:
        return kind.model_validate_json(bytes(value))
    except ValueError:
        return None
