"""How a running emulator behaves, and the clock that it lives by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mlflow_fireworks.emulator.behaviours import Behaviours

# What is larger would hardly run on a CPU, and a rehearsal with 140 GB must not fill the disk.
_LARGEST_RUN_BYTES = 1024**3

Clock = Callable[[], float]
"""Seconds since the epoch; injected so that tests can move time."""


@dataclass(frozen=True)
class Options:
    """How strict, how fast and how forgetful the emulator is.

    Attributes:
        landing_seconds: How long after its PUT has finished a file counts as uploaded. Until then
            ``validateUpload`` answers code 9, as Fireworks does while files land.
        tunability_seconds: How long after READY (or after ``huggingFaceUrl`` was set) the tunability flags
            appear. Fireworks runs that check about every 30 minutes.
        api_keys: The keys that are accepted; None accepts every non-empty key.
        accounts: The accounts that exist, the first one being the key's own; empty lets every account exist.
        behaviours: The way of each fact that is uncertain about Fireworks; may change while the emulator runs.
        seed: Makes the ids that the server chooses repeatable.
        keep_everything: Keep the bytes of every file instead of small files and safetensors headers only.
        answers: Run uploaded models on this machine's CPU, so that inference gives real answers; needs the packages
            of the extra ``local``. Files of up to 1 GiB are kept for that.
        trust_remote_code: Let the models that run here run code of their checkpoints. Else only those may which were
            validated with ``trustRemoteCode``.
    """

    landing_seconds: float = 0.0
    tunability_seconds: float = 0.0
    api_keys: frozenset[str] | None = None
    accounts: tuple[str, ...] = ()
    keep_everything: bool = False
    answers: bool = False
    trust_remote_code: bool = False
    behaviours: Behaviours = field(default_factory=Behaviours)
    seed: int | None = None

    def keeps(self, size: int) -> bool:
        """Whether all bytes of a file of that size are kept."""
        return self.keep_everything or (self.answers and size <= _LARGEST_RUN_BYTES)

    @property
    def own_account(self) -> str:
        """The account that ``verifyApiKey`` reports."""
        return self.accounts[0] if self.accounts else "local"
