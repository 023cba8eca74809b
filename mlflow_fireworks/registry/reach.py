"""Whether a registry's server answers at all, asked before anything else.

MLflow repeats each question for four minutes in silence (3.17: seven times, with a pause that doubles), and
huggingface_hub waits without a limit where it is given none.
"""

import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import mlflow
import requests
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException

from mlflow_fireworks.answers import EndlessAnswerError, collect, within
from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.http import read_page
from mlflow_fireworks.in_between import CHECK_PROXY, refuses_to_pass
from mlflow_fireworks.progress import format_seconds, logger
from mlflow_fireworks.redaction import brief, hide_credentials
from mlflow_fireworks.registry.hub_versions import open_stream
from mlflow_fireworks.registry.mlflow_versions import is_set
from mlflow_fireworks.registry.questions import ask_server

PATIENCE_SECONDS = 20.0
_ANSWER_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 8.0
_REMEMBERED_SECONDS = 30.0
_MLFLOW_QUESTION = "/api/2.0/mlflow/registered-models/search"
"""Asks the server's database too, unlike `/health`."""
_HUB_QUESTION = "/api/models"
_OK, _SERVER_ERRORS = 200, 500
_REFUSED_BY_PROXY = re.compile(r"Tunnel connection failed: ([^'\")]+)")
ERRNO = re.compile(r"\[Errno -?\d+\] ([^'\")]+)")


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Args:
        answer_seconds: For one answer.
        retries: Tries after the first; None: as many as `PATIENCE_SECONDS` have room for.
    """

    answer_seconds: float = _ANSWER_SECONDS
    retries: int | None = None

    def is_over(self, tries: int, seconds: float) -> bool:
        """Whether there is no other try after so many, when it would begin after so many seconds."""
        return tries > self.retries if self.retries is not None else seconds > PATIENCE_SECONDS

    def __str__(self) -> str:
        """For people."""
        if self.retries is not None:
            return f"{self.retries} more time{'s' if self.retries != 1 else ''}"
        return f"for up to {format_seconds(PATIENCE_SECONDS)}"


@dataclass(frozen=True)
class Service:
    """What is asked.

    Args:
        name: For messages; its address follows.
        hint: What a person should look at.
        ask: Asks at an address, for so many seconds at most: why there is no answer; "" when there is one.
        patience: How long it is waited for, as it is set now.
    """

    name: str
    hint: str
    ask: Callable[[str, float], str]
    patience: Callable[[], Patience]


class Reach:
    """Which servers answered when they were asked last.

    One that answered once is left to the patience of MLflow and huggingface_hub: what hours of work end in must not
    fail for a restart.

    Args:
        clock: Monotonic seconds.
        sleep: Waits.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._asked: dict[str, tuple[float, bool]] = {}

    def require(self, service: Service, address: str, *, afresh: bool = False) -> None:
        """Wait a little for a server.

        Args:
            service: What is asked.
            address: Where.
            afresh: Ask also one that answered before, unless that was just now.

        Raises:
            UnavailableError: It does not answer.
        """
        asked, answered = self._asked.get(address, (float("-inf"), False))
        is_fresh = self._clock() - asked < _REMEMBERED_SECONDS
        if answered and (is_fresh or not afresh):
            return
        where = f"{service.name} at {hide_credentials(address)}"
        # Where it was just waited for in vain, by another rule say, one try is enough.
        reason = (
            service.ask(address, service.patience().answer_seconds) if is_fresh else self._wait(service, address, where)
        )
        self._asked[address] = (self._clock(), not reason)
        if reason:
            raise UnavailableError(f"{where} does not answer ({reason}); {service.hint}", where=where)

    def _wait(self, service: Service, address: str, where: str) -> str:
        patience, began, pause, tries = service.patience(), self._clock(), _FIRST_PAUSE_SECONDS, 1
        while reason := service.ask(address, patience.answer_seconds):
            # Each further try with a wrong password brings an account at a proxy nearer to being locked.
            if refuses_to_pass(reason) or patience.is_over(tries, self._clock() - began + pause):
                return reason
            if tries == 1:
                logger.warning("%s does not answer (%s); retrying %s", where, reason, patience)
            self._sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            tries += 1
        return ""


_REACH = Reach()
_FOUND_HOSTS: set[str] = set()
_PAUSES_SECONDS = (1.0, 2.0)


