"""Fetching from a store that truncates, hangs up, loses files or runs the disk full."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import stamina
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from support.misbehaving_store import MisbehavingStore, running
from support.source_world import Remembers

from mlflow_fireworks.artifacts.sources.artifact_repository import fetch_from
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.artifacts.sources.staging import FetchedStore
from mlflow_fireworks.artifacts.sources.tries import Tries
from mlflow_fireworks.errors import SourceError
from mlflow_fireworks.http import Retry

pytestmark = pytest.mark.usefixtures("_no_waiting")

FILES = {
    "MLmodel": b"flavors: {}\n",
    "config.json": b"{}",
    "model/model-00001.safetensors": bytes(range(256)) * 4096,
    "model/model-00002.safetensors": b"second" * 1000,
}
SHARD = "model/model-00001.safetensors"


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # its own retries wait for seconds
    with running(MisbehavingStore(FILES)) as served:
        yield served


@pytest.fixture
def _no_waiting():
    with stamina.set_testing(True, attempts=3):
        yield


def files_in(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file()]


def test_listing_fetches_nothing_but_the_mlmodel(source, store):
    assert source.files == {name: len(content) for name, content in FILES.items()}
    assert source.mlmodel == {"flavors": {}}
    assert source.identity == source.resolved == store.url
    assert source.store.path(SHARD) is None
    assert store.requests == ["config.json", "MLmodel"]  # the first asks for a part of it, in vain


def test_staged_file_is_fetched_and_removed(source, tmp_path):
    with source.store.staged(SHARD) as path:
        assert path.read_bytes() == FILES[SHARD]
    assert not path.exists()
    assert {file.name for file in files_in(tmp_path)} == {"MLmodel", ".in-use"}


def test_what_was_fetched_is_told_while_it_is_on_its_way(store, tmp_path):
    class Counts(Remembers):
        fetched = 0

        def bytes_fetched(self, count):
            self.fetched += count

    reporter = Counts()
    with closing(open_source(store.url, reporter=reporter, workspace=tmp_path).store) as opened, opened.staged(SHARD):
        assert reporter.fetched == len(FILES["MLmodel"]) + len(FILES[SHARD])


def test_file_fetched_for_its_head_is_kept_for_staging(source, store):
    assert source.store.read_beginning(SHARD, 4) == b"\x00\x01\x02\x03"
    with source.store.staged(SHARD) as path:
        assert path.read_bytes() == FILES[SHARD]

    assert store.requests.count(SHARD) == 1
    assert not path.exists()


def test_threads_share_one_fetch_of_a_file(source, store):
    together = threading.Barrier(8)

    def use(_):
        together.wait()
        with source.store.staged(SHARD) as path:
            together.wait()  # all have it open before the first one leaves
            return path.read_bytes()

    with ThreadPoolExecutor(8) as threads:
        contents = list(threads.map(use, range(8)))

    assert contents == [FILES[SHARD]] * 8
    assert store.requests.count(SHARD) == 1


@pytest.mark.parametrize("fault", ["truncate", "hang up", 500, 429])
def test_file_that_fails_twice_comes_the_third_time(source, store, reporter, fault):
    store.fail(SHARD, fault, fault)

    with source.store.staged(SHARD) as path:
        assert path.read_bytes() == FILES[SHARD]

    assert store.requests.count(SHARD) == 3
    assert len(reporter.warnings) == 2
    assert all(warning.startswith(f"{SHARD}: ") for warning in reporter.warnings)


def test_streams_of_a_file_that_fail_alike_are_told_once(reporter):
    tries = Tries("s3://models/chat", reporter, Retry(attempts=3))

    def fail():
        raise ConnectionError("the store is away")

    for name in ("a.safetensors", "a.safetensors", "b.safetensors"):
        with pytest.raises(SourceError):
            tries.call(name, fail)
    assert reporter.warnings == [
        f"{name}.safetensors: the store is away; retrying (attempt {number} of 3)"
        for name in ("a", "b")
        for number in (2, 3)
    ]


def test_file_that_stays_truncated_is_refused_with_both_sizes(source, store, tmp_path):
    store.fail(SHARD, *["truncate"] * 3)

    with pytest.raises(
        SourceError, match="524,288 bytes arrived, but the store lists 1,048,576; run the same"
    ) as caught:
        source.store.read_beginning(SHARD, 8)
    assert SHARD in str(caught.value)
    source.store.close()
    assert files_in(tmp_path) == []


def test_file_that_vanished_is_not_asked_for_again(source, store):
    del store.files[SHARD]

    with (
        pytest.raises(SourceError, match=f"cannot fetch {SHARD} from http://127") as caught,
        source.store.staged(SHARD),
    ):
        pass
    assert store.requests.count(SHARD) == 1
    assert "Signature" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_failure_frees_the_file_for_another_try(source, store):
    store.fail(SHARD, *["hang up"] * 3)
    with pytest.raises(SourceError):
        source.store.read(SHARD)

    assert source.store.read(SHARD) == FILES[SHARD]


def test_sizes_that_the_store_does_not_tell_are_found_out(store, reporter, tmp_path):
    store.listed["config.json"] = None

    source = open_source(store.url, reporter=reporter, workspace=tmp_path)

    assert source.files["config.json"] == 2
    assert "does not report the size of 1 file" in reporter.warnings[0]
    with source.store.staged("config.json") as path:
        assert path.read_bytes() == b"{}"
    assert store.requests.count("config.json") == 1
    source.store.close()


def test_file_larger_than_the_disk_is_refused_before_it_moves(store, tmp_path):
    store.listed[SHARD] = 2**60
    source = open_source(store.url, workspace=tmp_path)

    with (
        pytest.raises(SourceError, match=r"not enough space to fetch .*1048576\.00 TiB.* TMPDIR"),
        source.store.staged(SHARD),
    ):
        pass
    assert SHARD not in store.requests
    source.store.close()


def test_model_larger_than_the_disk_passes_through_it_file_by_file(tmp_path):
    """Four threads, eight files of 60 MiB (as the store says), room for one at a time."""
    size, room = 60 * 2**20, 66 * 2**20
    sizes = {f"shard-{number}": size for number in range(8)}
    lock, here, most = threading.Lock(), set(), []

    def fetch(name, into):
        with lock:
            here.add(name)
            most.append(len(here))
        path = into / name
        with path.open("wb") as file:
            file.truncate(size)  # sparse
        return path

    def free_bytes(_):
        return room - size * sum(name in sizes for _, _, names in os.walk(tmp_path) for name in names)

    store = FetchedStore("s3://b/m", sizes, fetch, reporter=Remembers(), workspace=tmp_path, free_bytes=free_bytes)

    def use(name):
        with store.staged(name) as path:
            assert path.stat().st_size == size
            with lock:
                here.discard(name)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(use, sizes))
    assert len(most) == 8
    assert max(most) == 1
    store.close()


def test_disk_that_fills_up_while_fetching_is_not_tried_again(tmp_path):
    tries = []

    def fetch(name, _into):
        tries.append(name)
        raise OSError(28, "No space left on device")

    store = FetchedStore("s3://b/m", {"a": 10}, fetch, reporter=Remembers(), workspace=tmp_path)
    with pytest.raises(SourceError, match="not enough space to fetch a"):
        store.read("a")
    assert tries == ["a"]
    store.close()


def test_name_from_a_store_cannot_leave_the_temporary_folder(tmp_path):
    name = "../../../escaped.txt"

    def fetch(_name, into):
        path = into / "file"
        path.write_bytes(b"x")
        return path

    store = FetchedStore("s3://b/m", {name: 1}, fetch, reporter=Remembers(), workspace=tmp_path / "")
    with store.staged(name) as path:
        assert path.is_relative_to(tmp_path)
    store.close()


def test_signature_in_a_failure_is_not_repeated(tmp_path):
    def fetch(_name, _into):
        raise ConnectionError("Max retries exceeded with url: /b/a?X-Amz-Signature=abc (https://me:pw@s3/x?sig=1)")

    reporter = Remembers()
    retry = Retry(attempts=2, wait_initial=0.01, wait_max=0.01)
    store = FetchedStore("s3://b/m", {"a": 1}, fetch, reporter=reporter, workspace=tmp_path, retry=retry)
    with pytest.raises(SourceError) as caught:
        store.read("a")

    for text in (str(caught.value), *reporter.warnings):
        assert "exceeded with url" in text
        assert not any(secret in text for secret in ("Signature", "abc", "pw", "sig="))
    assert caught.value.__cause__ is None
    store.close()


def test_closed_store_has_left_nothing_and_says_so(source, tmp_path):
    source.store.read(SHARD)
    source.store.close()
    source.store.close()

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SourceError, match="is closed"):
        source.store.read(SHARD)


@pytest.mark.slow
def test_nothing_stays_when_the_program_dies_of_an_exception(store, tmp_path):
    program = f"""
