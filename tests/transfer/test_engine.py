import errno
import io
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.storage_server import CHUNK, EXPIRED, OK, Answer, StorageServer

from mlflow_fireworks.errors import FireworksError, TransferError
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.progress import Silent
from mlflow_fireworks.transfer.engine import upload_files
from mlflow_fireworks.transfer.journal import Journal
from mlflow_fireworks.transfer.urls import SignedUrls

QUICK = Retry(attempts=4, wait_initial=0.01, wait_max=0.02)
BUSY = Answer("503 Service Unavailable")


class Recorder(Silent):
    def __init__(self):
        self.lock = threading.Lock()
        self.moved = 0
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def bytes_moved(self, count):
        with self.lock:
            self.moved += count


@dataclass
class File:
    """A file in memory that counts how often it is opened, and knows whether it was let go."""

    name: str
    data: bytes
    size: int = -1
    opened: int = 0
    released: bool = False

    def __post_init__(self):
        if self.size < 0:
            self.size = len(self.data)

    @property
    def content(self):
        return self

    @contextmanager
    def staged(self):
        try:
            yield self.open
        finally:
            self.released = True

    def is_here(self):
        return True

    def open(self):
        self.opened += 1
        return io.BytesIO(self.data)


@dataclass
class RemoteFile(File):
    """A file of a store that is read while it is sent, which counts what is read."""

    def __post_init__(self):
        super().__post_init__()
        self.read, self.begins = 0, []

    def is_here(self):
        return False

    def open(self):
        file = self

        class Counting(io.BytesIO):
            def seek(self, place, whence=io.SEEK_SET):
                file.begins.append(place)
                return super().seek(place, whence)

            def read(self, size=-1):
                data = super().read(size)
                file.read += len(data)
                return data

        return Counting(self.data)


@pytest.fixture
def storage():
    with StorageServer() as server:
        yield server


class Signer:
    def __init__(self, server, files, resumable):
        self.server, self.files, self.times = server, files, 0
        self.query = "X-Goog-SignedHeaders=host%3Bx-goog-resumable&" if resumable else ""

    def __call__(self):
        self.times += 1
        query = f"{self.query}X-Goog-Signature=s3cret{self.times}"
        return {file.name: SecretStr(f"{self.server.url}/{file.name}?{query}") for file in self.files}


@pytest.fixture
def send(tmp_path):
    def send(server, files, *, workers=4, clock=time.monotonic, resumable=False, timeouts=None, recorder=None):
        recorder, signer = recorder or Recorder(), Signer(server, files, resumable)
        with Journal(tmp_path, "api.example", "accounts/acme/models/chat") as journal:
            journal.begin("ab12", "2026-11-23T00:00:00Z")
            urls = SignedUrls(signer, clock)
            upload_files(files, urls, journal, workers=workers, retry=QUICK, reporter=recorder, timeouts=timeouts)
            recorder.landed = journal.landed()
        recorder.signings = signer.times
        return recorder

    return send


def test_all_files_arrive_with_the_signed_headers_and_no_credentials(storage, send):
    files = [File(f"dir/file-{number}", os.urandom(3_000_000)) for number in range(6)]
    recorder = send(storage, files)
    assert storage.stored == {f"/{file.name}": file.data for file in files}
    for put in storage.puts:
        size = put.headers["content-length"]
        assert put.headers["content-type"] == "application/octet-stream"
        assert put.headers["x-goog-content-length-range"] == f"{size},{size}"
        assert "transfer-encoding" not in put.headers
        assert "authorization" not in put.headers
    assert recorder.moved == 18_000_000
    assert recorder.signings == 1
    assert recorder.landed == {file.name: file.size for file in files}
    assert 1 < storage.most_at_once <= 4


def test_an_empty_file_is_sent_too(storage, send):
    send(storage, [File("empty", b"")])
    assert storage.stored == {"/empty": b""}


