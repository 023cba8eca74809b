"""Whether Fireworks can be reached, with this key, and what the account may still do."""

import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path

from mlflow_fireworks.doctor.check import Check, look, note, ok, problem
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.gateway.wire import Account
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.run import Run
from mlflow_fireworks.target import Target, locate_api_key

# Signed URLs say from when to when they hold; object stores refuse clocks that are fifteen minutes off.
_SKEW_SECONDS = 300.0
_WHOLE_SECONDS = 2.0  # a date in a header has no fractions, and the answer took a while
_OF_OTHERS = 0o066
_LIMITS = ("x-ratelimit-remaining-requests", "x-ratelimit-limit-requests")


def check_key(target: Target) -> Check:
    """Where the API key was found, and whether others can read it there; it is not shown."""
    if target.is_local:
        return ok("API key", "not needed: the local Fireworks accepts any key")
    return look("API key", lambda: _describe_place(locate_api_key(target)[1]))


def _describe_place(where: str) -> Check:
    path, text = Path(where), f"found in {where}"  # not mounted secrets, whose modes others choose
    if sys.platform == "win32" or path.name != "auth.ini" or not path.stat().st_mode & _OF_OTHERS:
        return ok("API key", text)
    return note("API key", f"{text}, which other users can read or change", shlex.join(["chmod", "600", where]))


def check_account(run: Run) -> Iterator[Check]:
    """Ask Fireworks about the account.

    Args:
        run: The account.
    """
    host, began = run.gateway.transport.host, time.monotonic()
    try:
        account, headers = run.gateway.describe_account()
    except FireworksError as error:
        yield problem("Fireworks", error.message)
        return
    yield ok("Fireworks", f"{host} answers in {(time.monotonic() - began) * 1000:.0f} ms")
    yield _check_suspension(account)
    yield _check_clock(headers.get("date", ""))
    yield from _check_rate(headers)
    yield look("quota", lambda: _check_quota(run))


def _check_suspension(account: Account) -> Check:
    id_ = account.name.removeprefix("accounts/")
    if account.is_suspended:
        return problem(
            "account", f"{id_} is suspended ({account.suspend_state}); see its billing page in the Fireworks console"
        )
    return ok("account", f"{id_} is active" if account.suspend_state else id_)


def _check_clock(date: str) -> Check:
    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return note("clock", "the reply has no date to compare this machine's clock with")
    text = f"{format_seconds(abs(skew))} {'ahead of' if skew > 0 else 'behind'} Fireworks' clock"
    if abs(skew) > _SKEW_SECONDS:
        return problem("clock", f"this machine is {text}; set its clock, because signed URLs expire")
    return ok("clock", "in step with Fireworks" if abs(skew) < _WHOLE_SECONDS else text)


def _check_rate(headers: Mapping[str, str]) -> Iterator[Check]:
    left, limit = (headers.get(name, "") for name in _LIMITS)
    if left.isdecimal() and limit.isdecimal():
        text = f"{left} of {limit} requests left"
        yield ok("rate limit", text) if int(left) else note("rate limit", f"{text}; requests are being slowed down")


def _check_quota(run: Run) -> Check:
    quotas = run.gateway.list_quotas()
    used_up = [quota.describe() for quota in quotas if quota.is_used_up]
    if used_up:
        return note("quota", f"used up: {enumerate_names(used_up)}")
    return ok("quota", f"none of {len(quotas)} is used up")
