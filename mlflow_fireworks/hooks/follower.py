"""How far a job is, written into its record while it runs."""

import threading
import time

from mlflow_fireworks.hooks.jobs import Job, Progress
from mlflow_fireworks.hooks.ledger import Ledger
from mlflow_fireworks.progress import Silent, logger

_SECONDS_BETWEEN_SAVES = 1.0


class Follower(Silent):
    """A reporter that writes into the job's record, at most once a second, and into the log.

    Args:
        ledger: Holds the job.
        job: The job.
    """

    def __init__(self, ledger: Ledger, job: Job) -> None:
        self._ledger = ledger
        self.job = job
        self._lock = threading.Lock()
        self._saved = 0.0
        self._progress = Progress()

    def step(self, number: int, total: int, text: str) -> None:
        """Keep it, and put it into the log."""
        logger.info("%s: [%d/%d] %s", self.job.deployment, number, total, text)
        self._tell(at_once=True, step=number, steps=total, text=text, size=0, moved=0)

    def note(self, text: str) -> None:
        """Keep it, and put it into the log."""
        logger.info("%s: %s", self.job.deployment, text.strip())
        self._tell(text=text.strip())

    def transfer_begins(self, doing: str, size: int) -> None:
        """Begin to count."""
        self._tell(at_once=True, text=doing, size=size, moved=0, began=time.time())

    def bytes_moved(self, count: int) -> None:
        """Count."""
        self._tell(moved=count)

    def _tell(self, *, at_once: bool = False, **changes: object) -> None:
        with self._lock:
            moved = changes.pop("moved", None)
            if isinstance(moved, int):
                changes["moved"] = 0 if "size" in changes else self._progress.moved + moved
            self._progress = self._progress.model_copy(update=changes)
            now = time.monotonic()
            if at_once or now - self._saved >= _SECONDS_BETWEEN_SAVES:
                self._saved = now
                self.job = self._ledger.save(self.job, progress=self._progress)
