"""The calls of a probe: each bounded, recorded without secrets, and everything that they make remembered."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import httpx
from pydantic import SecretStr

from mlflow_fireworks.answers import EndlessAnswerError, send
from mlflow_fireworks.errors import DeadlineError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.gateway.refusals import is_about_quota
from mlflow_fireworks.gateway.wire import FAILED, READY
from mlflow_fireworks.http import (
    Retry,
    TransientError,
    describe_failure,
    is_safe_url,
    is_transient,
    transient_status,
)
from mlflow_fireworks.probe.answers import Answer, Mask, Reply, read_answer, read_storage_answer
from mlflow_fireworks.progress import Reporter, format_seconds
from mlflow_fireworks.waiting import Pending, Waiter

PREFIX = "mlflow-fireworks-probe"
TRIES = Retry(attempts=3, wait_max=5.0)
_ONCE = Retry(attempts=1)
LONGEST_SECONDS = 240.0
_OCTETS = "application/octet-stream"
_NOT_YET = 9


class NotAskedError(Exception):
    """A question that could not be asked, or had no answer; its text says why."""


class OutOfTimeError(NotAskedError):
    """The time for questions is over."""


class Chunked:
    """A body whose length httpx does not know, and that can be sent again."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content


@dataclass
class Session:
    """One probe of one account.

    Args:
        gateway: The account.
        storage: Carries files; has no key.
        reporter: Is told about waits.
        api_key: To ask with it in another header, and to hide it.
        stamp: Makes the names of this probe's models its own: a few of a-z and 0-9.
        retry: How failures that may pass are tried again.
        clock: Monotonic seconds.
        sleep: Waits that many seconds.
    """

    gateway: Gateway
    storage: httpx.Client
    reporter: Reporter
    api_key: SecretStr
    stamp: str
    retry: Retry = TRIES
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    answers: list[Answer] = field(default_factory=list)
    """Every answer so far."""
    trouble: list[str] = field(default_factory=list)
    """What was tried again."""
    made: list[str] = field(default_factory=list)
    """Full names of what this probe has made or may have made, and not deleted."""
    urls: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    """The last signed URLs of each model. They are credentials."""
    states: set[str] = field(default_factory=set)
    """Every state in which a model was seen."""

    is_harmless: bool = False
    """Whether `validateOnly` was seen to make nothing."""
    ways: dict[str, str] = field(default_factory=dict)
    """Which way each fact was found to be."""

    def __post_init__(self) -> None:
        self.allow(LONGEST_SECONDS)
        self.account = self.gateway.account
        self.mask = Mask(
            {
                self.api_key.get_secret_value(): "KEY",
                f"{PREFIX}-{self.stamp}": "PROBE",
                self.account: "ACCOUNT",
                self.gateway.transport.host: "HOST",
            }
        )

    @property
    def parent(self) -> str:
        """`accounts/A`."""
        return f"accounts/{self.account}"

    def model(self, role: str) -> str:
        """The full name of one of this probe's models."""
        return f"{self.parent}/models/{PREFIX}-{self.stamp}-{role}"

    def allow(self, seconds: float) -> None:
        """Take no longer than so many seconds from now; a call that has begun then is waited for."""
        self._deadline = self.clock() + seconds

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        repeat: bool = True,
        timeout: httpx.Timeout | None = None,
    ) -> Reply:
        """One call to the control plane.

        Args:
            method: HTTP method.
            path: Path below the API's address.
            body: Sent as JSON.
            params: Query parameters.
            headers: Credentials in place of the usual ones.
            repeat: Whether it is tried again when that may help.
            timeout: Limits of one try.

        Raises:
            NotAskedError: There was no answer.
        """
        http = self.gateway.transport.http
        limits = timeout or self.gateway.transport.timeouts.for_a_call()
        request = http.build_request(method, path, json=body, params=params, timeout=limits)
        if headers is not None:
            del request.headers["authorization"]
            request.headers.update(headers)
        query = "&".join(f"{name}={value}" for name, value in (params or {}).items())
        shown = self.mask.hide(f"{method} {path}" + (f"?{query}" if query else ""))
        reply = read_answer(self._send(http, request, shown, repeat=repeat), shown, self.mask)
        self.answers.append(reply.answer)
        return reply

    def create_model(self, role: str, fields: Mapping[str, Any]) -> Reply:
        """Register a model; it is remembered before the call, whose answer may be lost."""
        name = self.model(role)
        is_new = name not in self.made
        if is_new:
            self.made.append(name)
        body = {"modelId": name.rpartition("/")[2], "model": dict(fields)}
        reply = self.call("POST", f"/v1/{self.parent}/models", body)
        # After any other answer it may exist all the same: the first try may have made it, and its answer been lost.
        if is_new and httpx.codes.is_client_error(reply.status) and reply.status != httpx.codes.CONFLICT:
            self.made.remove(name)
        return reply

    def need(self, role: str) -> None:
        """Go on only if a model was made.

        Raises:
            NotAskedError: It was not.
        """
        if self.model(role) not in self.made:
            raise NotAskedError(f"the model PROBE-{role} was not created")

    def sign(self, role: str, sizes: Mapping[str, int], *, resumable: bool = False) -> Reply:
        """Ask for the signed URLs of a model's files, and keep them."""
        self.need(role)
        body = {"filenameToSize": {name: str(size) for name, size in sizes.items()}, "enableResumableUpload": resumable}
        reply = self.call("POST", f"/v1/{self.model(role)}:getUploadEndpoint", body)
        found = reply.body.get("filenameToSignedUrls")
        if reply.is_success and isinstance(found, dict):
            self.urls[role] = {str(name): str(url) for name, url in found.items()}
        return reply

    def put(self, role: str, files: Mapping[str, bytes], *, chunked: bool = False) -> list[Reply]:
        """Send files to their signed URLs, each in one PUT.

        Args:
            role: The model they belong to.
            files: Contents by name.
            chunked: Say no length beforehand.

        Raises:
            NotAskedError: One of them has no URL to which it may be sent, or storage does not answer.
        """
        return [self._put(role, name, content, chunked=chunked) for name, content in files.items()]

    def open_session(self, role: str, name: str, size: int) -> Reply:
        """Start a resumable session at a signed URL, and cancel it."""
        shown = f"POST signed URL of PROBE-{role}/{name}"
        headers = {**self._storage_headers(size), "x-goog-resumable": "start", "Content-Length": "0"}
        request = self.storage.build_request("POST", self._url(role, name), headers=headers)
        reply = read_storage_answer(self._send(self.storage, request, shown), shown)
        self.answers.append(reply.answer)
        session = reply.headers.get("location", "")
        if is_safe_url(session, self.gateway.transport.hostname):
            self._send(self.storage, self.storage.build_request("DELETE", session), "DELETE session")
        return reply

    def validate(self, role: str) -> Reply:
        """Ask for validation, once."""
        self.need(role)
        path, limits = f"/v1/{self.model(role)}:validateUpload", self.gateway.transport.timeouts.for_work()
        return self.call("GET", path, repeat=False, timeout=limits)

    def look(self, role: str) -> Reply:
        """Read a model."""
        self.need(role)
        reply = self.call("GET", f"/v1/{self.model(role)}")
        if state := reply.body.get("state"):
            self.states.add(str(state))
        return reply

    def wait_until_ready(self, role: str, seconds: float) -> list[Reply]:
        """Validate until the model is READY, is refused for good, or the time is over.

        Returns:
            The answers of validation, at least one; `is_ready` tells how it ended.

        Raises:
            NotAskedError: Validation never answered.
        """
        replies: list[Reply] = []

        def ask() -> Literal[True] | Pending:
            said = "no answer"
            try:
                reply = self.validate(role)
            except OutOfTimeError:
                raise
            except NotAskedError as reason:
                self.trouble.append(str(reason))
            else:
                replies.append(reply)
                said = str(reply.status)
                if not (reply.is_success or is_not_yet(reply)):
                    return True
            # Whatever the answer was: one that was lost may have made it READY.
            state = self.look(role).body.get("state")
            return True if state in (READY, FAILED) else Pending(f"PROBE-{role} is {state} ({said})")

        try:
            Waiter(self.reporter, self.clock, self.sleep).wait(ask, seconds, lambda reason: reason)
        except DeadlineError:
            self.trouble.append(f"PROBE-{role} was not READY after {format_seconds(seconds)}")
        if not replies:
            raise NotAskedError("validation did not answer")
        return replies

    def is_ready(self, role: str) -> bool:
        """Whether a model is READY now."""
        return self.look(role).body.get("state") == READY

    def delete(self, name: str) -> Reply:
        """Delete a model or deployment; it is forgotten once it is known to be gone."""
        params = {"hard": "true", "ignoreChecks": "true"} if "/deployments/" in name else None
        reply = self.call("DELETE", f"/v1/{name}", params=params, repeat=False)
        if (reply.is_success or reply.status == httpx.codes.NOT_FOUND) and name in self.made:
            self.made.remove(name)
        return reply

    def object_path(self, role: str, name: str) -> str:
        """The path in a file's signed URL: bucket and object, without the signature."""
        return unquote(urlsplit(self._url(role, name)).path)

    def query_of(self, role: str, name: str) -> str:
        """The query of a file's signed URL, which holds the signature."""
        return urlsplit(self._url(role, name)).query

    def _put(self, role: str, name: str, content: bytes, *, chunked: bool) -> Reply:
        shown = f"PUT signed URL of PROBE-{role}/{name}" + (", chunked" if chunked else "")
        url, headers = self._url(role, name), self._storage_headers(len(content))
        body = Chunked(content) if chunked else content
        request = self.storage.build_request("PUT", url, content=body, headers=headers)
        reply = read_storage_answer(self._send(self.storage, request, shown), shown)
        self.answers.append(reply.answer)
        return reply

    def _url(self, role: str, name: str) -> str:
        url = self.urls.get(role, {}).get(name, "")
        if not is_safe_url(url, self.gateway.transport.hostname):
            raise NotAskedError(f"PROBE-{role}/{name} has no signed URL")
        return url

    @staticmethod
    def _storage_headers(size: int) -> dict[str, str]:
        return {"content-type": _OCTETS, "x-goog-content-length-range": f"{size},{size}"}

    def _send(self, http: httpx.Client, request: httpx.Request, shown: str, *, repeat: bool = True) -> httpx.Response:
        """The last answer, whatever it says."""
        if self.clock() > self._deadline:
            raise OutOfTimeError("the time limit was reached")
        response: httpx.Response | None = None
        limits = self.gateway.transport.timeouts
        most_seconds = limits.connect + limits.answer + limits.rest

        def attempt() -> httpx.Response:
            nonlocal response
            response = None
            try:
                response = send(http, request, rest=limits.rest, seconds=most_seconds)
            except EndlessAnswerError as error:
                raise NotAskedError(f"{shown}: {error}") from None
            except httpx.RequestError as error:
                failure = self.mask.hide(describe_failure(error))
                if is_transient(error):
                    raise TransientError(f"{shown}: {failure}") from None
                raise NotAskedError(failure) from None
            if (failed := transient_status(response)) and not is_about_quota(response):
                raise TransientError(f"{shown}: {failed}", failed.retry_after)
            return response

        try:
            return (self.retry if repeat else _ONCE).call(attempt, self.trouble.append)
        except TransientError as error:
            if response is None:
                raise NotAskedError(str(error)) from None
            return response


def is_not_yet(reply: Reply) -> bool:
    """Whether a refusal of validation may pass: files are still landing, or the answer was lost."""
    return (
        reply.status >= httpx.codes.INTERNAL_SERVER_ERROR
        or reply.answer.code == _NOT_YET
        or reply.status in (httpx.codes.PRECONDITION_FAILED, httpx.codes.TOO_MANY_REQUESTS)
        or "not found" in reply.answer.message.lower()
    )
