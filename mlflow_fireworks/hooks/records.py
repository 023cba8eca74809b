"""All that a queue's storage keeps beside the ids on their way to the workers."""

from collections.abc import Callable
from dataclasses import dataclass

from huey.storage import BaseStorage

from mlflow_fireworks.hooks.approvals import Approvals
from mlflow_fireworks.hooks.deliveries import Deliveries
from mlflow_fireworks.hooks.heartbeats import Heartbeats
from mlflow_fireworks.hooks.history import History
from mlflow_fireworks.hooks.holds import Holds
from mlflow_fireworks.hooks.ledger import Ledger
from mlflow_fireworks.hooks.locks import Locks
from mlflow_fireworks.hooks.totals import Totals


@dataclass(frozen=True)
class Records:
    """What is kept beside the ids, each in a part of the storage of its own.

    Args:
        ledger: Holds the jobs.
        heartbeats: Tell which workers live.
        deliveries: Tell which webhooks came.
        totals: Tell what became of all promotions.
        approvals: Tell which rules may start GPUs.
        holds: Tell what is not promoted for now.
        history: Tells what was promoted, and who asked for it.
    """

    ledger: Ledger
    heartbeats: Heartbeats
    deliveries: Deliveries
    totals: Totals
    approvals: Approvals
    holds: Holds
    history: History

    @classmethod
    def open(
        cls, name: str, storage: Callable[[str], BaseStorage], locks: Locks, clock: Callable[[], float]
    ) -> "Records":
        """All of them.

        Args:
            name: What the names of the parts begin with.
            storage: Opens a part, by its name.
            locks: Of the queue.
            clock: Unix time in seconds.
        """
        return cls(
            Ledger(storage(f"{name}-jobs"), storage(f"{name}-heads"), clock),
            Heartbeats(storage(f"{name}-workers")),
            Deliveries(storage(f"{name}-deliveries"), locks),
            Totals(storage(f"{name}-totals"), locks),
            Approvals(storage(f"{name}-approvals"), clock),
            Holds(storage(f"{name}-holds"), clock),
            History(storage(f"{name}-history")),
        )

    def close(self) -> None:
        """Let go of the storage."""
        for record in vars(self).values():
            record.close()
