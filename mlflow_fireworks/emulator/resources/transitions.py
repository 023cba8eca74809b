"""Things that take time: a resource moves on by itself at once, after so many reads, or after so many seconds.

A resource that has begun to change carries what it will become. Whoever reads it, in whatever process, first
lets it move on if it is due; nothing runs in the background.
"""

from __future__ import annotations

import fnmatch
import threading
from dataclasses import dataclass

from mlflow_fireworks.emulator.protocol.wire import JsonObject
from mlflow_fireworks.emulator.storage.state import Resource, Transaction

_LONGEST_SECONDS = 366 * 86400

COLLECTIONS = ("deployments", "deployedModels", "operations", "models")


@dataclass(frozen=True)
class Transition:
    """How long resources take, and whether they arrive.

    Attributes:
        pattern: Shell pattern of full resource names, or a collection such as ``deployments``.
        reads: How many reads still show the old state. With 0 reads and 0 seconds the first read shows the new.
        seconds: How long the old state lasts.
        fails_with: If not empty, the change fails with this message.
    """

    pattern: str
    reads: int = 0
    seconds: float = 0.0
    fails_with: str = ""

    def check(self) -> None:
        """Refuse values that cannot be meant.

        Raises:
            ValueError: Names the attribute.
        """
        values: dict[str, object] = vars(self)
        if type(values["reads"]) is not int or self.reads < 0:
            raise ValueError("reads must be a whole number")
        if type(values["seconds"]) not in (int, float) or not 0 <= self.seconds < _LONGEST_SECONDS:
            raise ValueError("seconds must be a number from 0 to a year")
        if type(values["pattern"]) is not str or type(values["fails_with"]) is not str:
            raise ValueError("pattern and fails_with must be text")
        if "/" not in self.pattern and self.pattern not in COLLECTIONS:
            raise ValueError(f"pattern is a resource name or one of {', '.join(COLLECTIONS)}, not {self.pattern!r}")


class Transitions:
    """The rules in force, the latest first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Transition] = []

    def set(self, rule: Transition) -> None:
        """Add a rule; it wins over earlier ones and holds for changes that begin from now on."""
        rule.check()
        with self._lock:
            self._rules.insert(0, rule)

    def clear(self) -> None:
        """Everything is immediate again."""
        with self._lock:
            self._rules.clear()

    def of(self, resource: Resource) -> Transition:
        """The rule for a resource."""
        with self._lock:
            for rule in self._rules:
                if rule.pattern == resource.collection or fnmatch.fnmatchcase(resource.name, rule.pattern):
                    return rule
        return Transition(resource.collection)

    def begin(self, resource: Resource, then: JsonObject, now: float, *, failed: JsonObject | None = None) -> None:
        """Let a resource start to change.

        Args:
            resource: It gets ``then`` merged into its body when it is due; the caller stores it.
            then: The fields of the new state; empty means that the resource disappears.
            now: Seconds since the epoch.
            failed: The fields of the state after a failure, when this change can fail.
        """
        rule = self.of(resource)
        if rule.fails_with and failed is not None:
            then = {**failed, "status": {"code": "INTERNAL", "message": rule.fails_with}}
        resource.private["change"] = {"at": now + rule.seconds, "reads": rule.reads, "then": then}


def advance(transaction: Transaction, resource: Resource, now: float) -> Resource | None:
    """Let a resource move on if it is due, and count the read if it is not.

    Returns:
        The resource as it is now, or None when it has disappeared.
    """
    change = resource.private.get("change")
    if not change:
        return resource
    if change["reads"] > 0:
        change["reads"] -= 1
        transaction.put(resource)
        return resource
    if now < change["at"]:
        return resource
    del resource.private["change"]
    if not change["then"]:
        transaction.remove(resource)
        return None
    resource.body.update(change["then"])
    resource.private["changed_at"] = max(change["at"], resource.private.get("changed_at", 0.0))
    transaction.put(resource)
    return resource
