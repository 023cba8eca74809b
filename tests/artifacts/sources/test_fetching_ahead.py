"""Remote files that are fetched while others go up: how long it takes, and how much disk."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.checkpoints import make_llama
from support.misbehaving_store import MisbehavingStore, running
from support.planning import names, plan
from support.source_world import Remembers
from support.throttled import Link, sink

from mlflow_fireworks.artifacts.content import Made, Stored, fetched_ahead
from mlflow_fireworks.artifacts.manifest import ManifestFile
from mlflow_fireworks.artifacts.sources.disk import FILES_AHEAD, bound_disk
from mlflow_fireworks.artifacts.sources.ranges import whole_files_only
from mlflow_fireworks.artifacts.sources.relay import RelayStore
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.artifacts.sources.staging import FetchedStore
from mlflow_fireworks.errors import PreflightError, SourceError
from mlflow_fireworks.http import Retry
from mlflow_fireworks.progress import Silent
from mlflow_fireworks.transfer.engine import upload_files
from mlflow_fireworks.transfer.journal import Journal
from mlflow_fireworks.transfer.urls import SignedUrls

QUICK = Retry(attempts=3, wait_initial=0.01, wait_max=0.02)
SIZE = 256 * 1024
FILES = {f"weights-{number:02}.bin": os.urandom(SIZE) for number in range(12)}


def disk_used(folder):
    """Bytes in files below a folder; those that go meanwhile count as gone."""

    def measure(path):
        with suppress(OSError):
            return path.stat().st_size
        return 0

    return sum(measure(Path(root) / name) for root, _, files in os.walk(folder) for name in files)


@contextmanager
def sampling(folder):
    """The most disk that was used, looked at two hundred times a second."""
    most, stop = [0], threading.Event()

    def look():
        while not stop.wait(0.005):
            most[0] = max(most[0], disk_used(folder))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        stop.set()
        thread.join()


def relay(fetched, sizes):
    """As for a store of which no ranges can be had."""
    return RelayStore("s3://b/m", sizes, whole_files_only, fetched, reporter=Silent())


def parts_of(store, sizes):
    if isinstance(store, FetchedStore):
        store = relay(store, sizes)
    return [Stored(store, name, size) for name, size in sizes.items()]


def upload(parts, url, folder, workers):
    """As the pipeline does."""
    files = [ManifestFile(part.path, part.size, part.path, part) for part in parts]
    with Journal(folder, "api.example", "accounts/acme/models/chat") as journal:
        journal.begin("ab12", "2026-11-23T00:00:00Z")
        urls = SignedUrls(lambda: {file.name: SecretStr(f"{url}/{file.name}") for file in files}, time.monotonic)
        with fetched_ahead(parts):
            upload_files(files, urls, journal, workers=workers, retry=QUICK, reporter=Silent())


def test_download_and_upload_run_at_the_same_time(tmp_path):
    """Alone, each takes 3 seconds. Fetching and sending by turns took 1.8 times that, one after the other 2."""
    files = {f"weights-{number:02}.bin": bytes(SIZE) for number in range(24)}
    down, up = Link(24 * SIZE / 3), Link(24 * SIZE / 3)
    with running(MisbehavingStore(files, down)) as served, sink(up) as url:
        source = open_source(served.url, workspace=tmp_path)
        assert not source.store.beginnings_are_cheap
        served.requests.clear()
        begin = time.monotonic()
        upload(parts_of(source.store, source.files), url, tmp_path / "state", workers=8)
        seconds = time.monotonic() - begin
        source.store.close()
    assert up.carried == sum(map(len, files.values()))
    assert [served.requests.count(name) for name in files] == [1] * 24
    assert 3 * 0.95 < seconds < 3 * 1.5


@pytest.mark.parametrize("max_disk", [SIZE, 2 * SIZE + 10, 5 * SIZE, None])
@pytest.mark.parametrize("workers", [1, 8])
def test_temporary_disk_stays_within_its_bound(tmp_path, max_disk, workers):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with running(MisbehavingStore(FILES)) as served, sink(Link(30 * SIZE)) as url:
        source = open_source(served.url, workspace=scratch, max_disk=max_disk)
        with sampling(scratch) as most:
            upload(parts_of(source.store, source.files), url, tmp_path / "state", workers)
        assert disk_used(scratch) == 0
        source.store.close()
    assert SIZE <= most[0] <= bound_disk(map(len, FILES.values()), workers, max_disk)
    assert list(scratch.iterdir()) == []


def test_bound_is_what_workers_hold_and_what_lies_ready():
    sizes = [5, 1, 4, 2, 3, 9]
    assert bound_disk(sizes, 1, None) == sum(sorted(sizes)[-1 - FILES_AHEAD :])
    assert bound_disk(sizes, 64, None) == sum(sizes)
    assert bound_disk(sizes, 64, 10) == 10
    assert bound_disk([], 64, None) == 0


class Shelf:
    """A store over files in memory whose fetches can be held back."""

    def __init__(self, folder, files, **options):
        self.files = files
        self.fetched = []
        self.open = threading.Event()
        self.open.set()
        sizes = {name: len(content) for name, content in files.items()}
        self.store = FetchedStore("s3://b/m", sizes, self.fetch, reporter=Remembers(), workspace=folder, **options)

    def fetch(self, name, into):
        self.fetched.append(name)
        assert self.open.wait(10)
        path = into / "file"
        path.write_bytes(self.files[name])
        return path

    def arrived(self):
        return [name for name, copy in list(self.store._room.copies.items()) if copy.path]

    def wait_until(self, condition):
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def shelf(tmp_path):
    with ExitStack() as closing:

        def make(files=FILES, **options):
            shelf = Shelf(tmp_path, files, **options)
            closing.callback(shelf.store.close)
            return shelf

        yield make


def fetchers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fireworks-fetch")]


def test_only_so_many_files_lie_ready(shelf):
    shelf = shelf()
    with fetched_ahead(parts_of(shelf.store, dict.fromkeys(FILES, SIZE))):
        shelf.wait_until(lambda: len(shelf.fetched) == FILES_AHEAD)
        time.sleep(0.1)
        assert sorted(shelf.fetched) == sorted(FILES)[:FILES_AHEAD]
        with shelf.store.staged(min(FILES)):
            shelf.wait_until(lambda: len(shelf.fetched) == FILES_AHEAD + 1)
    shelf.wait_until(lambda: not fetchers())


def test_end_of_the_upload_ends_the_fetching_and_frees_the_disk(shelf, tmp_path):
    shelf = shelf()
    with fetched_ahead(parts_of(shelf.store, dict.fromkeys(FILES, SIZE))):
        shelf.wait_until(lambda: disk_used(tmp_path) == FILES_AHEAD * SIZE)
    # The last bytes are on the disk a moment before their thread knows, and then it is the thread that removes them.
    shelf.wait_until(lambda: not fetchers())
    assert disk_used(tmp_path) == 0
    assert len(shelf.fetched) == FILES_AHEAD


def test_file_that_arrives_after_the_end_of_the_upload_does_not_stay(shelf, tmp_path):
    shelf = shelf()
    shelf.open.clear()
    with fetched_ahead(parts_of(shelf.store, dict.fromkeys(FILES, SIZE))):
        shelf.wait_until(lambda: len(shelf.fetched) == FILES_AHEAD)
    shelf.open.set()
    shelf.wait_until(lambda: not fetchers())
    assert disk_used(tmp_path) == 0


def test_store_closed_under_a_fetch_leaves_nothing(shelf, tmp_path):
    """As after Ctrl-C, when nobody waits for the threads."""
    shelf = shelf()
    shelf.open.clear()
    shelf.store.expect(dict.fromkeys(FILES, 1))
    shelf.wait_until(lambda: len(shelf.fetched) == FILES_AHEAD)
    shelf.store.close()
    shelf.open.set()
    shelf.wait_until(lambda: not fetchers())
    assert list(tmp_path.iterdir()) == []
    assert len(shelf.fetched) == FILES_AHEAD


def test_file_that_is_asked_for_takes_the_room_of_those_fetched_ahead(shelf):
    shelf = shelf(max_disk=2 * SIZE)
    first, second, *_, last = sorted(FILES)
    with fetched_ahead(parts_of(shelf.store, dict.fromkeys(sorted(FILES), SIZE))):
        shelf.wait_until(lambda: len(shelf.arrived()) == 2)
        with shelf.store.staged(last) as path:
            assert path.read_bytes() == FILES[last]
        for name in (first, second):
            with shelf.store.staged(name) as path:
                assert path.read_bytes() == FILES[name]
    assert shelf.fetched.count(first) == 1
    assert shelf.fetched.count(second) == 2


def test_fault_of_a_fetch_costs_another_try_of_that_file_only(tmp_path):
    with running(MisbehavingStore(FILES)) as served, sink(Link(100 * SIZE)) as url:
        served.fail("weights-03.bin", "truncate")
        served.fail("weights-08.bin", "truncate", "truncate")
        reporter = Remembers()
        source = open_source(served.url, reporter=reporter, workspace=tmp_path)
        assert not source.store.beginnings_are_cheap
        served.requests.clear()
        upload(parts_of(source.store, source.files), url, tmp_path / "state", workers=3)
        source.store.close()
    tries = {name: served.requests.count(name) for name in FILES}
    assert tries == {**dict.fromkeys(FILES, 1), "weights-03.bin": 2, "weights-08.bin": 3}
    assert len(reporter.warnings) == 3


def test_file_that_cannot_be_fetched_fails_the_run_in_one_line(tmp_path):
    with running(MisbehavingStore(FILES)) as served, sink(Link(100 * SIZE)) as url:
        del served.files["weights-05.bin"]
        source = open_source(served.url, workspace=tmp_path)
        with pytest.raises(SourceError, match=r"cannot fetch weights-05\.bin from http://127"):
            upload(parts_of(source.store, source.files), url, tmp_path / "state", workers=3)
        source.store.close()


def test_threads_that_wait_for_one_fetch_share_its_failure(tmp_path):
    tries = []

    def fetch(name, _into):
        tries.append(name)
        time.sleep(0.2)
        raise SourceError("no such file")

    store = FetchedStore("s3://b/m", {"a": 1}, fetch, reporter=Remembers(), workspace=tmp_path)

    def use(_):
        with pytest.raises(SourceError, match="no such file"), store.staged("a"):
            pass

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(use, range(4)))
    assert tries == ["a"]
    store.close()


@pytest.mark.parametrize("workers", [1, 4])
def test_remote_file_is_fetched_once_for_all_its_shards_and_removed_after_the_last(tmp_path, workers):
    folder = make_llama(tmp_path / "m", layers=4)
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    weights = "model.safetensors"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with running(MisbehavingStore(content)) as served:
        source = open_source(served.url, workspace=scratch)
        manifest = plan(source, shard_size="10KB")
        shards = [file for file in manifest.files if file.name.endswith(".safetensors")]
        assert len(shards) > 3
        seen, lock = [], threading.Lock()

        def is_here():
            return any(weights in files for _, _, files in os.walk(scratch))

        def send(file):
            with file.content.staged() as open_file, open_file() as opened:
                assert len(opened.read()) == file.size
            with lock:
                seen.append(is_here())

        with fetched_ahead(file.content for file in manifest.files), ThreadPoolExecutor(workers) as threads:
            list(threads.map(send, shards))
            assert seen[:-1] == [True] * (len(shards) - 1) or workers > 1
            assert not is_here()
        assert served.requests.count(weights) == 1
        source.store.close()


def test_shards_that_are_up_already_do_not_keep_the_file(tmp_path):
    store = FetchedStore("s3://b/m", {"a": 4}, lambda _, into: write(into), reporter=Remembers(), workspace=tmp_path)
    part = Stored(relay(store, {"a": 4}), "a", 4)
    with fetched_ahead([part, part, Made(b"x", "made")]):
        for left in (1, 0):
            with part.staged():
                pass
            assert disk_used(tmp_path) == (4 if left else 0)
    store.close()


def write(into):
    path = into / "file"
    path.write_bytes(b"data")
    return path


def remote_llama(tmp_path, **options):
    folder = make_llama(tmp_path / "m", **options)
    return MisbehavingStore({path.name: path.read_bytes() for path in folder.iterdir()})


def test_plan_says_how_much_disk_is_taken(tmp_path):
    with running(remote_llama(tmp_path, shards=3)) as served:
        source = open_source(served.url, workspace=tmp_path)
        [note] = [note for note in plan(source, max_disk="30KB").notes if "max_disk" in note]
        assert note.startswith("fetched as they are uploaded (this server only sends whole files), with at most 29.3 K")
        assert f": {len(names(plan(source)))} files (" in note
        source.store.close()
    assert not any("max_disk" in note for note in plan(tmp_path / "m").notes)


def test_file_larger_than_max_disk_is_refused_in_the_plan(tmp_path):
    with running(remote_llama(tmp_path, shards=2)) as served:
        source = open_source(served.url, workspace=tmp_path, max_disk=12_000)
        with pytest.raises(
            PreflightError, match=r"the largest file to fetch has 14\.\d KiB and -C max_disk= allows 11\.7"
        ):
            plan(source, max_disk=12_000)
        assert not any(name.endswith(".safetensors") for name in served.requests)
        source.store.close()


def test_lone_file_larger_than_max_disk_is_refused_before_it_is_fetched(tmp_path):
    """Its header can be had only by fetching all of it."""
    with running(remote_llama(tmp_path)) as served:
        source = open_source(served.url, workspace=tmp_path, max_disk=12_000)
        with pytest.raises(SourceError, match=r"model\.safetensors .* -C max_disk=11\.7KiB is less than that one"):
            plan(source, max_disk=12_000)
        assert "model.safetensors" not in served.requests
        source.store.close()


def test_lone_file_that_was_fetched_for_its_header_needs_no_room_again(tmp_path):
    with running(remote_llama(tmp_path)) as served:
        source = open_source(served.url, workspace=tmp_path, max_disk=30_000)
        assert "model.safetensors" in names(plan(source, max_disk=20_000))
        source.store.close()


def test_killed_while_fetching_ahead_leaves_what_the_next_process_removes(tmp_path):
    program = f"""
import os, signal, time
from pathlib import Path
from mlflow_fireworks.artifacts.sources.ranges import whole_files_only
from mlflow_fireworks.artifacts.sources.relay import RelayStore
from mlflow_fireworks.artifacts.sources.resolve import open_source
source = open_source({{url!r}}, workspace=Path({str(tmp_path)!r}))
source.store.expect(dict.fromkeys(source.files, 1))
while sum(len(files) for _, _, files in os.walk({str(tmp_path)!r})) < 4:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with running(MisbehavingStore(FILES)) as served:
        code = program.replace("{url!r}", repr(served.url))
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        ran = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, env=environment)
        assert ran.returncode == -signal.SIGKILL
        [left] = tmp_path.iterdir()
        assert disk_used(left) > 0
        long_ago = time.time() - 3600
        os.utime(left / ".in-use", (long_ago, long_ago))
        source = open_source(served.url, workspace=tmp_path)
        assert not left.exists()
        source.store.close()
    assert list(tmp_path.iterdir()) == []
