"""Standard output and standard error that cannot be written."""

import os
import sys
from pathlib import Path

import click
import pytest

from mlflow_fireworks.terminal import say, say_json, say_wrapped

FULL = Path("/dev/full")


@pytest.fixture
def full():
    with FULL.open("w", buffering=1) as stream:
        yield stream
        with pytest.raises(OSError, match="No space left"):
            stream.close()


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("tell", [lambda: say("text"), lambda: say_json({"a": 1})], ids=["line", "JSON"])
def test_output_that_cannot_be_written_is_one_line(full, tell, monkeypatch):
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(click.ClickException, match="cannot be written \\(No space left on device\\), but"):
        tell()


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
def test_what_is_said_beside_the_output_is_not_worth_an_error(full, monkeypatch):
    monkeypatch.setattr(sys, "stderr", full)
    say("text", err=True)


COMMAND = "mlflow-fireworks hooks resume chat --queue hooks.db"
HELD = f"chat is held by alice: the evaluation is not done; resume it with: {COMMAND}"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals here")
def test_long_lines_are_wrapped_in_a_terminal_and_their_commands_left_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb") as screen, os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        say_wrapped(HELD, 4)
        say_wrapped("ok       versions: mlflow-fireworks 0.1.0, Python 3.11.7", 9)
        assert [screen.readline().decode().rstrip() for _ in range(5)] == [
            "chat is held by alice: the evaluation is",
            "    not done; resume it with:",
            f"    {COMMAND}",
            "ok       versions: mlflow-fireworks",
            "         0.1.0, Python 3.11.7",
        ]


def test_long_lines_are_one_line_in_a_pipe(capsys):
    say_wrapped(HELD, 4)
    assert capsys.readouterr().out == f"{HELD}\n"
