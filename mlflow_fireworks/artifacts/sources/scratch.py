"""Temporary folders that do not outlive their process, however it ends.

A normal end and an exception remove them. After a kill (SIGKILL, SIGTERM, the OOM killer) nobody can, so the next
process does: a folder belongs to a living process exactly while the lock in it is held.
"""

import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = "mlflow-fireworks-"
_LOCK = ".in-use"
_YOUNG_SECONDS = 60.0  # a folder may have just been made, and its lock not yet be taken


def make_scratch(owner: object, parent: Path | None = None) -> tuple[Path, Callable[[], object]]:
    """Make a private folder, and remove those that killed processes of this user have left beside it.

    Args:
        owner: The folder goes when this object does, or the process.
        parent: Where; the system's folder for temporary files (TMPDIR) when None.

    Returns:
        The folder, and what removes it earlier.
    """
    home = Path(parent or tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
    _sweep(home, user=folder.stat().st_uid)
    lock = FileLock(folder / _LOCK, thread_local=False)
    lock.acquire()
    return folder, weakref.finalize(owner, _remove, folder, lock)


def _remove(folder: Path, lock: FileLock) -> None:
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)


def _sweep(home: Path, user: int) -> None:
    for folder in home.glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout):
            age = time.time() - (folder / _LOCK).lstat().st_mtime
            if folder.lstat().st_uid != user or age < _YOUNG_SECONDS:  # another user's could hold any trap
                continue
            with FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