@pytest.mark.parametrize(
    "trouble",
    [
        BUSY,
        Answer("429 Too Many Requests", headers=("Retry-After: 0",)),
        Answer("500 Internal Server Error"),
        Answer(reset_after=1),
        Answer(reset_after=1_500_000),
        Answer(crc32c="AAAAAA=="),
    ],
    ids=["503", "429", "500", "reset-at-start", "reset-in-the-middle", "other-bytes-arrived"],
)
def test_trouble_that_passes_costs_another_try_of_that_file_only(storage, send, trouble):
    files = [File("a", os.urandom(3_000_000)), File("b", b"b" * 10)]
    storage.script["/a"] = [trouble, trouble]
    recorder = send(storage, files)
    assert storage.stored == {"/a": files[0].data, "/b": files[1].data}
    assert files[0].opened == 3
    assert files[1].opened == 1
    assert recorder.moved == 3_000_010
    assert len(recorder.notes) == 2


def test_trouble_that_stays_ends_in_one_line_without_the_url(storage, send):
    storage.script["/a"] = [BUSY] * 99
    with pytest.raises(TransferError) as caught:
        send(storage, [File("a", b"x")])
    text = str(caught.value)
    assert text == (
        "a: storage answered 503 Service Unavailable, 4 times (0 of 1 files uploaded); run the same command "
        "again to resume"
    )
    assert len(storage.puts) == 4


def test_a_refusal_is_final_and_quoted_without_the_signature(storage, send):
    refusal = (
        b"<?xml version='1.0'?><Error><Code>EntityTooLarge</Code><Message>Your proposed upload is too large.</Message>"
        b"<StringToSign>GOOG4 s3cret</StringToSign></Error>"
    )
    storage.script["/a"] = [Answer("400 Bad Request", body=refusal)]
    with pytest.raises(TransferError, match="EntityTooLarge Your proposed upload is too large") as caught:
        send(storage, [File("a", b"x")])
    assert "s3cret" not in str(caught.value)
    assert len(storage.puts) == 1


def test_an_expired_url_is_signed_again_as_a_complete_set(storage, send):
    storage.script["/a"] = [EXPIRED]
    recorder = send(storage, [File("a", b"x"), File("b", b"y")], workers=1)
    assert recorder.signings == 2
    assert storage.stored == {"/a": b"x", "/b": b"y"}


def test_urls_that_are_never_taken_end_in_an_error(storage, send):
    storage.script["/a"] = [Answer("403 Forbidden", body=b"<Code>SignatureDoesNotMatch</Code>")] * 9
    with pytest.raises(TransferError, match=r"SignatureDoesNotMatch.*with 3 fresh URLs"):
        send(storage, [File("a", b"x")])


def test_old_urls_are_replaced_before_storage_refuses_them(storage, send):
    now = iter(range(0, 1_000_000, 2000))
    recorder = send(storage, [File(name, b"x") for name in "abcd"], workers=1, clock=lambda: next(now))
    assert recorder.signings > 1


@pytest.mark.parametrize(
    "status",
    ["302 Found", "307 Temporary Redirect", "407 Proxy Authentication Required", "511 Network Authentication Required"],
)
def test_a_redirect_is_not_followed(storage, send, status):
    storage.script["/a"] = [Answer(status, headers=("Location: http://127.0.0.1:1/steal",))]
    with pytest.raises(TransferError, match=rf"HTTP {status[:3]}\): something in between answered"):
        send(storage, [File("a", b"x")])


@pytest.mark.parametrize("said", [9, 11], ids=["grew", "shrank"])
def test_a_file_that_changes_while_it_is_sent_is_noticed(storage, send, said):
    with pytest.raises(TransferError, match="changed while it was being uploaded"):
        send(storage, [File("a", b"0123456789", size=said)])
    assert "/a" not in storage.stored


def test_the_first_failure_stops_the_others_and_lets_everything_go(storage, send):
    storage.script["/a"] = [Answer("400 Bad Request")]
    files = [File("a", b"x"), *(File(f"big-{number}", bytes(40_000_000)) for number in range(20))]
    with pytest.raises(TransferError, match="storage refused a"):
        send(storage, files, workers=2)
    assert len(storage.stored) < 10
    assert all(file.released for file in files if file.opened)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fireworks-upload")]


