"""Waiting for something that Fireworks does in its own time: a loop with a limit, never without one."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mlflow_fireworks.errors import DeadlineError
from mlflow_fireworks.progress import Reporter, format_seconds

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_SLOWER_EACH_TIME = 1.5
_TOLD_AGAIN_SECONDS = 60.0


@dataclass(frozen=True)
class Pending:
    """Not yet.

    Args:
        reason: What it is waiting for, for a person.
    """

    reason: str


@dataclass(frozen=True)
class Waiter:
    """Looks again and again, slower each time, until there is a result or the time is over.

    Args:
        reporter: Is told what is waited for: when that changes, and every minute.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.
    """

    reporter: Reporter
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def wait(self, look: Callable[[], T | Pending], timeout: float, give_up: Callable[[str], str]) -> T:
        """Wait for a result.

        Args:
            look: Gives the result, or Pending.
            timeout: Longest wait in seconds.
            give_up: Makes the message for the end of the time from the last reason.

        Returns:
            What `look` gave.

        Raises:
            DeadlineError: The time is over.
        """
        began = told_at = self.clock()
        pause, told = _FIRST_PAUSE_SECONDS, ""
        while isinstance(found := look(), Pending):
            now = self.clock()
            if now - began >= timeout:
                raise DeadlineError(give_up(found.reason))
            pause = min(pause, began + timeout - now)
            if found.reason != told:
                self.reporter.note(f"      {found.reason}; checking again in {format_seconds(pause)}")
                told, told_at = found.reason, now
            elif now - told_at >= _TOLD_AGAIN_SECONDS:
                self.reporter.note(f"      {found.reason}; waiting for {format_seconds(now - began)} so far")
                told_at = now
            self.sleep(pause)
            pause = min(pause * _SLOWER_EACH_TIME, _LONGEST_PAUSE_SECONDS)
        return found
