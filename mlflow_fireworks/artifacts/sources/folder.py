"""A model that lies in a folder of this machine: read in place, never copied, never written to."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_fireworks.errors import SourceError
from mlflow_fireworks.redaction import brief


@dataclass(frozen=True)
class Listing:
    """What lies in a folder.

    Args:
        files: Path (POSIX, relative) to size in bytes; a link has the size of its target.
        outside_links: Links to something outside of the folder. A linked folder is not entered.
        broken_links: Links to nothing.
        unreadable: Folders that this user may not look into, as `lost+found` at the root of a volume.
    """

    files: dict[str, int] = field(default_factory=dict)
    outside_links: list[str] = field(default_factory=list)
    broken_links: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def list_folder(root: Path) -> Listing:
    """Every regular file below a folder, with its size.

    Links are followed inside the folder. A snapshot in a Hugging Face cache (`models--org--name/snapshots/<sha>`)
    consists of links into the `blobs` folder beside it; those count as inside.

    Args:
        root: The folder.

    Returns:
        Its files and the links that need attention.

    Raises:
        SourceError: The folder itself cannot be read.
    """
    real_root = os.path.realpath(root)
    listing = Listing()
    try:
        _list_into(listing, real_root, "", _homes(root), (real_root,))
    except OSError as error:
        raise SourceError(f"cannot read the folder {root}: {brief(error)}; check its permissions") from error
    return listing


def _homes(root: Path) -> list[Path]:
    """The folders that a file of this one may lie in, without links in their own paths."""
    real = Path(os.path.realpath(root))
    return [real, *(at.parent.parent / "blobs" for at in (real, *real.parents) if at.parent.name == "snapshots")]


def _list_into(listing: Listing, folder: str, prefix: str, inside: list[Path], ancestors: tuple[str, ...]) -> None:
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        if not prefix:
            raise
        listing.unreadable.append(prefix.rstrip("/"))
        return
    for entry in ordered:
        name = prefix + entry.name
        real = os.path.realpath(entry.path)
        if entry.is_symlink():
            if not Path(real).exists():
                listing.broken_links.append(name)
                continue
            if not any(Path(real).is_relative_to(home) for home in inside):
                listing.outside_links.append(name)
                if entry.is_dir():
                    continue
        if entry.is_file():
            listing.files[name] = entry.stat().st_size
        elif entry.is_dir() and real not in ancestors:  # a link to a parent would never end
            _list_into(listing, entry.path, f"{name}/", inside, (*ancestors, real))


class FolderStore:
    """Reads files where they are.

    Args:
        root: The folder that the names are relative to.
    """

    beginnings_are_cheap = True

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, name: str) -> Path:
        """Where the file lies."""
        return self._root / name

    def read_beginning(self, name: str, size: int) -> bytes:
        """The first `size` bytes.

        Raises:
            SourceError: The file has vanished or cannot be read.
        """
        return self._read(name, size)

    def read(self, name: str, most: int | None = None) -> bytes:
        """The whole file; its first `most + 1` bytes where it is larger.

        Raises:
            SourceError: The file has vanished or cannot be read.
        """
        return self._read(name, -1 if most is None else most + 1)

    def _read(self, name: str, size: int) -> bytes:
        try:
            with self.path(name).open("rb") as file:
                return file.read(size)
        except OSError as error:
            raise SourceError(f"cannot read {self.path(name)}: {error.strerror or brief(error)}") from error

    def relay(self, name: str) -> None:  # noqa: ARG002 - as for any other file here
        """None: the file is read in place by `staged`."""
        return

    def why_fetched(self, name: str) -> None:  # noqa: ARG002 - none must
        """None: the file is here."""
        return

    def version(self, name: str) -> str:  # noqa: ARG002 - no file has one
        """Empty: content is told by reading it."""
        return ""

    @contextmanager
    def staged(self, name: str) -> Iterator[Path]:
        """The file itself; it stays where it is.

        Raises:
            SourceError: The file has vanished, or leads out of the folder now.
        """
        path = self.path(name)
        if not path.is_file():
            raise SourceError(f"{path} has disappeared since the folder was listed")
        if not any(Path(os.path.realpath(path)).is_relative_to(home) for home in _homes(self._root)):
            raise SourceError(f"{path} now leads outside the folder, which it did not when the folder was listed")
        yield path

    def expect(self, uses: Mapping[str, int]) -> None:
        """Nothing: the files are here, and stay."""

    def close(self) -> None:
        """Nothing: nothing was fetched."""
