"""One run of a command: on which account, with which options, and who is told."""

import getpass
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.config import Config
from mlflow_fireworks.endpoint_config import EndpointConfig
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.gateway.stamps import Hand, TakenOff
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.names import EndpointName
from mlflow_fireworks.progress import Reporter
from mlflow_fireworks.waiting import Waiter


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(timezone.utc)


def user_name() -> str:
    """Who runs this, for those who ask later who it was; "somebody" where the system does not say."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # of a container without users; which of them depends on the Python
        return "somebody"


class Permit:
    """Whether a run may start GPUs. This one allows all: a person asked for them; rules have limits."""

    def check(self, run: "Run", endpoint: EndpointName) -> None:
        """Say before anything is sent that an endpoint may not be started, as far as that is known then.

        Raises:
            LimitError: It may not.
        """

    def admit(self, run: "Run", endpoint: EndpointName | None) -> None:
        """Say whether this may be done now: asked before anything is sent, and before an endpoint moves.

        Args:
            run: The account and the options.
            endpoint: What is about to move; None before anything is sent.

        Raises:
            HeldError: Not now.
        """

    @contextmanager
    def hold(self, run: "Run", endpoint: EndpointName, preview: Callable[[], OnDemandDeployment]) -> Iterator[None]:  # noqa: ARG002 - for those that derive from it
        """Surround the call that asks for GPUs, so that nobody else asks between the look and the call.

        Args:
            run: The account and the options.
            endpoint: What they are for; it may be up already, and about to move.
            preview: What would be made, as Fireworks says it; makes nothing.

        Raises:
            LimitError: They may not be started.
        """
        yield


@dataclass(frozen=True)
class Run:
    """What every step of a run needs, on a model's way to READY and where it answers.

    Args:
        gateway: The account.
        commands: The commands that go on from here, for messages.
        reporter: Is told what happens.
        waiter: How Fireworks is waited for.
        state: Folder of the plugin's state on this machine.
        config: The options of the deployment.
        endpoint_config: The options of the endpoint.
        retry: How files and questions are tried again; the gateway has its own.
        timeouts: How long one request to storage may hang; the gateway has its own.
        request_timeout: Longest silence within one question to a model, in seconds.
        total_timeout: Longest wait for a model that starts up when it is asked, in seconds.
        is_billed: Whether GPUs cost money; they do not on the local Fireworks.
        permit: Whether GPUs may be started.
        is_wanted: Whether somebody still wants the result; asked while bytes move, and may take a while to answer.
        now: The time of day, in UTC.
        user: Who runs it.
    """

    gateway: Gateway
    commands: Commands
    reporter: Reporter
    waiter: Waiter
    state: Path
    config: Config = field(default_factory=Config)
    endpoint_config: EndpointConfig = field(default_factory=EndpointConfig)
    retry: Retry = field(default_factory=Retry)
    timeouts: Timeouts = field(default_factory=Timeouts)
    request_timeout: float = 120.0
    total_timeout: float = 1200.0
    is_billed: bool = True
    permit: Permit = field(default_factory=Permit)
    is_wanted: Callable[[], bool] = lambda: True
    now: Callable[[], datetime] = utc_now
    user: str = field(default_factory=user_name)

    def done_by_hand(self, hand: Hand, reason: str) -> TakenOff:
        """What the user of this run does, or has just done, to what was promoted.

        Args:
            hand: What is done.
            reason: It in words.
        """
        return TakenOff(hand, reason, self.now().strftime("%Y-%m-%dT%H:%M:%SZ"), self.user)
