"""Signals that end the work in good order, and soon."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

import click

from mlflow_fireworks.terminal import say

# Two seconds are promised: these, and what a busy machine adds.
_CLEAN_UP_SECONDS = 1.5
_LAST_WORDS_SECONDS = 0.5
_DEFAULTS: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM stop the work in good order, as Ctrl-C does, unless the program has its own handler."""
    with _raising(_unhandled(signal.SIGTERM)):
        yield


@contextmanager
def stopped_soon() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop the work in good order, and the program with it, unless it has its own handlers.

    The pools of MLflow and of the stores' clients go on with what they fetch, and Python waits for them when it ends.
    So a command ends by the signal as soon as everything is cleaned up, or after a moment at the latest. In a program
    that uses this package as a library KeyboardInterrupt is raised, and the program is left alone while it goes on.
    """
    if _is_command():
        with _ending_the_command():
            yield
        return
    with _raising(_unhandled(signal.SIGTERM)) as received:
        try:
            yield
        except KeyboardInterrupt:
            _leave_if_uncaught(received[0] if received else signal.SIGINT)
            raise


@contextmanager
def _ending_the_command() -> Iterator[None]:
    numbers = _unhandled(signal.SIGINT, signal.SIGTERM)
    with _raising(numbers) as received, _watched(numbers):
        try:
            yield
        except KeyboardInterrupt:
            if not received:  # somebody's code raised it
                raise
            say("", err=True)
            say("Aborted!", err=True)
            _end_by(received[0])


def _is_command() -> bool:
    """Whether the whole process is one command. Those who call one from Python, as tests do, name it after itself."""
    context = click.get_current_context(silent=True)
    root = context and context.find_root()
    return root is not None and root.info_name != root.command.name


def _unhandled(*numbers: signal.Signals) -> Collection[signal.Signals]:
    """Those of these signals for which Python's defaults stand; none but in the main thread, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        return ()
    return [number for number in numbers if signal.getsignal(number) == _DEFAULTS[number]]


@contextmanager
def _raising(numbers: Collection[signal.Signals]) -> Iterator[list[int]]:
    """Let signals raise KeyboardInterrupt, and a second one end the program at once; yields those that came."""
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        received.append(number)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number in numbers:
            signal.signal(number, _DEFAULTS[number])


@contextmanager
def _watched(numbers: Collection[signal.Signals]) -> Iterator[None]:
    """End the process a moment after one of these signals, whatever the main thread is at.

    Python's handlers run there, between two steps, and so not while a host is looked up or a database is locked.
    """
    if not numbers:
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    is_over = threading.Event()

    def watch() -> None:
        with reader:
            while received := reader.recv(1):
                if received[0] in numbers and not is_over.wait(_CLEAN_UP_SECONDS):
                    os._exit(_status(received[0]))

    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=watch, name="fireworks-signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        is_over.set()
        writer.close()


def _end_by(number: int) -> None:
    """End as the signal ends programs that do not know it, so that shells and their scripts see it."""
    _flush()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    os._exit(_status(number))  # where it is blocked


def _leave_if_uncaught(number: int) -> None:
    """Where the program ends of this KeyboardInterrupt, do not wait for what runs in pools."""
    show = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        show(kind, error, trace)
        is_at_prompt = hasattr(sys, "ps1") or sys.flags.interactive  # where the program goes on
        if issubclass(kind, KeyboardInterrupt) and not is_at_prompt:
            threading.Thread(target=leave_soon, name="fireworks-signals", daemon=True).start()

    def leave_soon() -> None:
        time.sleep(_LAST_WORDS_SECONDS)  # for what the program registered with atexit
        _flush()
        os._exit(_status(number))

    sys.excepthook = hook


def _status(number: int) -> int:
    """What shells make of a signal."""
    return 128 + number


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, None, or with nobody at its other end
            stream.flush()
