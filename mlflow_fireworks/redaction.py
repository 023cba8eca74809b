"""Passwords and signatures, kept out of every text that a person or a log sees.

Passwords stand in URIs, and a password may hold any character: SQLAlchemy takes `postgresql://me:pa/ss@host` as it is,
where other libraries see a host `me` and quote the rest piece by piece in their errors. So the URIs that the
environment holds are known and looked for in whole and in part; others are found by their shape.
"""

import logging
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from itertools import takewhile
from textwrap import indent
from typing import NamedTuple
from urllib.parse import quote, quote_plus, unquote

from mlflow_fireworks.in_between import shorten_page
from mlflow_fireworks.printable import make_lines_printable, make_printable

_BEGINNING, _END = 150, 100
_INDENT = "  "
_QUERY = re.compile(r"\?[^\s'\")]+")
# A port is no password; a password ends at the last @ of its word, or, when it holds a blank, of its sentence.
_URI = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<user>[^/\s@:'\"]+@|[^/\s@:'\"]*:(?!\d+(?:[/?#\s'\",;)]|$))(?:[^\s'\"]*@|[^'\"@]*@))(?P<host>[^\s/@'\"]*)"
)
_VARIABLE = re.compile(r".*(?:URI|URL|PROXY|DSN)$", re.IGNORECASE)
_KNOWN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^:/@]*):(.+)@([^@/?#]*)", re.DOTALL)
_QUOTED = re.compile(r"(['\"])([^'\"]+)\1")
_LEARNED: set[str] = set()


def brief(error: BaseException, uri: str = "") -> str:
    """An exception's text as one short line, without signatures (URL queries) and passwords (URL users).

    Args:
        error: Any exception, of any library.
        uri: What it is about, which it may quote piece by piece; with those of the environment.
    """
    known = {**os.environ, "ITS_URI": uri}
    told = _hide_pieces(hide_passwords(shorten_page(str(error)), known), known)
    text = make_printable(hide_credentials(" ".join(told.split()))) or type(error).__name__
    if len(text) <= _BEGINNING + _END:
        return text
    return f"{text[:_BEGINNING].rstrip()} … {text[-_END:].lstrip()}"  # nested exceptions tell the cause at the end


def hide_credentials(text: str) -> str:
    """`text` without the query and the user part of the URIs in it.

    requests quotes URLs without their host ("… exceeded with url: /bucket/key?X-Amz-Signature=…"), so every
    query goes, not only that of a complete URL.

    Args:
        text: A URI, or a sentence that holds some.
    """
    return _QUERY.sub("", hide_passwords(text))


def hide_passwords(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """`text` without the user part of the URIs in it, of which others may have cut off the beginning or the end.

    What stands there in an address of Azure's file systems is the container, and in one of Databricks a profile's name.

    Args:
        text: A URI, or a sentence that holds some.
        environ: Its variables hold URIs whose passwords are known.
    """
    for known in _known(environ):
        text = _hide_known(text, known)
    return _URI.sub(_hide_user, text) if "://" in text else text


def hide_in_record(record: logging.LogRecord) -> bool:
    """A filter for loggers: the same for what is logged, as one line, with the exception that goes with it.

    Its lines are indented: an exception that quotes a line feed must not begin a line of the log.
    """
    record.msg, record.args = make_printable(hide_passwords(record.getMessage())), ()
    if record.exc_info and record.exc_info[1] is not None:
        told = record.exc_text or "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        told = make_lines_printable(_hide_pieces(hide_passwords(told)))
        record.exc_text = told if told.startswith(_INDENT) else indent(told, _INDENT)  # formatters take this instead
    return True


def _hide_user(match: re.Match[str]) -> str:
    scheme, user, host = match["scheme"].lower(), match["user"], match["host"]
    is_container = scheme in ("wasbs", "wasb", "abfss", "abfs") and ":" not in user
    is_profile = scheme in ("models", "runs", "dbfs") and host.lower().startswith("databricks")
    return match[0] if is_container or is_profile else f"{match['scheme']}://{host}"


class _Known(NamedTuple):
    """A URI with a password."""

    scheme: str
    user: str
    password: str
    host: str


def learn_uri(uri: str) -> None:
    """Hide the password of a URI from now on and everywhere, wherever it was written down."""
    _LEARNED.add(uri)


def _known(environ: Mapping[str, str]) -> Iterator[_Known]:
    """Those in the environment and those learned, with each way to spell the password."""
    named = [value for name, value in environ.items() if _VARIABLE.match(name)]
    for value in (*named, *_LEARNED):
        if "@" in value and (found := _KNOWN.search(value)):
            scheme, user, password, host = found.groups()
            for spelled in dict.fromkeys((password, unquote(password), quote(password), quote_plus(password))):
                yield _Known(scheme, user, spelled, host)


def _hide_known(text: str, known: _Known) -> str:
    """Take out a password where it follows its user or precedes its host: whole, or the part that is left of it."""
    before = f"{known.user}:" if known.user else "://:"
    first, *parts = text.split(before)
    for index, part in enumerate(parts):
        shared = _count_shared(part, known.password)
        parts[index] = before + ("…" if shared else "") + part[shared:]
    text = first + "".join(parts)
    for after in (f"@{known.host}", quote(f"@{known.host}", safe="")) if known.host else ():
        *parts, last = text.split(after)
        for index, part in enumerate(parts):
            shared = _count_shared(part[::-1], known.password[::-1])
            parts[index] = (part[:-shared] + "…" if shared > 1 else part) + after
        text = "".join(parts) + last
    return text


def _count_shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))


def _hide_pieces(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Take out what a parser makes of a URI that it reads in another way than its author.

    "Port could not be cast to integer value as 'pa'", or a URI whose host is the end of the password.
    """
    known = tuple(_known(environ))
    text = _QUOTED.sub(lambda quoted: "'…'" if any(quoted[2] in one.password for one in known) else quoted[0], text)
    for one in known:
        if not one.password.isalnum():
            text = re.sub(rf"{re.escape(one.scheme)}://[^\s'\"]*", f"{one.scheme}://{one.host}", text)
    return text
