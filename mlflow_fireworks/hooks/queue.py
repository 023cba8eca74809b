"""The queue: huey on SQLite in one process, or on Redis when several machines share the work.

huey carries ids of jobs; the jobs themselves are in the ledger. A lost or doubled id is harmless: what is unfinished
in the ledger is handed out again, and what is finished is not done again.
"""

import glob
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from huey import Huey
from huey.storage import BaseStorage, RedisStorage, SqliteStorage

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.errors import ConflictError, InvalidConfigError, NotFoundError, UnavailableError
from mlflow_fireworks.home import find_trusted, make_private, require_own
from mlflow_fireworks.hooks.approvals import Approvals
from mlflow_fireworks.hooks.deliveries import Deliveries
from mlflow_fireworks.hooks.heartbeats import Heartbeats
from mlflow_fireworks.hooks.history import History
from mlflow_fireworks.hooks.holds import Hold, Holds
from mlflow_fireworks.hooks.jobs import Job, State
from mlflow_fireworks.hooks.ledger import Ledger
from mlflow_fireworks.hooks.locks import FileLocks, Locks, RedisLocks
from mlflow_fireworks.hooks.outage import Outage
from mlflow_fireworks.hooks.totals import Totals
from mlflow_fireworks.installing import install

LEASE_SECONDS = 60.0
MAX_WAITING = 1000
_NAME = "mlflow-fireworks"
_REDIS_WRITERS = 10
_REDIS_PORT = 6379


@dataclass(frozen=True)
class Patience:
    """How long the storage is waited for, in seconds.

    Args:
        redis_answer: For one answer of Redis; it is asked twice.
        redis_connect: For a connection to it.
        sqlite_lock: While another process writes to the file.
    """

    redis_answer: float = 10.0
    redis_connect: float = 5.0
    sqlite_lock: float = 30.0


OF_WORK = Patience()
OF_PEOPLE = Patience(1.5, 1.5, 2.0)


class Queue:
    """Jobs on their way to the workers, and what is kept beside them, each in a part of the storage of its own.

    Args:
        huey: Carries ids.
        storage: Opens a part of the storage, by its name.
        locks: Keep two workers from one deployment.
        outage: Knows whether the storage answers.
        clock: Unix time in seconds.
        max_waiting: Ids that may wait before new work is refused.
        writers: How many should put at the same time. SQLite takes one: others would sleep until it looks again,
            which is longer than waiting for one's turn.
        path: The file it is in, for commands in messages; None on Redis, whose address may hold a password: there
            commands read it from MLFLOW_FIREWORKS_QUEUE.
    """

    def __init__(
        self,
        huey: Huey,
        storage: Callable[[str], BaseStorage],
        *,
        locks: Locks,
        outage: Outage,
        clock: Callable[[], float],
        max_waiting: int = MAX_WAITING,
        writers: int = 1,
        path: str | None = None,
    ) -> None:
        self.huey = huey
        self._parts: list[BaseStorage] = [huey.storage]

        def part(name: str) -> BaseStorage:
            self._parts.append(storage(f"{_NAME}-{name}"))
            return self._parts[-1]

        self.ledger = Ledger(part("jobs"), part("heads"), clock)
        self.heartbeats = Heartbeats(part("workers"))
        self.deliveries = Deliveries(part("deliveries"), locks)
        self.totals = Totals(part("totals"), locks)
        self.approvals = Approvals(part("approvals"), clock)
        self.holds = Holds(part("holds"), clock)
        self.history = History(part("history"))
        self.locks = locks
        self.outage = outage
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

    def retry(self, job_id: str, by: str = "") -> Job:
        """Try a job that failed again, at once, as a new one.

        Args:
            job_id: The job.
            by: Name of the user who asks for it.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: It did not fail, or a newer one for the same deployment came in.
            UnavailableError: The storage does not answer.
        """
        with self.outage.watch():
            return self._retry(job_id, by)

    def _retry(self, job_id: str, by: str) -> Job:
        dead = self._find(job_id)
        failed = dead.state is State.QUEUED and dead.attempts > 0
        if not failed and dead.state not in (State.DEAD, State.DISMISSED, State.HELD):
            raise ConflictError(f"job {job_id} is {dead.state.value}; only failed jobs can be retried")
        if not self.ledger.is_newest(dead):
            raise ConflictError(f"job {job_id} was superseded by a newer one for '{dead.deployment}'; nothing to retry")
        job = again(dead, "by hand", by)
        self.put(job)
        if failed:
            self.hand_out(dead.id)  # a worker finds that a newer one came in
            return job
        self.ledger.save(dead, state=State.SUPERSEDED, error=f"{dead.error} (retried as {job.id})")
        return job

    def wake(self, hold: Hold) -> None:
        """Let the workers look at once at what waited for the end of a hold."""
        for job in self.ledger.jobs():
            if job.state is State.QUEUED and hold.is_about(job) and self.ledger.is_newest(job):
                with self.locks.hold(job.key) as held:
                    now = self.ledger.find(job.id)
                    if held and now and now.state is State.QUEUED:
                        self.ledger.save(now, not_before=0.0)
                self.hand_out(job.id)

    def dismiss(self, job_id: str) -> Job:
        """End a job that failed, so that neither waiting nor comparing tries it again; `retry` does.

        Raises:
            NotFoundError: There is no such job.
            ConflictError: It did not fail, or a worker is at it.
            UnavailableError: The storage does not answer.
        """
        with self.outage.watch():
            return self._dismiss(job_id)

    def _dismiss(self, job_id: str) -> Job:
        job = self._find(job_id)
        with self.locks.hold(job.key) as held:
            job = self._find(job_id)
            if job.state is State.RUNNING or (not held and not job.state.is_final):
                raise ConflictError(f"a worker is running job {job_id} now; dismiss it when that attempt is over")
            if job.state is not State.DEAD and not (job.state is State.QUEUED and job.attempts):
                raise ConflictError(f"job {job_id} is {job.state.value}; only failed jobs can be dismissed")
            return self.ledger.save(job, state=State.DISMISSED)

    def _find(self, job_id: str) -> Job:
        job = self.ledger.find(job_id)
        if job is None:
            raise NotFoundError(f"there is no job '{job_id}'; see: {Commands.list_jobs(self.path)}")
        return job

    def close(self) -> None:
        """Let go of the storage."""
        for part in self._parts:
            part.close()

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