def require_mlflow(uri: str | None = None, *, afresh: bool = False) -> None:
    """Wait a little for an MLflow server. What is no server, such as a database, is taken as it is.

    Args:
        uri: Its tracking or registry URI; MLflow's current registry when None.
        afresh: As for `Reach.require`.

    Raises:
        UnavailableError: It does not answer.
    """
    uri = uri or mlflow.get_registry_uri()
    if uri.startswith(("http://", "https://")):
        _REACH.require(_MLFLOW, uri, afresh=afresh)


def require_hub(*, afresh: bool = False) -> None:
    """Wait a little for the Hugging Face Hub.

    Args:
        afresh: As for `Reach.require`.

    Raises:
        UnavailableError: It does not answer.
    """
    _REACH.require(_HUB, constants.ENDPOINT, afresh=afresh)


def require_host(url: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """See at once whether this machine finds the host that a server signs URLs for.

    MLflow tries again for ten minutes in silence. A host that was found once is left to its patience.

    Args:
        url: A signed URL.
        sleep: Waits.

    Raises:
        UnavailableError: It does not; names the host.
    """
    host = urlsplit(url).hostname or ""
    if host in _FOUND_HOSTS or requests.utils.get_environ_proxies(url):  # a proxy looks hosts up itself
        return
    for pause in _PAUSES_SECONDS:
        if not (reason := _look_up(host)):
            return
        sleep(pause)
    if reason := _look_up(host):
        raise UnavailableError(
            f"the server signs URLs for {host}, which this machine cannot find ({reason}); make that host "
            "resolvable here, or let the server send the files itself: set "
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false",
            where=host,
        )


def _look_up(host: str) -> str:
    """Why a host has no address; "" when it has one, which is remembered."""
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        return error.strerror or brief(error)
    _FOUND_HOSTS.add(host)
    return ""


def _read_patience() -> Patience:
    """MLflow's, as far as somebody set it."""
    seconds, retries = MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_HTTP_REQUEST_MAX_RETRIES
    return Patience(seconds.get() if is_set(seconds) else _ANSWER_SECONDS, retries.get() if is_set(retries) else None)


def _ask_mlflow(uri: str, seconds: float) -> str:
    try:
        answer = ask_server(uri, _MLFLOW_QUESTION, seconds, {"max_results": 1})
    except EndlessAnswerError as error:
        return str(error)
    except requests.RequestException as error:
        return _describe(error, seconds)
    except MlflowException as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, requests.exceptions.ConnectionError | requests.exceptions.Timeout):
            return _describe(cause, seconds)
        return ""  # MLflow has better words for it
    return _judge(answer.status, answer.headers, answer.content)


def _ask_hub(address: str, seconds: float) -> str:
    def exchange() -> str:
        with open_stream(f"{address}{_HUB_QUESTION}?limit=1", {}, seconds) as (headers, pieces):
            return _judge(_OK, headers, collect(pieces, rest=seconds))

    try:
        return within(3 * seconds, exchange)
    except hub_errors.HfHubHTTPError as error:
        return _judge(error.response.status_code, {}, b"")
    except EndlessAnswerError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - huggingface_hub changes its HTTP client between releases
        return _describe(error, seconds)


def _describe(error: Exception, seconds: float) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return ""
    if "Timeout" in f"{type(error).__name__}: {error}":  # requests hides one in an error of the connection
        return f"no answer within {format_seconds(seconds)}"
    if found := _REFUSED_BY_PROXY.search(str(error)):
        return f"the proxy answered {found[1]}; {CHECK_PROXY}"
    found = ERRNO.search(str(error))
    return found[1] if found else brief(error)


def _judge(status: int, headers: Mapping[str, str], content: bytes) -> str:
    """Why an answer is none of the server's; "" when it is one, be it a refusal."""
    if status >= _SERVER_ERRORS:
        return f"it answered {status}"
    page = read_page(headers, content) if status == _OK else None
    return "" if page is None else f"something in between answered with a web page, “{page}”"


_MLFLOW = Service(
    "the MLflow server", "is it running, and is MLFLOW_TRACKING_URI right?", _ask_mlflow, patience=_read_patience
)
_HUB = Service("the Hugging Face Hub", "check the network and HF_ENDPOINT", _ask_hub, patience=Patience)
