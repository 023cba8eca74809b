"""One file on its way: made available here, sent with as many tries and fresh URLs as it takes, and recorded."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Protocol

import httpx
from pydantic import SecretStr

from mlflow_fireworks.errors import FireworksError, TransferError
from mlflow_fireworks.file_errors import describe, lacks_descriptors, may_pass
from mlflow_fireworks.http import Retry, TransientError
from mlflow_fireworks.progress import Reporter
from mlflow_fireworks.transfer.gate import Gate
from mlflow_fireworks.transfer.journal import Journal
from mlflow_fireworks.transfer.refusals import ExpiredUrlError, SessionGoneError
from mlflow_fireworks.transfer.storage import (
    CHECKSUMS,
    Body,
    Checksums,
    CorruptError,
    StoppedError,
    ask_state,
    compare,
    put_file,
    put_rest,
    start_session,
    wants_session,
)
from mlflow_fireworks.transfer.urls import SignedUrls

_SIGNINGS_PER_FILE = 3


class Content(Protocol):
    """The bytes of one file."""

    def is_here(self) -> bool:
        """Whether they are on this machine already."""

    def staged(self) -> AbstractContextManager[Callable[[], BinaryIO]]:
        """Make the bytes available here; yields a function that opens them from the start."""


class Upload(Protocol):
    """One file to send."""

    @property
    def name(self) -> str:
        """Its name on Fireworks."""

    @property
    def size(self) -> int:
        """Its length in bytes."""

    @property
    def content(self) -> Content:
        """Its bytes."""


class _ProgressedError(Exception):
    """A try failed, but storage has more than before: the count of tries starts again."""


@dataclass(frozen=True)
class Sender:
    """What all workers share.

    Args:
        http: Made by make_storage_client.
        urls: Where the files go.
        journal: Is told what has landed, and keeps resumable sessions.
        retry: How failures that may pass are tried again.
        reporter: Is told about bytes and retries.
        gate: How many tries may run at once.
        stop: When set, everything ends at the next piece.
    """

    http: httpx.Client
    urls: SignedUrls
    journal: Journal
    retry: Retry
    reporter: Reporter
    gate: Gate
    stop: threading.Event

    def send(self, file: Upload) -> None:
        """Send one file, and record that it has landed.

        Raises:
            TransferError: It did not.
            StoppedError: `stop` was set.
            FireworksError: Fetching or signing failed.
        """
        with ExitStack() as stack:
            try:
                open_content = self.retry.call(partial(self._stage, stack, file), self._tell, self.stop)
            except TransientError as error:
                raise TransferError(f"{error}, {self.retry.attempts} times") from None
            refused: SecretStr | None = None
            reason = ""
            for _ in range(_SIGNINGS_PER_FILE):
                url = self._find_url(file.name, refused, reason)
                try:
                    self._send_to(url, file, open_content)
                except ExpiredUrlError as error:
                    refused, reason = url, str(error)
                except TransientError as error:
                    raise TransferError(f"{error}, {self.retry.attempts} times") from None
                else:
                    self.journal.record(file.name, file.size)
                    return
        raise TransferError(f"{reason}, with {_SIGNINGS_PER_FILE} fresh URLs")

    def _stage(self, stack: ExitStack, file: Upload) -> Callable[[], BinaryIO]:
        with _told(file):
            return stack.enter_context(file.content.staged())

    def _find_url(self, name: str, refused: SecretStr | None, reason: str) -> SecretStr:
        try:
            return self.urls.get(name, refused)
        except FireworksError as error:
            if refused is None:
                raise
            raise TransferError(f"{reason}, and no new URL could be signed: {error.message}") from None

    def _send_to(self, url: SecretStr, file: Upload, open_content: Callable[[], BinaryIO]) -> None:
        if not wants_session(url):
            self.retry.call(partial(self._try, self._put, url, file, open_content), self._tell, self.stop)
            return
        put = _SessionPut(self.http, self.journal)
        while True:
            try:
                self.retry.call(partial(self._try, put, url, file, open_content), self._tell, self.stop)
            except _ProgressedError:
                continue
            return

    def _try(
        self,
        put: Callable[[SecretStr, Body], None],
        url: SecretStr,
        file: Upload,
        open_content: Callable[[], BinaryIO],
    ) -> None:
        """One try: the file opened from its start, and its bytes counted back when it fails."""
        with self.gate, _told(file), open_content() as stream:
            if self.stop.is_set():
                raise StoppedError
            body = Body(
                file.name,
                file.size,
                stream,
                moved=self.reporter.bytes_moved,
                stop=self.stop,
                is_here=file.content.is_here(),
            )
            try:
                put(url, body)
            except BaseException:
                body.uncount()
                raise

    def _tell(self, text: str) -> None:
        if self.stop.is_set():  # a failure that comes of it is nobody's concern
            raise StoppedError
        self.reporter.note(text)

    def _put(self, url: SecretStr, body: Body) -> None:
        put_file(self.http, url, body)


@contextmanager
def _told(file: Upload) -> Iterator[None]:
    """An error of the operating system is one of the file: those of connections are httpx's."""
    try:
        yield
    except OSError as error:
        reason = f"cannot read {file.name}: {describe(error)}"
        if may_pass(error):
            raise TransientError(reason, is_busy=lacks_descriptors(error)) from None
        raise TransferError(reason) from None


class _SessionPut:
    """The tries of one file in resumable sessions, each going on from what storage has.

    Storage that has more than ever before in this run counts as progress; that can happen only so often.

    Args:
        http: Made by make_storage_client.
        journal: Keeps the session.
    """

    def __init__(self, http: httpx.Client, journal: Journal) -> None:
        self._http = http
        self._journal = journal
        self._reached: int | None = None
        self._checksums = Checksums(maxlen=CHECKSUMS)

    def __call__(self, url: SecretStr, body: Body) -> None:
        """One try; a session that is of no more use is dropped, so that the next one opens another."""
        body.share(self._checksums)
        try:
            self._go_on(url, body)
        except (CorruptError, SessionGoneError):
            self._journal.drop_session(body.name)
            raise

    def _go_on(self, url: SecretStr, body: Body) -> None:
        session = self._journal.session(body.name)
        if session is None:
            session = start_session(self._http, url, body.name, body.size)
            self._journal.keep_session(body.name, session)
            self._reached = self._reached or 0
            self._put_rest(session, body)
            return
        state = ask_state(self._http, session, body.name, body.size)
        body.skip_to(state.offset)
        if state.is_done:
            self._check_finished(body, state.crc32c)
            return
        reached = self._reached
        self._reached = max(state.offset, reached or 0)
        if reached is not None and state.offset > reached:
            raise _ProgressedError
        self._put_rest(session, body)

    def _put_rest(self, session: SecretStr, body: Body) -> None:
        if not put_rest(self._http, session, body):
            raise TransientError(f"{body.name}: storage accepted only part of it")

    def _check_finished(self, body: Body, crc32c: str | None) -> None:
        """A session that was finished while its last answer was lost: nothing to send, but read for the checksum."""
        for _ in body:
            pass
        compare(body, crc32c)
