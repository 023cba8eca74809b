"""How a person sees the work: a bar on a terminal, lines in a log, or nothing.

MLflow's command configures only loggers below `mlflow.`, so lines go to `mlflow.fireworks`. Showing never decides how
the work ends: where it fails, since stderr is closed or its reader has gone, there is silence.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TextIO, cast

from tqdm import tqdm

from mlflow_fireworks.redaction import hide_in_record

logger = logging.getLogger("mlflow.fireworks")
logger.addFilter(hide_in_record)

_SECONDS_BETWEEN_LINES = 10.0


def count_files(number: int) -> str:
    """`1 file`, `2 files`."""
    return f"{number} file{'' if number == 1 else 's'}"


def format_bytes(count: float) -> str:
    """A number of bytes for people, in binary units: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:  # noqa: PLR2004 - the step between units
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} TiB"


def format_seconds(seconds: float) -> str:
    """A duration for people: `45s`, `12m 5s`, `3h 20m`."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"


def _say(level: int, text: str, *values: object) -> None:
    """A line in the log; a handler whose stream is closed raises what `logging` does not catch."""
    with suppress(Exception):
        logger.log(level, text, *values)


class Reporter:
    """What the steps of a deployment tell a person; those that derive from it pass more than warnings on.

    `bytes_moved` and `bytes_fetched` may come from several threads.
    """

    def step(self, number: int, total: int, text: str) -> None:
        """One of the numbered steps begins."""

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def warn(self, text: str) -> None:
        """Something that may surprise later: it is not progress, so `none` does not hide it."""
        _say(logging.WARNING, text)

    def transfer_begins(self, doing: str, size: int) -> None:
        """`size` bytes are about to move; `doing` is what happens to them, such as `uploading`."""

    def bytes_moved(self, count: int) -> None:
        """`count` more bytes moved; negative when a file starts again."""

    def bytes_fetched(self, count: int) -> None:
        """`count` more bytes came here from a remote store, to be sent on."""

    def transfer_ends(self) -> None:
        """The transfer is over, well or not."""


class Silent(Reporter):
    """Tells nothing but warnings."""


class Lines(Reporter):
    """Log lines; while bytes move, one every ten seconds.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._doing = ""
        self._moved = 0
        self._fetched = 0
        self._size = 0
        self._began = self._told = 0.0

    def step(self, number: int, total: int, text: str) -> None:
        """A line `[n/total] text`."""
        _say(logging.INFO, "[%d/%d] %s", number, total, text)

    def note(self, text: str) -> None:
        """A line."""
        _say(logging.INFO, text)

    def transfer_begins(self, doing: str, size: int) -> None:
        """Start counting."""
        self._doing, self._moved, self._fetched, self._size = doing, 0, 0, size
        self._began = self._told = self._clock()

    def bytes_moved(self, count: int) -> None:
        """Count, and say where it stands when ten seconds have passed."""
        self._count(moved=count)

    def bytes_fetched(self, count: int) -> None:
        """Count, and say where it stands when ten seconds have passed."""
        self._count(fetched=count)

    def _count(self, moved: int = 0, fetched: int = 0) -> None:
        with self._lock:
            self._moved += moved
            self._fetched += fetched
            now = self._clock()
            # Files that planning fetches come before any transfer has begun.
            if not self._doing or now - self._told < _SECONDS_BETWEEN_LINES:
                return
            self._told = now
            text = self._describe(now - self._began)
        _say(logging.INFO, "      %s", text)

    def _describe(self, seconds: float) -> str:
        rate = self._moved / seconds
        left = format_seconds((self._size - self._moved) / rate) if rate > 0 else "unknown"
        share = 100 * self._moved / max(self._size, 1)
        fetched = f", {format_bytes(self._fetched)} fetched" if self._fetched else ""
        return (
            f"{self._doing}: {format_bytes(self._moved)} of {format_bytes(self._size)} ({share:.0f} %), "
            f"{format_bytes(rate)}/s, {left} left{fetched}"
        )

    def transfer_ends(self) -> None:
        """A line with the total and the mean rate; none when it was cut off."""
        if self._moved < self._size:
            return
        seconds = max(self._clock() - self._began, 1e-3)
        _say(
            logging.INFO,
            "      %s: %s in %s, %s/s",
            self._doing,
            format_bytes(self._moved),
            format_seconds(seconds),
            format_bytes(self._moved / seconds),
        )


class _Forgiving:
    """A stream that takes everything: should writing fail inside tqdm, its lock would be held for ever.

    tqdm 4.67 releases the lock that all bars of a process share only after a write that succeeded (`refresh`).

    Args:
        stream: Where it goes, if that works.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, or not."""
        with suppress(Exception):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush, or not."""
        with suppress(Exception):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Bar(Lines):
    """Lines, and a moving bar while bytes move; for a terminal."""

    _bar: "tqdm[NoReturn] | None" = None

    def transfer_begins(self, doing: str, size: int) -> None:
        """Draw the bar."""
        super().transfer_begins(doing, size)
        with suppress(Exception):
            self._bar = tqdm(
                total=size,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                dynamic_ncols=True,
                leave=False,
                desc=f"      {doing}",
                file=cast("TextIO", _Forgiving(sys.stderr)),
            )

    def bytes_moved(self, count: int) -> None:
        """Move the bar."""
        with self._lock:
            self._moved += count
            self._draw(lambda bar: bar.update(count))

    def bytes_fetched(self, count: int) -> None:
        """Say it beside the bar, which stands still while a large file is fetched."""
        with self._lock:
            self._fetched += count
            self._draw(lambda bar: bar.set_postfix_str(f"fetched {format_bytes(self._fetched)}"))

    def transfer_ends(self) -> None:
        """Take the bar away and leave a line."""
        self._draw(lambda bar: bar.close())
        self._bar = None
        super().transfer_ends()

    def _draw(self, change: "Callable[[tqdm[NoReturn]], object]") -> None:
        """Change the bar; one that cannot be drawn is let go."""
        if self._bar is not None:
            try:
                change(self._bar)
            except Exception:  # noqa: BLE001 - see the module
                self._bar.disable, self._bar = True, None


def make_reporter(how: str) -> Reporter:
    """The reporter for `-C progress=`.

    Args:
        how: `auto`, `bar`, `lines` or `none`; auto is a bar when stderr is a terminal that can draw one.
    """
    if how == "none":
        return Silent()
    return Bar() if how == "bar" or (how == "auto" and _can_draw()) else Lines()


def _can_draw() -> bool:
    """Whether stderr is a terminal that moves its cursor; one of no columns, as in some containers, shows no bar."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
        return sys.stderr.isatty() and size.columns > 0 and os.environ.get("TERM") != "dumb"
    except (AttributeError, OSError, ValueError):  # none, closed, or something else in its place
        return False
