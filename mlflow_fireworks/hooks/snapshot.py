"""The queue at one moment: what is where, what runs, what waits and for whom, and who works."""

import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.hooks.approvals import Held
from mlflow_fireworks.hooks.deliveries import Delivery
from mlflow_fireworks.hooks.heartbeats import BEAT_SECONDS, MISSED_BEATS, Heartbeat
from mlflow_fireworks.hooks.holds import Hold
from mlflow_fireworks.hooks.jobs import Job, State, format_time, newest_of_each, to_json
from mlflow_fireworks.hooks.ledger import Comparison
from mlflow_fireworks.hooks.options import locate_queue
from mlflow_fireworks.hooks.outage import Away, name_minute
from mlflow_fireworks.hooks.queue import OF_PEOPLE, Queue, open_queue
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.progress import format_seconds

_HISTORY = 50
_NAMED = 3
_LONG_SECONDS = MISSED_BEATS * BEAT_SECONDS
"""What waits for a worker this long waits in vain if no worker lives: those that just start have shown themselves."""
_TAKEN_UP_SECONDS = 10.0
"""Between two looks of a worker's process for what is left (`service.SWEEP_SECONDS`)."""


@dataclass(frozen=True)
class Snapshot:
    """All jobs and workers at one moment.

    Args:
        taken: Unix time in seconds.
        waiting: Ids that wait for a worker.
        jobs: Newest first.
        workers: Those that live.
        comparison: How the last comparison with the registry went; None before the first.
        deliveries: The last webhooks, newest first.
        unreadable: Ids of jobs that cannot be read.
        openings: In how many seconds a worker can take up the jobs whose worker is gone, by id.
        away: The storage, if it does not answer: then all else is what was read last, or nothing.
        rules_fault: Why the rule file as it is now cannot be used; "" when it is in force.
        held: What would start GPUs, and waits for an approval.
        holds: What is not promoted for now, because a person said so or did so.
        queue: The queue's file, for commands in messages; None as of `Queue.path`.
    """

    taken: float
    waiting: int
    jobs: tuple[Job, ...]
    workers: tuple[Heartbeat, ...] = ()
    comparison: Comparison | None = None
    deliveries: tuple[Delivery, ...] = ()
    unreadable: tuple[str, ...] = ()
    openings: Mapping[str, float] = field(default_factory=dict)
    away: Away | None = None
    rules_fault: str = ""
    held: tuple[Held, ...] = ()
    holds: tuple[Hold, ...] = ()
    queue: str | None = None

    @cached_property
    def promoted(self) -> list[Job]:
        """The last job of each deployment that put something there."""
        last: dict[str, Job] = {}
        for job in sorted(self.jobs, key=lambda job: job.updated):
            if job.state is State.DONE:
                last[job.key] = job
        return sorted((job for job in last.values() if job.action == "promote"), key=lambda job: job.key)

    @cached_property
    def unfinished(self) -> list[Job]:
        """What runs, then what waits; the oldest first."""
        found = [job for job in reversed(self.jobs) if not job.state.is_final]
        return sorted(found, key=lambda job: job.state is not State.RUNNING)

    @cached_property
    def dead(self) -> list[Job]:
        """What was given up and not followed by anything newer for the same deployment."""
        return [job for job in newest_of_each(self.jobs).values() if job.state is State.DEAD]

    @property
    def retried(self) -> list[Job]:
        """What failed so far and is tried again."""
        return [job for job in self.unfinished if job.attempts]

    @property
    def history(self) -> list[Job]:
        """The last jobs that are over."""
        return [job for job in self.jobs if job.state.is_final][:_HISTORY]

    @property
    def slots(self) -> int:
        """How many jobs the workers that live can do at the same time."""
        return sum(worker.slots for worker in self.workers)

    @cached_property
    def left_waiting(self) -> dict[str, float]:
        """Ids of the jobs that a worker could take up now, and since when, as Unix time in seconds."""
        found = {}
        for job in self.unfinished:
            since = job.updated if job.state is State.RUNNING else max(job.created, job.not_before)
            if (self.is_abandoned(job) or job.state is State.QUEUED) and since <= self.taken:
                found[job.id] = since
        return found

    @property
    def longest_wait_seconds(self) -> float:
        """How long the oldest of them has waited; 0 when none does."""
        return self.taken - min(self.left_waiting.values(), default=self.taken)

    @property
    def lack(self) -> str:
        """Why work is not done though some waits, with what to do about it; "" while it is."""
        if self.away or self.workers or self.longest_wait_seconds <= _LONG_SECONDS:
            return ""
        count = len(self.left_waiting)
        waits = f"{count} jobs wait, the oldest" if count > 1 else "1 job waits"
        return f"no worker is alive; {waits} for {format_seconds(self.longest_wait_seconds)}; {self._start}"

    @property
    def _start(self) -> str:
        return f"start one on the same queue: {Commands.start_worker(self.queue)}"

    def describe_retried(self) -> str:
        """How many of these there are, how many rules wait for an approval, and how many holds; "" when none."""
        count, rules, holds = len(self.retried), len(self.held), len(self.holds)
        parts = [f"{rules} rule{'s wait' if rules > 1 else ' waits'} for approval to start GPUs"] if rules else []
        if holds:
            parts.append(f"{holds} hold{'s' if holds > 1 else ''} by hand")
        if count:
            parts.append(f"{count} promotion{'s' if count > 1 else ''} failed and will be retried")
        return "; ".join(parts)

    def describe_unreadable(self) -> str:
        """Which jobs cannot be read, and what to expect; "" when all can."""
        count = len(self.unreadable)
        if not count:
            return ""
        ids = enumerate_names(self.unreadable, _NAMED)
        return (
            f"{count} job{'s' if count > 1 else ''} cannot be read ({ids}): damaged, or from another release; the "
            "next comparison with the registry, or a worker of the release that wrote them, does what they asked for"
        )

    @property
    def troubles(self) -> list[str]:
        """What is wrong, the worst first, in a few words each."""
        failed = len(self.dead)
        comparison = self.comparison or Comparison()
        not_compared = f"Cannot reach {comparison.unreachable} since {name_minute(comparison.failing_since)}"
        found = {
            f"Cannot reach {self.away.where} since {name_minute(self.away.since)}" if self.away else "": bool(
                self.away
            ),
            "The rule file is not valid": self.rules_fault != "",
            "No worker is alive": bool(self.lack),
            f"{failed} promotion{'s' if failed > 1 else ''} failed": failed > 0,
            not_compared if comparison.unreachable else "Not compared with the registry": comparison.error != "",
        }
        return [trouble for trouble, is_so in found.items() if is_so]

    def is_abandoned(self, job: Job) -> bool:
        """Whether the worker that a job was taken up by is gone."""
        return (
            job.state is State.RUNNING
            and job.worker != ""  # of a release that told nobody
            and all(job.worker != worker.id for worker in self.workers)
        )

    def describe(self, job: Job) -> str:
        """What a job is really doing, in a few words."""
        if self.is_abandoned(job):
            return f"running (its worker is gone; will be restarted {self._describe_opening(job)})"
        if job.state is State.QUEUED and (job.attempts or job.waits_for):
            return describe_wait(job) if job.not_before > self.taken else f"waiting for a worker, {_name_try(job)}"
        return job.state.value

    def _describe_opening(self, job: Job) -> str:
        seconds = self._takeover_seconds(job)
        return "when a worker is running" if seconds is None else f"in about {format_seconds(seconds)}"

    def jobs_of(self, worker: Heartbeat) -> list[Job]:
        """What a worker is doing."""
        return [job for job in self.unfinished if job.state is State.RUNNING and job.worker == worker.id]

    def describe_readiness(self) -> dict[str, Any]:
        """Whether what waits will be done, for scripts: `ok`, and in `reason` why not, or what to expect."""
        if self.away:
            return {"ok": False, "reason": str(self.away)}
        reason = self.lack or self.rules_fault or ("" if self.workers else f"no worker is running yet; {self._start}")
        return {
            "ok": not self.lack,
            "workers": self.slots,
            "waiting": len(self.left_waiting),
            "longest_wait_seconds": round(self.longest_wait_seconds, 1),
        } | ({"reason": reason} if reason else {})

    def tell(self, job: Job) -> dict[str, Any]:
        """A job for scripts: its record, and what it is really doing."""
        return to_json(job) | {
            "revision": job.result.get("revision"),
            "doing": self.describe(job),
            "worker_is_gone": self.is_abandoned(job),
            "taken_up_again_in_seconds": self._takeover_seconds(job),
        }

    def _takeover_seconds(self, job: Job) -> float | None:
        """How long it takes at most until another worker takes a job up; None when none will."""
        if not self.workers or not self.is_abandoned(job):
            return None
        return self.openings.get(job.id, 0.0) + _TAKEN_UP_SECONDS

    def to_dict(self) -> dict[str, Any]:
        """For scripts."""
        lists = {"failures": self.dead, "queue": self.unfinished, "promoted": self.promoted, "history": self.history}
        workers = [
            to_json(worker)
            | {"jobs": [{"id": job.id, "since": format_time(job.taken_up)} for job in self.jobs_of(worker)]}
            for worker in self.workers
        ]
        return {
            "taken": format_time(self.taken),
            "waiting": self.waiting,
            "longest_wait_seconds": self.longest_wait_seconds,
            "workers": workers,
            "reason": str(self.away) if self.away else self.lack,
            "away": {"where": self.away.where, "since": format_time(self.away.since), "reason": self.away.reason}
            if self.away
            else None,
            "rules_fault": self.rules_fault,
            "unreadable": self.unreadable,
            "comparison": to_json(self.comparison) if self.comparison else None,
            "deliveries": [to_json(delivery) for delivery in self.deliveries],
            "held": [held.tell() for held in self.held],
            "holds": [hold.tell() | {"age_seconds": round(self.taken - hold.since, 1)} for hold in self.holds],
            **{name: [self.tell(job) for job in jobs] for name, jobs in lists.items()},
        }