def test_a_file_that_hangs_while_all_is_over_tells_nothing_any_more(storage, send):
    storage.script["/hangs"] = [Answer("503 Service Unavailable", delay=1.2)]
    storage.script["/refused"] = [Answer("400 Bad Request", delay=0.3)]
    recorder = Recorder()
    with pytest.raises(TransferError, match="refused"):
        send(storage, [File("hangs", os.urandom(100_000)), File("refused", b"x")], recorder=recorder)
    told = (recorder.moved, list(recorder.notes))
    time.sleep(1.2)
    assert (recorder.moved, recorder.notes) == told


def test_nobody_listening_is_an_error_not_a_hang(send):
    with StorageServer() as server:
        pass
    with pytest.raises(FireworksError, match=r"refused.*4 times"):
        send(server, [File("a", b"x")])


def test_ok_is_really_ok(storage, send):
    storage.script["/a"] = [OK]
    send(storage, [File("a", b"x")])
    assert len(storage.puts) == 1


def count(storage, what):
    return len([put for put in storage.puts if put.what == what])


def test_urls_that_expire_under_all_workers_are_signed_again_once(storage, send):
    files = [File(f"file-{number}", b"x") for number in range(8)]
    for file in files:
        storage.script[f"/{file.name}"] = [replace(EXPIRED, delay=0.2)]
    recorder = send(storage, files, workers=8)
    assert recorder.signings == 2
    assert len(storage.stored) == 8


def test_a_failure_does_not_wait_for_another_file_that_waits_to_be_tried_again(storage, send):
    storage.script["/a"] = [Answer("503 Service Unavailable", headers=("Retry-After: 60",))]
    storage.script["/b"] = [Answer("400 Bad Request", delay=0.3)]
    began = time.monotonic()
    with pytest.raises(TransferError, match="storage refused b"):
        send(storage, [File("a", b"x"), File("b", b"x")])
    assert time.monotonic() - began < 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fireworks-upload")]


def test_a_session_goes_on_from_the_last_byte_that_storage_has(storage, send):
    data = os.urandom(3_000_000)
    storage.script["chunk /a"] = [Answer(reset_after=1_000_000), Answer(reset_after=1_000_000)]
    recorder = send(storage, [File("a", data)], resumable=True)
    assert storage.stored == {"/a": data}
    assert sum(put.received for put in storage.puts) - len(data) == 2 * (1_000_000 % CHUNK)
    assert recorder.moved == len(data)


def test_a_session_that_breaks_again_and_again_is_finished_as_long_as_it_moves(storage, send):
    data = os.urandom(4_000_000)
    storage.script["chunk /a"] = [Answer(reset_after=CHUNK)] * 15
    send(storage, [File("a", data)], resumable=True)
    assert storage.stored == {"/a": data}
    assert sum(put.received for put in storage.puts) == len(data)


