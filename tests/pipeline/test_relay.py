"""From a bucket to READY without touching the disk: what is read, what is sent, and what becomes of both when it stops.

The store is a small server that sends ranges as S3 does, asked by boto3; the other end is the emulator.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.account import open_account
from support.checkpoints import make_llama
from support.creating import start_create, wait_until
from support.planning import plan
from support.ranged_server import Fault, RangedServer
from support.throttled import Link, sink

from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.errors import PreflightError, SourceError, TransferError

ROOT = Path(__file__).parents[2]
NAME = "model.safetensors"
HEADER = 64 * 1024


@pytest.fixture
def served(tmp_path, monkeypatch):
    folder = make_llama(tmp_path / "llama", hidden=512, layers=4)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with RangedServer(files).running() as served_by:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "MLFLOW_S3_ENDPOINT_URL": served_by.url,
            "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
        }.items():
            monkeypatch.setenv(name, value)
        server = served_by
        server.folder = folder
        yield server


def no_temporary_folder():
    raise FileNotFoundError(2, "No usable temporary directory found")


def asked(served, name=NAME):
    """The ranges of a file that were more than its header."""
    return [(first, last) for found, first, last in served.asked if found == name and last - first >= HEADER]


def test_large_file_goes_up_as_shards_with_no_temporary_folder_at_all(served, monkeypatch):
    with open_account() as account:
        monkeypatch.setattr("tempfile.gettempdir", no_temporary_folder)
        assert account.run(shard_size="4MB", max_disk="1KB").create("chat", "s3://models/chat").to_dict()["state"] == (
            "READY"
        )
        shards = [name for name in account.sent() if name.endswith(".safetensors")]
    ranges = asked(served)
    assert len(shards) == len(ranges) > 4
    size = len(served.files[NAME])
    assert sum(last + 1 - first for first, last in ranges) == size - min(first for first, _ in ranges)
    assert served.conditions.count(served.etag(NAME)) >= len(ranges)


def test_plan_says_which_way_files_go_and_why(served):
    source = open_source("s3://models/chat")
    assert any(
        note.startswith("streamed from the store") and f": {len(served.files)} files (" in note
        for note in plan(source).notes
    )
    source.store.close()
    source = open_source("s3://models/chat", relay=False)
    assert any("fetched as they are uploaded (-C relay=off), with at most" in note for note in plan(source).notes)
    source.store.close()


def test_relay_that_is_off_fetches_whole_files(served, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with open_account() as account:
        with pytest.raises(PreflightError, match=r"the largest file to fetch has .* and -C max_disk= allows 1000 B"):
            account.run(relay="off", max_disk="1KB").create("chat", "s3://models/chat")
        assert account.run(relay="off").create("chat", "s3://models/chat").to_dict()["state"] == "READY"


@pytest.mark.parametrize("place", ["header", "middle", "last byte"])
def test_broken_download_and_broken_upload_at_once(served, caplog, place):
    size = len(served.files[NAME])
    after = {"header": 1, "middle": size // 2, "last byte": size - 1}[place]
    served.fail(NAME, *[Fault("none")] * (place != "header"), Fault("close", after), Fault("status", status=503))
    with open_account() as account:
        account.emulator.fault("put_object", path_contains=NAME, after_bytes=after, drop="reset")
        assert account.run().create("chat", "s3://models/chat").to_dict()["state"] == "READY"
        assert account.sent().count(NAME) == 1
    begins = [first for first, _ in asked(served)]
    assert begins.count(0) == 2  # the upload that failed was read again, the download that broke was not
    assert served.sent[NAME] <= 2 * size + 2 * HEADER + 2**20
    assert not any(secret in caplog.text for secret in ("Signature=", "fw_very_secret_key"))


def test_replaced_file_ends_the_run_before_validation_and_is_sent_by_the_next(served):
    old = served.files[NAME]
    new = old[:HEADER] + bytes(len(old) - HEADER)
    served.fail(NAME, Fault("none"), Fault("replace", body=new))
    with open_account() as account:
        with pytest.raises(
            SourceError, match=f"{NAME} in s3://models/chat was replaced while it was being read .*run the sa"
        ):
            account.run().create("chat", "s3://models/chat")
        assert account.calls("validate_upload") == [0]
        assert account.run().create("chat", "s3://models/chat").to_dict()["state"] == "READY"
        assert account.sent().count(NAME) == 1


def test_what_landed_is_sent_again_where_it_was_replaced_since(served):
    options = {"max_workers": 1, "shard_size": "4MB"}
    with open_account() as account:
        account.emulator.fault("put_object", path_contains="model-00003", status=400)
        with pytest.raises(TransferError, match="storage refused model-00003"):
            account.run(**options).create("chat", "s3://models/chat")
        landed = [name for name in account.sent() if name.endswith(".safetensors")]
        assert len(landed) > 1
        served.files[NAME] = served.files[NAME][:-8] + b"replaced"
        assert account.run(**options).create("chat", "s3://models/chat").to_dict()["state"] == "READY"
        assert all(account.sent().count(name) == 2 for name in landed)
        assert account.sent().count("config.json") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_relay_leaves_no_connection_and_reads_on_later(served, number):
    served.fail(NAME, *[Fault("none")] * 4, Fault("stall", 2**20))
    with Emulator() as emulator:
        process = start_create(emulator, "s3://models/chat", "shard_size=4MB", "max_workers=1")
        wait_until(lambda: len(asked(served)) == 4)
        time.sleep(1.0)
        began = time.monotonic()
        process.send_signal(number)
        process.communicate(timeout=30)
        assert time.monotonic() - began < 3  # two seconds, and what a busy machine adds
        landed = {call.path for call in emulator.calls("put_object") if call.status == 200}
        ranges = asked(served)
        wait_until(lambda: served.open == 0)

        output, _ = start_create(emulator, "s3://models/chat", "shard_size=4MB").communicate(timeout=60)
        assert output == "READY\n"
        again = asked(served)[len(ranges) :]
        assert not set(again) & set(ranges[:-1])  # nothing that landed is read again
        calls = [call.path for call in emulator.calls("put_object") if call.status == 200]
        assert all(calls.count(path) == 1 for path in landed)


@pytest.mark.slow
def test_session_that_was_killed_reads_on_in_the_middle(served):
    some = len(served.files[NAME]) // 8  # the rest is more than sockets hold
    with Emulator() as emulator:
        emulator.fault("put_chunk", path_contains=NAME, after_bytes=some, stall_seconds=3)
        process = start_create(emulator, "s3://models/chat", "resumable=true", "max_workers=1")
        wait_until(lambda: any(NAME in call.path for call in emulator.calls("start_resumable")))
        time.sleep(1)
        process.kill()
        process.communicate(timeout=30)
        wait_until(lambda: any(NAME in call.path for call in emulator.calls("put_chunk")))

        served.asked.clear()
        output, _ = start_create(emulator, "s3://models/chat", "resumable=true").communicate(timeout=60)
        assert output == "READY\n"
        [(first, _)] = asked(served)
        assert first >= some - 2**20  # what was in the sockets has arrived as well


MEMORY = """
import re, sys, threading
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import tempfile, time
from pydantic import SecretStr
from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.manifest import ManifestFile
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.http import Retry
from mlflow_fireworks.progress import Silent
from mlflow_fireworks.transfer.engine import upload_files
from mlflow_fireworks.transfer.journal import Journal
from mlflow_fireworks.transfer.urls import SignedUrls

