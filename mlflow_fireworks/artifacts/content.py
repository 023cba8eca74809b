"""The bytes of the files that go up: as they lie in a store, or made from them in memory."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Protocol

from mlflow_fireworks.artifacts.documents import Document, Fault, most_bytes
from mlflow_fireworks.artifacts.safetensors import read_header
from mlflow_fireworks.artifacts.sources.source import Store
from mlflow_fireworks.errors import CheckpointError, PreflightError
from mlflow_fireworks.progress import format_bytes

OpenPart = Callable[[int, int], BinaryIO]
"""Opens bytes of a file from one place up to another, and perhaps more; places count from the file's beginning."""


class Part(Protocol):
    """One file of a checkpoint, wherever its bytes come from."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    @property
    def origin(self) -> str:
        """Where it lies in the artifacts, or what made it."""

    @property
    def identity(self) -> str | None:
        """What names its content for ever, or None when the content could change or is made here."""

    @property
    def sources(self) -> "tuple[Stored, ...]":
        """The files of the source that it is read from."""

    @property
    def version(self) -> str:
        """What its store calls its present content, as far as it was read; empty where that is not known."""

    def is_here(self) -> bool:
        """Whether its bytes are on this machine already."""

    def read(self) -> bytes:
        """The whole of a small file."""

    def staged(self) -> AbstractContextManager[Callable[[], BinaryIO]]:
        """Make its bytes available here; yields a function that opens them from the start."""


@dataclass(frozen=True)
class Stored:
    """A file of a source.

    Args:
        store: Reads it.
        path: Its name in that store.
        size: Its length in bytes, as listed.
        identity: What names the source's content for ever, or None when the file could be changed in place.
    """

    store: Store
    path: str
    size: int
    identity: str | None = None

    @property
    def origin(self) -> str:
        """Where it lies in the artifacts."""
        return self.path

    @property
    def sources(self) -> "tuple[Stored, ...]":
        """Itself."""
        return (self,)

    @property
    def version(self) -> str:
        """What its store calls its present content."""
        return self.store.version(self.path)

    @property
    def why_fetched(self) -> str | None:
        """Why it must be fetched before it can be sent; None when it need not."""
        return self.store.why_fetched(self.path)

    @property
    def here(self) -> Path | None:
        """Where it lies on this machine already; None where it is read from elsewhere."""
        return self.store.path(self.path)

    def is_here(self) -> bool:
        """Whether it lies on this machine already."""
        return self.here is not None

    def read(self) -> bytes:
        """The whole of a small file.

        Raises:
            CheckpointError: It is larger than any such file is, or than it was listed.
        """
        if self.size > (most := most_bytes(self.path)):
            raise CheckpointError(
                f"{self.path} is {format_bytes(self.size)}, too large for a file of this kind (at most "
                f"{format_bytes(most)}); check how it was saved, or remove it from the model"
            )
        data = self.store.read(self.path, self.size)
        if len(data) > self.size:
            raise CheckpointError(f"{self.path} grew while it was being read; run the same command again")
        return data

    def cut(self, begin: int, end: int) -> "tuple[Piece, ...]":
        """Its bytes from one place up to another."""
        return (Piece(self, begin, end),)

    @contextmanager
    def staged(self) -> Iterator[Callable[[], BinaryIO]]:
        """Make its bytes available here; yields a function that opens them from the start."""
        with self.opened() as open_part:
            yield lambda: open_part(0, self.size)

    @contextmanager
    def opened(self) -> Iterator[OpenPart]:
        """What opens any part of it: where it is, or on this machine, checked once more: a fetch may have ended early.

        Raises:
            PreflightError: The file is not as long as it was listed, or as its own header says.
        """
        relayed = self.store.relay(self.path)
        if relayed is not None:
            yield relayed
            return
        with self.store.staged(self.path) as file:
            if fault := self._find_fault(file):
                raise PreflightError([f"{self.path} {fault.text}"], "the fetched copy")
            yield partial(_open_part, file)

    def _find_fault(self, file: Path) -> Fault | None:
        size = file.stat().st_size
        if self.path.endswith(".safetensors"):
            with file.open("rb") as opened:
                header = read_header(lambda count: _read_start(opened, count), size)
            if isinstance(header, Fault):
                return header
        if size != self.size:
            return Fault(f"has {size} bytes, but {self.size} were listed; it changed or was truncated")
        return None


def _open_part(file: Path, begin: int, end: int) -> BinaryIO:  # noqa: ARG001 - who reads knows where to stop
    # Unbuffered: readers ask for large pieces, and a buffer would copy each of them once more.
    opened = file.open("rb", buffering=0)
    opened.seek(begin)
    return opened


def _read_start(file: BinaryIO, count: int) -> bytes:
    file.seek(0)
    return file.read(count)


@dataclass(frozen=True)
class Piece:
    """Neighbouring bytes of a stored file.

    Args:
        file: The file.
        begin: The first one.
        end: The one behind the last.
    """

    file: Stored
    begin: int
    end: int


@dataclass(frozen=True)
class Made:
    """A file that was made here.

    Args:
        data: Its bytes.
        origin: What it was made from, for a person.
        identity: None; its bytes are at hand.
    """

    data: bytes
    origin: str
    identity: str | None = None

    @property
    def sources(self) -> tuple[Stored, ...]:
        """It needs none."""
        return ()

    @property
    def version(self) -> str:
        """None that matters: its bytes are at hand."""
        return ""

    def is_here(self) -> bool:
        """It is in memory."""
        return True

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self.data)

    def read(self) -> bytes:
        """Its bytes."""
        return self.data

    @contextmanager
    def staged(self) -> Iterator[Callable[[], BinaryIO]]:
        """Its bytes are always at hand."""
        yield lambda: io.BytesIO(self.data)


def make_json(document: Document, origin: str) -> Made:
    """A JSON file that is made here; the origin as for `Made`."""
    return Made(json.dumps(document, indent=2).encode(), origin)


@contextmanager
def fetched_ahead(parts: Iterable[Part]) -> Iterator[None]:
    """For the time of the `with` block, stores fetch what is going to be staged next.

    Args:
        parts: What will be staged, once each, in the order in which that begins.
    """
    uses: dict[Store, Counter[str]] = {}
    for part in parts:
        for file in part.sources:
            uses.setdefault(file.store, Counter())[file.path] += 1
    try:
        for store, count in uses.items():
            store.expect(count)
        yield
    finally:
        for store in uses:
            store.expect({})
