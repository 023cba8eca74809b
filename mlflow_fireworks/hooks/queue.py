"""The queue: huey on SQLite in one process, or on Redis when several machines share the work.

huey carries ids of jobs; the jobs themselves are in the ledger. A lost or doubled id is harmless: what is unfinished
in the ledger is handed out again, and what is finished is not done again.
"""

import hashlib
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from huey import Huey
from huey.storage import BaseStorage, RedisStorage, SqliteStorage

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.errors import ConflictError, InvalidConfigError, NotFoundError, UnavailableError
from mlflow_fireworks.hooks.heartbeats import Heartbeats
from mlflow_fireworks.hooks.jobs import Job, Ledger, State
from mlflow_fireworks.progress import logger

LEASE_SECONDS = 60.0
MAX_WAITING = 1000
_NAME = "mlflow-fireworks"
_REDIS_WRITERS = 10
_REDIS_ANSWER_SECONDS = 10.0
_REDIS_CONNECT_SECONDS = 5.0


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
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        lock = self._client.lock(f"{_NAME}.lock.{name}", timeout=self._lease_seconds, thread_local=False)
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


class Queue:
    """Jobs on their way to the workers.

    Args:
        huey: Carries ids.
        ledger: Holds the jobs.
        heartbeats: Tell which workers live.
        locks: Keep two workers from one deployment.
        max_waiting: Ids that may wait before new work is refused.
        writers: How many should put at the same time. SQLite takes one: others would sleep until it looks again,
            which is longer than waiting for one's turn.
        path: The file it is in, for commands in messages; None on Redis, whose address may hold a password: there
            commands read it from MLFLOW_FIREWORKS_QUEUE.
    """

    def __init__(
        self,
        huey: Huey,
        ledger: Ledger,
        heartbeats: Heartbeats,
        locks: Locks,
        *,
        max_waiting: int = MAX_WAITING,
        writers: int = 1,
        path: str | None = None,
    ) -> None:
        self.huey = huey
        self.ledger = ledger
        self.heartbeats = heartbeats
        self.locks = locks
        self.writers = writers
        self.path = path
        self.work: Callable[[str], None] = _nobody_works
        self._max_waiting = max_waiting
        self._task = huey.task(name="work")(self._work)

    def _work(self, job_id: str) -> None:
        self.work(job_id)

    def put(self, job: Job) -> bool:
        """Accept a job; False when it was accepted before."""
        if not self.ledger.accept(job):
            return False
        self.hand_out(job.id)
        return True

    def hand_out(self, job_id: str, delay_seconds: float = 0.0) -> None:
        """Let a worker look at a job, now or later."""
        if delay_seconds > 0:
            self._task.schedule((job_id,), delay=delay_seconds)
        else:
            self._task(job_id)

    def waiting(self) -> int:
        """How many ids wait for a worker."""
        return int(self.huey.storage.queue_size())

    @property
    def is_full(self) -> bool:
        """Whether new work is to be refused."""
        return self.waiting() >= self._max_waiting

    def retry(self, job_id: str) -> Job:
        """Try a job that failed again, at once, as a new one.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: It did not fail, or a newer one for the same deployment came in.
        """
        dead = self._find(job_id)
        failed = dead.state is State.QUEUED and dead.attempts > 0
        if not failed and dead.state not in (State.DEAD, State.DISMISSED):
            raise ConflictError(f"job {job_id} is {dead.state.value}; only what failed can be tried again")
        if not self.ledger.is_newest(dead):
            raise ConflictError(f"job {job_id} was followed by a newer one for '{dead.deployment}'; nothing to retry")
        job = again(dead, "by hand")
        self.put(job)
        if failed:
            self.hand_out(dead.id)  # a worker finds that a newer one came in
            return job
        self.ledger.save(dead, state=State.SUPERSEDED, error=f"{dead.error} (tried again as {job.id})")
        return job

    def dismiss(self, job_id: str) -> Job:
        """End a job that failed, so that neither waiting nor comparing tries it again; `retry` does.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: It did not fail, or a worker is at it.
        """
        job = self._find(job_id)
        with self.locks.hold(job.key) as held:
            job = self._find(job_id)
            if job.state is State.RUNNING or (not held and not job.state.is_final):
                raise ConflictError(f"a worker is at job {job_id} now; dismiss it when that try is over")
            if job.state is not State.DEAD and not (job.state is State.QUEUED and job.attempts):
                raise ConflictError(f"job {job_id} is {job.state.value}; only what failed can be dismissed")
            return self.ledger.save(job, state=State.DISMISSED)

    def _find(self, job_id: str) -> Job:
        job = self.ledger.find(job_id)
        if job is None:
            raise NotFoundError(f"there is no job '{job_id}'; see: {Commands.list_jobs(self.path)}")
        return job

    def close(self) -> None:
        """Let go of the storage."""
        self.huey.storage.close()
        self.ledger.close()
        self.heartbeats.close()

    def sweep(self) -> int:
        """Hand out again what is unfinished and has no id on the way, as after a worker's death.

        Returns:
            How many were handed out.
        """
        if self.waiting():
            return 0  # the workers are alive or will be, and what waits comes first
        now = time.time()
        unfinished = [job for job in self.ledger.jobs() if not job.state.is_final and job.not_before <= now]
        for job in unfinished:
            self.hand_out(job.id)
        return len(unfinished)


