"""Files of a store that sends whole ones only: fetched a few at a time, held while they are used, then removed.

A 140 GB model passes through a disk of 20 GB. Files that are going to be staged are fetched ahead, in their order, so
that the download and the upload run at the same time. What was fetched ahead or kept gives way where a file that is
asked for needs its room; a fetch that still does not fit waits until files in use are released, and fails only when
nobody is going to release any.

Whole files are not streamed into an upload: the header is read before the model exists, and each broken download or
upload would begin again at the first byte, while a file on the disk is fetched once for all shards that are cut from it
and all tries. MLflow's server, the most frequent of these stores, also fetches a file whole before it sends the first
byte, and would do so once more for the header.
"""

import errno
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mlflow_fireworks.artifacts.sources.disk import FILES_AHEAD, measure_free_bytes
from mlflow_fireworks.artifacts.sources.room import Copy, Room
from mlflow_fireworks.artifacts.sources.tries import Tries
from mlflow_fireworks.errors import FireworksError, SourceError
from mlflow_fireworks.http import Retry, TransientError
from mlflow_fireworks.progress import Reporter, format_bytes
from mlflow_fireworks.threads import inheriting

Fetch = Callable[[str, Path], Path]
"""Puts the file of that name somewhere below that empty folder and returns its path.

SourceError means that another try is useless; any other exception is tried again."""

