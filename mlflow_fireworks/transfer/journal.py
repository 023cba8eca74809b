"""What of a model has landed, on disk, so that the next run sends only what is missing.

One SQLite file for each model, below the plugin's state folder, readable by its owner only: it holds the URIs of
open resumable sessions, and who has such a URI can write that file. SQLite makes every record survive a killed
process; after a power loss the last records may be gone, which costs sending those files again and nothing else.
A journal that cannot be read, was written by another version, or belongs to other content or to a model that was
deleted meanwhile, counts as empty. Where none can be kept (a full disk, a folder that cannot be written), the upload
goes on with one in memory, after a warning: hours of sending are worth more than the means to go on after a failure.

Only one run at a time has the journal of a model; a second one on the same machine is refused.
"""

import hashlib
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from filelock import FileLock, Timeout
from pydantic import SecretStr
from typing_extensions import Self

from mlflow_fireworks.errors import ConflictError
from mlflow_fireworks.home import claim, is_own

T = TypeVar("T")

_VERSION = 1
_TO_THE_SECOND = len("2026-11-23T01:02:03")
_TABLES = """
    CREATE TABLE IF NOT EXISTS upload (version INTEGER, content TEXT, created TEXT);
    CREATE TABLE IF NOT EXISTS expected (name TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS landed (name TEXT PRIMARY KEY, size INTEGER);
    CREATE TABLE IF NOT EXISTS session (name TEXT PRIMARY KEY, uri TEXT);
    CREATE TABLE IF NOT EXISTS source (name TEXT PRIMARY KEY, version TEXT);
"""


