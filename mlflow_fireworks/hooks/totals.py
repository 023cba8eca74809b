"""What became of all promotions since the queue was made: counts and durations, by rule and registered model.

They are kept in the queue's storage, beside the jobs and not made from them: jobs are forgotten after a while, and
change their state when somebody retries them, while a counter may only grow. Here the totals outlive the processes,
and every process on one queue tells the same. Whoever ends a job adds to them, under a lock, so that none is lost.
"""

import threading
import time
from collections.abc import Callable

from huey.storage import BaseStorage
from pydantic import Field

from mlflow_fireworks.hooks.jobs import Job
from mlflow_fireworks.hooks.locks import Locks
from mlflow_fireworks.hooks.records import Record, Records
from mlflow_fireworks.progress import logger

BUCKETS_SECONDS = (10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0)
"""From a small adapter to hundreds of gigabytes; few, since each is a series for each model."""
_PLACES = len(BUCKETS_SECONDS) + 1
_MOST = 1000
_LOCK_TRIES = 40
_LOCK_PAUSE_SECONDS = 0.05


class Total(Record):
    """What became of the promotions of one registered model (or Hub repo) by one rule.

    Deployments would be one too many to count by: a rule may make a new one for each version.

    Args:
        rule: Title of the rule.
        model: The registered model or repo.
        outcomes: How many jobs ended as `done`, `removed`, `superseded` or `dead`.
        failed_tries: Tries that failed, those that were followed by another one too.
        seconds: Sum of the durations of those that are `done`, from the event on.
        durations: How many of these took no longer than each of `BUCKETS_SECONDS`, and no less than the one before;
            in the end those that took longer than all.
        updated: Unix time in seconds.
    """

    rule: str
    model: str
    outcomes: dict[str, int] = Field(default_factory=dict)
    failed_tries: int = 0
    seconds: float = 0.0
    durations: tuple[int, ...] = Field(default=(0,) * _PLACES, min_length=_PLACES, max_length=_PLACES)
    updated: float = Field(default_factory=time.time)

    def add(self, outcome: str, seconds: float | None, failed_tries: int) -> "Total":
        """With one job or try more."""
        changes: dict[str, object] = {"failed_tries": self.failed_tries + failed_tries, "updated": time.time()}
        if outcome:
            changes["outcomes"] = self.outcomes | {outcome: self.outcomes.get(outcome, 0) + 1}
        if seconds is not None:
            place = next((i for i, bound in enumerate(BUCKETS_SECONDS) if seconds <= bound), len(BUCKETS_SECONDS))
            changes["seconds"] = self.seconds + seconds
            changes["durations"] = tuple(count + (i == place) for i, count in enumerate(self.durations))
        return self.model_copy(update=changes)


class Totals:
    """The totals, in the key-value part of huey's storage.

    Args:
        storage: Holds nothing else.
        locks: Keep two workers from adding to one total at once.
        pause: Waits so many seconds for the other.
    """

    def __init__(self, storage: BaseStorage, locks: Locks, pause: Callable[[float], None] = time.sleep) -> None:
        self._records = Records(storage, Total)
        self._locks = locks
        self._pause = pause
        self._lock = threading.Lock()

    def add(self, job: Job, outcome: str = "", *, seconds: float | None = None, failed_tries: int = 0) -> None:
        """Count one. What cannot be counted does not hold the work up.

        Args:
            job: The job.
            outcome: How it ended; "" when it did not.
            seconds: How long it took; None when that is of no interest.
            failed_tries: Tries of it that failed and were not counted yet.
        """
        key = f"{job.rule}\n{job.subject.name}"
        try:
            with self._lock:
                for _ in range(_LOCK_TRIES):
                    with self._locks.hold(f"totals of {key}") as held:
                        if held:
                            self._add(key, job, outcome, seconds, failed_tries)
                            return
                    self._pause(_LOCK_PAUSE_SECONDS)
            logger.debug("the totals of rule '%s' are busy; one job is not counted", job.rule)
        except Exception as error:  # noqa: BLE001 - whatever the storage raises; it is about figures only
            logger.debug("one job is not counted (%s)", type(error).__name__)

    def _add(self, key: str, job: Job, outcome: str, seconds: float | None, failed_tries: int) -> None:
        known = self._records.find(key)
        if known is None:
            self._make_room()
        total = known or Total(rule=job.rule, model=job.subject.name)
        self._records.put(key, total.add(outcome, seconds, failed_tries))

    def _make_room(self) -> None:
        """Forget what was not added to for longest: its series ends, but none goes down."""
        kept = self._records.by_key()
        by_age = sorted(kept, key=lambda key: found.updated if (found := kept[key]) else 0.0)
        for key in by_age[: max(0, len(by_age) - _MOST + 1)]:
            self._records.forget(key)

    def all(self) -> list[Total]:
        """All totals."""
        return sorted(self._records.all(), key=lambda total: (total.rule, total.model))
