"""Where the files of a model come from: the MLflow registry, a run, a store, a folder, or the Hub.

The shapes only; `resolve.open_source` makes a `Source` from a URI.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from mlflow_fireworks.registry.uri_types import RegisteredUri


class Store(Protocol):
    """Reads the files of one resolved model. Methods may be called from several threads."""

    @property
    def beginnings_are_cheap(self) -> bool:
        """Whether `read_beginning` reads just the bytes asked for; where it does not, it fetches the whole file."""

    def path(self, name: str) -> Path | None:
        """Where the file already lies on this machine, or None when it would have to be fetched."""

    def read_beginning(self, name: str, size: int) -> bytes:
        """The first `size` bytes. From stores that send whole files only this fetches it, and keeps it for `staged`."""

    def read(self, name: str, most: int | None = None) -> bytes:
        """The whole of a small file; its first `most + 1` bytes where it is larger, by which the caller can tell."""

    def relay(self, name: str) -> Callable[[int, int], BinaryIO] | None:
        """What opens a remote file where it is, from one byte up to another, as a stream; None when it must be staged.

        A read raises SourceError when the file cannot be had, or is another one than at the first read.
        """

    def why_fetched(self, name: str) -> str | None:
        """Why a file must be fetched before it can be sent; None when it need not."""

    def version(self, name: str) -> str:
        """What a remote store calls the file's present content (an ETag); empty where that is not known."""

    def staged(self, name: str) -> AbstractContextManager[Path]:
        """The file on this machine for the time of the `with` block; fetched copies are removed after it."""

    def expect(self, uses: Mapping[str, int]) -> None:
        """Fetch files ahead where they must be fetched, and keep each until it has been staged so often.

        Args:
            uses: How often each file will be staged, in the order in which that begins; empty to fetch nothing more.
        """

    def close(self) -> None:
        """Remove everything that was fetched. Also happens when the process ends by itself."""


@dataclass(frozen=True)
class Hint:
    """One tag or parameter that somebody left on the model; evidence for its origin.

    Args:
        origin: Where it stands: `model version tag`, `registered model tag`, `run tag`, `logged model tag`,
            `logged model param`, `run param`.
        key: Its name.
        value: Its value.
    """

    origin: str
    key: str
    value: str


@dataclass(frozen=True)
class Source:
    """One model, resolved once: an alias or a branch is pinned to what it meant at that moment.

    Args:
        asked: The URI as the user wrote it, without a password.
        resolved: The URI of what will be deployed: `models:/chat/3`, `models:/m-…`, `hf:/org/name@<sha>`, …
        identity: What names this content for ever (a logged model's id, a Hub commit), or None when the files
            could be changed in place. For a remote store without either it is the artifact URI: that trusts
            that nobody puts other bytes of the same size under a name already there, because remote files
            cannot be hashed without fetching them all.
        files: Path (POSIX, relative) to size in bytes, of every file.
        store: Reads those files.
        mlmodel: The parsed `MLmodel` file, empty when there is none.
        registered: The registry's version, when it is one.
        hints: Tags and parameters of the version, registered model, run and logged model, in that order.
        outside_links: Symbolic links in a local folder whose target lies outside of it. Links of a Hugging Face
            cache snapshot into its own `blobs` are not among them.
        broken_links: Symbolic links in a local folder that lead to nothing; not among `files`.
        location: The URI of the folder in a remote artifact store that holds `files` (`s3://bucket/path`), without
            credentials; None on this machine and on the Hub.
    """

    asked: str
    resolved: str
    identity: str | None
    files: Mapping[str, int]
    store: Store
    mlmodel: Mapping[str, object]
    registered: RegisteredUri | None = None
    hints: tuple[Hint, ...] = ()
    outside_links: tuple[str, ...] = ()
    broken_links: tuple[str, ...] = ()
    location: str | None = None
