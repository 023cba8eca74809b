"""When endpoints do not move: days, hours, and the zone whose clock counts."""

from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from mlflow_fireworks.hooks.windows import Window, Windows


def at(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def ends(text, moment):
    """When one may go on, by the clock of UTC; None for at once."""
    windows = Windows.model_validate({"endpoint": text})
    until = windows.closed_until(moment)
    return until and datetime.fromtimestamp(until, timezone.utc).strftime("%a %H:%M")


BUSINESS = "Mon-Fri 09:00-16:00 Europe/Berlin"  # 2026-11-27 is a Friday; Berlin is an hour ahead of UTC then


@pytest.mark.parametrize(
    ("window", "moment", "expected"),
    [
        (BUSINESS, "2026-11-27T07:59:59", None),
        (BUSINESS, "2026-11-27T08:00:00", "Fri 15:00"),
        (BUSINESS, "2026-11-27T14:59:59", "Fri 15:00"),
        (BUSINESS, "2026-11-27T15:00:00", None),
        (BUSINESS, "2026-11-28T10:00:00", None),
        ("Mon-Fri 09:00-16:00 Europe/Berlin", "2026-07-01T07:00:00", "Wed 14:00"),  # two hours ahead in summer
        ("daily 22:00-06:00 UTC", "2026-11-27T23:00:00", "Sat 06:00"),
        ("daily 22:00-06:00 UTC", "2026-11-27T05:00:00", "Fri 06:00"),
        ("daily 22:00-06:00 UTC", "2026-11-27T12:00:00", None),
        ("Fri 22:00-06:00 UTC", "2026-11-28T05:00:00", "Sat 06:00"),
        ("Fri 22:00-06:00 UTC", "2026-11-27T05:00:00", None),  # that of Thursday does not exist
        ("Sat,Sun 00:00-24:00 UTC", "2026-11-28T12:00:00", "Mon 00:00"),  # one follows the other
        ("fri-mon 00:00-24:00 UTC", "2026-11-29T12:00:00", "Tue 00:00"),
        ("Wed 10:00-11:00 UTC", "2026-11-27T10:30:00", None),
    ],
)
def test_an_endpoint_may_move_when_the_last_window_ends(window, moment, expected):
    assert ends(window, at(moment)) == expected


def test_several_windows_count_together():
    windows = ["Mon-Fri 09:00-12:00 UTC", "Mon-Fri 12:00-16:00 UTC", "Sun 09:00-10:00 UTC"]
    assert ends(windows, at("2026-11-27T09:30:00")) == "Fri 16:00"
    assert ends([], at("2026-11-27T09:30:00")) is None


def test_windows_of_the_whole_week_end_at_some_time_all_the_same():
    assert ends("daily 00:00-24:00 UTC", at("2026-11-27T09:30:00"))


def test_a_day_without_the_hour_in_which_a_window_begins():
    """In Berlin the clock goes from 02:00 to 03:00 on 2026-03-29."""
    berlin = Window.read("Sun 02:30-04:00 Europe/Berlin")
    assert berlin.ends_after(at("2026-03-29T03:30:00", "Europe/Berlin")) == at("2026-03-29T04:00:00", "Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("09:00-16:00", "is not a window; write DAYS HH:MM-HH:MM ZONE, for example: Mon-Fri 09:00-16:00 Europe/Berlin"),
        ("Mon-Fri 9-16 UTC", "is not a window"),
        ("Mon-Fri 09:00-16:00", "is not a window"),
        (
            "Mo-Fr 09:00-16:00 UTC",
            "'Mo-Fr' is not a day or a range of days: Mon, Tue, Wed, Thu, Fri, Sat, Sun, or daily",
        ),
        ("Mon- 09:00-16:00 UTC", "is not a day"),
        ("Mon 09:00-25:00 UTC", "'25:00' is not a time of day"),
        ("Mon 09:00-09:00 UTC", "begins and ends at the same time; for a whole day write 00:00-24:00"),
        ("Mon 09:00-10:00 Berlin", "the time zone 'Berlin' is unknown here; use one such as Europe/Berlin or UTC"),
        ("Mon 09:00-10:00 ../etc/passwd", "is unknown here"),
    ],
)
def test_what_is_no_window_is_refused_with_what_to_write(text, said):
    with pytest.raises(ValidationError, match=None) as refused:
        Windows.model_validate({"endpoint": text})
    assert said in str(refused.value)
