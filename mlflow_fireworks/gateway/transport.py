"""Calls to Fireworks' control plane over HTTP, and what every resource has in common: found or not, deleted, listed."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr, ValidationError

from mlflow_fireworks.answers import EndlessAnswerError, ask
from mlflow_fireworks.connections import open_client
from mlflow_fireworks.errors import UnavailableError, UnexpectedAnswerError
from mlflow_fireworks.gateway.refusals import is_about_quota, refusal
from mlflow_fireworks.gateway.wire import Page, Wire
from mlflow_fireworks.http import (
    Retry,
    Timeouts,
    TransientError,
    describe_failure,
    find_page,
    hide_queries,
    is_loopback,
    is_transient,
    transient_status,
)
from mlflow_fireworks.in_between import IN_BETWEEN
from mlflow_fireworks.progress import format_seconds

AnswerT = TypeVar("AnswerT", bound=Wire)
PageT = TypeVar("PageT", bound=Page)

_PAGE_SIZE = 200
_MOST_PAGES = 500
_MOST_LIST_SECONDS = 600.0


class Transport:
    """One API address and the key for it.

    Args:
        base_url: Address of the API, without a trailing slash.
        api_key: Sent to that address only.
        retry: How failures that may pass are tried again.
        timeouts: How long one request may hang.
        tell: Is told about retries.
        transport: For tests of this class without a server; a real connection when None.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr,
        *,
        retry: Retry | None = None,
        timeouts: Timeouts | None = None,
        tell: Callable[[str], None] = lambda _: None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retry = retry or Retry()
        self._tell = tell
        self.timeouts = timeouts or Timeouts()
        self.host = urlsplit(base_url).netloc
        self.hostname = urlsplit(base_url).hostname or ""
        self.is_here = is_loopback(self.hostname)
        # Open to those who have rules of their own for answers: inference.
        self.http = open_client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {api_key.get_secret_value()}", "User-Agent": "mlflow-fireworks"},
            timeout=self.timeouts.for_a_call(),
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def ask(
        self,
        answer: type[AnswerT],
        method: str,
        path: str,
        task: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> AnswerT:
        """One call whose answer has a known shape; see `send`.

        Raises:
            UnexpectedAnswerError: The answer has another one.
        """
        return self.read(answer, self.send(method, path, task, body, params=params, timeout=timeout), task)

    def find(self, answer: type[AnswerT], name: str) -> AnswerT | None:
        """A resource by its full name, or None when there is none."""
        response = self._send("GET", f"/v1/{name}")
        if _is_absent(response):
            return None
        task = f"look up {name}"
        return self.read(answer, self._accept(response, task), task)

    def delete(self, name: str, params: Mapping[str, str] | None = None) -> None:
        """Delete a resource by its full name; one that is already gone is fine."""
        response = self._send("DELETE", f"/v1/{name}", params=params)
        if not _is_absent(response):
            self._accept(response, f"delete {name}")

    def pages(
        self, answer: type[PageT], path: str, task: str, query: Mapping[str, str] | None = None
    ) -> Iterator[PageT]:
        """A list, page by page.

        Args:
            answer: The shape of a page.
            path: Path of the collection, below the API's address.
            task: What the call is to do, for messages.
            query: Query parameters of every page.
        """
        token, deadline = "", time.monotonic() + _MOST_LIST_SECONDS
        for _ in range(_MOST_PAGES):
            params = {**(query or {}), "pageSize": str(_PAGE_SIZE)} | ({"pageToken": token} if token else {})
            page = self.ask(answer, "GET", path, task, params=params)
            yield page
            if not page.next_page_token or page.next_page_token == token:
                return
            if time.monotonic() > deadline:
                break
            token = page.next_page_token
        raise UnexpectedAnswerError(
            f"could not {task}: {self.host} never ends the list: there is more after {_MOST_PAGES} pages, or after "
            f"{format_seconds(_MOST_LIST_SECONDS)}; is the target an address of Fireworks' API?"
        )

    def send(
        self,
        method: str,
        path: str,
        task: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> httpx.Response:
        """One call, tried again while that may help.

        Args:
            method: HTTP method.
            path: Path below the API's address.
            task: What the call is to do, for messages: "could not …".
            body: Sent as JSON.
            params: Query parameters.
            timeout: Limits of one try.

        Returns:
            The answer, always a success.

        Raises:
            RefusedError: Fireworks refused.
            UnavailableError: There was no answer.
        """
        return self._accept(self._send(method, path, body, params=params, timeout=timeout), task)

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> httpx.Response:
        """The last answer, whatever it says."""
        response: httpx.Response | None = None

        def attempt() -> httpx.Response:
            nonlocal response
            response = None
            try:
                limits = timeout or self.timeouts.for_a_call()
                response = ask(
                    self.http,
                    method,
                    path,
                    rest=self.timeouts.rest,
                    seconds=(limits.connect or 0) + (limits.read or 0) + self.timeouts.rest,
                    json=body,
                    params=params,
                    timeout=limits,
                )
            except EndlessAnswerError as error:
                raise UnavailableError(
                    f"cannot talk to {self.host}: {error} ({method} {path}); check the target and the network in "
                    "between, then run the same command again",
                    where=f"Fireworks ({self.host})",
                ) from None
            except httpx.RequestError as error:
                if is_transient(error):
                    raise TransientError(f"{self.host}: {describe_failure(error)}") from error
                raise UnavailableError(
                    f"cannot talk to {self.host}: {describe_failure(error)}", where=f"Fireworks ({self.host})"
                ) from None
            if (failure := transient_status(response)) and not is_about_quota(response):
                raise TransientError(f"{self.host} answered {failure}", failure.retry_after)
            return response

        try:
            return self._retry.call(attempt, self._tell)
        except TransientError as error:
            if response is not None:
                return response
            raise UnavailableError(
                f"{error}, {self._retry.attempts} times; check the network, the proxy variables and the target, "
                "then run the same command again",
                where=f"Fireworks ({self.host})",
            ) from None

    def _accept(self, response: httpx.Response, task: str) -> httpx.Response:
        if not response.is_success:
            raise refusal(response, task, self.host)
        if (page := find_page(response)) is not None:
            raise UnexpectedAnswerError(
                f"could not {task}: {self.host} answered with a web page, “{page}”, so {IN_BETWEEN}",
                server_message=page,
            )
        return response

    def read(self, answer: type[AnswerT], response: httpx.Response, task: str) -> AnswerT:
        """An answer as what it should be.

        Raises:
            UnexpectedAnswerError: It has another shape.
        """
        try:
            return answer.model_validate_json(response.content or b"{}")
        except ValidationError:
            raise UnexpectedAnswerError(
                f"could not {task}: {self.host} sent an unexpected reply (not a {answer.__name__}); "
                "is the target an address of Fireworks' API?",
                server_message=hide_queries(response.text[:500]),
            ) from None


def _is_absent(response: httpx.Response) -> bool:
    """Whether Fireworks says that there is no such thing; a page of something in between knows nothing of it."""
    return response.status_code == httpx.codes.NOT_FOUND and find_page(response) is None
