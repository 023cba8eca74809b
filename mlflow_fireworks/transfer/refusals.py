"""What storage means when it says no, and who else may have said it."""

import re

import httpx

from mlflow_fireworks.errors import TransferError
from mlflow_fireworks.http import TransientError, find_page, is_of_network, transient_status
from mlflow_fireworks.in_between import IN_BETWEEN
from mlflow_fireworks.progress import format_bytes

# What limits are set to, and a little less: Cloudflare's 100 MB, 1 and 5 GB of others.
_SHARD_SIZES = {"2GB": 2 * 10**9, "500MB": 5 * 10**8, "90MB": 9 * 10**7, "40MB": 4 * 10**7, "5MB": 5 * 10**6}


class ExpiredUrlError(Exception):
    """The signed URL is too old or not accepted; a fresh one may be."""


class SessionGoneError(TransientError):
    """The resumable session cannot be used any more; another one may be opened at the same signed URL."""


def raise_unless_success(response: httpx.Response, name: str, size: int) -> None:
    """Raise what an answer of storage means, unless it took what it was sent.

    Args:
        response: The answer.
        name: The file's name, for messages.
        size: Its length in bytes.

    Raises:
        TransientError: A failure that may pass.
        ExpiredUrlError: The URL is no longer good.
        TransferError: Anything else; also a success that is not storage's.
    """
    if failure := transient_status(response):
        raise TransientError(f"{name}: storage answered {failure}", failure.retry_after, is_busy=failure.is_busy)
    page, is_too_large = find_page(response), response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
    if page is not None and not is_too_large:
        raise TransferError(f"{name} did not reach storage: “{page}” (HTTP {response.status_code}), so {IN_BETWEEN}")
    if is_of_network(response):
        raise TransferError(f"{name} did not reach storage (HTTP {response.status_code}): {IN_BETWEEN}")
    if response.is_success:
        return
    reason = f"storage refused {name}: {_read_refusal(response)}"
    if is_too_large:
        raise TransferError(f"{reason}; {_advise_smaller(name, size)}")
    raise ExpiredUrlError(reason) if _is_expired(response) else TransferError(reason)


def _is_expired(response: httpx.Response) -> bool:
    """Google answers 400 ExpiredToken to an old URL; 403 is what other stores answer, and what a bad one gets."""
    return response.status_code == httpx.codes.FORBIDDEN or _read_refusal(response).startswith("ExpiredToken")


def raise_if_gone(response: httpx.Response, name: str) -> None:
    """Raise SessionGoneError where a session is of no more use.

    Google answers 404 for one it no longer knows, 410 for one that failed and must start again.
    """
    if response.status_code in {httpx.codes.NOT_FOUND, httpx.codes.GONE} or _is_expired(response):
        raise SessionGoneError(f"{name}: its resumable session has expired: {_read_refusal(response)}")


def _read_refusal(response: httpx.Response) -> str:
    """Code and message of an XML error, as other elements repeat the signature; or a page's title."""
    text = response.text[:20_000]
    found = [re.search(rf"<{tag}>([^<]*)</{tag}>", text) for tag in ("Code", "Message")]
    words = [match[1] for match in found if match] or [find_page(response) or ""]
    return " ".join([*filter(None, words), f"(HTTP {response.status_code})"])


def _advise_smaller(name: str, size: int) -> str:
    """What helps against a limit of size: no waiting does, and Google's storage has none that a file would reach."""
    advice = f"a proxy or gateway in between limits the size of a request, and this one has {format_bytes(size)}"
    smaller = next((word for word, bytes_ in _SHARD_SIZES.items() if 2 * bytes_ <= size), None)
    if smaller and name.endswith(".safetensors") and not name.startswith("adapter_"):
        return f"{advice}: send the weights in smaller files, -C shard_size={smaller} for example, or raise its limit"
    return f"{advice}: raise its limit, or bypass it for the storage host (NO_PROXY)"
