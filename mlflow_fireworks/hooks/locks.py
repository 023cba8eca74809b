"""Locks between processes, which keep two workers from one deployment and two clocks from one look."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mlflow_fireworks.home import make_private
from mlflow_fireworks.progress import logger

_PREFIX = "mlflow-fireworks.lock"


class Locks:
    """Locks between processes that the death of their holder opens."""

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """Hold a lock while the block runs, without waiting for it.

        Args:
            name: Anything.

        Yields:
            Whether it was free.
        """
        raise NotImplementedError

    def opens_in(self, name: str) -> float:  # noqa: ARG002 - the others need it
        """In how many seconds a lock opens at the latest whose holder is dead.

        Args:
            name: As for `hold`.
        """
        return 0.0


class FileLocks(Locks):
    """For one machine: the system opens the lock of a process that dies, at once.

    Args:
        folder: Where the lock files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """As in the base class."""
        make_private(self._folder)
        lock = FileLock(self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock", mode=0o600)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


class RedisLocks(Locks):
    """For several machines: a lock that is not renewed opens by itself.

    Args:
        client: A `redis.Redis`.
        lease_seconds: How long a dead holder's lock stays closed.
    """

    def __init__(self, client: Any, lease_seconds: float) -> None:
        self._client = client
        self._lease_seconds = lease_seconds

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """As in the base class; renewed in the background."""
        lock = self._client.lock(f"{_PREFIX}.{name}", timeout=self._lease_seconds, thread_local=False)
        if not lock.acquire(blocking=False):
            yield False
            return
        over = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(lock, name, over), daemon=True)
        keeper.start()
        try:
            yield True
        finally:
            over.set()
            keeper.join()
            self._release(lock, name)

    def opens_in(self, name: str) -> float:
        """As in the base class."""
        return max(0.0, float(self._client.pttl(f"{_PREFIX}.{name}")) / 1000)

    def _keep(self, lock: Any, name: str, over: threading.Event) -> None:
        while not over.wait(self._lease_seconds / 3):
            try:
                lock.reacquire()
            except Exception as error:  # noqa: BLE001, PERF203 - Redis may be away for a moment; the next try may reach it
                logger.warning("the lock of '%s' could not be renewed (%s)", name, type(error).__name__)

    def _release(self, lock: Any, name: str) -> None:
        try:
            lock.release()
        except Exception as error:  # noqa: BLE001 - it opens by itself when the lease ends
            logger.warning("the lock of '%s' could not be released (%s)", name, type(error).__name__)
