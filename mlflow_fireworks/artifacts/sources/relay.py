"""Files of a remote store, read where they are: in ranges, as they are sent on, with nothing on the disk.

Which stores can do that is found out by asking for a byte. Those that cannot are left to `staging`, and so are files
whose length the store does not tell.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO

from mlflow_fireworks.artifacts.sources.ranges import (
    Answer,
    OpenRange,
    RangeStream,
    check_answer,
    name_weakly,
)
from mlflow_fireworks.artifacts.sources.staging import FetchedStore
from mlflow_fireworks.artifacts.sources.tries import Tries
from mlflow_fireworks.errors import FireworksError, RangeError, ReplacedError, SourceError, UnavailableError
from mlflow_fireworks.http import Retry, TransientError
from mlflow_fireworks.progress import Reporter

# For each piece anew, so an upload of hours outlives as many outages of some fifteen seconds as there are.
_RANGE_RETRY = Retry(attempts=6, wait_initial=0.5, wait_max=8.0)


class RelayStore:
    """A store whose files are read in ranges, or fetched where that cannot be done.

    A file must be the same at each read: its version is that of the first one, which happens before anything is sent.

    Args:
        origin: The store's URI, for messages.
        sizes: Size in bytes of every file; None where the store does not tell.
        open_range: Asks for a range of one.
        fetched: The same files, fetched.
        reporter: Is told about tries that failed.
        relay: Whether files may be read in ranges while they are sent; their beginnings may in any case.
        retry: How often a range is tried.
    """

    def __init__(
        self,
        origin: str,
        sizes: Mapping[str, int | None],
        open_range: OpenRange,
        fetched: FetchedStore,
        *,
        reporter: Reporter,
        relay: bool = True,
        retry: Retry | None = None,
    ) -> None:
        self._origin = origin
        self._sizes = sizes
        self._open_range = open_range
        self._fetched = fetched
        self._may_relay = relay
        self._tries = Tries(origin, reporter, retry or _RANGE_RETRY)
        self._versions: dict[str, str] = {}
        self._odd: dict[str, str] = {}  # files of which the last answer was not what was asked for, and why
        self._whole: dict[str, str] = {}  # files of which all were
        self._asking = threading.Lock()
        self._is_closed = False

    @property
    def _obstacle(self) -> str | None:
        """Why ranges cannot be read."""
        with self._asking:  # one thread asks for all; from Python 3.12 on, a cached property has no lock of its own
            obstacle, silence = self._verdict
        if silence:
            raise silence
        return obstacle

    @cached_property
    def _verdict(self) -> tuple[str | None, UnavailableError | None]:
        """Why ranges cannot be read, or that nobody answers: asked for the last byte of the store's smallest file.

        It is asked twice, since all ranges of a file must be of one version: MLflow's server under gunicorn, with files
        in a store that it signs nothing for, names each copy that it fetches differently, and so may the nodes behind a
        gateway.
        """
        smallest = min(((size, name) for name, size in self._sizes.items() if size), default=None)
        if smallest is None:
            return "the store does not report their sizes", None
        size, name = smallest
        try:
            versions = {self._tries.call(name, lambda: self._find_version(name, size)) for _ in range(2)}
        except UnavailableError as error:  # fetching whole files would end the same way, after ten minutes
            return None, error
        except FireworksError as error:  # whatever it is, fetching whole files is still to be tried
            return error.message, None
        if "" in versions:
            return "the store does not say which version of a file it sends", None
        return ("the store gives the same file another version each time" if len(versions) > 1 else None), None

    def _find_version(self, name: str, size: int) -> str:
        answer = self._open_checked(name, size, size - 1, size, None)
        answer.close()
        return name_weakly(answer.version)

    @property
    def beginnings_are_cheap(self) -> bool:
        """Whether the store gives the beginning of a file alone."""
        return self._obstacle is None

    def path(self, name: str) -> None:  # noqa: ARG002 - none of them is here
        """None: a fetched copy is lent by `staged` only."""
        return

    def version(self, name: str) -> str:
        """What the store calls the file's content, once it was read; else, or where it has no name for it, empty."""
        return self._versions.get(name, "")

    def read_beginning(self, name: str, size: int) -> bytes:
        """The first `size` bytes; where they cannot be had alone, fetches the whole file and keeps it.

        Raises:
            SourceError: The file cannot be read.
        """
        whole = self._find_size(name)
        if whole is not None:
            try:
                with self._open_stream(name, whole, 0, min(size, whole)) as stream:
                    return stream.read()
            except SourceError:
                if name not in self._odd:
                    raise
                self._whole[name] = self._odd[name]
        return self._fetched.read_beginning(name, size)

    def read(self, name: str, most: int | None = None) -> bytes:
        """The whole file; its first `most + 1` bytes where it is larger.

        Raises:
            SourceError: The file cannot be read.
        """
        whole = self._find_size(name)
        if whole is None:
            return self._fetched.read(name, most)
        return self.read_beginning(name, whole if most is None else most + 1)

    def measure(self, name: str) -> int:
        """The size of a file in bytes; fetches it when the store did not tell.

        Raises:
            SourceError: The file cannot be fetched.
        """
        size = self._sizes[name]
        return self._fetched.measure(name) if size is None else size

    def relay(self, name: str) -> Callable[[int, int], BinaryIO] | None:
        """What opens the bytes from one place up to another as a stream; None when the file must be staged."""
        size = self._find_size(name)
        return None if size is None or not self._may_relay else partial(self._open_stream, name, size)

    def why_fetched(self, name: str) -> str | None:
        """Why a file must be fetched before it is sent; None when it need not."""
        if not self._may_relay:
            return "-C relay=off"
        no_size = "the store does not report its size" if self._sizes[name] is None else None
        return self._obstacle or no_size or self._whole.get(name)

    def staged(self, name: str) -> AbstractContextManager[Path]:
        """The file, fetched.

        Raises:
            SourceError: The file cannot be fetched.
        """
        return self._fetched.staged(name)

    def expect(self, uses: Mapping[str, int]) -> None:
        """Fetch ahead what must be fetched.

        Args:
            uses: How often each file will be used, in the order in which that begins; empty to fetch nothing more.
        """
        self._fetched.expect({name: count for name, count in uses.items() if self.why_fetched(name)})

    def close(self) -> None:
        """Read nothing more, and remove everything that was fetched."""
        self._is_closed = True
        self._fetched.close()

    def _find_size(self, name: str) -> int | None:
        """The length of a file that can be read in ranges."""
        size = self._sizes[name]
        return size if size is None or not (self._obstacle or name in self._whole) else None

    def _open_stream(self, name: str, size: int, begin: int, end: int) -> RangeStream:
        return RangeStream(partial(self._ask, name, size), begin, end, partial(self._tries.call, name))

    def _ask(self, name: str, size: int, begin: int, end: int) -> Answer:
        if self._is_closed:
            raise SourceError(f"{self._origin} is closed; open the model again to read {name}")
        # Beginnings alone need not be of one version with what is fetched later.
        version = self._versions.get(name) if self._may_relay else None
        try:
            answer = self._open_checked(name, size, begin, end, version)
        except ReplacedError as error:
            raise SourceError(
                f"{name} in {self._origin} was replaced while it was being read ({error.message}), so nothing "
                "is validated; "
                "run the same command again to send it as it is now, with -C relay=off if nobody replaced it"
            ) from None
        except RangeError as error:  # of a store that sent ranges before
            self._odd[name] = error.message
            raise TransientError(f"{error.message} (-C relay=off asks for whole files)") from None
        self._odd.pop(name, None)
        self._versions.setdefault(name, answer.version)
        return answer

    def _open_checked(self, name: str, size: int, begin: int, end: int, version: str | None) -> Answer:
        answer = self._open_range(name, begin, end, version)
        try:
            check_answer(answer, begin, end, size, version)
        except BaseException:
            answer.close()
            raise
        return answer
