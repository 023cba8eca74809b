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
        reporter: Is told the reason of every pause.
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
        deadline, pause = self.clock() + timeout, _FIRST_PAUSE_SECONDS
        while isinstance(found := look(), Pending):
            left = deadline - self.clock()
            if left <= 0:
                raise DeadlineError(give_up(found.reason))
            pause = min(pause, left)
            self.reporter.note(f"      {found.reason}; asking again in {format_seconds(pause)}")
            self.sleep(pause)
            pause = min(pause * _SLOWER_EACH_TIME, _LONGEST_PAUSE_SECONDS)
        return found
