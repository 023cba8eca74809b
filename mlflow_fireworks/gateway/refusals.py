"""What Fireworks means when it says no: the error for an answer outside 2xx, with its own words and the next step."""

import re

import httpx
from pydantic import ValidationError

from mlflow_fireworks.errors import (
    AlreadyExistsError,
    BusyError,
    FailedPreconditionError,
    InvalidRequestError,
    QuotaError,
    RefusedError,
)
from mlflow_fireworks.gateway.wire import ErrorBody
from mlflow_fireworks.http import TRANSIENT_STATUSES, find_page, is_of_network, read_retry_after
from mlflow_fireworks.in_between import IN_BETWEEN
from mlflow_fireworks.progress import format_seconds

_FAILED_PRECONDITION = 9
_RESOURCE_EXHAUSTED = 8
_TOO_MUCH = (httpx.codes.FORBIDDEN, httpx.codes.TOO_MANY_REQUESTS)
_LOADING = re.compile(r"\b(lora|adapter|addon)\b", re.IGNORECASE)
_KINDS: dict[int, type[RefusedError]] = {
    400: InvalidRequestError,
    409: AlreadyExistsError,
    413: InvalidRequestError,
    422: InvalidRequestError,
    **dict.fromkeys(TRANSIENT_STATUSES, BusyError),
}
_NEXT_STEPS = {
    401: "check FIREWORKS_API_KEY: it may be incomplete, revoked, or for inference only",
    402: "add a payment method to the account",
    403: "this key has no permission for that; check the account in the target (fireworks:/ACCOUNT) and the key's role",
    404: "not found; check the name and the account in the target, then run the command again",
    412: "the account may be suspended; see its billing page (from an endpoint: an adapter may not have loaded)",
    413: "a proxy or gateway in between limits the size of requests; raise its limit, or bypass it (NO_PROXY)",
}
_NOT_OF_PAGES = TRANSIENT_STATUSES | {413}  # whose next step is the same, whoever answers
_USED_UP = "the account's quota is used up; free some, choose another accelerator, or ask Fireworks for more"
_SUSPENDED = "the account is suspended; see its billing page, then run the command again"
# The code of this refusal is not documented.
_ZERO_RETENTION = re.compile(r"zero[ -]?data[ -]?retention|\bZDR\b", re.IGNORECASE)
_NO_UPLOADS = (
    "accounts with Zero Data Retention do not accept uploads or imports of models; ask Fireworks, or use "
    "another account "
    "(-t fireworks:/ACCOUNT)"
)
# Neither the code nor the words of this refusal are documented, and no call says where an account belongs. The words
# must be about the account or its API: refused placements of GPUs name regions as well. 421 means it by itself.
_OTHER_REGION = re.compile(
    r"\b(?:data[ -]?residency|(?:wrong|other|another|different) region|regional (?:end ?point|api|host)"
    r"|region of (?:the|this|your) account|[a-z]{2}\.api\.fireworks\.ai)\b",
    re.IGNORECASE,
)
_USE_THAT_REGION = (
    "the account may belong to another region, whose API has its own address: use it in the target "
    "(-t fireworks://HOST/ACCOUNT), or use another account"
)
# Seen of a model of about 37 files (2026-07); weeks later as many were taken.
_TOO_LARGE = "request is too large"
_FEWER_FILES = "the model may have too many files; save it again with fewer, larger shards (max_shard_size=)"
_NOT_LOADED = "the adapter is not loaded there; unload it and load it again, or check its state on Fireworks"


def is_about_quota(response: httpx.Response) -> bool:
    """Whether a refusal is about how much the account may have, which no waiting changes.

    Seen: `global--h200-count for account A, in use: 14, quota: 16, requesting: 4`, its status was not recorded; 429 and
    code 8 for GPUs, 403 with `quota_required` and `quota_available` among its details for training.
    """
    if response.status_code not in _TOO_MUCH:
        return False
    text = response.text.lower()
    if any(words in text for words in ("quota:", "in use:", "quota_required", "quota_available")):
        return True
    # A 429 may as well be about requests in a minute, which pass; a 403 never is.
    return response.status_code == httpx.codes.FORBIDDEN and (
        "quota" in text or _read_body(response).code == _RESOURCE_EXHAUSTED
    )


def is_about_region(status: int, message: str) -> bool:
    """Whether a refusal says that the account is of another region than the address that was asked."""
    return status == httpx.codes.MISDIRECTED_REQUEST or _OTHER_REGION.search(message) is not None


def refusal(response: httpx.Response, task: str, host: str) -> RefusedError:
    """The error for an answer outside 2xx.

    Bodies seen: `{"code":9,"details":[],"message":"cannot delete model with active deployments"}`; the samples of
    Fireworks' documentation look for the word FAILED_PRECONDITION instead of the number, so both count.

    Args:
        response: The answer.
        task: What the call was to do: "could not …".
        host: Who answered.
    """
    body = _read_body(response)
    message = body.message or response.reason_phrase or "no reason given"
    kind = _KINDS.get(response.status_code, RefusedError)
    next_step = _come_back(response) if kind is BusyError else _NEXT_STEPS.get(response.status_code)
    if is_about_quota(response):
        kind, next_step = QuotaError, _USED_UP
    elif is_of_network(response) or (find_page(response) is not None and response.status_code not in _NOT_OF_PAGES):
        next_step = IN_BETWEEN
    elif _TOO_LARGE in message:
        next_step = _FEWER_FILES
    elif _ZERO_RETENTION.search(message):
        next_step = _NO_UPLOADS
    elif is_about_region(response.status_code, message):
        next_step = _USE_THAT_REGION
    elif response.status_code == httpx.codes.PRECONDITION_FAILED and "suspended" in message.lower():
        next_step = _SUSPENDED
    elif _is_not_yet(response, body):
        kind = FailedPreconditionError
    elif response.status_code == httpx.codes.PRECONDITION_FAILED and _LOADING.search(message):
        next_step = _NOT_LOADED
    return kind(
        f"could not {task} on {host}: {message} ({response.status_code})" + (f"; {next_step}" if next_step else ""),
        status=response.status_code,
        api_code=body.code,
        server_message=message,
        request_id=response.headers.get("x-request-id"),
    )


def _come_back(response: httpx.Response) -> str:
    wait = read_retry_after(response.headers)
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return f"the account's request limit is used up; try again in {format_seconds(wait) if wait else 'a minute'}"
    when = format_seconds(wait) if wait else "a few minutes"
    return f"every retry failed the same way; run the same command again in {when}"


def _read_body(response: httpx.Response) -> ErrorBody:
    try:
        return ErrorBody.model_validate_json(response.content)
    except ValidationError:
        page = find_page(response)
        return ErrorBody(message=f"“{page}”" if page else " ".join(response.text.split())[:300])


def _is_not_yet(response: httpx.Response, body: ErrorBody) -> bool:
    # 400 was seen; gateways of its kind may as well put 412 on that code.
    return response.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.PRECONDITION_FAILED) and (
        body.code == _FAILED_PRECONDITION or "FAILED_PRECONDITION" in response.text
    )
