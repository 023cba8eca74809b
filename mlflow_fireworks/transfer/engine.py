"""All files of a model to their signed URLs, several at a time.

Daemon threads over one httpx client: each takes the next file, makes its bytes available (most remote files are read
while they are sent; others are fetched now, and removed when they are up), and sends it, opening it anew for every try.
The first failure that will not pass, or Ctrl-C, stops the others at their next piece; a thread that hangs in a dead
connection is waited for no longer than a second and does not keep the process alive.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from mlflow_fireworks.errors import NotWantedError, TransferError
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.progress import Reporter
from mlflow_fireworks.threads import inheriting
from mlflow_fireworks.transfer.gate import Gate
from mlflow_fireworks.transfer.journal import Journal
from mlflow_fireworks.transfer.sender import Sender, Upload
from mlflow_fireworks.transfer.storage import make_storage_client
from mlflow_fireworks.transfer.urls import SignedUrls

_LAST_WORDS_SECONDS = 1.0
_SECONDS_BETWEEN_LOOKS = 0.5


def upload_files(
    files: Sequence[Upload],
    urls: SignedUrls,
    journal: Journal,
    *,
    workers: int,
    retry: Retry,
    reporter: Reporter,
    timeouts: Timeouts | None = None,
    giver: str = "",
    is_wanted: Callable[[], bool] = lambda: True,
) -> None:
    """Send every file; returns when all are up and recorded.

    Args:
        files: In the order they should start.
        urls: Where they go.
        journal: Is told about each file that has landed.
        workers: How many at a time. Memory is about two pieces of 1 MiB for each.
        retry: How failures that may pass are tried again, for each file.
        reporter: Is told about bytes and retries.
        timeouts: How long one request may hang.
        giver: The host of the API that gives the URLs; "" for one on the internet.
        is_wanted: Whether somebody still wants the result; asked now and then, in the thread that waits.

    Raises:
        NotWantedError: Nobody wants it any more.
        TransferError: A file could not be sent; says how many are up.
        FireworksError: Fetching a file failed, or signing did.
    """
    waiting, outcomes = deque(files), SimpleQueue[BaseException | None]()
    stop = threading.Event()
    http = make_storage_client(workers, timeouts or Timeouts(), giver)
    sender = Sender(http, urls, journal, retry, reporter, Gate(workers), stop)
    work = inheriting(_work)
    crew = [
        threading.Thread(target=work, args=(sender, waiting, outcomes), name=f"fireworks-upload-{number}", daemon=True)
        for number in range(min(workers, len(files)))
    ]
    reporter.transfer_begins("uploading", sum(file.size for file in files))
    try:
        for worker in crew:
            worker.start()
        _wait_for(len(files), outcomes, is_wanted)
    finally:
        stop.set()
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        for worker in crew:
            if worker.is_alive():
                worker.join(max(0.0, deadline - time.monotonic()))
        http.close()
        reporter.transfer_ends()


def _work(sender: Sender, waiting: deque[Upload], outcomes: SimpleQueue[BaseException | None]) -> None:
    while not sender.stop.is_set():
        file = _take(waiting)
        if file is None:
            return
        outcomes.put(_send(sender, file))


def _take(waiting: deque[Upload]) -> Upload | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _send(sender: Sender, file: Upload) -> BaseException | None:
    """What went wrong, for the thread that waits to raise."""
    try:
        sender.send(file)
    except BaseException as error:  # noqa: BLE001 - all of them, or the other thread would wait for ever
        return error
    return None


def _wait_for(count: int, outcomes: SimpleQueue[BaseException | None], is_wanted: Callable[[], bool]) -> None:
    done = 0
    while done < count:
        if not is_wanted():
            raise NotWantedError(f"stopped after {done} of {count} files: this model is no longer wanted")
        try:
            error = outcomes.get(timeout=_SECONDS_BETWEEN_LOOKS)
        except Empty:
            continue
        if isinstance(error, TransferError):
            raise TransferError(
                f"{error.message} ({done} of {count} files uploaded); run the same command again to resume"
            )
        if error is not None:
            raise error
        done += 1
