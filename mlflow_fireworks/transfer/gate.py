"""How many streams storage is offered at once."""

import threading
from types import TracebackType

from mlflow_fireworks.http import TransientError


class Gate:
    """Lets a number of workers through: fewer after storage said it is busy, one more after each file it took.

    The way TCP shares a link: half after trouble, then slowly up again. A context manager around one try.

    Args:
        most: The largest number at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._inside = 0
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """How many may be inside now; at least one."""
        return int(self._limit)

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._inside < self.limit)
            self._inside += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._changed:
            self._inside -= 1
            if isinstance(error, TransientError) and error.is_busy:
                self._limit = max(1.0, self._limit / 2)
            elif error is None:
                self._limit = min(float(self._most), self._limit + 1)
            self._changed.notify_all()