def describe_wait(job: Job) -> str:
    """What a failed job waits for, until when: `waiting for Fireworks (503), next attempt 14:05 UTC, 7th attempt`."""
    at = name_minute(job.not_before)
    return (f"waiting for {job.waits_for}, " if job.waits_for else "") + f"next attempt {at}, {_name_try(job)}"


def _name_try(job: Job) -> str:
    number = job.attempts + 1
    is_teen = number % 100 // 10 == 1
    return f"{number}{'th' if is_teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')} attempt"


def take_snapshot(queue: Queue) -> Snapshot:
    """Read all of it.

    Raises:
        UnavailableError: The storage does not answer.
    """
    ledger = queue.ledger
    with queue.outage.watch():
        jobs, unreadable = ledger.read()
        snapshot = Snapshot(
            time.time(),
            queue.waiting(),
            tuple(jobs),
            tuple(queue.heartbeats.living()),
            ledger.comparison(),
            tuple(queue.deliveries.last()),
            tuple(unreadable),
            held=tuple(queue.approvals.held()),
            holds=tuple(queue.holds.all()),
            queue=queue.path,
        )
        gone = [job for job in snapshot.unfinished if snapshot.is_abandoned(job)]
        return replace(snapshot, openings={job.id: queue.locks.opens_in(job.key) for job in gone})


