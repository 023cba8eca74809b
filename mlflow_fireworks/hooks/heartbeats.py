"""Which workers live: each process that works tells it in the queue's storage, again and again.

A worker that was killed cannot say goodbye. So each heartbeat says when the next one is due, and who misses two of
them is gone. Machines that share a Redis need clocks that agree to within a few seconds.
"""

import os
import socket
import time
import uuid
from collections.abc import Callable

from huey.storage import BaseStorage
from pydantic import Field

from mlflow_fireworks.hooks.jobs import UnixTime
from mlflow_fireworks.hooks.records import Record, Records

BEAT_SECONDS = 10.0
MISSED_BEATS = 2


class Heartbeat(Record):
    """One process that works, as it last showed itself.

    Args:
        id: Made anew by each start, since a restarted container has the host name and the process id of the last one.
        host: Name of its machine or container.
        pid: Its process id there.
        slots: How many jobs it does at the same time.
        every_seconds: Between two heartbeats.
        began: Unix time in seconds of its start.
        seen: Unix time in seconds of this heartbeat.
    """

    id: str = Field(default_factory=lambda: uuid.uuid4().hex[:16])
    host: str = Field(default_factory=socket.gethostname)
    pid: int = Field(default_factory=os.getpid)
    slots: int = 1
    every_seconds: float = BEAT_SECONDS
    began: UnixTime = Field(default_factory=time.time)
    seen: UnixTime = 0.0

    def lives(self, now: float) -> bool:
        """Whether it has not missed two heartbeats.

        Args:
            now: Unix time in seconds.
        """
        return now - self.seen <= MISSED_BEATS * self.every_seconds


class Heartbeats:
    """The last heartbeat of each worker, in the key-value part of huey's storage.

    Args:
        storage: Holds nothing else.
        clock: Unix time in seconds.
    """

    def __init__(self, storage: BaseStorage, clock: Callable[[], float] = time.time) -> None:
        self._records = Records(storage, Heartbeat)
        self._clock = clock

    def beat(self, worker: Heartbeat) -> None:
        """Say that a worker lives, and forget those that are gone, so that no more are kept than have just lived.

        Args:
            worker: The worker; when it was last seen does not matter.
        """
        beat = worker.model_copy(update={"seen": self._clock()})
        self._records.put(beat.id, beat)
        for key, other in self._records.by_key().items():
            if other is None or not other.lives(beat.seen):
                self._records.forget(key)

    def living(self) -> list[Heartbeat]:
        """The workers that live, the oldest first."""
        now = self._clock()
        return sorted((beat for beat in self._records.all() if beat.lives(now)), key=lambda beat: beat.began)