def test_sessions_that_are_gone_are_opened_again_without_signing(storage, send):
    files = [File(f"file-{number}", os.urandom(600_000)) for number in range(4)]
    for file in files:
        storage.script[f"chunk /{file.name}"] = [Answer(reset_after=300_000)]
        storage.script[f"probe /{file.name}"] = [Answer("404 Not Found")]
    recorder = send(storage, files, resumable=True)
    assert recorder.signings == 1
    assert count(storage, "start") == 8
    assert storage.stored == {f"/{file.name}": file.data for file in files}


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone", "403 Forbidden"])
def test_a_session_that_is_gone_for_ever_ends(storage, send, status):
    storage.script["chunk /a"] = [Answer(status)] * 99
    with pytest.raises(TransferError, match=rf"its resumable session has expired: \(HTTP {status[:3]}\), 4 times"):
        send(storage, [File("a", b"x")], resumable=True)
    assert count(storage, "start") == count(storage, "chunk") == 4


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("", "storage accepted only part of it"),
        ("Range: bytes=0-9", "storage has all of it but does not complete the upload"),
        ("Range: bytes=0-10", "its resumable session has 11 bytes of 10"),
        ("Range: bytes=5-7", "storage accepted only part of it"),
        ("Range: nonsense", "storage accepted only part of it"),
    ],
    ids=["nothing", "all", "more", "a hole", "nonsense"],
)
def test_storage_that_never_finishes_a_session_ends(storage, send, said, text):
    incomplete = Answer("308 Resume Incomplete", (said,) if said else ())
    storage.script["chunk /a"] = [incomplete] * 99
    storage.script["probe /a"] = [incomplete] * 99
    with pytest.raises(TransferError, match=f"{text}, 4 times"):
        send(storage, [File("a", b"0123456789")], resumable=True)
    assert len(storage.puts) < 12


def test_storage_that_has_now_more_and_now_less_ends(storage, send):
    steps = [Answer("308 Resume Incomplete", (f"Range: bytes=0-{number}",)) for number in (5, 5, 2, 5, 2)]
    storage.script["chunk /a"] = [Answer("308 Resume Incomplete")] * 99
    storage.script["probe /a"] = steps * 20
    with pytest.raises(TransferError, match="storage accepted only part of it, 4 times"):
        send(storage, [File("a", b"0123456789")], resumable=True)
    assert count(storage, "probe") < 10


def test_a_session_whose_last_answer_was_lost_is_checked_and_not_sent_again(storage, send):
    data = os.urandom(600_000)
    storage.script["chunk /a"] = [Answer(reset_after=600_000)]
    recorder = send(storage, [File("a", data)], resumable=True)
    assert count(storage, "chunk") == count(storage, "probe") == 1
    assert recorder.landed == {"a": 600_000}
    assert recorder.moved == 600_000


