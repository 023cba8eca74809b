"""The log of the hooks' processes: one format for all that is logged in them, also by MLflow, uvicorn and huey.

::

    2026-11-26T14:05:00.250Z INFO mlflow.fireworks: chat: job 0123456789abcdef begins: …
    {"time": "2026-11-26T14:05:00.250Z", "level": "INFO", "logger": "mlflow.fireworks", "message": "…", "job": "…"}
"""

import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from textwrap import dedent
from types import MappingProxyType, TracebackType
from typing import Any, TextIO

from mlflow_fireworks.hooks.jobs import format_time
from mlflow_fireworks.printable import make_printable
from mlflow_fireworks.redaction import hide_credentials, hide_in_record

FORMATS = ("text", "json")
_TOLD_LOGGERS = ("mlflow", "uvicorn")
"""Whose INFO lines are told; of all other libraries those from WARNING on."""
_subject: ContextVar[Mapping[str, str]] = ContextVar("what lines are about", default=MappingProxyType({}))


@contextmanager
def lines_about(**fields: str) -> Iterator[None]:
    """Say what the lines logged in this thread meanwhile are about.

    Args:
        fields: `delivery`, `job` or `deployment`; "" where that is not known.
    """
    token = _subject.set({**_subject.get(), **{name: make_printable(value) for name, value in fields.items() if value}})
    try:
        yield
    finally:
        _subject.reset(token)


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it."""
        line = f"{format_time(record.created)} {record.levelname} {record.name}: {record.getMessage()}"
        if exception := _describe_exception(self, record):
            line += f"\n{exception}"
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message and the traceback hold."""
        told: dict[str, Any] = {
            "time": format_time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_subject.get(),
        }
        if exception := _describe_exception(self, record):
            told["exception"] = dedent(exception)
        return json.dumps(told, ensure_ascii=False)


def _describe_exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """The traceback, without what a library may have quoted in its exception: signatures and passwords in addresses.

    A filter that hides more than that leaves its text in the record, as `logging` has it.
    """
    exception = record.exc_text or (formatter.formatException(record.exc_info) if record.exc_info else "")
    return "\n".join(part for part in (hide_credentials(exception), record.stack_info) if part)


def set_up_logs(log_format: str, stream: TextIO | None = None) -> None:
    """Write all that this process logs in one format. Filters that hide secrets are on the loggers, and remain there.

    Args:
        log_format: One of `FORMATS`.
        stream: Where to; stderr when None.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(hide_in_record)  # the lines of other libraries come here, too
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and logger.handlers:  # MLflow gives them to its own and to huey's
            logger.handlers = []
            logger.propagate = True
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    for name in _TOLD_LOGGERS:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:  # MLFLOW_LOGGING_LEVEL sets that of MLflow
            logger.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    warnings.formatwarning = _format_warning
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _format_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> str:
    return f"{category.__name__}: {message}"


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """What would else end a process or thread with a traceback on stderr, in no format."""
    logging.getLogger("mlflow.fireworks").critical("ended by an error", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_type is not SystemExit:  # an end that was asked for, to Python too
        _log_uncaught(failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback)
