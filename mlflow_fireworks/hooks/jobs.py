"""What is to be promoted, what became of it, and where that is written down.

::

    QUEUED ─► RUNNING ─► DONE
      ▲  │       ├─────► DEAD         failed for good; remains visible, and can be tried again by hand
      │  │       └─────► SUPERSEDED   what it pointed to has moved on
      └──┼─ a try failed, or it is held back for now
         ├─────────────► HELD         somebody took it off by hand, after it was asked for
         ├─────────────► SUPERSEDED   a newer job for the same deployment came in
         └─────────────► DISMISSED    somebody does not want it, also after it was DEAD

A job says which pointer (an alias, a tag, a branch) a deployment follows, not which version: that is read when the
work begins and again before it is finished. So events may come twice, late, or in the wrong order.
"""

import hashlib
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, SerializationInfo

from mlflow_fireworks.hooks.records import Record
from mlflow_fireworks.registry.model_uri import LATEST
from mlflow_fireworks.registry.uri_types import HubUri, RegisteredUri

_ASKED_FOR = frozenset({"webhook", "by hand", "approval"})


def format_time(moment: float, precision: str = "milliseconds") -> str:
    """A Unix time in seconds as RFC 3339 in UTC: `2026-11-26T14:05:00.250Z`."""
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec=precision).replace("+00:00", "Z")


def show_time(moment: float) -> str:
    """The same for people, to the second."""
    return format_time(moment, "seconds")


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
    HELD = "held"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self not in (State.QUEUED, State.RUNNING)


class Subject(Record):
    """A pointer in a registry that a deployment follows.

    Args:
        kind: `alias`, `tag` (the newest version that has it) or `version` (the newest one, or the one named) of a
            registered MLflow model; `branch` or `hub_tag` of a Hugging Face repo.
        name: The registered model, or the repo as `org/name`.
        ref: The alias; `key=value`; a version number or ""; the branch; the tag.
        workspace: The workspace of the MLflow server that the model is in; "" where none is named.
    """

    kind: Literal["alias", "tag", "version", "branch", "hub_tag"]
    name: str
    ref: str = ""
    workspace: str = ""

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
        pointer = f"models:/{self.name} with tag {self.ref}" if self.kind == "tag" else str(self.uri)
        return f"{pointer} in workspace {self.workspace}" if self.workspace else pointer

    def pin(self, version: str) -> str:
        """The model URI of a version (or, on the Hub, of a commit) of it."""
        return str(self.uri.at(version))


class Progress(Record):
    """How far a running job is.

    Args:
        text: The step or the last thing it told.
        step: Number of the step, from 1; 0 before the first.
        steps: How many there are.
        size: Bytes to move; 0 when none are moving.
        moved: Bytes moved.
        began: Unix time in seconds at which they began to move.
    """

    text: str = ""
    step: int = 0
    steps: int = 0
    size: int = 0
    moved: int = 0
    began: UnixTime = 0.0


class Job(Record):
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
        by: Who asked for it by hand; "" where nobody did, or nobody said so.
        delivery: The sender's id of the webhook that asked for it, for the log; "" without one.
        asked: Unix time in seconds at which the pointer was moved, as its registry says; 0 where it does not.
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

    id: str
    action: Literal["promote", "remove"] = "promote"
    rule: str
    subject: Subject
    version: str
    target: str
    deployment: str
    endpoint: str | None = None
    cause: str = "webhook"
    by: str = ""
    delivery: str = ""
    asked: UnixTime = 0.0
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
    result: dict[str, Any] = Field(default_factory=dict)
    progress: Progress = Progress()

    @property
    def key(self) -> str:
        """What only one job at a time may work on."""
        return f"{self.target} {self.deployment}"

    @property
    def is_asked_for(self) -> bool:
        """Whether an event or a person asked for it, and not a comparison with what may have been there for years."""
        return self.cause in _ASKED_FOR

    @property
    def asked_at(self) -> float:
        """Unix time in seconds: what a person does later counts more."""
        return min(self.asked or self.created, self.created)

    def asks_for_the_same_as(self, other: "Job") -> bool:
        """Whether both want one thing done with one version."""
        return (self.action, self.version) == (other.action, other.version)


def newest_of_each(jobs: Iterable[Job]) -> dict[str, Job]:
    """The newest job of each key.

    Args:
        jobs: Newest first.
    """
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(job.key, job)
    return found


def name_job(*causes: str) -> str:
    """The id of the job that something causes: the same for the same causes."""
    return hashlib.sha256("\n".join(causes).encode()).hexdigest()[:16]


def to_json(record: Record) -> dict[str, Any]:
    """A record for scripts, its times as RFC 3339 in UTC."""
    return record.model_dump(mode="json", context={_FOR_SCRIPTS: True})