def again(job: Job, cause: str) -> Job:
    """The same work as a new job."""
    return Job(
        id=uuid.uuid4().hex[:16],
        **job.model_dump(include={"action", "rule", "subject", "version", "target", "deployment", "endpoint"}),
        cause=cause,
    )


def open_queue(url: str, max_waiting: int = MAX_WAITING, lease_seconds: float = LEASE_SECONDS) -> Queue:
    """The queue at a URL.

    Args:
        url: `redis://…` or `rediss://…` for several machines; else the path of a SQLite file, made when absent.
        max_waiting: Ids that may wait before new work is refused.
        lease_seconds: On Redis, how long the work of a dead machine stays taken.

    Raises:
        InvalidConfigError: The redis package is missing, or the URL cannot be used.
        UnavailableError: Redis does not answer, or the file cannot be opened. The URL may hold a password, so no
            message repeats it.
    """
    if "://" in url:
        return _open_redis(url, max_waiting, lease_seconds)
    path = Path(url).expanduser().absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)

        def storage(name: str) -> BaseStorage:
            return SqliteStorage(name, filename=str(path), timeout=30)

        huey = Huey(_NAME, results=False, storage_class=SqliteStorage, filename=str(path), timeout=30)
        ledger, heartbeats = _make_stores(storage)
    except (OSError, sqlite3.Error) as error:
        raise UnavailableError(
            f"the queue {path} cannot be opened: {error}; choose another file with --queue"
        ) from None
    locks = FileLocks(path.with_name(f"{path.name}.locks"))
    return Queue(huey, ledger, heartbeats, locks, max_waiting=max_waiting, path=str(path))


def _make_stores(storage: Callable[[str], BaseStorage]) -> tuple[Ledger, Heartbeats]:
    """What is kept beside the ids, each in a part of the storage of its own."""
    return (
        Ledger(storage(f"{_NAME}-jobs"), storage(f"{_NAME}-heads")),
        Heartbeats(storage(f"{_NAME}-workers")),
    )


def _open_redis(url: str, max_waiting: int, lease_seconds: float) -> Queue:
    try:
        import redis  # noqa: PLC0415 - an extra: only those with several machines need it
    except ImportError:
        raise InvalidConfigError("a queue on Redis needs: pip install 'mlflow-fireworks[redis]'") from None
    try:
        # Older clients wait for ever. What the URL says about it counts.
        pool = redis.ConnectionPool.from_url(
            url, socket_timeout=_REDIS_ANSWER_SECONDS, socket_connect_timeout=_REDIS_CONNECT_SECONDS
        )
        client = redis.Redis(connection_pool=pool)
        client.ping()
    except ValueError:
        raise InvalidConfigError("the queue's URL is neither a file nor redis://[:PASSWORD@]HOST[:PORT][/DB]") from None
    except redis.RedisError as error:
        raise UnavailableError(f"the queue's Redis does not answer ({type(error).__name__}); is it running?") from None
    huey = Huey(_NAME, results=False, storage_class=RedisStorage, connection_pool=pool)
    ledger, heartbeats = _make_stores(lambda name: RedisStorage(name, connection_pool=pool))
    locks = RedisLocks(client, lease_seconds)
    return Queue(huey, ledger, heartbeats, locks, max_waiting=max_waiting, writers=_REDIS_WRITERS)


def _nobody_works(job_id: str) -> None:
    raise NotImplementedError(f"no worker was set up for job {job_id}")