def test_a_session_of_a_remote_file_reads_on_where_storage_stopped_and_compares_all_the_same(storage, send):
    data = os.urandom(8_000_000)
    file = RemoteFile("a", data)
    storage.script["chunk /a"] = [Answer(reset_after=3_000_000), Answer(reset_after=2_000_000)]
    recorder = send(storage, [file], resumable=True)
    assert storage.stored == {"/a": data}
    assert recorder.moved == len(data)
    kept = [3_000_000 // CHUNK * CHUNK, 3_000_000 // CHUNK * CHUNK + 2_000_000 // CHUNK * CHUNK]
    assert all(0 <= place - begin < 2**20 for place, begin in zip(kept, file.begins[-2:], strict=True))
    storage.script["chunk /a"] = [Answer(reset_after=3_000_000), Answer(crc32c="AAAAAA==")]
    recorder = send(storage, [file], resumable=True)
    assert "crc32c differs" in recorder.notes[-1]


def test_a_session_of_a_remote_file_that_an_earlier_run_began_reads_the_rest_only(storage, send, tmp_path):
    data = os.urandom(3_000_000)
    storage.script["chunk /a"] = [Answer(reset_after=2_000_000), *[Answer(reset_after=0)] * 4]
    with pytest.raises(TransferError):
        send(storage, [RemoteFile("a", data)], resumable=True)
    file = RemoteFile("a", data)
    send(storage, [file], resumable=True)
    assert storage.stored == {"/a": data}
    assert file.read == len(data) - 2_000_000 // CHUNK * CHUNK


def test_a_remote_file_whose_last_answer_was_lost_is_checked_without_reading_it(storage, send):
    file = RemoteFile("a", os.urandom(600_000))
    storage.script["chunk /a"] = [Answer(reset_after=600_000)]
    send(storage, [file], resumable=True)
    assert file.read == 600_000


@pytest.mark.parametrize("what", ["chunk", "probe"])
def test_other_bytes_in_a_session_are_sent_again_in_another_one(storage, send, what):
    if what == "probe":
        storage.script["chunk /a"] = [Answer(reset_after=10)]
    storage.script[f"{what} /a"] = [Answer(crc32c="AAAAAA==")]
    recorder = send(storage, [File("a", b"0123456789")], resumable=True)
    assert count(storage, "start") == 2
    assert storage.stored == {"/a": b"0123456789"}
    assert "crc32c differs" in recorder.notes[-1]


@pytest.mark.parametrize("resumable", [False, True], ids=["plain", "resumable"])
def test_other_bytes_for_ever_end_loudly(storage, send, resumable):
    storage.script["chunk /a" if resumable else "/a"] = [Answer(crc32c="AAAAAA==")] * 99
    with pytest.raises(
        TransferError, match=r"received different bytes from those that were sent \(crc32c differs\), 4 times"
    ):
        send(storage, [File("a", b"x")], resumable=resumable)


@pytest.mark.parametrize(
    "location", ["", "Location: http://192.0.2.1/?upload_id=1", "Location: http://[", "Location: x"]
)
def test_a_session_that_is_nowhere_safe_is_not_used(storage, send, location):
    storage.script["start /a"] = [Answer("201 Created", (location,) if location else ())]
    with pytest.raises(
        TransferError, match="no usable session for a; upload it in a single request with -C resumable=false"
    ):
        send(storage, [File("a", b"x")], resumable=True)


def test_no_proxy_stands_before_storage_on_this_machine(storage, send, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    send(storage, [File("a", b"x")])
    assert storage.stored == {"/a": b"x"}


def test_an_answer_that_cannot_be_decoded_is_another_try(storage, send):
    storage.script["/a"] = [Answer("500 Error", ("Content-Encoding: gzip",), b"not gzip")]
    send(storage, [File("a", b"x")])
    assert len(storage.puts) == 2


def test_a_connection_that_takes_no_more_bytes_is_given_up(storage, send):
    storage.script["/a"] = [Answer(stall_after=1_000_000)]
    recorder = send(storage, [File("a", bytes(30_000_000))], timeouts=Timeouts(quiet=0.5, answer=0.5))
    assert recorder.notes == ["a: the connection stopped accepting data; retrying (attempt 2 of 4)"]


class Unreadable(File):
    """A file whose bytes cannot be had at some tries."""

    def __init__(self, name, data, *failures):
        super().__init__(name, data)
        self.failures = list(failures)

    def open(self):
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, int):
            raise OSError(failure, os.strerror(failure), f"/models/{self.name}")
        return failure or super().open()


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT])
def test_a_file_that_cannot_be_opened_for_a_moment_is_opened_again(storage, send, number):
    files = [Unreadable("model.safetensors", b"w" * 1000, number, number), File("config.json", b"{}")]

    send(storage, files)

    assert storage.stored == {f"/{file.name}": file.data for file in files}


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (
            errno.EMFILE,
            r"Too many open files \(raise the limit with ulimit -n, .* -C max_workers=\), 4 times",
        ),
        (errno.ESTALE, r"Stale file handle \(the network file system .*\), 4 times"),
        (errno.EACCES, r"Permission denied \(check its permissions and those of the folders above it\)"),
        (errno.ENAMETOOLONG, r"File name too long \(use a shorter path\)"),
        (errno.ENOENT, r"No such file or directory \(it existed when the model was listed\)"),
    ],
)
def test_a_file_that_stays_unreadable_ends_in_one_line_with_the_count(storage, send, number, says):
    files = [File("config.json", b"{}"), Unreadable("model.safetensors", b"w" * 1000, *[number] * 9)]

    with pytest.raises(TransferError, match=rf"^cannot read model\.safetensors: {says} \(1 of 2 files uploaded\); run"):
        send(storage, files, workers=1)


def test_bytes_that_the_disk_does_not_give_are_one_line(storage, send):
    """Reading the first page of a process's memory is EIO, as of a disk that fails."""
    file = Unreadable("model.safetensors", b"w" * 1000)
    file.open = partial(Path("/proc/self/mem").open, "rb", buffering=0)

    with pytest.raises(TransferError, match=r"Input/output error .the disk, .* cannot read it.*, 4 times \(0 of 1"):
        send(storage, [file])


