"""Standard output and standard error that cannot be written."""

import sys
from pathlib import Path

import click
import pytest

from mlflow_fireworks.terminal import say, say_json

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
    with pytest.raises(click.ClickException, match="cannot be written \\(No space left on device\\); what it did is"):
        tell()


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
def test_what_is_said_beside_the_output_is_not_worth_an_error(full, monkeypatch):
    monkeypatch.setattr(sys, "stderr", full)
    say("text", err=True)
