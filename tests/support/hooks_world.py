"""What the tests of the hooks share: a registry on a real MLflow server, and `hooks serve` as a process."""

import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import mlflow
from support.ports import free_port

from mlflow_fireworks.hooks.jobs import to_json
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.receiver import sign

SECRET = "a secret of the tests"
VERSIONS = 4
COMMAND = str(Path(sys.executable).with_name("mlflow-fireworks"))


def wait_until(condition, what, seconds=90):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return found


def answers(url):
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def jobs_of(hooks):
    """The jobs in the queue's file, newest first: read beside the process, seconds faster than `hooks jobs`."""
    queue = open_queue(str(hooks.folder / "hooks.db"))
    try:
        return [to_json(job) for job in queue.ledger.jobs()]
    finally:
        queue.close()


def alias_event(registry, version, alias="champion"):
    """The body of the webhook that MLflow sends when an alias is set."""
    data = {"name": registry.name, "alias": alias, "version": str(version)}
    event = {"entity": "model_version_alias", "action": "created", "timestamp": "2026-11-24T00:00:00Z", "data": data}
    return json.dumps(event).encode()


@dataclass
class Registry:
    """One registered model on the MLflow server, with `VERSIONS` versions."""

    client: mlflow.MlflowClient
    url: str
    name: str

    def promote(self, version, alias="champion"):
        self.client.set_registered_model_alias(self.name, alias, str(version))

    def tags(self, version):
        return self.client.get_model_version(self.name, str(version)).tags


@dataclass
class Hooks:
    """`mlflow-fireworks hooks serve` as a process that can be killed and started again."""

    folder: Path
    environ: dict
    port: int = field(default_factory=free_port)
    process: subprocess.Popen | None = None
    client: httpx.Client = field(default_factory=httpx.Client)

    @property
    def queue(self):
        return [] if "MLFLOW_FIREWORKS_QUEUE" in self.environ else ["--queue", str(self.folder / "hooks.db")]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/webhooks/mlflow"

    @property
    def log(self):
        path = self.folder / "hooks.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, *options):
        command = [COMMAND, "hooks", "serve", "--port", str(self.port)]
        command += ["--rules", str(self.folder / "hooks.yaml"), *self.queue]
        with (self.folder / "hooks.log").open("ab") as log:
            self.process = subprocess.Popen([*command, *options], env=self.environ, stdout=log, stderr=log)
        ready = f"http://127.0.0.1:{self.port}/readyz"
        wait_until(lambda: answers(ready) or self.process.poll() is not None, "the receiver is ready")
        assert self.process.poll() is None, self.log
        return self

    def close(self):
        """End it as systemd does, which lets coverage write down what it saw."""
        if self.process:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self.kill()
        self.client.close()

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def deliver(self, body, *, delivery_id="d-1", age=0, secret=SECRET, **headers):
        timestamp = str(int(time.time()) - age)
        signed = {
            "X-MLflow-Delivery-Id": delivery_id,
            "X-MLflow-Timestamp": timestamp,
            "X-MLflow-Signature": sign(secret, delivery_id, timestamp, body),
        }
        return self.client.post(self.url, content=body, headers=signed | headers, timeout=30)

    def command(self, *arguments):
        command = [COMMAND, "hooks", *arguments, *self.queue]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=120, check=False)
