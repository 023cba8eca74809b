import fcntl
import io
import logging
import os
import pty
import struct
import sys
import termios
import threading
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from mlflow_fireworks.progress import Bar, Lines, Silent, format_bytes, format_seconds, make_reporter


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 * 2**30, "5.0 GiB"),
        (3 * 2**40, "3.00 TiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_bytes_for_people(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (59, "59s"), (61, "1m 1s"), (12000, "3h 20m")])
def test_seconds_for_people(seconds, text):
    assert format_seconds(seconds) == text


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "mlflow.fireworks")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(log):
    now = [0.0]
    lines = Lines(lambda: now[0])
    lines.step(3, 4, "upload 2 files")
    lines.transfer_begins("uploading", 100 * 2**20)
    for _ in range(25):
        now[0] += 1
        lines.bytes_moved(4 * 2**20)
    lines.transfer_ends()
    assert log() == [
        "[3/4] upload 2 files",
        "      uploading: 40.0 MiB of 100.0 MiB (40 %), 4.0 MiB/s, 15s left",
        "      uploading: 80.0 MiB of 100.0 MiB (80 %), 4.0 MiB/s, 5s left",
        "      uploading: 100.0 MiB in 25s, 4.0 MiB/s",
    ]


def test_fetching_shows_while_nothing_is_sent_yet(log):
    now = [0.0]
    lines = Lines(lambda: now[0])
    lines.transfer_begins("uploading", 2**30)
    now[0] += 11
    lines.bytes_fetched(2**29)
    assert log() == ["      uploading: 0 B of 1.0 GiB (0 %), 0 B/s, unknown left, 512.0 MiB fetched"]


def test_what_planning_fetches_makes_no_lines(log):
    lines = Lines(lambda: 1000.0)
    lines.bytes_fetched(2**20)
    assert log() == []


def test_a_transfer_that_was_cut_off_claims_no_rate(log):
    lines = Lines()
    lines.transfer_begins("uploading", 10)
    lines.bytes_moved(5)
    lines.bytes_moved(-5)
    lines.transfer_ends()
    assert log() == []


def test_the_bar_goes_away_and_leaves_a_line(log, capsys):
    bar = Bar()
    bar.transfer_begins("uploading", 2**20)
    bar.bytes_fetched(2**20)
    bar.bytes_moved(2**20)
    bar.transfer_ends()
    assert "uploading" in capsys.readouterr().err
    assert log()[0].startswith("      uploading: 1.0 MiB in ")


def test_nothing_means_nothing_but_warnings(log):
    silent = make_reporter("none")
    assert type(silent) is Silent
    silent.step(1, 4, "create")
    silent.note("something")
    silent.transfer_begins("uploading", 1)
    silent.bytes_moved(1)
    silent.bytes_fetched(1)
    silent.transfer_ends()
    silent.warn("careful")
    assert log() == ["careful"]


def test_a_bar_only_where_a_person_looks():
    assert type(make_reporter("auto")) is Lines  # pytest's stderr is no terminal
    assert type(make_reporter("bar")) is Bar


class Broken(io.StringIO):
    """A terminal whose reader has gone."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "none": lambda: None,
    "closed": closed,
    "without isatty": lambda: SimpleNamespace(write=lambda text: None),
    "reader gone": lambda: Broken(BrokenPipeError(32, "Broken pipe")),
    "terminal gone": lambda: Broken(OSError(5, "Input/output error")),
    "in ASCII": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
}


@pytest.mark.parametrize("how", ["auto", "bar", "lines", "none"])
@pytest.mark.parametrize("stream", STREAMS)
def test_no_stream_that_cannot_be_written_ends_the_work(monkeypatch, how, stream):
    monkeypatch.setattr(sys, "stderr", STREAMS[stream]())
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger("mlflow").addHandler(handler)
    try:
        reporter = make_reporter(how)
        reporter.step(1, 4, "create …")
        reporter.note("one")
        reporter.warn("two")
        reporter.transfer_begins("uploading", 100)
        for _ in range(3):
            reporter.bytes_moved(40)
            reporter.bytes_fetched(10)
        reporter.transfer_ends()
    finally:
        logging.getLogger("mlflow").removeHandler(handler)
    # All bars of a process share a lock, which a write that fails would leave locked.
    other = threading.Thread(target=lambda: tqdm(total=1, file=io.StringIO()).close(), daemon=True)
    other.start()
    other.join(5)
    assert not other.is_alive()


@pytest.mark.parametrize(
    ("columns", "term", "kind"), [(80, "xterm", Bar), (1, "xterm", Bar), (0, "xterm", Lines), (80, "dumb", Lines)]
)
def test_a_bar_is_for_terminals_that_can_draw_one(monkeypatch, columns, term, kind):
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        monkeypatch.setenv("TERM", term)
        with os.fdopen(theirs, "w") as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            assert type(make_reporter("auto")) is kind
    finally:
        os.close(ours)