import sys
from pathlib import Path
from mlflow_fireworks.artifacts.sources.artifact_repository import fetch_from
from mlflow_fireworks.artifacts.sources.resolve import open_source
source = open_source({store.url!r}, workspace=Path({str(tmp_path)!r}))
with source.store.staged({SHARD!r}) as path:
    print(path.stat().st_size, flush=True)
    raise RuntimeError("boom")
"""
    root = Path(__file__).parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(root)},
    )

    assert ran.stdout.strip() == str(len(FILES[SHARD]))
    assert "RuntimeError: boom" in ran.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_folder_left_by_a_killed_process_is_removed_and_one_in_use_is_not(store, tmp_path):
    program = f"""
import os, signal
from pathlib import Path
from mlflow_fireworks.artifacts.sources.artifact_repository import fetch_from
from mlflow_fireworks.artifacts.sources.resolve import open_source
source = open_source({store.url!r}, workspace=Path({str(tmp_path)!r}))
source.store.read({SHARD!r})
os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60, env=environment)
    [left] = tmp_path.iterdir()
    assert any(path.stat().st_size == len(FILES[SHARD]) for path in files_in(left))
    living = open_source(store.url, workspace=tmp_path)
    assert left.exists()  # too young to be sure
    long_ago = time.time() - 3600
    for folder in tmp_path.iterdir():
        os.utime(folder / ".in-use", (long_ago, long_ago))

    another = open_source(store.url, workspace=tmp_path)

    assert not left.exists()
    assert living.store.read(SHARD) == FILES[SHARD]
    for source in (living, another):
        source.store.close()
    assert list(tmp_path.iterdir()) == []


