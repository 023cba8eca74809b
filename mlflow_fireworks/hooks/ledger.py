"""Where jobs are written down, how the last comparison went, and for how long both are kept."""

import time
from collections.abc import Callable
from typing import Any

from huey.constants import EmptyData
from huey.storage import BaseStorage

from mlflow_fireworks.hooks.jobs import Job, State, UnixTime
from mlflow_fireworks.hooks.records import Record, Records
from mlflow_fireworks.progress import logger

_COMPARISON = "comparison"  # no job's key: those hold a space
_KEPT_JOBS = 1000
_KEPT_SECONDS = 24 * 3600.0
"""An id is a delivery's memory too: it is kept far longer than a delivery may be old."""


class Comparison(Record):
    """The last time that the registry was compared with Fireworks.

    Args:
        error: Why it could not be done for all rules; "" when it was.
        unreachable: What did not answer, for a headline; "" when it failed for another reason.
        failing_since: Unix time in seconds of the first of those that failed in a row; 0 when the last one did not.
        succeeded: Unix time in seconds of the last one without an error; 0 when there was none.
    """

    error: str = ""
    unreachable: str = ""
    failing_since: UnixTime = 0.0
    succeeded: UnixTime = 0.0


class Ledger:
    """All jobs, in the key-value part of huey's storage.

    Whoever holds a job's key writes its record, so no record has two writers.

    Args:
        jobs: For the records.
        heads: For the newest job of each key.
        clock: Unix time in seconds.
    """

    def __init__(self, jobs: BaseStorage, heads: BaseStorage, clock: Callable[[], float] = time.time) -> None:
        self._jobs = Records(jobs, Job)
        self._heads = heads
        self._comparisons = Records(heads, Comparison)
        self._clock = clock
        self._told: set[str] = set()

    def accept(self, job: Job) -> bool:
        """Write a new job down; False when its id is known already, and not for something that has passed."""
        if not self._jobs.put_if_new(job.id, job):
            known = self.find(job.id)
            # A record that cannot be read must not make its event a duplicate, which would lose it.
            if known and not (job.recurs and self._has_passed(known)):
                return False
            self._jobs.put(job.id, job)
        self._heads.put_data(job.key, job.id.encode())
        return True

    def _has_passed(self, known: Job) -> bool:
        if not known.state.is_final:
            return False
        return known.state is State.DEAD or not self.is_newest(known)

    def find(self, job_id: str) -> Job | None:
        """One job."""
        return self._jobs.find(job_id)

    def save(self, job: Job, **changes: Any) -> Job:
        """Write a job's new state down.

        Args:
            job: As it was.
            changes: Its new fields.

        Returns:
            The job as it is now.
        """
        job = job.model_copy(update={**changes, "updated": self._clock()})
        self._jobs.put(job.id, job)
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
        found = self._jobs.by_key()
        unreadable = sorted(key for key, job in found.items() if job is None)
        for job_id in unreadable:
            if job_id not in self._told:
                self._told.add(job_id)
                logger.warning("job %s cannot be read: it is damaged, or from another release", job_id)
        return sorted((job for job in found.values() if job), key=lambda job: job.created, reverse=True), unreadable

    def comparison(self) -> Comparison | None:
        """How the last comparison with the registry went; None before the first."""
        return self._comparisons.find(_COMPARISON)

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
        self._comparisons.put(_COMPARISON, now)

    def prune(self) -> None:
        """Forget old jobs that are over.

        Of each key the last that succeeded stays, as the memory of what is where, and the newest, however it ended.
        """
        done: set[str] = set()
        for number, job in enumerate(self.jobs()):
            last_done = job.state is State.DONE and job.key not in done
            if last_done:
                done.add(job.key)
            old = number >= _KEPT_JOBS and self._clock() - job.updated > _KEPT_SECONDS
            failure = job.state in (State.DEAD, State.DISMISSED, State.HELD) and self.is_newest(job)
            if old and job.state.is_final and not last_done and not failure:
                self._jobs.forget(job.id)
