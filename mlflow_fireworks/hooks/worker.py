"""The work: one job from the queue to its end, tried again when it fails, taken up again when its worker died."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from huey.consumer import Consumer

from mlflow_fireworks.artifacts.sources.scratch import scratch_folder
from mlflow_fireworks.commands import Commands
from mlflow_fireworks.endpoint_config import parse_both
from mlflow_fireworks.errors import FireworksError, HeldError, LimitError, NotFoundError
from mlflow_fireworks.hooks.failures import FEW, describe_culprit, most_tries
from mlflow_fireworks.hooks.follower import Follower
from mlflow_fireworks.hooks.history import Entry
from mlflow_fireworks.hooks.jobs import Job, Progress, State, name_job
from mlflow_fireworks.hooks.limits import Limits
from mlflow_fireworks.hooks.logs import lines_about
from mlflow_fireworks.hooks.queue import Queue, open_queue
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.hooks.rules import CurrentRules, Rules
from mlflow_fireworks.hooks.snapshot import describe_wait
from mlflow_fireworks.hooks.subjects import has_home, look_up, require_home
from mlflow_fireworks.hooks.taken_off import find_against
from mlflow_fireworks.hooks.wording import describe_end
from mlflow_fireworks.names import DeploymentName, EndpointName
from mlflow_fireworks.opening import open_deployments
from mlflow_fireworks.progress import logger
from mlflow_fireworks.promotion import NothingToPromote, follow, write_failure, write_removal, write_taken_off
from mlflow_fireworks.registry.pointers import Pinned
from mlflow_fireworks.registry.workspaces import in_workspace
from mlflow_fireworks.target import parse_target

FIRST_PAUSE_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 900.0
_SLOWER_EACH_TIME = 4
_MAX_SLOWER = 10
_MAX_CRASHES = 20  # a job that kills its worker, by memory say, must not do so for ever
_SLOT_SECONDS = 2.0
_HUEYS_LOGGERS = ("huey", "huey.consumer", "huey.consumer.Worker", "huey.consumer.Scheduler")  # 3.5


@dataclass(frozen=True)
class Worker:
    """Works jobs off.

    Args:
        queue: Where they come from.
        rules: What they stand on.
        first_pause_seconds: Before the second try; four times longer before each further one.
        id: Of the heartbeat of this process; "" when it has none.
        most_tries: Ends also what would be tried as long as it is asked for; None does not.
        clock: Unix time in seconds.
    """

    queue: Queue
    rules: CurrentRules
    first_pause_seconds: float = FIRST_PAUSE_SECONDS
    id: str = ""
    most_tries: int | None = None
    clock: Callable[[], float] = time.time

    def work(self, job_id: str) -> None:
        """Do a job, unless it is over, was superseded, or somebody else is at it."""
        job = self.queue.ledger.find(job_id)
        if job is None or job.state.is_final:
            return
        about = {"delivery": job.delivery, "job": job.id, "deployment": job.deployment}
        with lines_about(**about), in_workspace(job.subject.workspace):
            self._take_up(job)

    def _take_up(self, job: Job) -> None:
        if job.state is State.QUEUED and not self.queue.ledger.is_newest(job):
            self._supersede(job, "superseded by a newer promotion of the same deployment")
            return
        with self.queue.locks.hold(job.key) as held:
            if not held:
                return  # who holds it hands this one out when it is done
            with self._slot(job) as free:
                if free:
                    self._work(job.id)
                else:
                    self.queue.hand_out(job.id, _SLOT_SECONDS)
        newest = self.queue.ledger.newest(job.key)
        if newest and newest.id != job.id and newest.state is State.QUEUED:
            self.queue.hand_out(newest.id)

    def _work(self, job_id: str) -> None:
        ledger = self.queue.ledger
        job = ledger.find(job_id)  # again: it may be over since
        if job is None or job.state.is_final or (job.not_before > self.clock()):
            return
        if not ledger.is_newest(job):
            self._supersede(job, "superseded by a newer promotion of the same deployment")
            return
        if hold := self.queue.holds.find_by_hand(job):
            self._wait(job, HeldError(hold.describe(), f"the hold on {hold.what}", hold.until))
            return
        crashes = job.crashes + (job.state is State.RUNNING)
        if crashes > _MAX_CRASHES:
            self._bury(
                job, f"the worker died {crashes} times while running it; see its log, and check its memory first"
            )
            return
        job = ledger.save(
            job, state=State.RUNNING, crashes=crashes, worker=self.id, taken_up=self.clock(), progress=Progress()
        )
        job = ledger.save(job, waits_for="") if job.waits_for else job
        logger.info("%s: job %s begins: %s, by %s (rule %s)", job.deployment, job.id, job.subject, job.cause, job.rule)
        follower = Follower(ledger, job)
        try:
            result = self._follow(follower)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is written down and tried again
            self._try_later(follower.job, error)
            return
        if isinstance(result, NothingToPromote):
            if result.taken_off:
                self._leave_off(follower.job, result.taken_off, result.reason)
            else:
                self._supersede(follower.job, result.reason)
            return
        version = str(result.get("version") or follower.job.version)
        job = ledger.save(follower.job, state=State.DONE, version=version, result=result, error="", progress=Progress())
        if job.action == "promote":
            self.queue.totals.add(job, "done", seconds=job.updated - job.created)
        else:
            self.queue.totals.add(job, "removed")
        self._remember(job)
        logger.info("%s", describe_end(job))

    def _follow(self, follower: Follower) -> dict[str, Any] | NothingToPromote:
        """Do what the pointer asks for now: the event may be older than one that came in before it."""
        rule = self.rules.current.find(follower.job.rule)
        if rule is None:
            return self._give_way(follower.job)
        if rule.target != follower.job.target or not rule.matches(follower.job.subject):
            return NothingToPromote(f"rule '{rule.title}' no longer asks for it")
        require_home(follower.job.subject)
        result = self._promote(rule, follower)
        if not (isinstance(result, NothingToPromote) and result.is_gone) or rule.when_removed == "keep":
            return result
        if not has_home(follower.job.subject):
            commands = Commands(follower.job.target)
            return NothingToPromote(
                f"'{follower.job.subject.name}' is not in the registry at all, so nothing was "
                f"removed; to remove it anyway: "
                f"{commands.delete(DeploymentName(follower.job.deployment), cascade='true')}"
            )
        return self._remove(rule, follower)

    def _promote(self, rule: Rule, follower: Follower) -> dict[str, Any] | NothingToPromote:
        job = follower.job = self.queue.ledger.save(follower.job, action="promote")

        def look() -> Pinned | NothingToPromote:
            if self.rules.current.find(rule.title) is None:
                return self._give_way(job)
            pinned = look_up(job.subject)
            if pinned is None:
                return NothingToPromote(f"{job.subject} no longer exists", is_gone=True)
            if found := find_against(rule, job, pinned):
                return NothingToPromote(found.describe(), taken_off=pinned)
            wanted = rule.make_job(job.subject, pinned.version, name_job(job.id, pinned.version), job.cause)
            if (wanted.deployment, wanted.endpoint) == (job.deployment, job.endpoint):
                return pinned
            self.queue.put(wanted.model_copy(update={"asked": job.asked_at, "by": job.by}))
            place = f"'{wanted.deployment}'" + (f" on endpoint '{wanted.endpoint}'" if wanted.endpoint else "")
            return NothingToPromote(f"{job.subject} shows {pinned.uri} now, which is {place}")

        return follow(
            look,
            str(job.subject),
            target=job.target,
            name=job.deployment,
            endpoint=job.endpoint,
            config=rule.config,
            reporter=follower,
            permit=Limits(rule, job, self.queue, clock=self.clock),
        )

    def _give_way(self, job: Job) -> NothingToPromote:
        return NothingToPromote(f"rule '{job.rule}' is no longer in the rule file")

    def _remove(self, rule: Rule, follower: Follower) -> dict[str, Any]:
        job = follower.job = self.queue.ledger.save(follower.job, action="remove", progress=Progress())
        name = DeploymentName(job.deployment)
        options, endpoint_options = parse_both({**rule.config, "cascade": True}, rule.endpoint)
        quiet = options.model_copy(update={"registry_tags": False})  # written below, also of what is gone already
        with open_deployments(parse_target(job.target), quiet, endpoint_options, follower) as deployments:
            if rule.when_removed == "delete":
                deployments.delete(name, None)
            elif rule.when_removed == "release" and job.endpoint:
                deployments.take_off_endpoint(name, EndpointName(job.endpoint))
        if options.registry_tags and not job.subject.is_on_hub:
            deleted = rule.when_removed == "delete"
            if warning := write_removal(job.subject.name, job.deployment, deleted=deleted):
                follower.warn(warning)
        return {"action": rule.when_removed}

    def _try_later(self, job: Job, error: Exception) -> None:
        if isinstance(error, HeldError) and not self.most_tries:
            self._wait(job, error)
            return
        message = error.message if isinstance(error, FireworksError) else f"{type(error).__name__}: {error}"
        message = " ".join(message.split())[:1000]
        attempts, most = job.attempts + 1, most_tries(error)
        strikes = job.strikes + (most is not None)
        is_over = self.most_tries and (attempts >= self.most_tries or isinstance(error, LimitError))
        if (most and strikes >= most) or is_over:
            self._bury(job, message, attempts)
            return
        slower = _SLOWER_EACH_TIME ** min(attempts - 1, _MAX_SLOWER)  # a float holds no more after weeks of tries
        pause = min(self.first_pause_seconds * slower, _LONGEST_PAUSE_SECONDS)
        job = self.queue.ledger.save(
            job,
            state=State.QUEUED,
            attempts=attempts,
            strikes=strikes,
            waits_for=describe_culprit(error),
            error=message,
            not_before=self.clock() + pause,
            progress=Progress(),
        )
        self.queue.totals.add(job, failed_tries=1)
        logger.warning("%s: %s; %s", job.deployment, message, describe_wait(job))
        self.queue.hand_out(job.id, pause)

    def _wait(self, job: Job, error: HeldError) -> None:
        """Put a job aside that nothing is wrong with; what ends a hold hands it out at once."""
        now = self.clock()
        until = min(error.until or float("inf"), now + _LONGEST_PAUSE_SECONDS)
        if job.error != error.message:
            logger.info("%s: %s", job.deployment, error.message)
        job = self.queue.ledger.save(
            job,
            state=State.QUEUED,
            waits_for=error.waits_for,
            error=error.message,
            not_before=until,
            progress=Progress(),
        )
        self.queue.hand_out(job.id, max(0.0, until - now))

    def _leave_off(self, job: Job, pinned: Pinned, reason: str) -> None:
        """End a job for what a person took off after it was asked for, and say so on the registry's version."""
        logger.warning("%s: not promoted: %s", job.deployment, reason)
        job = self.queue.ledger.save(job, state=State.HELD, version=pinned.version, error=reason, progress=Progress())
        self.queue.totals.add(job, "held")
        self._remember(job)
        rule = self.rules.current.find(job.rule)
        if rule and pinned.registered and parse_both(rule.config, rule.endpoint)[0].registry_tags:
            write_taken_off(job.subject.name, pinned.version, reason)

    def _remember(self, job: Job) -> None:
        """Put a job that is over into the history."""
        earlier = (other for other in self.queue.ledger.jobs() if other.key == job.key and other.id != job.id)
        before = next((other.version for other in earlier if other.state is State.DONE), "")
        self.queue.history.add(Entry.of_job(job, before), f"{job.id} {job.created}")

    def _bury(self, job: Job, message: str, attempts: int | None = None) -> None:
        again = Commands.retry_job(job.id, self.queue.path)
        logger.error("%s: %s; giving up; retry with: %s", job.deployment, message, again)
        job = self.queue.ledger.save(
            job,
            state=State.DEAD,
            attempts=job.attempts if attempts is None else attempts,
            error=message,
            progress=Progress(),
        )
        self.queue.totals.add(job, "dead", failed_tries=1)
        self._remember(job)
        try:
            pinned = look_up(job.subject)
        except (FireworksError, NotFoundError):
            return
        if pinned is not None and job.action == "promote":
            write_failure(pinned, job.deployment, message)

    def _supersede(self, job: Job, reason: str) -> None:
        logger.info("%s: %s; nothing to do for job %s", job.deployment, reason, job.id)
        job = self.queue.ledger.save(job, state=State.SUPERSEDED, error=reason, progress=Progress())
        self.queue.totals.add(job, "superseded")
        self._remember(job)

    @contextmanager
    def _slot(self, job: Job) -> Iterator[bool]:
        """One of the places that the rule's `concurrency` allows."""
        rule = self.rules.current.find(job.rule)
        if rule is None or rule.concurrency is None:
            yield True
            return
        for number in range(rule.concurrency):
            with self.queue.locks.hold(f"slot {number} of {rule.title}") as free:
                if free:
                    yield True
                    return
        yield False


