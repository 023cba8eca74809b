"""One answer of the service as a report may show it: its code and its shape, with nothing in it that is anybody's."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import ValidationError

from mlflow_fireworks.gateway.wire import ErrorBody

_LONGEST_MESSAGE = 300
# Shorter ones may be part of any word; longer ones are no accident anywhere.
_SHORTEST_UNMISTAKABLE = 6
_PATTERNS = (
    (re.compile(r"[a-z][a-z0-9+.-]*://[^\s'\"<>)]+", re.IGNORECASE), "URL"),
    (re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+"), "E-MAIL"),
    (re.compile(r"\bfw_\w+"), "KEY"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE), "ID"),
    (re.compile(r"[\w+=-]{48,}"), "LONG"),
    (re.compile(r"(?<=in use: )[\d.]+|(?<=quota: )[\d.]+", re.IGNORECASE), "N"),
)
_FIELD = re.compile(r"[A-Za-z@]\w{0,40}")
_TELLING_HEADERS = re.compile(r"x-.*|grpc-.*|retry-after|location|etag|www-authenticate|range")


@dataclass(frozen=True)
class Answer:
    """What was asked, and how it was answered.

    Args:
        call: Method and path, with stand-ins for the account and the models.
        status: HTTP status.
        code: gRPC code of an error's body.
        message: The service's words, masked.
        keys: Names of the fields of the body.
        headers: Names of the headers that are more than manners.
    """

    call: str
    status: int
    code: int | None = None
    message: str = ""
    keys: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """An answer with its content, which is for deciding only and reaches no report.

    Args:
        answer: The part that may be shown.
        body: The JSON object; empty when there was none.
        headers: All of them.
    """

    answer: Answer
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.answer.status

    @property
    def is_success(self) -> bool:
        """Whether it is of the 2xx."""
        return httpx.codes.is_success(self.status)

    def describe(self) -> str:
        """`400, code 3: config.json not found`."""
        code = "" if self.answer.code is None else f", code {self.answer.code}"
        return f"{self.status}{code}" + (f": {self.answer.message}" if self.answer.message else "")


class Mask:
    """Takes out of a text whatever belongs to the account.

    Args:
        secrets: What is known to be secret, with the stand-in for each.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets: dict[str, str] = {}
        for secret, stand_in in secrets.items():
            self.learn(secret, stand_in)

    def learn(self, secret: str, stand_in: str) -> None:
        """Hide this too from now on."""
        if secret:
            self._secrets.setdefault(secret.lower(), stand_in)

    def hide(self, text: str) -> str:
        """The text with stand-ins for what is secret, and for everything that looks like an address or a key."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            pattern = re.escape(secret)
            if len(secret) < _SHORTEST_UNMISTAKABLE:
                pattern = rf"(?<![A-Za-z0-9]){pattern}(?![A-Za-z0-9])"
            text = re.sub(pattern, self._secrets[secret], text, flags=re.IGNORECASE)
        for shape, stand_in in _PATTERNS:
            text = shape.sub(stand_in, text)
        return text


def read_answer(response: httpx.Response, call: str, mask: Mask) -> Reply:
    """What an answer of the control plane says.

    Args:
        response: The answer.
        call: Method and path, masked.
        mask: Hides what belongs to the account.
    """
    try:
        content = response.json()
    except ValueError:
        content = None
    body = content if isinstance(content, dict) else {}
    code, message = None, ""
    if not response.is_success:
        try:
            error = ErrorBody.model_validate(body)
        except ValidationError:
            error = ErrorBody()
        code, message = error.code, error.message or response.text
    return Reply(
        Answer(call, response.status_code, code, _one_line(message, mask), _names(body, mask), _told(response)),
        body,
        {name.lower(): value for name, value in response.headers.items()},
    )


def read_storage_answer(response: httpx.Response, call: str) -> Reply:
    """What storage says: of an error's XML only the code, since the rest repeats the signature."""
    found = re.search(r"<Code>(\w{1,60})</Code>", response.text[:20_000])
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(Answer(call, response.status_code, None, found[1] if found else "", (), _told(response)), {}, headers)


def _names(body: Iterable[str], mask: Mask) -> tuple[str, ...]:
    return tuple(sorted(mask.hide(name) if _FIELD.fullmatch(name) else "ODD" for name in body))


def _told(response: httpx.Response) -> tuple[str, ...]:
    return tuple(sorted({name.lower() for name in response.headers if _TELLING_HEADERS.fullmatch(name.lower())}))


def _one_line(text: str, mask: Mask) -> str:
    text = mask.hide(" ".join(text[:20_000].split()))
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE].rstrip()} …"
