"""When endpoints do not move: `Mon-Fri 09:00-16:00 Europe/Berlin`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, field_validator

from mlflow_fireworks.installing import install

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_EVERY_DAY = "daily"
_WINDOW = re.compile(r"(?P<days>\S+) (?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d) (?P<zone>\S+)")
_MIDNIGHT = "24:00"
_MOST_IN_A_ROW = 100
_SHAPE = "write DAYS HH:MM-HH:MM ZONE, for example: Mon-Fri 09:00-16:00 Europe/Berlin"


@dataclass(frozen=True)
class Window:
    """A time of day on some days of the week.

    Args:
        days: Those on which it begins, 0 for Monday.
        start: When it begins, by the clock of its zone.
        end: When it ends; on the next day where that is not later than its start.
        zone: Whose clock.
    """

    days: frozenset[int]
    start: time
    end: time
    zone: ZoneInfo

    @classmethod
    def read(cls, text: str) -> "Window":
        """A window as it is written in a rule.

        Raises:
            ValueError: It is not one; says what to write.
        """
        found = _WINDOW.fullmatch(" ".join(text.split()))
        if not found:
            raise ValueError(f"'{text}' is not a window; {_SHAPE}")
        start, end = _read_time(found["start"]), _read_time("00:00" if found["end"] == _MIDNIGHT else found["end"])
        if start == end and found["end"] != _MIDNIGHT:
            raise ValueError(f"'{text}' begins and ends at the same time; for a whole day write 00:00-24:00")
        return cls(frozenset(_read_days(found["days"])), start, end, _read_zone(found["zone"]))

    def ends_after(self, moment: float) -> float | None:
        """When it ends, as Unix time in seconds; None when it is not open.

        Args:
            moment: Unix time in seconds.
        """
        today = datetime.fromtimestamp(moment, self.zone).date()
        for day in (today - timedelta(days=1), today):  # it may have begun yesterday
            if day.weekday() in self.days:
                last = day if self.end > self.start else day + timedelta(days=1)
                begin, end = (
                    datetime.combine(date, clock, self.zone).timestamp()
                    for date, clock in ((day, self.start), (last, self.end))
                )
                if begin <= moment < end:
                    return end
        return None


class Windows(BaseModel):
    """When something does not happen.

    Args:
        endpoint: Endpoints do not move, nor start; one window or several, as `Window` reads them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: tuple[str, ...] = ()

    @field_validator("endpoint", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        found = (value,) if isinstance(value, str) else value
        for text in found if isinstance(found, list | tuple) else ():
            Window.read(str(text))
        return found

    def closed_until(self, moment: float) -> float | None:
        """When its endpoint may move again, as Unix time in seconds; None when it may now.

        Args:
            moment: Unix time in seconds.
        """
        return closed_until(map(Window.read, self.endpoint), moment)


def closed_until(windows: Iterable[Window], moment: float) -> float | None:
    """When the last of the windows ends that follow each other without a gap; None when none is open.

    Args:
        windows: The windows.
        moment: Unix time in seconds.
    """
    windows, until = tuple(windows), moment
    for _ in range(_MOST_IN_A_ROW):  # windows of a whole week would never end
        ends = [end for window in windows if (end := window.ends_after(until))]
        if not ends:
            break
        until = max(ends)
    return until if until > moment else None


def _read_time(text: str) -> time:
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a time of day; {_SHAPE}") from None


def _read_days(text: str) -> Iterator[int]:
    if text.lower() == _EVERY_DAY:
        yield from range(len(_DAYS))
        return
    for part in text.split(","):
        first, dash, last = (word.capitalize() for word in part.partition("-"))
        if first not in _DAYS or (dash and last not in _DAYS):
            raise ValueError(f"'{part}' is not a day or a range of days: {', '.join(_DAYS)}, or {_EVERY_DAY}; {_SHAPE}")
        start = _DAYS.index(first)
        count = (_DAYS.index(last) - start) % len(_DAYS) if dash else 0
        yield from ((start + more) % len(_DAYS) for more in range(count + 1))


def _read_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"the time zone '{name}' is unknown here; use one such as Europe/Berlin or UTC (on a system without time "
            f"zone data: {install('tzdata')})"
        ) from None
