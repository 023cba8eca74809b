"""Which webhooks came and what became of each, so that "why did nothing happen?" has an answer.

The receiver notes them in memory while it answers, and writes them to the queue's storage once a second: no sender
waits for that, and a storage that is away is waited for. All receivers of one queue share one record.
"""

import threading
import time
from collections.abc import Iterable

from huey.storage import BaseStorage
from pydantic import Field

from mlflow_fireworks.hooks.jobs import UnixTime
from mlflow_fireworks.hooks.locks import Locks
from mlflow_fireworks.hooks.logs import lines_about
from mlflow_fireworks.hooks.records import Record, Records
from mlflow_fireworks.printable import make_printable
from mlflow_fireworks.progress import logger

_KEY = "last"
_KEPT_VERIFIED = 80
_KEPT_UNVERIFIED = 20
"""Whoever reaches the port can have those noted, which must not push out the others."""
_UNVERIFIED_STATUSES = frozenset({400, 401, 408, 413})
ID_LENGTH = 64
_TEXT_LENGTH = 500


class Delivery(Record):
    """One webhook.

    Args:
        received: Unix time in seconds.
        sender: `mlflow` or `huggingface`.
        id: The sender's id of the delivery; "" from the Hub, which sends none.
        status: The HTTP status that it was answered with.
        outcome: `accepted`, `duplicate`, `ignored`, `test`, `refused` or `busy`.
        about: The pointers it was about, for people.
        jobs: Ids of the jobs it asked for.
        reason: Why it was ignored or refused.
    """

    received: UnixTime = Field(default_factory=time.time)
    sender: str
    id: str = ""
    status: int
    outcome: str
    about: str = ""
    jobs: tuple[str, ...] = ()
    reason: str = ""

    def describe(self) -> str:
        """What became of it: `accepted (202): models:/chat@champion = 3; job 0123456789abcdef`."""
        jobs = f"job{'s' if len(self.jobs) > 1 else ''} {', '.join(self.jobs)}" if self.jobs else ""
        told = "; ".join(part for part in (self.about, jobs, self.reason) if part)
        return f"{self.outcome} ({self.status})" + (f": {told}" if told else "")


class _Last(Record):
    deliveries: tuple[Delivery, ...] = ()


class Deliveries:
    """The last deliveries, in the key-value part of huey's storage.

    Args:
        storage: Holds nothing else.
        locks: Keep two receivers from writing at once.
    """

    def __init__(self, storage: BaseStorage, locks: Locks) -> None:
        self._record = Records(storage, _Last)
        self._locks = locks
        self._lock = threading.Lock()
        self._new: list[Delivery] = []
        self._other: Deliveries | None = None

    def share(self, other: "Deliveries") -> None:
        """Tell also what another object on the same storage has noted and not saved yet."""
        self._other = other

    def note(self, delivery: Delivery) -> None:
        """Log a delivery and remember it until `save`; does not wait for the storage.

        Args:
            delivery: The delivery. What a stranger may have written is cut to one short line.
        """
        delivery = delivery.model_copy(
            update={
                "id": _one_line(delivery.id, ID_LENGTH),
                "about": _one_line(delivery.about, _TEXT_LENGTH),
                "reason": _one_line(delivery.reason, _TEXT_LENGTH),
            }
        )
        with lines_about(job=", ".join(delivery.jobs)):
            logger.info("webhook from %s, delivery %s: %s", delivery.sender, delivery.id or "-", delivery.describe())
        with self._lock:
            self._new = _newest([delivery, *self._new])

    def save(self) -> None:
        """Write down what was noted; while the storage is away it is kept for the next time."""
        with self._lock:
            new, self._new = self._new, []
        if not new:
            return
        is_saved = False
        try:
            with self._locks.hold("deliveries") as held:
                if held:
                    self._record.put(_KEY, _Last(deliveries=tuple(_newest([*new, *self._read()]))))
                    is_saved = True
        except Exception as error:  # noqa: BLE001 - whatever the storage raises; jobs that it loses are told elsewhere
            logger.debug("the record of webhooks could not be written (%s)", type(error).__name__)
        if not is_saved:
            with self._lock:
                self._new = _newest([*self._new, *new])

    def last(self) -> list[Delivery]:
        """The last deliveries, newest first; of other receivers those that they saved."""
        return self.add_noted(self._read())

    def add_noted(self, saved: Iterable[Delivery]) -> list[Delivery]:
        """Those that were saved and those that were not yet, newest first; does not ask the storage."""
        with self._lock:
            found = [*self._new, *saved]
        return self._other.add_noted(found) if self._other else _newest(found)

    def _read(self) -> tuple[Delivery, ...]:
        record = self._record.find(_KEY)
        return record.deliveries if record else ()


def _newest(deliveries: Iterable[Delivery]) -> list[Delivery]:
    """As many as are kept, newest first."""
    room = {False: _KEPT_VERIFIED, True: _KEPT_UNVERIFIED}
    kept = []
    for delivery in sorted(set(deliveries), key=lambda delivery: delivery.received, reverse=True):
        is_unverified = delivery.status in _UNVERIFIED_STATUSES
        if room[is_unverified]:
            room[is_unverified] -= 1
            kept.append(delivery)
    return kept


def _one_line(text: str, length: int) -> str:
    line = make_printable(" ".join(text.split()))
    return line if len(line) <= length else f"{line[: length - 1]}…"
