"""The bytes of the files that go up: as they lie in a store, or made from them in memory."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from mlflow_fireworks.artifacts.documents import Fault
from mlflow_fireworks.artifacts.safetensors import read_header
from mlflow_fireworks.artifacts.sources.source import Store
from mlflow_fireworks.errors import PreflightError


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
    def stored(self) -> "Stored | None":
        """The file of the source that must be at hand to read it; None when none must."""

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
    def stored(self) -> "Stored":
        """Itself."""
        return self

    def is_here(self) -> bool:
        """Whether it lies on this machine already."""
        return self.store.path(self.path) is not None

    def read(self) -> bytes:
        """The whole of a small file."""
        return self.store.read(self.path)

    @contextmanager
    def staged(self) -> Iterator[Callable[[], BinaryIO]]:
        """Make the file available here, checked once more: a fetch may have ended early.

        Raises:
            PreflightError: The file is not as long as it was listed, or as its own header says.
        """
        with self.store.staged(self.path) as file:
            if fault := self._find_fault(file):
                raise PreflightError([f"{self.path} {fault.text}"], "the fetched copy")
            # Unbuffered: readers ask for large pieces, and a buffer would copy each of them once more.
            yield lambda: file.open("rb", buffering=0)

    def _find_fault(self, file: Path) -> Fault | None:
        size = file.stat().st_size
        if self.path.endswith(".safetensors"):
            with file.open("rb") as opened:
                header = read_header(lambda count: _read_start(opened, count), size)
            if isinstance(header, Fault):
                return header
        if size != self.size:
            return Fault(f"has {size} bytes where {self.size} were listed; it changed or was cut short")
        return None


def _read_start(file: BinaryIO, count: int) -> bytes:
    file.seek(0)
    return file.read(count)


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
    def stored(self) -> None:
        """It needs none."""
        return

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


@contextmanager
def fetched_ahead(parts: Iterable[Part]) -> Iterator[None]:
    """For the time of the `with` block, stores fetch what is going to be staged next.

    Args:
        parts: What will be staged, once each, in the order in which that begins.
    """
    uses: dict[Store, Counter[str]] = {}
    for part in parts:
        if part.stored is not None:
            uses.setdefault(part.stored.store, Counter())[part.stored.path] += 1
    try:
        for store, count in uses.items():
            store.expect(count)
        yield
    finally:
        for store in uses:
            store.expect({})
