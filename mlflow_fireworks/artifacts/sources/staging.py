"""Files of a remote store on this machine: fetched a few at a time, held while they are used, then removed.

A 140 GB model passes through a disk of 20 GB. Files that are going to be staged are fetched ahead, in their order, so
that the download and the upload run at the same time. What was fetched ahead or kept gives way where a file that is
asked for needs its room; a fetch that still does not fit waits until files in use are released, and fails only when
nobody is going to release any.
"""

import errno
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from mlflow_fireworks.artifacts.sources.disk import FILES_AHEAD, count_free_entries, measure_free_bytes
from mlflow_fireworks.artifacts.sources.scratch import make_scratch, sweep
from mlflow_fireworks.errors import FireworksError, SourceError
from mlflow_fireworks.http import Retry, TransientError
from mlflow_fireworks.progress import Reporter, format_bytes
from mlflow_fireworks.redaction import brief

Fetch = Callable[[str, Path], Path]
"""Puts the file of that name somewhere below that empty folder and returns its path.

SourceError means that another try is useless; any other exception is tried again."""

ReadBeginning = Callable[[str, int], bytes]
"""Gives the first so many bytes of the file of that name without fetching the rest; exceptions mean the same."""

T = TypeVar("T")

# More fetches at once would all end at the same time, and the upload would wait for that moment; the clients of
# object stores use several connections for one file as it is.
FETCHES = 4
FETCH_RETRY = Retry(attempts=3, wait_initial=0.5, wait_max=4.0)
_WORTH_A_NOTE_BYTES = 1024**3
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def whole_files_only(name: str, size: int) -> bytes:
    """The `ReadBeginning` of a store that has none."""
    raise SourceError(f"of {name} the first {size:,} bytes cannot be had alone")


@dataclass
class _Copy:
    """A file that is here, or on its way.

    Args:
        size: Disk space that is kept for it, in bytes.
        users: How many hold it.
        is_ahead: Nobody has asked for it yet.
        path: Where it is, once it is here.
        error: Why it did not come.
    """

    size: int
    users: int = 0
    is_ahead: bool = False
    path: Path | None = None
    error: FireworksError | None = None


