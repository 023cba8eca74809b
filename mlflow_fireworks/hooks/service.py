"""The running program: receiver, workers and the clock that reconciles, in one process."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import mlflow
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from mlflow_fireworks.credentials import read_credential
from mlflow_fireworks.errors import FireworksError, InvalidConfigError, UnavailableError
from mlflow_fireworks.hooks.heartbeats import BEAT_SECONDS, Heartbeat
from mlflow_fireworks.hooks.links import Links
from mlflow_fireworks.hooks.listening import listen, make_server
from mlflow_fireworks.hooks.metrics import DeliveryFigures, JobFigures
from mlflow_fireworks.hooks.queue import Queue
from mlflow_fireworks.hooks.receiver import Receiver, Secrets, make_app
from mlflow_fireworks.hooks.reconcile import reconcile
from mlflow_fireworks.hooks.rule_file import LOOK_SECONDS, RuleFile
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.snapshot import View
from mlflow_fireworks.hooks.status import StatusPage
from mlflow_fireworks.hooks.worker import Worker, WorkerPool
from mlflow_fireworks.progress import logger
from mlflow_fireworks.redaction import hide_credentials
from mlflow_fireworks.target import load_api_key, parse_target

MLFLOW_SECRET = "MLFLOW_FIREWORKS_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
HUB_SECRET = "MLFLOW_FIREWORKS_HUB_SECRET"  # noqa: S105 - the name of a variable
TOKEN = "MLFLOW_FIREWORKS_HOOKS_TOKEN"  # noqa: S105 - the name of a variable
_TOKEN_MIN = 16
SWEEP_SECONDS = 10.0
_NOTE_SECONDS = 1.0
_WATCH_SECONDS = 2.0
_COMPARE_AGAIN_SECONDS = 120.0  # after one that failed: the page would name an outage long after its end


def load_secrets(rules: Rules, environ: Mapping[str, str] = os.environ) -> Secrets:
    """The senders' secrets, as far as the rules need them, and the token of the page's button, if there is one.

    Raises:
        InvalidConfigError: One is missing, without which anybody could have anything deployed; or the token is short.
        CredentialsError: A file with one cannot be read.
    """

    def load(variable: str, needed: bool, sender: str) -> SecretStr | None:
        if value := read_credential(variable, environ).value:
            return SecretStr(value)
        if needed:
            raise InvalidConfigError(
                f"set {variable} to the secret of {sender}'s webhook (generate one with: openssl rand -hex 32)"
            )
        return None

    token = read_credential(TOKEN, environ)
    if token.value and len(token.value) < _TOKEN_MIN:
        raise InvalidConfigError(
            f"{token.where} is shorter than {_TOKEN_MIN} characters; generate one with: openssl rand -hex 32"
        )
    return Secrets(
        load(MLFLOW_SECRET, any(rule.model for rule in rules), "MLflow"),
        load(HUB_SECRET, any(rule.hub for rule in rules), "the Hugging Face Hub"),
        SecretStr(token.value) if token.value else None,
    )


def load_keys(rules: Rules) -> None:
    """Find the API keys of all targets.

    Raises:
        CredentialsError: There is none for one of them.
    """
    for target in {rule.target for rule in rules}:
        load_api_key(parse_target(target))


class Service:
    """Workers and the clock; with `serve`, the receiver too. It ends with its process.

    Args:
        queue: The queue.
        view: The same with less patience, for people and their tools.
        rules: The rule file.
        workers: Promotions at the same time; 0 leaves the work to other processes.
        reconcile_seconds: Between looks at the registry; 0 never looks.
        first_pause_seconds: Before a failed promotion's second try.
        sweep_seconds: Between looks for work whose worker died.
        approve: Let all rules start GPUs, without `hooks approve`.
        beat_seconds: Between two signs of life.
    """

    def __init__(
        self,
        queue: Queue,
        view: Queue,
        rules: RuleFile,
        *,
        workers: int,
        reconcile_seconds: float,
        first_pause_seconds: float,
        sweep_seconds: float = SWEEP_SECONDS,
        approve: bool = False,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._queue = queue
        self._people = view
        view.deliveries.share(queue.deliveries)
        self._view = View(view, lambda: rules.fault)
        self._rules = rules
        self._rules_changed = threading.Event()
        self._me = Heartbeat(slots=workers, every_seconds=beat_seconds)
        worker = Worker(queue, rules, first_pause_seconds, self._me.id)
        self._pool = WorkerPool(worker, workers) if workers else None
        self._reconcile_seconds = reconcile_seconds
        self._sweep_seconds = sweep_seconds
        self._approve = approve

    def start(self) -> None:
        """Start the workers and the clock; what an earlier run left undone is taken up at once."""
        following = ", ".join(f"'{rule.title}'" for rule in self._rules.current)
        if self._pool or self._reconcile_seconds:
            following += f" in {hide_credentials(mlflow.get_registry_uri())}"
        logger.info("following %s", following)
        self._attempt(self._queue.sweep, self._sweep_seconds)
        if self._pool:
            self._attempt(lambda: self._queue.heartbeats.beat(self._me), self._me.every_seconds)
            self._pool.start()
            threading.Thread(target=self._every, args=(self._me.every_seconds, self._beat), daemon=True).start()
        elif reason := self._view.look().describe_readiness().get("reason"):
            logger.info("this process runs no worker: %s", reason)
        threading.Thread(target=self._every, args=(self._sweep_seconds, self._queue.sweep), daemon=True).start()
        threading.Thread(target=self._every, args=(_NOTE_SECONDS, self._queue.deliveries.save), daemon=True).start()
        threading.Thread(target=self._every, args=(_WATCH_SECONDS, self._watch_storage), daemon=True).start()
        threading.Thread(target=self._every, args=(LOOK_SECONDS, self._look_at_rules), daemon=True).start()
        threading.Thread(target=self._keep_reconciling, daemon=True).start()

    def check(self) -> Mapping[str, Any]:
        """Whether the queue answers, the workers of this process live, and what waits is done by somebody."""
        found = self._view.look().describe_readiness()
        if self._pool and not self._pool.is_alive:
            found |= {
                "ok": False,
                "reason": "a worker in this process ended unexpectedly; see the log, then restart it",
            }
        return found

    def _watch_storage(self) -> None:
        with suppress(UnavailableError), self._people.outage.watch():
            self._people.waiting()

    def _look_at_rules(self) -> None:
        if self._rules.look():
            self._rules_changed.set()

    def _beat(self) -> None:
        if self._pool and self._pool.is_alive:
            self._queue.heartbeats.beat(self._me)

    def serve(self, secrets: Secrets, host: str, port: int, links: Links) -> None:
        """Take webhooks, and show people what becomes of them, until the process is told to stop.

        Args:
            secrets: Of the senders.
            host: Address to listen on.
            port: Port; 0 takes a free one, which the log tells.
            links: Of the page.

        Raises:
            UnavailableError: The address is taken, or not one of this machine's.
        """
        listener = listen(host, port)
        self.start()
        metrics = CollectorRegistry()
        metrics.register(JobFigures(self._people))
        receiver = Receiver(self._queue, self._rules, secrets, DeliveryFigures(metrics).count)
        page = StatusPage(
            self._people,
            metrics,
            secrets.people,
            lambda: server.should_exit,
            rules=lambda: self._rules.current,
            rules_fault=lambda: self._rules.fault,
            links=links,
        )
        app = make_app([*receiver.routes(), *page.routes()], self.check)
        server = make_server(app, host)
        logger.info("listening on %s port %d", host, listener.getsockname()[1])
        server.run(sockets=[listener])
        self._queue.deliveries.save()

    def wait(self) -> None:
        """Work until the process is told to stop. What runs then is left undone; the next start takes it up."""
        self.start()
        threading.Event().wait()

    def _keep_reconciling(self) -> None:
        if not self._reconcile_seconds:
            return
        first = threading.Event()

        def look() -> None:
            self._reconcile(dead_too=not first.is_set())
            first.set()

        sooner = min(self._reconcile_seconds, _COMPARE_AGAIN_SECONDS)
        while True:
            pause = self._reconcile_seconds if self._attempt(look, sooner) else sooner
            self._rules_changed.wait(pause)  # new rules are compared at once
            self._rules_changed.clear()

    def _reconcile(self, *, dead_too: bool) -> None:
        with self._queue.locks.hold("reconcile") as held:
            if held:
                found = reconcile(self._queue, self._rules.current, dead_too=dead_too, approve=self._approve)
                logger.info("compared with the registry: %s", found.describe(self._queue.path))

    def _every(self, seconds: float, action: Callable[[], object]) -> None:
        while True:
            time.sleep(seconds)
            self._attempt(action, seconds)

    def _attempt(self, action: Callable[[], object], seconds: float) -> bool:
        """Whether it went well; otherwise the log says why."""
        try:
            action()
        except FireworksError as error:
            logger.warning("%s; retrying in %d s", error.message, seconds)
        except Exception as error:  # noqa: BLE001 - the clock goes on, whatever it is
            if not self._queue.outage.is_behind(error):
                logger.exception("retrying in %d s", seconds)
        else:
            return True
        return False