class Vanishing(File):
    """A file on disk that somebody removes while its first try is under way."""

    def open(self):
        opened = self.path.open("rb")
        self.path.unlink()
        return opened


def test_a_file_that_vanishes_between_two_tries_is_one_line(storage, send, tmp_path):
    file = Vanishing("model.safetensors", b"w" * 1000)
    file.path = tmp_path / file.name
    file.path.write_bytes(file.data)
    storage.script["/model.safetensors"] = [BUSY]

    with pytest.raises(
        TransferError, match=r"^cannot read model\.safetensors: No such file .* \(0 of 1 files uploaded\)"
    ):
        send(storage, [file])


def test_too_many_open_files_mean_fewer_at_a_time(storage, send):
    files = [Unreadable(f"{number}.json", b"{}" * 1000, *[errno.EMFILE] * 2) for number in range(16)]

    send(storage, files, workers=16)

    assert len(storage.stored) == 16
    assert storage.most_at_once < 16


LOGIN = b"<!DOCTYPE html><html><head><title>\n Sign in to\n ACME Wi-Fi</title></head><body>token=s3cret</body></html>"
HTML = "Content-Type: text/html; charset=UTF-8"


@pytest.mark.parametrize("resumable", [False, True], ids=["put", "session"])
@pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "511 Network Authentication Required"])
def test_a_page_in_place_of_storage_is_named_at_once(storage, send, status, resumable):
    where = "start /model.safetensors" if resumable else "/model.safetensors"
    storage.script[where] = [Answer(status, headers=(HTML,), body=LOGIN, plain=True)]

    with pytest.raises(TransferError) as caught:
        send(storage, [File("model.safetensors", b"w" * 1000)], resumable=resumable)

    says = f"“Sign in to ACME Wi-Fi” (HTTP {status[:3]}), so something in between answered: a proxy, a gateway"
    assert says in caught.value.message
    assert "s3cret" not in caught.value.message
    assert len(storage.puts) == 1


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ((HTML,), b""),  # Google's own
        ((HTML, 'ETag: "ab12"'), b"<html>stored</html>"),
        ((HTML, "x-amz-request-id: 1"), b"<html>stored</html>"),
        ((HTML, "x-goog-generation: 1"), b"<html>stored</html>"),
        (("Content-Type: application/json",), b"{}"),
        ((), b""),
        ((), b"thanks"),
    ],
)
def test_whatever_a_store_answers_a_good_put_with_is_fine(storage, send, headers, body):
    storage.script["/model.safetensors"] = [Answer(headers=headers, body=body, plain=True)]

    send(storage, [File("model.safetensors", b"w" * 1000)])


NGINX = b"<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body><hr>nginx/1.27</body></html>"


@pytest.mark.parametrize(
    ("name", "size", "advice"),
    [
        (
            "model-00001-of-00002.safetensors",
            12 * 10**6,
            "send the weights in smaller files, -C shard_size=5MB for example",
        ),
        ("adapter_model.safetensors", 12 * 10**6, r"raise its limit, or bypass it .*\(NO_PROXY\)"),
        ("tokenizer.json", 12 * 10**6, "raise its limit"),
        ("model.safetensors", 1000, "raise its limit"),
    ],
)
def test_a_limit_of_size_on_the_way_is_final_and_says_what_helps(storage, send, name, size, advice):
    storage.script[f"/{name}"] = [Answer("413 Payload Too Large", headers=(HTML,), body=NGINX)]

    says = r"“?413 Request Entity Too Large”? \(HTTP 413\); a proxy or gateway in between limits .* and this one has .*"
    with pytest.raises(TransferError, match=rf"^storage refused {name}: {says}{advice}"):
        send(storage, [File(name, b"w" * size)])
    assert len(storage.puts) == 1