class FetchedStore:
    """A store whose files must be fetched before they can be read.

    A file is fetched once for all threads that use it at the same time. It is removed when it has been staged as
    often as `expect` said, once by default. One that was fetched by `read_beginning` or `read` is kept for that, if
    there is room; `read_beginning` fetches only where a beginning cannot be had alone. A thread that holds one file
    staged must not stage a second one: on a small disk it would wait for itself.

    Args:
        origin: The store's URI, for messages.
        sizes: Size in bytes of every file; None where the store does not tell, which `measure` finds out.
        fetch: Gets one file.
        read_beginning: Gets the first bytes of one, where the store's client can do that.
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
        read_beginning: ReadBeginning = whole_files_only,
        reporter: Reporter,
        workspace: Path | None = None,
        max_disk: int | None = None,
        retry: Retry | None = None,
        free_bytes: Callable[[Path], int] = measure_free_bytes,
    ) -> None:
        self._origin = origin
        self._sizes = sizes
        self._fetch = fetch
        self._read_beginning = read_beginning
        self._reporter = reporter
        self._max_disk = max_disk
        self._retry = retry or FETCH_RETRY
        self._free_bytes = free_bytes
        self._folders = {name: str(number) for number, name in enumerate(sizes)}  # a name is not to be trusted
        self._slots = threading.BoundedSemaphore(FETCHES)
        self._changed = threading.Condition()  # guards everything below
        self._copies: dict[str, _Copy] = {}  # in the order in which they came
        self._uses_left: dict[str, int] = {}
        self._coming: deque[str] = deque()
        self._waiting = 0
        self._closed = False
        self._workspace = workspace
        sweep(workspace)

    @cached_property
    def _scratch(self) -> tuple[Path, Callable[[], object]]:
        """The temporary folder and what removes it; made for the first file that is fetched."""
        return make_scratch(self, self._workspace)

    @property
    def _root(self) -> Path:
        return self._scratch[0]

    @cached_property
    def beginnings_are_cheap(self) -> bool:
        """Whether the store gives the beginning of a file alone: asked of it once, for a byte of its smallest file."""
        smallest = min(((size, name) for name, size in self._sizes.items() if size), default=None)
        try:
            return smallest is not None and bool(self._read_alone(smallest[1], 1))
        except FireworksError:  # whatever it is, fetching whole files is still to be tried
            return False

    def path(self, name: str) -> None:  # noqa: ARG002 - every file would have to be fetched
        """None: a fetched copy is lent by `staged` only."""
        return

    def read_beginning(self, name: str, size: int) -> bytes:
        """The first `size` bytes; where beginnings are not cheap, fetches the whole file and keeps it.

        Raises:
            SourceError: The file cannot be read.
        """
        whole = self._sizes[name]
        with self._changed:
            is_here = name in self._copies
        if whole and not is_here and self.beginnings_are_cheap:
            return self._read_alone(name, min(size, whole))
        return self._read_copy(name, size)

    def read(self, name: str) -> bytes:
        """The whole file, which is kept.

        Raises:
            SourceError: The file cannot be fetched.
        """
        return self._read_copy(name, -1)

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
            for name in [name for name, copy in self._copies.items() if copy.path and not copy.users]:
                if name not in uses:
                    self._drop(name)
            self._changed.notify_all()
        for number in range(min(FETCHES, len(uses))):
            threading.Thread(target=self._fetch_ahead, name=f"fireworks-fetch-{number}", daemon=True).start()

    def close(self) -> None:
        """Remove everything that was fetched."""
        with self._changed:
            self._closed = True
            self._coming.clear()
            self._changed.notify_all()
            scratch = self.__dict__.get("_scratch")
        if scratch:
            scratch[1]()

    def _read_copy(self, name: str, size: int) -> bytes:
        with self._held(name) as path, path.open("rb") as file:
            return file.read(size)

    def _read_alone(self, name: str, size: int) -> bytes:
        def read_once() -> bytes:
            self._check_open(name)
            try:
                beginning = self._read_beginning(name, size)
            except FireworksError:
                raise
            except Exception as error:  # noqa: BLE001 - as in `_fetch_once`
                raise TransientError(brief(error)) from None
            if len(beginning) != size:
                raise TransientError(f"{len(beginning):,} bytes came of the first {size:,}")
            return beginning

        return self._retried(name, read_once)

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
                    self._drop(name)
                    self._uses_left.pop(name)
                self._changed.notify_all()

    def _claim(self, name: str) -> tuple[_Copy, bool]:
        """Become a user of a file; whether it must be fetched by the caller."""
        size = self._sizes[name] or 0
        with self._changed:
            self._waiting += 1
            try:
                while (copy := self._find(name)) is None and not self._has_room(size):
                    self._make_room(name, size)
            finally:
                self._waiting -= 1
            is_new = copy is None
            if copy is None:
                copy = self._copies[name] = _Copy(size)
            copy.users += 1
            copy.is_ahead = False
            self._changed.notify_all()
            return copy, is_new

    def _find(self, name: str) -> _Copy | None:
        self._check_open(name)
        return self._copies.get(name)

    def _check_open(self, name: str) -> None:
        if self._closed:
            raise SourceError(f"{self._origin} is closed; open the model again to read {name}")

    def _has_room(self, size: int) -> bool:
        if self._max_disk is not None and sum(copy.size for copy in self._copies.values()) + size > self._max_disk:
            return False
        arriving = sum(copy.size for copy in self._copies.values() if copy.path is None)
        return size + arriving <= self._free_bytes(self._root)

    def _make_room(self, name: str, size: int) -> None:
        if self._max_disk is not None and size > self._max_disk:
            raise SourceError(
                f"{name} ({format_bytes(size)}) must be fetched from {self._origin}, and "
                f"-C max_disk={format_bytes(self._max_disk).replace(' ', '')} allows less than that one file"
            )
        unused = [other for other, copy in self._copies.items() if copy.path and not copy.users]
        if unused:
            self._drop(unused[-1])  # of those fetched ahead, the one that is needed last
        elif not self._copies:
            raise self._disk_is_full(name, size)
        else:
            self._changed.wait()

    def _drop(self, name: str) -> None:
        del self._copies[name]
        shutil.rmtree(self._root / self._folders[name], ignore_errors=True)

    def _wait_for(self, copy: _Copy) -> Path:
        with self._changed:
            self._changed.wait_for(lambda: copy.path or copy.error or self._closed)
        if copy.path is None:
            raise copy.error or SourceError(f"{self._origin} was closed while it was read")
        return copy.path

    def _fetch_ahead(self) -> None:
        while next_one := self._take_next():
            with suppress(FireworksError, OSError):  # who needs the file tries again, and tells; or all is closed
                self._bring(*next_one)

    def _take_next(self) -> tuple[str, _Copy] | None:
        with self._changed:
            while self._coming:
                name = self._coming[0]
                size = self._sizes[name] or 0
                if name in self._copies or self._uses_left.get(name, 0) < 1:
                    self._coming.popleft()
                elif self._may_run_ahead() and self._has_room(size):
                    copy = self._copies[self._coming.popleft()] = _Copy(size, is_ahead=True)
                    return name, copy
                else:
                    self._changed.wait()
            return None

    def _may_run_ahead(self) -> bool:
        return not self._waiting and sum(copy.is_ahead for copy in self._copies.values()) < FILES_AHEAD

    def _bring(self, name: str, copy: _Copy) -> Path:
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
                    self._drop(name)
                self._changed.notify_all()
        return path

    def _fetch_with_retries(self, name: str) -> Path:
        size = self._sizes[name] or 0
        if size >= _WORTH_A_NOTE_BYTES:
            self._reporter.note(f"fetching {name} ({format_bytes(size)})")
        return self._retried(name, lambda: self._fetch_once(name))

    def _retried(self, name: str, attempt: Callable[[], T]) -> T:
        def tell(failure: str) -> None:
            self._reporter.warn(f"{name}: {failure}")

        try:
            return self._retry.call(attempt, tell)
        except TransientError as error:
            raise SourceError(
                f"cannot fetch {name} from {self._origin}: {error}; run the same command again to go on"
            ) from None

    def _fetch_once(self, name: str) -> Path:
        if self._closed:
            raise SourceError(f"{self._origin} was closed before {name} was fetched")
        folder = self._root / self._folders[name]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            path = self._fetch(name, folder)
            arrived = path.stat().st_size
        except FireworksError:
            raise
        except Exception as error:  # noqa: BLE001 - clients of any store come through here
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                raise self._disk_is_full(name, self._sizes[name] or 0) from None
            # The cause stays out of the chain: its text and traceback may hold a signed URL.
            raise TransientError(brief(error)) from None
        expected = self._sizes[name]
        if expected is not None and arrived != expected:
            raise TransientError(f"{arrived:,} bytes came, the store lists {expected:,}")
        self._reporter.bytes_fetched(arrived)
        return path

    def _disk_is_full(self, name: str, size: int) -> SourceError:
        entries = count_free_entries(self._root)
        free = format_bytes(max(0, self._free_bytes(self._root)))
        lacks = "has no inode left for another file" if entries == 0 else f"has {free} free beside a reserve"
        return SourceError(
            f"no room to fetch {name} ({format_bytes(size)}) from {self._origin}: {self._root.parent} {lacks}; "
            "free some space or set TMPDIR to another disk"
        )
