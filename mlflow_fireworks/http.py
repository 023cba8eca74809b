"""HTTP manners, shared by all who talk to a server: which failures pass, how long to wait, what a log may hold.

stamina owns the retry loop; this module classifies, for the control plane and for storage alike. 409 is never
retried: after a lost reply to a create it means "your first try worked".

It also keeps signed URLs out of logs. Importing it puts one filter on the loggers of httpx and httpcore, whose
INFO line holds the full URL and whose DEBUG lines hold the answer's headers, and one on stamina's.
"""

import ipaddress
import logging
import math
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx
import stamina

from mlflow_fireworks.connections import advise_certificates, find_proxy_for, name_proxy
from mlflow_fireworks.in_between import CHECK_PROXY, causes, name_page
from mlflow_fireworks.progress import format_seconds

T = TypeVar("T")

# 520 to 529 are those of Cloudflare's edge and its like; 520 stands in Fireworks' list of errors. 507: storage is full.
TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 507, *range(520, 530)})
_BUSY_STATUSES = frozenset({429, 503})
_LONGEST_PAUSE_SECONDS = 60.0
_A_DAY_SECONDS = 86400.0
# Storage repeats the key of a resumable session in a header of its own, and the control plane may set cookies.
_HEADERS_IN_LOG = re.compile(r"(headers\.complete return_value=[^\[]*)\[.*", re.DOTALL)
_HOST = re.compile(r"[\w.-]+")
_NUMERIC = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)\.?", re.IGNORECASE)  # 2130706433 and 127.1 are addresses to some
_URL_WITH_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+")
# A proxy's own; and a network's that wants a login first (RFC 6585).
_STATUSES_OF_NETWORKS = (httpx.codes.PROXY_AUTHENTICATION_REQUIRED, httpx.codes.NETWORK_AUTHENTICATION_REQUIRED)
_HEADERS_OF_STORES = ("x-goog-", "x-guploader-", "x-amz-", "x-ms-")


class TransientError(Exception):
    """A failure that may pass. Its text holds no URL, because retry instrumentation logs it.

    Args:
        reason: What happened, for a person: `503 Service Unavailable`, `connection reset`.
        retry_after: Seconds the server asked to wait, if it did.
        is_busy: The server said that it has too much to do (429 or 503).
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, is_busy: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.is_busy = is_busy


@dataclass(frozen=True)
class Timeouts:
    """How long one request may hang, in seconds.

    Args:
        connect: Until a connection stands, TLS included.
        quiet: While nothing moves on it.
        answer: Until an answer that the server has to work for: validation, or the end of a large file.
        rest: From there until all of an answer is here.
    """

    connect: float = 20.0
    quiet: float = 60.0
    answer: float = 300.0
    rest: float = 60.0

    def for_a_call(self) -> httpx.Timeout:
        """For a request that is answered at once."""
        return httpx.Timeout(self.quiet, connect=self.connect)

    def for_work(self) -> httpx.Timeout:
        """For a request that makes the server work."""
        return httpx.Timeout(self.quiet, connect=self.connect, read=self.answer)


@dataclass(frozen=True)
class Retry:
    """How often and how long.

    Args:
        attempts: Tries in all.
        wait_initial: Seconds before the second try; doubles from then on, with jitter.
        wait_max: Longest wait in seconds; where a server's Retry-After asks for more, up to a minute.
        wait_asked: A Retry-After of more seconds ends it.
    """

    attempts: int = 6
    wait_initial: float = 0.5
    wait_max: float = 20.0
    wait_asked: float = math.inf

    def call(self, work: Callable[[], T], tell: Callable[[str], None], stop: threading.Event | None = None) -> T:
        """Do some work until it succeeds or fails for good.

        Args:
            work: Raises TransientError when it should be tried again.
            tell: Is told about every failure that is followed by another try.
            stop: Ends waiting when it is set; the next try then comes at once, and should end at once.

        Returns:
            What `work` returned.

        Raises:
            TransientError: The last one, when all tries are used up.
        """

        def decide(error: Exception) -> bool | float:
            if not isinstance(error, TransientError):
                return False
            wait = error.retry_after
            if wait is not None:
                if wait > self.wait_asked:
                    return False
                wait = min(wait, _LONGEST_PAUSE_SECONDS)
            if attempt.num < self.attempts:
                pause = "" if wait is None else f" in {format_seconds(wait)}"
                tell(f"{error}; retrying{pause} (attempt {attempt.num + 1} of {self.attempts})")
                if stop is not None:  # stamina's own sleep cannot be ended
                    stop.wait(attempt.next_wait if wait is None else wait)
                    return 0.0
            return True if wait is None else wait

        # No `timeout`: stamina counts the time of the attempts too, so a long upload would never be retried.
        for attempt in stamina.retry_context(
            on=decide,
            attempts=self.attempts,
            timeout=None,
            wait_initial=self.wait_initial,
            wait_max=self.wait_max,
            wait_jitter=self.wait_initial,
        ):
            with attempt:
                return work()
        raise AssertionError("stamina ends with a result or an exception")


def transient_status(response: httpx.Response) -> TransientError | None:
    """The failure that an answer stands for when another try may help, else None."""
    if response.status_code not in TRANSIENT_STATUSES:
        return None
    reason = f"{response.status_code} {response.reason_phrase}".strip()
    return TransientError(reason, read_retry_after(response.headers), is_busy=response.status_code in _BUSY_STATUSES)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, which RFC 9110 lets a server write as a number or as a date.

    A date counts from the answer's own Date, so that a clock that goes wrong here does no harm.

    Args:
        headers: Of an answer; their names in lower case, where it tells upper from lower case.

    Returns:
        None where it does not ask to wait; a day at most.
    """
    text = headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        until, now = _read_date(text), _read_date(headers.get("date", ""))
        if until is None:
            return None
        seconds = (until - (now or datetime.now(timezone.utc))).total_seconds()
    return min(seconds, _A_DAY_SECONDS) if seconds >= 0 else None


