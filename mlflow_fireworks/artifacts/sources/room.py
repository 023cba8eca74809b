"""Which fetched files are on the disk, and whether there is room for another one."""

import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlflow_fireworks.artifacts.sources.disk import count_free_entries
from mlflow_fireworks.artifacts.sources.scratch import make_scratch, sweep
from mlflow_fireworks.errors import FireworksError, SourceError
from mlflow_fireworks.progress import format_bytes


@dataclass
class Copy:
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


class Room:
    """The temporary folder of one store, and the copies in it. Whoever uses it holds `changed`.

    Args:
        origin: The store's URI, for messages.
        sizes: Size in bytes of every file; None where the store does not tell.
        workspace: Folder for the temporary folder; the system's (TMPDIR) when None.
        max_disk: Most bytes of files that may be here at once; None for as many as there is room for.
        free_bytes: Measures how many bytes may still be written to a folder.
    """

    def __init__(
        self,
        origin: str,
        sizes: Mapping[str, int | None],
        workspace: Path | None,
        max_disk: int | None,
        free_bytes: Callable[[Path], int],
    ) -> None:
        self.changed = threading.Condition()
        self.copies: dict[str, Copy] = {}  # in the order in which they came
        self._origin = origin
        self._sizes = sizes
        self._folders = {name: str(number) for number, name in enumerate(sizes)}  # a name is not to be trusted
        self._workspace = workspace
        self._max_disk = max_disk
        self._free_bytes = free_bytes
        sweep(workspace)

    @cached_property
    def _scratch(self) -> tuple[Path, Callable[[], object]]:
        """The temporary folder and what removes it; made for the first file that is fetched."""
        return make_scratch(self, self._workspace)

    def size_of(self, name: str) -> int:
        """Room that a file needs, as far as the store tells."""
        return self._sizes[name] or 0

    def has_room(self, name: str) -> bool:
        """Whether a file fits beside those that are here and on their way."""
        size = self.size_of(name)
        if self._max_disk is not None and sum(copy.size for copy in self.copies.values()) + size > self._max_disk:
            return False
        arriving = sum(copy.size for copy in self.copies.values() if copy.path is None)
        return size + arriving <= self._free_bytes(self._scratch[0])

    def make_room(self, name: str) -> None:
        """Remove a copy that nobody uses, or wait until one is released.

        Raises:
            SourceError: Nobody is going to release any.
        """
        size = self.size_of(name)
        if self._max_disk is not None and size > self._max_disk:
            raise SourceError(
                f"{name} ({format_bytes(size)}) must be fetched from {self._origin}, "
                f"but -C max_disk={format_bytes(self._max_disk).replace(' ', '')} is less than that one file"
            )
        unused = [other for other, copy in self.copies.items() if copy.path and not copy.users]
        if unused:
            self.drop(unused[-1])  # of those fetched ahead, the one that is needed last
        elif not self.copies:
            raise self.too_small(name)
        else:
            self.changed.wait()

    def empty_folder(self, name: str) -> Path:
        """A new folder for a file; need not hold `changed`."""
        folder = self._scratch[0] / self._folders[name]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def drop(self, name: str) -> None:
        """Remove a copy, if it came."""
        del self.copies[name]
        shutil.rmtree(self._scratch[0] / self._folders[name], ignore_errors=True)

    def too_small(self, name: str) -> SourceError:
        """Says what is lacking to fetch a file."""
        root = self._scratch[0]
        entries = count_free_entries(root)
        free = format_bytes(max(0, self._free_bytes(root)))
        lacks = "has no inodes left" if entries == 0 else f"has {free} free beyond a reserve"
        return SourceError(
            f"not enough space to fetch {name} ({format_bytes(self.size_of(name))}) from {self._origin}: "
            f"{root.parent} {lacks}; "
            "free up some space or set TMPDIR to another disk"
        )

    def close(self) -> None:
        """Remove the folder, if one was made."""
        scratch = self.__dict__.get("_scratch")
        if scratch:
            scratch[1]()
