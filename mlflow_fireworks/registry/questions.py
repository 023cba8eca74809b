"""What we ask of an MLflow server ourselves: once, for an answer that ends; and lists that end, of its client too."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from mlflow.store.entities import PagedList
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from mlflow_fireworks.answers import EndlessAnswerError, collect, take, within
from mlflow_fireworks.errors import UnavailableError

T = TypeVar("T")

_PIECE_BYTES = 64 * 1024
_MOST_PAGES = 500


@dataclass(frozen=True)
class Reply:
    """An answer of an MLflow server.

    Args:
        status: HTTP status.
        headers: By their names in lower case.
        content: The body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes


def ask_server(address: str, path: str, seconds: float, params: Mapping[str, Any] | None = None) -> Reply:
    """One question, asked once, with the credentials that MLflow has for the server.

    Args:
        address: Of the server.
        path: Below it.
        seconds: Longest wait for a connection, and for the next bytes; all of it may take three times as long.
        params: Query parameters.

    Raises:
        EndlessAnswerError: The answer has more bytes than any that is meant, or takes too long.
        MlflowException: There is none.
        requests.RequestException: It broke off.
    """

    def exchange() -> Reply:
        answer = http_request(
            get_default_host_creds(address),
            path,
            "GET",
            max_retries=0,
            timeout=seconds,
            raise_on_status=False,
            stream=True,
            params=dict(params or {}),
        )
        with closing(answer):
            content = collect(answer.iter_content(_PIECE_BYTES), rest=seconds)
        return Reply(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, content)

    return within(3 * seconds, exchange)


def read_pages(ask: "Callable[[str | None], PagedList[T]]") -> Iterator[T]:
    """All of a list that MLflow's client has page by page.

    Args:
        ask: Gets the page with a token; the first with None.

    Raises:
        UnavailableError: It does not end.
    """

    def pages() -> Iterator["PagedList[T]"]:
        token = None
        while True:
            page = ask(token)
            yield page
            if not page.token or page.token == token:
                return
            token = page.token

    try:
        for page in take(pages(), most=_MOST_PAGES):
            yield from page
    except EndlessAnswerError as error:
        raise UnavailableError(f"the MLflow server cannot be asked: {error}") from None
