"""What the emulator remembers: resources and uploaded objects in one SQLite file. Knows nothing of HTTP.

Several emulator processes may share one state folder: SQLite runs in WAL mode with a busy timeout, every
change is one immediate transaction, and nothing is cached between calls. A process killed at any moment
leaves the last committed state; a file of bytes that no row refers to is swept on a later start.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_fireworks.emulator.protocol.wire import JsonObject

_SCHEMA_VERSION = "1"
_BUSY_SECONDS = 30.0
_ORPHAN_SECONDS = 3600.0
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS resources (
    collection TEXT NOT NULL, account TEXT NOT NULL, id TEXT NOT NULL,
    body TEXT NOT NULL, private TEXT NOT NULL,
    PRIMARY KEY (collection, account, id)
);
CREATE TABLE IF NOT EXISTS objects (
    key TEXT PRIMARY KEY, size INTEGER NOT NULL, crc32c TEXT NOT NULL, md5 TEXT NOT NULL,
    generation INTEGER NOT NULL, landed_at REAL NOT NULL, kept TEXT NOT NULL
);
"""


class StateError(Exception):
    """The state folder cannot be used; the message says which and what to do."""


@dataclass
class Resource:
    """A stored resource.

    Attributes:
        collection: ``models``, ``deployments``, …
        account: The account it belongs to.
        id: Its last name segment.
        body: What callers may see.
        private: What only the emulator needs: upload set, times of transitions.
    """

    collection: str
    account: str
    id: str
    body: JsonObject
    private: JsonObject = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The full resource name."""
        return f"accounts/{self.account}/{self.collection}/{self.id}"


@dataclass(frozen=True)
class StoredObject:
    """An uploaded file.

    Attributes:
        key: Its name in the bucket.
        size: Length in bytes.
        crc32c: Base64 of the big-endian CRC32C, as in ``x-goog-hash``.
        md5: Base64 of the MD5; empty when it was not computed.
        generation: Grows with every write.
        landed_at: Seconds since the epoch from which it counts as uploaded.
        kept: Name of the file that holds its bytes, or the head of them; empty when nothing was kept.
    """

    key: str
    size: int
    crc32c: str
    md5: str
    generation: int
    landed_at: float
    kept: str


class Transaction:
    """Reads and writes inside one transaction; made by `Store.transaction`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.unlinked: list[str] = []

    def get(self, collection: str, account: str, id_: str) -> Resource | None:
        """One resource, or None."""
        row = self._db.execute(
            "SELECT body, private FROM resources WHERE collection=? AND account=? AND id=?",
            (collection, account, id_),
        ).fetchone()
        return row and Resource(collection, account, id_, json.loads(row[0]), json.loads(row[1]))

    def put(self, resource: Resource) -> None:
        """Insert or replace."""
        self._db.execute(
            "INSERT OR REPLACE INTO resources VALUES (?,?,?,?,?)",
            (
                resource.collection,
                resource.account,
                resource.id,
                json.dumps(resource.body),
                json.dumps(resource.private),
            ),
        )

    def remove(self, resource: Resource) -> None:
        """Delete for good."""
        self._db.execute(
            "DELETE FROM resources WHERE collection=? AND account=? AND id=?",
            (resource.collection, resource.account, resource.id),
        )

    def all(self, collection: str, account: str | None = None) -> list[Resource]:
        """Every resource of a collection, of one account or of all, by name."""
        rows = self._db.execute(
            "SELECT account, id, body, private FROM resources"
            " WHERE collection=? AND (account=? OR ? IS NULL) ORDER BY account, id",
            (collection, account, account),
        )
        return [Resource(collection, row[0], row[1], json.loads(row[2]), json.loads(row[3])) for row in rows]

    def accounts(self) -> list[str]:
        """Accounts that own anything."""
        return [row[0] for row in self._db.execute("SELECT DISTINCT account FROM resources ORDER BY account")]

    def object(self, key: str) -> StoredObject | None:
        """One uploaded object, or None."""
        row = self._db.execute("SELECT * FROM objects WHERE key=?", (key,)).fetchone()
        return row and StoredObject(*row)

    def objects(self, prefix: str) -> dict[str, StoredObject]:
        """The uploaded objects whose key starts with the prefix, by the rest of their key."""
        rows = self._db.execute("SELECT * FROM objects WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
        return {row[0][len(prefix) :]: StoredObject(*row) for row in rows}

    def put_object(self, stored: StoredObject) -> None:
        """Insert or replace; bytes kept for the replaced one go after the commit."""
        self._forget(stored.key)
        self._db.execute(
            "INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?,?,?)",
            (
                stored.key,
                stored.size,
                stored.crc32c,
                stored.md5,
                stored.generation,
                stored.landed_at,
                stored.kept,
            ),
        )

    def remove_objects(self, prefix: str) -> None:
        """Delete every object under the prefix."""
        for stored in self.objects(prefix).values():
            self._forget(stored.key)
            self._db.execute("DELETE FROM objects WHERE key=?", (stored.key,))

    def _forget(self, key: str) -> None:
        old = self.object(key)
        if old and old.kept:
            self.unlinked.append(old.kept)


class Store:
    """The state folder, opened.

    Args:
        folder: Created with mode 0700 when missing.

    Raises:
        StateError: The folder holds something that is not this version's state.
    """

    def __init__(self, folder: Path) -> None:
        self.kept = folder / "kept"
        self.kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        database = folder / "state.db"
        try:
            self._db = sqlite3.connect(database, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise StateError(f"{database} cannot be used ({error}): delete it or name another folder") from error
        self.secret = bytes.fromhex(self._meta("signing_secret", secrets.token_hex(32)))
        if self._meta("schema", _SCHEMA_VERSION) != _SCHEMA_VERSION:
            raise StateError(f"{database} was written by another version: delete it or name another folder")
        self._sweep()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """One atomic step; nothing of it is kept when the block raises."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            transaction = Transaction(self._db)
            try:
                yield transaction
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        for name in transaction.unlinked:
            (self.kept / name).unlink(missing_ok=True)

    def read(self, stored: StoredObject) -> bytes:
        """The bytes that were kept of an uploaded file: of a small one all, of weights the header at most."""
        return (self.kept / stored.kept).read_bytes() if stored.kept else b""

    def clear(self) -> None:
        """Forget every resource and object."""
        with self.transaction() as transaction:
            self._db.execute("DELETE FROM resources")
            transaction.remove_objects("")

    def close(self) -> None:
        """Close the database; later calls fail."""
        with self._lock:
            self._db.close()

    def _prepare(self) -> None:
        # Changing the journal mode needs the file for itself for a moment; a second process that starts
        # at the same time may be refused without the busy timeout applying, so it asks again.
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")

    def _meta(self, key: str, default: str) -> str:
        self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, default))
        row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return str(row[0])

    def _sweep(self) -> None:
        """Remove bytes left by a process that was killed before it could commit or unlink."""
        known = {row[0] for row in self._db.execute("SELECT kept FROM objects")}
        uploads = self._db.execute("SELECT private FROM resources WHERE collection='uploads'")
        known |= {json.loads(row[0])["kept"] for row in uploads}
        for path in self.kept.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process may sweep, too
                if path.name not in known and time.time() - path.stat().st_mtime > _ORPHAN_SECONDS:
                    path.unlink()
