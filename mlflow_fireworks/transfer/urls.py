"""The signed URLs of a model's files."""

import threading
from collections.abc import Callable, Mapping

from pydantic import SecretStr

# Fireworks' own uploader signs again after 45 of the 60 minutes that a URL lives.
_LIVE_SECONDS = 45 * 60.0


class SignedUrls:
    """The current set of signed URLs; signs the complete set again when it is old or refused.

    Signing only some files would make Fireworks forget the others.

    Args:
        sign: Asks Fireworks for the complete set.
        clock: Monotonic seconds.
    """

    def __init__(self, sign: Callable[[], Mapping[str, SecretStr]], clock: Callable[[], float]) -> None:
        self._sign = sign
        self._clock = clock
        self._lock = threading.Lock()
        self._urls: Mapping[str, SecretStr] = {}
        self._signed_at = float("-inf")

    def get(self, name: str, refused: SecretStr | None = None) -> SecretStr:
        """The URL of a file.

        Args:
            name: The file.
            refused: The URL that storage no longer took, if that is why another is asked for.
        """
        with self._lock:
            is_old = self._clock() - self._signed_at > _LIVE_SECONDS
            if is_old or (refused is not None and self._urls.get(name) == refused):
                self._urls = self._sign()
                self._signed_at = self._clock()
            return self._urls[name]
