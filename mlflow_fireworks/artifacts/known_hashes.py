"""What was read of plain files is kept on this machine, so that a file that has not changed is hashed once only.

Whether it has is told by what the system keeps of it: place, length, times, inode. A program can set the time of the
last write, not that of the last change (`st_ctime`). What changed shortly before it was read is not kept: another
change within the same tick of the file system's clock would leave no trace (git calls such an entry racily clean).
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from mlflow_fireworks.artifacts.content import Part, Stored

_TABLE = """
    CREATE TABLE IF NOT EXISTS hash (
        path TEXT PRIMARY KEY, device TEXT, inode TEXT, size INTEGER, written_ns INTEGER, changed_ns INTEGER,
        digest TEXT
    )
"""
_MOST_ROWS = 10_000
_VERSION = 1
# FAT counts in two seconds, object stores behind a mount in one.
_TICK_NS = 2_000_000_000
_TELLS_CHANGES = os.name == "posix"  # on Windows st_ctime is the time of creation


class FileState(NamedTuple):
    """A file as it is now. Device and inode are text: they may have 64 bits, and SQLite's integers have a sign."""

    path: str
    device: str
    inode: str
    size: int
    written_ns: int
    changed_ns: int


def find_states(parts: Iterable[Part]) -> frozenset[FileState]:
    """The files on this machine that some parts are read from, as they are now; none of those that are elsewhere."""
    states = (look_at(file) for part in parts for file in part.sources)
    return frozenset(state for state in states if state is not None)


def find_changed(states: Iterable[FileState]) -> set[str]:
    """The paths of those files that are no longer as they were."""
    return {state.path for state in states if _look_at(Path(state.path)) != state}


def look_at(part: Part) -> FileState | None:
    """A part as it is now; None where it is no file on this machine, or cannot be read."""
    path = part.here if isinstance(part, Stored) else None
    return None if path is None else _look_at(path)


def _look_at(path: Path) -> FileState | None:
    with suppress(OSError), path.open("rb") as opened:  # a network file system asks its server when one is opened
        stat = os.fstat(opened.fileno())
        return FileState(
            str(path), str(stat.st_dev), str(stat.st_ino), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
        )
    return None


class KnownHashes:
    """Hashes by the state of the file. Where they cannot be kept or are damaged, all files are read.

    Args:
        file: Where they are kept, readable by its owner only; nowhere when None.
        now_ns: The time of day.
    """

    def __init__(self, file: Path | None, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._file = file if _TELLS_CHANGES else None
        self._now_ns = now_ns

    def find(self, state: FileState | None) -> str | None:
        """The hash of a file in this state; None where it must be read."""
        if self._file is None or state is None or not self._file.exists():
            return None
        with suppress(sqlite3.Error, OSError), closing(self._open(self._file)) as database:
            row = database.execute("SELECT * FROM hash WHERE path = ?", (state.path,)).fetchone()
            return str(row[-1]) if row and row[:-1] == state else None
        return None

    def hash(self, part: Part, read: Callable[[Part], str]) -> str:
        """Read a file, and keep its hash unless it may have changed meanwhile.

        Args:
            part: The file.
            read: Gives its hash.
        """
        began, state = self._now_ns(), look_at(part)
        digest = read(part)
        if state and max(state.written_ns, state.changed_ns) < began - _TICK_NS and look_at(part) == state:
            self._keep(state, digest)
        return digest

    def _keep(self, state: FileState, digest: str) -> None:
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(self._open(self._file)) as database, database:
                database.execute("INSERT OR REPLACE INTO hash VALUES (?, ?, ?, ?, ?, ?, ?)", (*state, digest))
                database.execute("DELETE FROM hash WHERE rowid <= (SELECT max(rowid) FROM hash) - ?", (_MOST_ROWS,))
        except sqlite3.OperationalError:  # not the file's fault: a full disk, a folder that cannot be written
            return
        except sqlite3.DatabaseError:  # damaged; the next run makes another
            with suppress(OSError):
                self._file.unlink()
        except OSError:
            return

    @staticmethod
    def _open(file: Path) -> sqlite3.Connection:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable by others
        database = sqlite3.connect(file)
        try:
            if database.execute("PRAGMA user_version").fetchone() != (_VERSION,):
                database.executescript(f"DROP TABLE IF EXISTS hash; {_TABLE}; PRAGMA user_version = {_VERSION}")
        except BaseException:
            database.close()
            raise
        return database
