"""What the releases of huggingface_hub do differently, from 0.34 on. All else that is used of it is alike in all.

| since | what | before |
| --- | --- | --- |
| 0.36 | it can be asked about an organization | its members can be listed |
| 1.0 | it speaks through httpx, and since 2.0 through httpx2 | through requests |
| 1.1 | a download takes the class of its progress bar | it draws its own, which can be switched off for all downloads |

Source: the released packages, each compared with the one before it.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import requests
from huggingface_hub import HfApi, get_session, hf_hub_download
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but not in __all__
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    hf_raise_for_status,
)
from tqdm.auto import tqdm

from mlflow_fireworks.in_between import find_obstacle
from mlflow_fireworks.redaction import brief

# It passes on what its HTTP client raises: of httpx and httpx2 this is all an `HTTPError`. All of requests, and its own
# error for offline mode, are OSErrors.
NO_ANSWER: tuple[type[Exception], ...] = (
    hub_errors.HTTPError,  # type: ignore[attr-defined]  # imported there, not listed in __all__
    OSError,
    json.JSONDecodeError,  # of a web page that came in place of an answer
)
_SPEAKS_THROUGH_REQUESTS = issubclass(hub_errors.HTTPError, requests.RequestException)  # type: ignore[attr-defined]
CERTIFICATES = "REQUESTS_CA_BUNDLE" if _SPEAKS_THROUGH_REQUESTS else "SSL_CERT_FILE"
"""The variable that tells its HTTP client which certificates to trust."""
_PIECE_BYTES = 256 * 1024
_BARS = "huggingface_hub.http_get"


def explain(error: Exception) -> str:
    """Why the Hub did not answer, with the next step where it was not the Hub that failed.

    Args:
        error: What huggingface_hub raised.
    """
    obstacle = find_obstacle(error, CERTIFICATES)
    return brief(error) + (f"; {obstacle}" if obstacle else "")


class NoBar(tqdm):  # type: ignore[type-arg]  # generic in the stubs only
    """The reporter shows progress; a bar for every file would stand in its way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})


@contextmanager
def open_stream(
    url: str, headers: dict[str, str], seconds: float, session: Any = None
) -> Iterator[tuple[dict[str, str], Iterator[bytes]]]:
    """Read a file of the Hub piece by piece, through the session that huggingface_hub is set up with.

    Args:
        url: Of the file.
        headers: Of the request.
        seconds: Longest wait for an answer, and for each piece.
        session: Of requests, httpx or httpx2; huggingface_hub's own when None.

    Yields:
        The headers of the answer, by their names in lower case, and its bytes as they were sent, in pieces; what is not
        taken is not sent.

    Raises:
        HfHubHTTPError: The Hub refuses.
        Exception: One of `NO_ANSWER`.
    """
    session = session or get_session()
    if isinstance(session, requests.Session):
        with session.get(url, headers=headers, timeout=seconds, stream=True) as answer:
            hf_raise_for_status(answer)  # type: ignore[arg-type]  # its type is that of the newest huggingface_hub
            yield _lower(answer.headers), answer.raw.stream(_PIECE_BYTES, decode_content=False)
        return
    with session.stream("GET", url, headers=headers, timeout=seconds) as answer:
        hf_raise_for_status(answer)
        yield _lower(answer.headers), answer.iter_raw(_PIECE_BYTES)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def download(
    repo: str,
    name: str,
    *,
    revision: str,
    into: Path,
    endpoint: str | None,
    fetch: Callable[..., str] = hf_hub_download,
) -> Path:
    """`hf_hub_download` without a bar.

    Args:
        repo: `org/name`.
        name: Of the file.
        revision: A commit.
        into: Folder that it is written to.
        endpoint: Address of the Hub; huggingface_hub's own when None.
        fetch: `hf_hub_download`.

    Raises:
        HfHubHTTPError: The Hub refuses.
        Exception: One of `NO_ANSWER`.
    """
    ask: dict[str, Any] = {"revision": revision, "local_dir": into, "endpoint": endpoint}
    if "tqdm_class" in inspect.signature(fetch).parameters:
        return Path(fetch(repo, name, **ask, tqdm_class=NoBar))
    with _OWN_BARS.off():
        return Path(fetch(repo, name, **ask))


def is_organization(owner: str, api: HfApi) -> bool:
    """Whether an owner of repos is an organization; else it is a user.

    Args:
        owner: Its name.
        api: Is asked.

    Raises:
        HfHubHTTPError: The Hub does not tell.
    """
    try:
        if hasattr(api, "get_organization_overview"):
            api.get_organization_overview(owner)
        else:
            next(iter(api.list_organization_members(owner)), None)
    except hub_errors.HfHubHTTPError as error:
        if error.response.status_code != requests.codes.not_found:
            raise
        return False
    return True


class _Bars:
    """huggingface_hub's own bars, off while anybody downloads here; as they were when the last has ended."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._were_off = False

    @contextmanager
    def off(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._were_off = are_progress_bars_disabled(_BARS)
                disable_progress_bars(_BARS)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users and not self._were_off:
                    enable_progress_bars(_BARS)


_OWN_BARS = _Bars()
