"""How a running emulator behaves, and the clock that it lives by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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
        url_expiry_seconds: Life of a signed URL.
        api_keys: The keys that are accepted; None accepts every non-empty key.
        accounts: The accounts that exist, the first one being the key's own; empty lets every account exist.
        chunked_uploads: What storage does with ``Transfer-Encoding: chunked``: ``drop`` answers 200 and keeps
            nothing, which clients of Fireworks report of the real storage; ``store`` takes it.
        routing_seconds: How long after READY a deployment still answers inference with 404, as the live service
            has been seen to do for minutes.
        bare_model_routes: Whether a model name without ``#deployment`` reaches its default deployment. Reports
            differ; by default it is the 404 that Fireworks' own notebook warns of.
        suspended_accounts: Accounts whose inference is refused with 412.
        seed: Makes the ids that the server chooses repeatable.
        keep_everything: Keep the bytes of every file instead of small files and safetensors headers only.
        answers: Run uploaded models on this machine's CPU, so that inference gives real answers; needs the packages
            of the extra ``local``. Files of up to 1 GiB are kept for that.
    """

    landing_seconds: float = 0.0
    tunability_seconds: float = 0.0
    url_expiry_seconds: int = 3600
    api_keys: frozenset[str] | None = None
    accounts: tuple[str, ...] = ()
    chunked_uploads: Literal["drop", "store"] = "drop"
    keep_everything: bool = False
    answers: bool = False
    routing_seconds: float = 0.0
    bare_model_routes: bool = False
    suspended_accounts: frozenset[str] = frozenset()
    seed: int | None = None

    def keeps(self, size: int) -> bool:
        """Whether all bytes of a file of that size are kept."""
        return self.keep_everything or (self.answers and size <= _LARGEST_RUN_BYTES)

    @property
    def own_account(self) -> str:
        """The account that ``verifyApiKey`` reports."""
        return self.accounts[0] if self.accounts else "local"
