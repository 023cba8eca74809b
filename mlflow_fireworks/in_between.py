"""What stands between this machine and a server: proxies, gateways and login pages, which answer in its place.

The clients of MLflow, the Hub and the stores tell of it each in its own way, and none says what it was.
"""

import re
from collections.abc import Iterator

IN_BETWEEN = (
    "something in between answered: a proxy, a gateway or a login page; check the proxy variables and this "
    "network's access, then run the same command again"
)
LATER = "run the same command again in a few minutes"
CHECK_PROXY = "check its user name and password, and whether it allows this host"
_PAGE = re.compile(r"['\"]?(?:<!doctype html|<html)\b.*", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<(?:title|h1)[^>]*>\s*([^<]*[^<\s])", re.IGNORECASE)
_TAG = re.compile(r"<(?:style|script)\b.*?</|<[^>]*>", re.IGNORECASE | re.DOTALL)
# Servers answer so with pages of their own: MLflow's where it does not know a path, or fails.
_OF_SERVERS = re.compile(r"\b(?:40[45]|5\d\d)\b")
_NOT_EVEN_BEGUN = "Expecting value: line 1 column 1 (char 0)"
_READ_OF_A_PAGE, _SHOWN_OF_A_PAGE = 20_000, 100
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
# As MLflow, requests, Azure, botocore and huggingface_hub quote the statuses of proxies and of networks with a login.
_REFUSED_BY_NETWORK = re.compile(r"(?:Proxy|Network) Authentication Required|\berror code (?:407|511)\b", re.IGNORECASE)
_GAVE_UP = re.compile(r"too many \d{3} error responses|429 Too Many Requests")  # urllib3; huggingface_hub
# Of json and those of requests that derive from it, of azure-core, and of botocore.
_UNREADABLE = frozenset({"JSONDecodeError", "DeserializationError", "DecodeError", "ResponseParserError"})


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it was raised from, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def name_page(text: str) -> str:
    """What a web page says, in a few words: its title, or what is in it.

    Args:
        text: The page, or its beginning.
    """
    text = text[:_READ_OF_A_PAGE]
    found = _TITLE.search(text)
    return " ".join((found[1] if found else _TAG.sub(" ", text)).split())[:_SHOWN_OF_A_PAGE]


def shorten_page(text: str) -> str:
    """A text with the title of the web page that it quotes in place of the page, and that of `json` about one."""
    return _PAGE.sub(lambda found: f"a web page, “{name_page(found[0])}”", text.replace(_NOT_EVEN_BEGUN, "not JSON"))


def refuses_to_pass(text: str) -> bool:
    """Whether what a client said quotes the refusal of a proxy, or of a network that wants a login first."""
    return _REFUSED_BY_NETWORK.search(text) is not None


def find_obstacle(error: BaseException, certificates: str) -> str | None:
    """The next step where a question was not answered by the server that it was for; None where it seems to be.

    Args:
        error: What its client raised.
        certificates: The variable that tells this client which certificates to trust.
    """
    chain = list(causes(error))
    texts = [str(cause) for cause in chain]
    if any(_UNTRUSTED in text for text in texts):
        return f"its certificate is not trusted: set {certificates} to a file with the certificate of its authority"
    if any(type(cause).__name__ in _UNREADABLE for cause in chain):
        return IN_BETWEEN
    if any(refuses_to_pass(text) or (_PAGE.search(text) and not _OF_SERVERS.search(text)) for text in texts):
        return IN_BETWEEN
    return LATER if any(_GAVE_UP.search(text) for text in texts) else None