def read_snapshot(queue_url: str | None) -> Snapshot | None:
    """The queue that a person means; None when its file does not exist yet, since nothing was ever asked of it.

    Args:
        queue_url: As given; None means the default one.

    Raises:
        UnavailableError: The storage does not answer.
    """
    queue = open_if_there(queue_url)
    if queue is None:
        return None
    with closing(queue):
        return take_snapshot(queue)


def open_if_there(queue_url: str | None) -> Queue | None:
    """The queue, for those who only look, as of `read_snapshot`."""
    path = locate_queue(queue_url)
    if "://" not in path and not Path(path).expanduser().exists():
        return None
    return open_queue(path, patience=OF_PEOPLE)


class View:
    """Shows a queue to people and their tools: while the storage does not answer, what was read last.

    Args:
        queue: The queue; whoever looks waits as long as this waits for its storage.
        rules_fault: Why the rule file cannot be used; "" when it can.
    """

    def __init__(self, queue: Queue, rules_fault: Callable[[], str] = lambda: "") -> None:
        self._queue = queue
        self._rules_fault = rules_fault
        self._last = Snapshot(time.time(), 0, ())

    def look(self) -> Snapshot:
        """The queue as it is now."""
        outage = self._queue.outage
        if not outage.is_fresh:
            with suppress(UnavailableError):
                self._last = take_snapshot(self._queue)
        last = self._last
        if away := outage.now:  # what senders were answered is known all the same
            last = replace(last, away=away, deliveries=tuple(self._queue.deliveries.add_noted(last.deliveries)))
        return replace(last, rules_fault=self._rules_fault())
