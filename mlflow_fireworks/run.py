"""One run of a command: which account, which options, and who is told."""

from dataclasses import dataclass, field
from pathlib import Path

from mlflow_fireworks.config import Config
from mlflow_fireworks.gateway.client import Gateway
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.progress import Reporter
from mlflow_fireworks.transfer.journal import Journal
from mlflow_fireworks.waiting import Waiter


@dataclass(frozen=True)
class Run:
    """What every step of a run needs.

    Args:
        gateway: The account.
        target_uri: As the user wrote it, for commands in messages.
        config: The options.
        reporter: Is told what happens.
        state: Folder for the journals of uploads.
        waiter: How Fireworks is waited for.
        retry: How files are tried again; the gateway has its own.
        timeouts: How long one request to storage may hang; the gateway has its own.
    """

    gateway: Gateway
    target_uri: str
    config: Config
    reporter: Reporter
    state: Path
    waiter: Waiter
    retry: Retry = field(default_factory=Retry)
    timeouts: Timeouts = field(default_factory=Timeouts)

    def journal(self, model: str) -> Journal:
        """The journal of a model's upload, by the model's full resource name."""
        return Journal(self.state / "uploads", self.gateway.host, model, self.reporter.warn)

    def command(self, verb: str, name: str, model_uri: str | None = None) -> str:
        """The `mlflow` command that goes on from here, for messages."""
        model = f" -m {model_uri}" if model_uri else ""
        return f"mlflow deployments {verb} -t {self.target_uri} --name {name}{model}"
