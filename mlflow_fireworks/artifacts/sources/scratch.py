"""Temporary folders that do not outlive their process, however it ends.

A normal end and an exception remove them. After a kill (SIGKILL, SIGTERM, the OOM killer) nobody can, so the next
process does: a folder belongs to a living process exactly while the lock in it is held.
"""

import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mlflow_fireworks.errors import SourceError

_PREFIX = "mlflow-fireworks-"
_LOCK = ".in-use"
_YOUNG_SECONDS = 60.0  # a folder may have just been made, and its lock not yet be taken


def temporary_folder() -> Path:
    """The system's folder for temporary files.

    Raises:
        SourceError: There is none that can be written to.
    """
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise SourceError(f"no temporary folder is usable: {error}; set TMPDIR to a writable folder") from None


def make_scratch(owner: object, parent: Path | None = None) -> tuple[Path, Callable[[], object]]:
    """Make a private folder.

    Args:
        owner: The folder goes when this object does, or the process.
        parent: Where; the system's folder for temporary files (TMPDIR) when None.

    Returns:
        The folder, and what removes it earlier.

    Raises:
        SourceError: None can be made.
    """
    home = parent or temporary_folder()
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
    except OSError as error:
        raise SourceError(
            f"cannot make a temporary folder in {home}: {error.strerror}; free up some space there, or set TMPDIR"
        ) from None
    lock = FileLock(folder / _LOCK, thread_local=False)
    with suppress(OSError, NotImplementedError):  # some network file systems lock nothing; nobody can sweep there, too
        lock.acquire()
    return folder, weakref.finalize(owner, _remove, folder, lock)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A private folder for the time of the `with` block; what killed processes have left is removed first.

    Raises:
        SourceError: None can be made.
    """
    sweep()
    folder, remove = make_scratch(owner := _Block())
    try:
        yield folder
    finally:
        remove()
        del owner


class _Block:
    """Owns a folder for the time of a `with` block."""


def _remove(folder: Path, lock: FileLock) -> None:
    lock.release()
    shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path | None = None) -> None:
    """Remove the folders that killed processes of this user have left.

    Args:
        parent: Where; the system's folder for temporary files when None.
    """
    with suppress(SourceError):  # without a place for temporary files there is nothing to remove
        for folder in (parent or temporary_folder()).glob(f"{_PREFIX}*"):
            _remove_orphan(folder)


def _remove_orphan(folder: Path) -> None:
    with suppress(OSError, Timeout, NotImplementedError):
        age = time.time() - (folder / _LOCK).lstat().st_mtime
        is_mine = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()  # another's could hold any trap
        if is_mine and age >= _YOUNG_SECONDS:
            with FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