def again(job: Job, cause: str, by: str = "") -> Job:
    """The same work as a new job.

    Args:
        job: The work.
        cause: What asks for it.
        by: Name of the user who does; "" where nobody does.
    """
    return Job(
        id=uuid.uuid4().hex[:16],
        **job.model_dump(include={"action", "rule", "subject", "version", "target", "deployment", "endpoint"}),
        cause=cause,
        by=by,
    )


def open_queue(
    url: str,
    max_waiting: int = MAX_WAITING,
    lease_seconds: float = LEASE_SECONDS,
    *,
    patience: Patience = OF_WORK,
    outage: Outage | None = None,
    clock: Callable[[], float] = time.time,
) -> Queue:
    """The queue at a URL.

    Args:
        url: `redis://…` or `rediss://…` for several machines; else the path of a SQLite file, made when absent.
        max_waiting: Ids that may wait before new work is refused.
        lease_seconds: On Redis, how long the work of a dead machine stays taken.
        patience: How long it is waited for.
        outage: Of a queue at the same URL, to tell the same as that.
        clock: Unix time in seconds.

    Raises:
        InvalidConfigError: The redis package is missing, or the URL cannot be used.
        UnavailableError: Redis does not answer, or the file cannot be opened. The URL may hold a password, so no
            message repeats it.
    """
    if "://" in url:
        return _open_redis(url, max_waiting, lease_seconds, patience, outage, clock)
    path = Path(url).expanduser().absolute()
    try:
        make_private(path.parent)
        beside = list(path.parent.glob(f"{glob.escape(path.name)}*"))  # SQLite's and the locks too
        require_own(beside, find_trusted(path.parent) if beside else ())
        path.touch(mode=0o600)

        def storage(name: str) -> BaseStorage:
            return SqliteStorage(name, filename=str(path), timeout=patience.sqlite_lock)

        huey = Huey(_NAME, results=False, storage_class=SqliteStorage, filename=str(path), timeout=patience.sqlite_lock)
        return Queue(
            huey,
            storage,
            locks=FileLocks(path.with_name(f"{path.name}.locks")),
            outage=outage or Outage(f"the queue {path}", (sqlite3.Error,)),
            clock=clock,
            max_waiting=max_waiting,
            path=str(path),
        )
    except PermissionError as error:
        raise UnavailableError(
            f"the queue {path} cannot be opened: {error.strerror}; run this as the user of the queue, or choose "
            "another file with --queue"
        ) from None
    except (OSError, sqlite3.Error) as error:
        hint = "is another program using it?" if "locked" in str(error) else "choose another file with --queue"
        raise UnavailableError(f"the queue {path} cannot be opened: {error}; {hint}") from None


def _open_redis(  # noqa: PLR0917 - what `open_queue` was given
    url: str,
    max_waiting: int,
    lease_seconds: float,
    patience: Patience,
    outage: Outage | None,
    clock: Callable[[], float],
) -> Queue:
    try:
        import redis  # noqa: PLC0415 - an extra: only those with several machines need it
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415
    except ImportError:
        raise InvalidConfigError(f"a queue on Redis needs: {install('mlflow-fireworks[redis]')}") from None
    where = f"the queue's Redis{_name_host(url)}"
    try:
        # Older clients wait for ever, newer ones try four times, longer than senders wait. One more try is for
        # connections that Redis closed meanwhile. What the URL says about it counts.
        pool = redis.ConnectionPool.from_url(
            url,
            socket_timeout=patience.redis_answer,
            socket_connect_timeout=patience.redis_connect,
            retry=Retry(NoBackoff(), 1),
        )
        client = redis.Redis(connection_pool=pool)
        client.ping()
    except ValueError:
        raise InvalidConfigError("the queue's URL is neither a file nor redis://[:PASSWORD@]HOST[:PORT][/DB]") from None
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise UnavailableError(
            f"{where} refuses this user ({type(error).__name__}); check the user name and password in the queue's URL"
        ) from None
    except redis.RedisError as error:
        raise UnavailableError(f"{where} does not answer ({type(error).__name__}); is it running?") from None
    return Queue(
        Huey(_NAME, results=False, storage_class=RedisStorage, connection_pool=pool),
        lambda name: RedisStorage(name, connection_pool=pool),
        locks=RedisLocks(client, lease_seconds),
        outage=outage or Outage(where, (redis.RedisError,)),
        clock=clock,
        max_waiting=max_waiting,
        writers=_REDIS_WRITERS,
    )


def _name_host(url: str) -> str:
    """` at HOST:PORT`, without what else the URL holds; "" where it names no host."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.hostname:
            return f" at {parts.hostname}:{parts.port or _REDIS_PORT}"
    return ""


def _nobody_works(job_id: str) -> None:
    raise NotImplementedError(f"no worker was set up for job {job_id}")