def _read_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)


def is_transient(error: httpx.RequestError) -> bool:
    """Whether another try may help: not where the request or the certificate is at fault, nor at a proxy that says no.

    Every try with a wrong password brings an account nearer to being locked.
    """
    is_at_fault = isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol)
    return not is_at_fault and not _distrusts(error) and not _proxy_refuses(error)


def _proxy_refuses(error: httpx.RequestError) -> bool:
    """Whether a proxy answered CONNECT with a status that stays the same; httpx puts it first: `407 Proxy …`."""
    status = str(error).partition(" ")[0]
    return isinstance(error, httpx.ProxyError) and status.startswith("4") and status not in ("408", "429")


def _distrusts(error: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error))


def describe_failure(error: httpx.RequestError) -> str:
    """A failed connection in words; never with a signed URL."""
    if _distrusts(error):
        return f"{error}; {advise_certificates()}"
    if isinstance(error, httpx.ProxyError):
        hint = f"; {CHECK_PROXY}" if _proxy_refuses(error) else ""
        return f"the proxy {name_proxy()} answered: {error}{hint}"
    kinds: dict[type[httpx.RequestError], str] = {
        httpx.ConnectTimeout: "no connection in time",
        httpx.ReadTimeout: "no answer in time",
        httpx.WriteTimeout: "the connection stopped accepting data",
        httpx.PoolTimeout: "no free connection in time",
    }
    told = kinds.get(type(error)) or hide_queries(str(error)) or type(error).__name__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and (proxy := find_proxy_for(_host_of(error))):
        return f"{told} (through the proxy {proxy})"
    return told


def _host_of(error: httpx.RequestError) -> str:
    try:
        return error.request.url.host
    except RuntimeError:  # of no request
        return ""


def is_of_network(response: httpx.Response) -> bool:
    """Whether an answer's status and headers show that neither Fireworks nor storage gave it: they redirect nobody."""
    return response.has_redirect_location or response.status_code in _STATUSES_OF_NETWORKS


def find_page(response: httpx.Response) -> str | None:
    """What a web page says that came in place of an answer: its title. None where the answer is none.

    Proxies, gateways and login pages answer so, also with 200. Google's storage gives that type to its empty answers,
    and whatever a store answers has an ETag or headers of its own.

    Args:
        response: An answer that was read.
    """
    return read_page(response.headers, response.content)


def read_page(headers: Mapping[str, str], content: bytes) -> str | None:
    """As `find_page`, for the answer that another HTTP client has.

    Args:
        headers: Their names in lower case, where it tells upper from lower case.
        content: The body.
    """
    is_html = headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))
    is_of_storage = any(name == "etag" or name.startswith(_HEADERS_OF_STORES) for name in headers)
    if not is_html or is_of_storage or not content:
        return None
    return name_page(content.decode(errors="replace"))


def hide_queries(text: str) -> str:
    """`text` with the query of every URL in it taken out; that is where signatures are."""
    return _URL_WITH_QUERY.sub(r"\1?…", text)


def is_safe_url(url: str, giver: str) -> bool:
    """Whether files may be sent to a URL that somebody gave: encrypted, and into no network that the giver is not in.

    An API on the internet must not make this machine send files to itself, to its neighbours, or to the address from
    which clouds hand out credentials. Names are judged by what they look like here, and again by the address that
    is connected to.

    Args:
        url: It; False if it is none at all.
        giver: The host that gave it: of the API, or of the signed URL for that of a session.
    """
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        return False
    if not parts.host or parts.userinfo or parts.scheme not in ("https", "http"):
        return False
    if parts.scheme == "http" or is_loopback(parts.host):
        return is_loopback(parts.host) and is_loopback(giver)
    if (address := read_address(parts.host)) is not None:
        nearby = read_address(giver)
        return address.is_global or is_loopback(giver) or (nearby is not None and not nearby.is_global)
    return bool(_HOST.fullmatch(parts.host)) and not _NUMERIC.fullmatch(parts.host)


def read_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as, without its disguise as one of IPv6; None where it is a name.

    Args:
        host: Of a URL, or an address.
    """
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    address = read_address(host)
    return host == "localhost" if address is None else address.is_loopback


def _hide_signatures(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            hide_queries(str(part)) if isinstance(part, httpx.URL | str) else part for part in record.args
        )
    record.msg = _HEADERS_IN_LOG.sub(r"\1[…]", hide_queries(str(record.msg)))
    return True


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Our retries are told by the reporter; stamina's bare line would only stand beside it."""
    ours: tuple[type[TransientError], ...] = (TransientError, *TransientError.__subclasses__())
    return not str(record.__dict__.get("stamina.caused_by", "")).startswith(tuple(kind.__name__ for kind in ours))


for _name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy"):
    logging.getLogger(_name).addFilter(_hide_signatures)
logging.getLogger("stamina").addFilter(_is_not_ours)
