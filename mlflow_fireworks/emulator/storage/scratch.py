"""The folder of an emulator whose state is not kept: it goes with the emulator, or, after a kill, with the next one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = "fireworks-emulator-"
_LOCK = ".in-use"
_YOUNG_SECONDS = 60.0  # a folder may have just been made, and its lock not yet be taken


@contextlib.contextmanager
def temporary_state() -> Iterator[Path]:
    """A folder for as long as the `with` block runs."""
    for orphan in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        _remove_orphan(orphan)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NotImplementedError):  # where nothing can be locked, nothing is swept either
            stack.enter_context(FileLock(Path(folder) / _LOCK, thread_local=False))
        yield Path(folder)


def _remove_orphan(folder: Path) -> None:
    """Remove the folder of a process that lives no more: its lock can be taken."""
    with contextlib.suppress(OSError, Timeout, NotImplementedError):
        age = time.time() - (folder / _LOCK).lstat().st_mtime
        is_mine = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()  # another's could hold any trap
        if is_mine and age >= _YOUNG_SECONDS:
            with FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
