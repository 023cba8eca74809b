"""What every step of serving needs: which account, which options, and who is told."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from mlflow_fireworks.gateway.client import Gateway
from mlflow_fireworks.gateway.deployments import DeploymentGateway
from mlflow_fireworks.progress import Reporter
from mlflow_fireworks.serving.inference import Inference
from mlflow_fireworks.serving.options import EndpointConfig
from mlflow_fireworks.waiting import Waiter


def utc_now() -> datetime:
    """Now."""
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class ServingRun:
    """One run of a command about endpoints or predictions.

    Args:
        gateway: The account.
        target_uri: As the user wrote it, for commands in messages.
        config: The options.
        reporter: Is told what happens.
        waiter: How Fireworks is waited for.
        inference: Asks models for answers.
        is_billed: Whether GPUs cost money; they do not on the local Fireworks.
        now: The time of day, in UTC.
    """

    gateway: Gateway
    target_uri: str
    config: EndpointConfig
    reporter: Reporter
    waiter: Waiter
    inference: Inference
    is_billed: bool = True
    now: Callable[[], datetime] = utc_now

    @property
    def deployments(self) -> DeploymentGateway:
        """The serving half of the account."""
        return DeploymentGateway(self.gateway)

    def command(self, verb: str, endpoint: str, options: str = "") -> str:
        """The command about an endpoint that goes on from here, for messages."""
        return f"mlflow-fireworks endpoint {verb} -t {self.target_uri} --name {endpoint}" + (
            f" {options}" if options else ""
        )

    def timestamp(self) -> str:
        """Now, as it is written into descriptions."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
