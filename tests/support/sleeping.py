"""Waits that a test replaces, in its own thread only: servers of other tests go on as they were."""

import threading
import time


def replace_sleep(monkeypatch, instead):
    """Let `time.sleep` of this thread call `instead` with the seconds."""
    here, really = threading.current_thread(), time.sleep

    def sleep(seconds):
        wait = instead if threading.current_thread() is here else really
        wait(seconds)

    monkeypatch.setattr("time.sleep", sleep)
