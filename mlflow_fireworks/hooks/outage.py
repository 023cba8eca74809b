"""While the queue's storage does not answer: since when, why, and two lines in the log instead of one for each try."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.progress import format_seconds, logger

_FRESH_SECONDS = 2.0


@dataclass(frozen=True)
class Away:
    """A storage that does not answer.

    Args:
        where: Which, for people: `the queue's Redis at cache:6379`.
        since: Unix time in seconds of the first try that failed.
        reason: What was had instead of an answer.
    """

    where: str
    since: float
    reason: str

    def __str__(self) -> str:
        """One line: `the queue's Redis at cache:6379 has not answered since 14:05 UTC (TimeoutError); is …`."""
        return f"{self.where} has not answered since {name_minute(self.since)} ({self.reason}); is it running?"


class Outage:
    """Whether the queue's storage answers; shared by all that ask it in one process.

    Args:
        where: The storage, for people, without its password.
        errors: What it raises when it does not answer.
        clock: Unix time in seconds.
    """

    def __init__(self, where: str, errors: tuple[type[Exception], ...], clock: Callable[[], float] = time.time) -> None:
        self.where = where
        self._errors = errors
        self._clock = clock
        self._lock = threading.Lock()
        self._away: Away | None = None
        self._seen = float("-inf")

    @property
    def now(self) -> Away | None:
        """What is known while it does not answer; None while it does."""
        return self._away

    @property
    def is_fresh(self) -> bool:
        """Whether it failed just now, so that asking again would only take time."""
        return self._away is not None and self._clock() - self._seen < _FRESH_SECONDS

    def is_behind(self, error: BaseException | None) -> bool:
        """Whether an error means that the storage does not answer; then it is noted."""
        if not isinstance(error, self._errors):
            return False
        with self._lock:
            self._seen = self._clock()
            is_new = self._away is None
            self._away = Away(self.where, self._away.since if self._away else self._seen, _describe(error))
        if is_new:
            logger.warning("%s does not answer (%s); waiting for it", self.where, _describe(error))
        return True

    def end(self) -> None:
        """It has answered."""
        with self._lock:
            away, self._away = self._away, None
        if away:
            logger.warning("%s answers again, after %s", self.where, format_seconds(self._clock() - away.since))

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Ask the storage in the block.

        Raises:
            UnavailableError: It does not answer.
        """
        try:
            yield
        except self._errors as error:
            self.is_behind(error)
            away = self._away or Away(self.where, self._clock(), _describe(error))
            raise UnavailableError(str(away), where=self.where) from None
        self.end()

    def hush(self, *names: str) -> None:
        """Keep a library from logging a traceback for each try.

        Args:
            names: Of its loggers.
        """
        for name in names:
            logging.getLogger(name).addFilter(self._is_about_else)

    def _is_about_else(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and self.is_behind(record.exc_info[1]))


def name_minute(moment: float) -> str:
    """A moment for people who look at it on the same day: `14:05 UTC`."""
    return time.strftime("%H:%M UTC", time.gmtime(moment))


def _describe(error: BaseException) -> str:
    """SQLite's words help and hold no secret; those of a Redis client may hold the address with its password."""
    own = type(error).__module__.partition(".")[0] == "sqlite3"
    return str(error) if own else type(error).__name__