class WorkerPool(Consumer):  # type: ignore[misc]  # huey ships no types
    """huey's consumer inside a program that has signal handlers of its own.

    Args:
        worker: Does the jobs.
        workers: How many at the same time.
    """

    def __init__(self, worker: Worker, workers: int) -> None:
        worker.queue.work = worker.work
        super().__init__(worker.queue.huey, workers=workers, periodic=False, max_delay=0.5)
        worker.queue.outage.hush(*_HUEYS_LOGGERS)

    def _set_signal_handlers(self) -> None:
        """Leave the signals to the program."""

    @property
    def is_alive(self) -> bool:
        """Whether all of its threads live."""
        return all(thread.is_alive() for _, thread in self.worker_threads) and self.scheduler.is_alive()


def work_now(
    rules: Rules, jobs: Sequence[Job], first_pause_seconds: float = FIRST_PAUSE_SECONDS, queue: Queue | None = None
) -> list[Job]:
    """Do jobs here, one after the other, with a few tries each, so that it ends.

    Args:
        rules: What they stand on.
        jobs: The jobs.
        first_pause_seconds: Before a second try.
        queue: Where other processes see them, which then do nothing else to the same deployment meanwhile; one for
            these jobs alone when None.

    Returns:
        The jobs as they ended.
    """
    if queue is None:
        with scratch_folder() as folder:
            alone = open_queue(str(folder / "queue.db"))
            try:
                return work_now(rules, jobs, first_pause_seconds, alone)
            finally:
                alone.close()
    worker = Worker(queue, rules, first_pause_seconds, most_tries=FEW)
    return [_finish(worker, job) for job in jobs]


def _finish(worker: Worker, job: Job) -> Job:
    queue = worker.queue
    queue.ledger.accept(job)
    now = queue.ledger.find(job.id) or job
    while not now.state.is_final:
        time.sleep(max(0.0, now.not_before - time.time()))
        worker.work(job.id)
        before, now = now, queue.ledger.find(job.id) or now
        if now == before:
            time.sleep(_SLOT_SECONDS)  # somebody else is at it; their death opens the lock
    return now