class Journal:
    """The journal of one model, held by one run. A context manager; safe to use from several threads.

    Args:
        folder: Where journals are kept; made when missing.
        host: The API's address.
        model: The model's full resource name.
        warn: Is told when nothing can be kept.

    Raises:
        ConflictError: On entering: another run of this machine has it.
    """

    def __init__(
        self,
        folder: Path,
        host: str,
        model: str,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        digest = hashlib.sha256(f"{host}\n{model}".encode()).hexdigest()[:12]
        self._model = model
        self._warn = warn
        self._path = folder / f"{re.sub(r'[^a-z0-9-]+', '-', model.removeprefix('accounts/'))[:80]}-{digest}.sqlite"
        self._lock = FileLock(self._path.with_suffix(".lock"), timeout=0)
        self._mutex = threading.Lock()
        self._is_on_disk = True

    def __enter__(self) -> Self:
        try:
            claim(self._path.parent)
            self._lock.acquire()
            self._database = self._open()
        except Timeout:
            raise ConflictError(
                f"another run on this machine is uploading {self._model}; wait for it, or stop it and run this "
                "command again"
            ) from None
        except (OSError, sqlite3.Error) as error:
            self._database = self._read_into_memory()
            self._leave_disk(error)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        is_empty = not self._rows("SELECT 1 FROM upload")
        self._database.close()
        if is_empty:
            self._remove()
        self._lock.release()  # the lock's file stays: removing it would let two runs hold locks of the same name

    def begin(self, content: str, created: str) -> None:
        """Keep what is recorded if it is about this upload, else forget it.

        Args:
            content: Fingerprint of the content.
            created: The model's creation time as the API gives it; another one means another model of that name.
                Compared to the second, because the API answers it in nanoseconds first and microseconds later.
        """
        if not self._is_about(content, created):
            self.forget()
            self._execute("INSERT INTO upload VALUES (?, ?, ?)", (_VERSION, content, created[:_TO_THE_SECOND]))

    def expect(self, versions: Mapping[str, str]) -> list[str]:
        """Record which files the upload is made of, so that another run knows what is missing without them.

        Args:
            versions: What the store of each calls its present content (an ETag); empty where that is not known.

        Returns:
            Files that were another version when they were sent, or begun; what is recorded of them is forgotten.
        """
        known = dict(self._rows("SELECT name, version FROM source"))
        told = [(name, version) for name, version in versions.items() if version]
        changed = [name for name, version in told if known.get(name, version) != version]
        self.drop(changed)
        self._do(lambda database: database.executemany("INSERT OR REPLACE INTO source VALUES (?, ?)", told))
        rows = [(name,) for name in versions]
        self._do(lambda database: database.executemany("INSERT OR IGNORE INTO expected VALUES (?)", rows))
        return changed

    def missing(self, content: str, created: str) -> list[str] | None:
        """The files of an upload that storage has not taken yet; None when nothing is recorded about that upload.

        Args:
            content: As for `begin`.
            created: As for `begin`.
        """
        if not self._is_about(content, created) or not self._rows("SELECT 1 FROM expected LIMIT 1"):
            return None
        query = "SELECT name FROM expected WHERE name NOT IN (SELECT name FROM landed) ORDER BY name"
        return [name for (name,) in self._rows(query)]

    def landed(self) -> dict[str, int]:
        """The files that storage has taken whole, with their sizes."""
        return dict(self._rows("SELECT name, size FROM landed"))

    def record(self, name: str, size: int) -> None:
        """Storage has taken a file whole."""
        self._execute("INSERT OR REPLACE INTO landed VALUES (?, ?)", (name, size))
        self.drop_session(name)

    def drop(self, names: Iterable[str]) -> None:
        """Files turned out not to have landed, or not as they should be."""
        for name in names:
            self._execute("DELETE FROM landed WHERE name = ?", (name,))
            self.drop_session(name)

    def session(self, name: str) -> SecretStr | None:
        """The resumable session that an earlier run opened for a file, or None."""
        rows = self._rows("SELECT uri FROM session WHERE name = ?", name)
        return SecretStr(rows[0][0]) if rows else None

    def keep_session(self, name: str, uri: SecretStr) -> None:
        """A resumable session was opened for a file."""
        self._execute("INSERT OR REPLACE INTO session VALUES (?, ?)", (name, uri.get_secret_value()))

    def drop_session(self, name: str) -> None:
        """A file's session is no longer of use."""
        self._execute("DELETE FROM session WHERE name = ?", (name,))

    def forget(self) -> None:
        """Delete what is recorded: the upload is over, or everything has to be sent again."""
        for table in ("upload", "expected", "landed", "session", "source"):
            self._execute(f"DELETE FROM {table}")  # noqa: S608 - our own table names
        if not self._is_on_disk:
            self._remove()

    def discard(self) -> None:
        """Remove what earlier runs have left, without entering; nothing happens while another run holds it."""
        if self._path.exists():
            with suppress(ConflictError), self:
                self.forget()

    def _is_about(self, content: str, created: str) -> bool:
        recorded = self._rows("SELECT version, content, created FROM upload")
        return recorded == [(_VERSION, content, created[:_TO_THE_SECOND])]

    def _rows(self, query: str, *values: str) -> list[Any]:
        return self._do(lambda database: database.execute(query, values).fetchall())

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> None:
        self._do(lambda database: database.execute(statement, values))

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something with the database in a transaction; in memory when it cannot be done on disk."""
        with self._mutex:
            try:
                with self._database:
                    return work(self._database)
            except sqlite3.Error as error:
                on_disk, self._database = self._database, _copy_to_memory(self._database)
                on_disk.close()
                self._leave_disk(error)
            with self._database:
                return work(self._database)

    def _leave_disk(self, error: Exception) -> None:
        self._is_on_disk = False
        reason = getattr(error, "strerror", None) or error
        self._warn(
            f"no journal can be kept in {self._path.parent} ({reason}); the upload continues, but a later run that "
            "resumes it may upload files again; free up some space, or set MLFLOW_FIREWORKS_HOME to another folder"
        )

    def _remove(self) -> None:
        with suppress(OSError):
            for leftover in self._path.parent.glob(f"{self._path.name}*"):
                leftover.unlink()

    def _read_into_memory(self) -> sqlite3.Connection:
        """What an earlier run has left, where the file can be read but not be opened for writing."""
        uri = f"file:{quote(str(self._path))}?mode=ro&immutable=1"
        if not is_own(self._path):
            return _copy_to_memory(None)
        with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True)) as kept:
            return _copy_to_memory(kept)
        return _copy_to_memory(None)

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.OperationalError:  # not the file's fault: a full disk, a folder that cannot be written
            raise
        except sqlite3.DatabaseError:
            self._remove()
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite would make it readable by others
        database = sqlite3.connect(self._path, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            database.executescript(_TABLES)
            if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("damaged")  # noqa: TRY301 - treated like what SQLite finds itself
        except BaseException:
            database.close()
            raise
        return database


def _copy_to_memory(kept: sqlite3.Connection | None) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        if kept is not None:
            kept.backup(memory)
        memory.executescript(_TABLES)
    except sqlite3.Error:
        memory.close()
        return _copy_to_memory(None)
    return memory