def test_repository_that_only_wraps_another_is_asked_for_the_whole_call(tmp_path):
    """As those of Databricks' Unity Catalog, which cannot run here."""

    class Wrapping(ArtifactRepository):
        def download_artifacts(self, artifact_path, dst_path=None):
            path = Path(dst_path) / artifact_path
            path.parent.mkdir(parents=True)
            path.write_bytes(b"wrapped")
            return str(path)

    fetch = fetch_from(Wrapping("models:/chat/1"), "model")

    assert fetch("config.json", tmp_path) == tmp_path / "model" / "config.json"


def test_store_that_holds_nothing_is_refused(store, tmp_path):
    store.listed.clear()

    with pytest.raises(SourceError, match="there are no files in http://127"):
        open_source(store.url, workspace=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_damaged_mlmodel_leaves_nothing_behind(store, tmp_path):
    store.files["MLmodel"] = b"a: [" + b" " * 8

    with pytest.raises(SourceError, match="MLmodel file is not YAML"):
        open_source(store.url, workspace=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 64 MiB with room for a few files only."""
    mount = tmp_path / "small"
    mount.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=8", "none", str(mount)]
    if os.geteuid() or subprocess.run(options, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize("max_disk", [None, 2**20])
def test_small_model_passes_through_a_small_disk(small_disk, max_disk):
    """A reserve of 256 MiB would leave nothing of it."""

    def fetch(name, into):
        (into / name).write_bytes(b"x" * 35_000)
        return into / name

    store = FetchedStore(
        "s3://b/m", {"a": 35_000}, fetch, reporter=Remembers(), workspace=small_disk, max_disk=max_disk
    )
    assert len(store.read("a")) == 35_000
    store.close()
    assert list(small_disk.iterdir()) == []


def test_disk_without_inodes_is_called_that(small_disk):
    for number in range(4):
        (small_disk / str(number)).touch()

    def fetch(name, into):
        (into / name).write_bytes(b"x")
        return into / name

    store = FetchedStore("s3://b/m", {"a": 1}, fetch, reporter=Remembers(), workspace=small_disk)
    with pytest.raises(SourceError, match=r"not enough space to fetch a .*small has no inodes left; free up some"):
        store.read("a")
    store.close()


@pytest.mark.filterwarnings("ignore:flock not supported")  # newer versions of filelock fall back to another lock
def test_file_system_that_locks_nothing_will_do(tmp_path, monkeypatch):
    """As some network file systems; the folder is made, used and removed all the same."""

    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    store = FetchedStore("s3://b/m", {"a": 1}, fetch_one, reporter=Remembers(), workspace=tmp_path)
    assert store.read("a") == b"x"
    store.close()
    assert list(tmp_path.iterdir()) == []


def fetch_one(name, into):
    (into / name).write_bytes(b"x")
    return into / name


def no_temporary_folder():
    raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")


def test_what_needs_no_temporary_file_needs_no_folder_for_them(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.gettempdir", no_temporary_folder)
    (tmp_path / "config.json").write_text("{}")
    assert open_source(str(tmp_path)).files == {"config.json": 2}
    FetchedStore("s3://b/m", {"a": 1}, fetch_from, reporter=Remembers()).close()

    store = FetchedStore("s3://b/m", {"a": 1}, fetch_one, reporter=Remembers())
    with pytest.raises(SourceError, match=r"no temporary folder is usable: .*; set TMPDIR to a writable folder"):
        store.read("a")


def test_temporary_folder_that_cannot_be_written_is_named(tmp_path):
    store = FetchedStore("s3://b/m", {"a": 1}, fetch_from, reporter=Remembers(), workspace=tmp_path / "gone")
    with pytest.raises(SourceError, match=r"cannot make a temporary folder in .*/gone: No such file or directory"):
        store.read("a")