# More fetches at once would all end at the same time, and the upload would wait for that moment; the clients of
# object stores use several connections for one file as it is.
FETCHES = 4
FETCH_RETRY = Retry(attempts=3, wait_initial=0.5, wait_max=4.0)
_WORTH_A_NOTE_BYTES = 1024**3
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class FetchedStore:
    """A store whose files must be fetched before they can be read.

    A file is fetched once for all threads that use it at the same time. It is removed when it has been staged as
    often as `expect` said, once by default. One that was fetched by `read_beginning` or `read` is kept for that, if
    there is room. A thread that holds one file staged must not stage a second one: on a small disk it would wait for
    itself.

    Args:
        origin: The store's URI, for messages.
        sizes: Size in bytes of every file; None where the store does not tell, which `measure` finds out.
        fetch: Gets one file.
        reporter: Is told about large files and about tries that failed.
        workspace: Folder for the temporary folder; the system's (TMPDIR) when None.
        max_disk: Most bytes of files that may be here at once; None for as many as there is room for.
        retry: How often a file is tried.
        free_bytes: Measures how many bytes may still be written to a folder.
    """

    def __init__(
        self,
        origin: str,
        sizes: Mapping[str, int | None],
        fetch: Fetch,
        *,
        reporter: Reporter,
        workspace: Path | None = None,
        max_disk: int | None = None,
        retry: Retry | None = None,
        free_bytes: Callable[[Path], int] = measure_free_bytes,
    ) -> None:
        self._origin = origin
        self._sizes = sizes
        self._fetch = fetch
        self._reporter = reporter
        self._tries = Tries(origin, reporter, retry or FETCH_RETRY)
        self._slots = threading.BoundedSemaphore(FETCHES)
        self._room = Room(origin, sizes, workspace, max_disk, free_bytes)
        self._changed = self._room.changed  # guards everything below
        self._uses_left: dict[str, int] = {}
        self._coming: deque[str] = deque()
        self._waiting = 0
        self._is_closed = False

    def read_beginning(self, name: str, size: int) -> bytes:
        """The first `size` bytes of a file, which is fetched and kept.

        Raises:
            SourceError: The file cannot be fetched.
        """
        with self._held(name) as path, path.open("rb") as file:
            return file.read(size)

    def read(self, name: str, most: int | None = None) -> bytes:
        """The whole file, which is kept; its first `most + 1` bytes where it is larger.

        Raises:
            SourceError: The file cannot be fetched.
        """
        return self.read_beginning(name, -1 if most is None else most + 1)

    def measure(self, name: str) -> int:
        """The size of a file in bytes; fetches it when the store did not tell.

        Raises:
            SourceError: The file cannot be fetched.
        """
        size = self._sizes[name]
        if size is not None:
            return size
        with self._held(name) as path:
            return path.stat().st_size

    @contextmanager
    def staged(self, name: str) -> Iterator[Path]:
        """The file, fetched if need be; removed after the last expected use.

        Raises:
            SourceError: The file cannot be fetched.
        """
        with self._held(name) as path:
            try:
                yield path
            finally:
                with self._changed:
                    self._uses_left[name] = self._uses_left.get(name, 1) - 1

    def expect(self, uses: Mapping[str, int]) -> None:
        """Fetch files ahead, and keep each until it has been staged so often.

        Args:
            uses: How often each file will be staged, in the order in which that begins. Replaces what was expected
                before, and removes what was fetched and is not wanted any more; empty to fetch nothing more.
        """
        with self._changed:
            self._uses_left = dict(uses)
            self._coming = deque(uses)
            for name in [name for name, copy in self._room.copies.items() if copy.path and not copy.users]:
                if name not in uses:
                    self._room.drop(name)
            self._changed.notify_all()
        fetch_ahead = inheriting(self._fetch_ahead)
        for number in range(min(FETCHES, len(uses))):
            threading.Thread(target=fetch_ahead, name=f"fireworks-fetch-{number}", daemon=True).start()

    def close(self) -> None:
        """Remove everything that was fetched."""
        with self._changed:
            self._is_closed = True
            self._coming.clear()
            self._changed.notify_all()
            self._room.close()

    @contextmanager
    def _held(self, name: str) -> Iterator[Path]:
        copy, is_new = self._claim(name)
        path = self._bring(name, copy) if is_new else self._wait_for(copy)
        try:
            yield path
        finally:
            with self._changed:
                copy.users -= 1
                if not copy.users and self._uses_left.get(name, 1) < 1:
                    self._room.drop(name)
                    self._uses_left.pop(name)
                self._changed.notify_all()

    def _claim(self, name: str) -> tuple[Copy, bool]:
        """Become a user of a file; whether it must be fetched by the caller."""
        with self._changed:
            self._waiting += 1
            try:
                while (copy := self._find(name)) is None and not self._room.has_room(name):
                    self._room.make_room(name)
            finally:
                self._waiting -= 1
            is_new = copy is None
            if copy is None:
                copy = self._room.copies[name] = Copy(self._room.size_of(name))
            copy.users += 1
            copy.is_ahead = False
            self._changed.notify_all()
            return copy, is_new

    def _find(self, name: str) -> Copy | None:
        if self._is_closed:
            raise SourceError(f"{self._origin} is closed; open the model again to read {name}")
        return self._room.copies.get(name)

    def _wait_for(self, copy: Copy) -> Path:
        with self._changed:
            self._changed.wait_for(lambda: copy.path or copy.error or self._is_closed)
        if copy.path is None:
            raise copy.error or SourceError(f"{self._origin} was closed while it was being read")
        return copy.path

    def _fetch_ahead(self) -> None:
        while next_one := self._take_next():
            with suppress(FireworksError, OSError):  # who needs the file tries again, and tells; or all is closed
                self._bring(*next_one)

    def _take_next(self) -> tuple[str, Copy] | None:
        with self._changed:
            while self._coming:
                name = self._coming[0]
                if name in self._room.copies or self._uses_left.get(name, 0) < 1:
                    self._coming.popleft()
                elif self._may_run_ahead() and self._room.has_room(name):
                    copy = Copy(self._room.size_of(name), is_ahead=True)
                    self._room.copies[self._coming.popleft()] = copy
                    return name, copy
                else:
                    self._changed.wait()
            return None

    def _may_run_ahead(self) -> bool:
        return not self._waiting and sum(copy.is_ahead for copy in self._room.copies.values()) < FILES_AHEAD

    def _bring(self, name: str, copy: Copy) -> Path:
        """Fetch a file for all who wait for it."""
        error: FireworksError = SourceError(f"fetching {name} was interrupted")
        path: Path | None = None
        try:
            with self._slots:
                path = self._fetch_with_retries(name)
            copy.size = path.stat().st_size
        except FireworksError as failure:
            error = failure
            raise
        finally:
            with self._changed:
                copy.path, copy.error = path, error if path is None else None
                too_late = copy.is_ahead and self._uses_left.get(name, 0) < 1  # for the upload, which has ended
                if path is None or too_late:
                    self._room.drop(name)
                self._changed.notify_all()
        return path

    def _fetch_with_retries(self, name: str) -> Path:
        size = self._room.size_of(name)
        if size >= _WORTH_A_NOTE_BYTES:
            self._reporter.note(f"fetching {name} ({format_bytes(size)})")
        return self._tries.call(name, lambda: self._fetch_once(name))

    def _fetch_once(self, name: str) -> Path:
        if self._is_closed:
            raise SourceError(f"{self._origin} was closed before {name} was fetched")
        try:
            path = self._fetch(name, self._room.empty_folder(name))
            arrived = path.stat().st_size
        except OSError as error:
            if error.errno in _DISK_FULL:
                raise self._room.too_small(name) from None
            raise
        expected = self._sizes[name]
        if expected is not None and arrived != expected:
            raise TransientError(f"{arrived:,} bytes arrived, but the store lists {expected:,}")
        self._reporter.bytes_fetched(arrived)
        return path
