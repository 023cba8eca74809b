"""The signed URLs of a model's files."""

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from mlflow_fireworks.errors import FireworksError

# Fireworks' own uploader signs again after 45 of the 60 minutes that a URL of a dataset lives. For models that is not
# documented, so it counts only where a URL does not tell its own life.
_LIVE_SECONDS = 45 * 60.0
_SPARE_SECONDS = 60.0
_DATE = "%Y%m%dT%H%M%SZ"


class SignedUrls:
    """The current set of signed URLs; signs the complete set again when one is about to expire or was refused.

    Signing only some files would make Fireworks forget the others. A URL is used as long as it is good: should
    Fireworks refuse to sign again, those at hand may still be.

    Args:
        sign: Asks Fireworks for the complete set.
        clock: Monotonic seconds.
        tell: Is told when Fireworks signs no new ones and the old ones are used on.
        now: The time of day, to which a URL's own date is compared.
    """

    def __init__(
        self,
        sign: Callable[[], Mapping[str, SecretStr]],
        clock: Callable[[], float],
        tell: Callable[[str], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._sign = sign
        self._clock = clock
        self._tell = tell
        self._now = now
        self._lock = threading.Lock()
        self._urls: Mapping[str, SecretStr] = {}
        self._good_until: dict[str, float] = {}

    def get(self, name: str, refused: SecretStr | None = None) -> SecretStr:
        """The URL of a file.

        Args:
            name: The file.
            refused: The URL that storage no longer took, if that is why another is asked for.

        Raises:
            FireworksError: There is none that may be good, and Fireworks signs no other.
        """
        with self._lock:
            known = self._urls.get(name)
            if known is None or known == refused:
                self._renew()
            elif self._clock() > self._good_until[name]:
                try:
                    self._renew()
                except FireworksError as error:
                    self._tell(
                        f"no new upload URLs ({error.message}); using the current ones until storage refuses them"
                    )
                    self._good_until = dict.fromkeys(self._urls, float("inf"))
            return self._urls[name]

    def _renew(self) -> None:
        self._urls = self._sign()
        started, now = self._clock(), self._now()
        self._good_until = {name: started + _life_of(url, now) for name, url in self._urls.items()}


def _life_of(url: SecretStr, now: datetime) -> float:
    """How many seconds a URL should be used, by its own `X-Goog-Date` and `X-Goog-Expires`.

    A date that this machine's clock takes for the future, or for one long past, says more about the clock.
    """
    query = parse_qs(urlsplit(url.get_secret_value()).query)
    try:
        life = float(query["X-Goog-Expires"][0])
        age = now - datetime.strptime(query["X-Goog-Date"][0], _DATE).replace(tzinfo=timezone.utc)
    except (KeyError, ValueError):
        return _LIVE_SECONDS
    left = life - age.total_seconds() if timedelta(0) <= age < timedelta(seconds=life) else life
    return max(0.0, left - min(_SPARE_SECONDS, life / 10))