def memory(what):
    return int(re.search(rf"{what}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

source = open_source(sys.argv[5])
parts = [Stored(source.store, name, size) for name, size in source.files.items()]
for part in parts:
    source.store.read_beginning(part.path, 1024)  # as planning does
files = [ManifestFile(part.path, part.size, part.path, part) for part in parts]
with Journal(Path(sys.argv[4]), "api.example", "accounts/acme/models/chat") as journal:
    journal.begin("ab12", "2026-11-23T00:00:00Z")
    urls = SignedUrls(lambda: {file.name: SecretStr(f"{sys.argv[3]}/{file.name}") for file in files}, time.monotonic)
    Path("/proc/self/clear_refs").write_text("5")
    idle = memory("VmRSS")
    upload_files(files, urls, journal, workers=16, retry=Retry(), reporter=Silent())
    print(round(memory("VmHWM") - idle, 1))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize("uri", ["s3://models/chat", "wasbs://models@account.blob.core.windows.net/chat"])
def test_sixteen_streams_take_little_memory(monkeypatch, tmp_path, served, uri):
    key = f"AccountName=account;AccountKey=c2VjcmV0;BlobEndpoint={served.url}/account"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", key)
    block = os.urandom(24 * 2**20)
    served.files = {f"weights-{number:02}": block for number in range(16)}
    served.link = Link(120e6)
    with sink(Link(60e6)) as url:
        ran = subprocess.run(
            [sys.executable, "-c", MEMORY, str(ROOT), str(ROOT / "tests"), url, str(tmp_path), uri],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    assert float(ran.stdout) < 64, ran.stdout


def test_store_is_not_read_on_while_storage_takes_nothing(served):
    """What is under way is what sockets and a piece or two hold."""
    content, threads = os.urandom(48 * 2**20), threading.active_count()
    served.files = {"weights": content}
    source = open_source("s3://models/chat")
    with source.store.relay("weights")(0, len(content)) as stream:
        assert stream.read(2**18) == content[: 2**18]
        time.sleep(0.3)
        assert served.sent["weights"] < len(content) / 2
        rest = b"".join(iter(lambda: stream.read(2**20), b""))
    assert len(rest) == len(content) - 2**18
    source.store.close()
    assert threading.active_count() < threads + 8
