"""Weights in a plain folder are hashed once while they do not change, and again as soon as they may have."""

import os
import stat
import time

import pytest
from support.checkpoints import make_llama
from support.planning import CountingStore, plan, source_of

from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.known_hashes import KnownHashes, look_at
from mlflow_fireworks.artifacts.manifest import build_manifest
from mlflow_fireworks.artifacts.sources.folder import FolderStore
from mlflow_fireworks.config import parse_config
from mlflow_fireworks.progress import Silent

NAME = "model.safetensors"


def later():
    """Long after what a test has just written."""
    return time.time_ns() + 60 * 10**9


class Reader:
    """Hashes one file of a folder, in as many runs as are wanted; counts how often it is read."""

    def __init__(self, folder, state):
        self.folder, self.state, self.reads = folder, state, 0
        self.path = folder / NAME

    def run(self, now_ns=later, meanwhile=lambda: None):
        hashes = KnownHashes(self.state, now_ns)
        part = Stored(FolderStore(self.folder), NAME, self.path.stat().st_size)
        return hashes.find(look_at(part)) or hashes.hash(part, lambda _: self.read(meanwhile))

    def read(self, meanwhile):
        self.reads += 1
        found = self.path.read_bytes().hex()
        meanwhile()
        return found


@pytest.fixture
def reader(tmp_path):
    (tmp_path / "folder").mkdir()
    reader = Reader(tmp_path / "folder", tmp_path / "state" / "hashes.sqlite")
    reader.path.write_bytes(b"1234")
    return reader


def set_back(path, before):
    """As a tool does that keeps the time of the last write."""
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_unchanged_file_is_read_once(reader):
    assert reader.run() == reader.run() == b"1234".hex()
    assert reader.reads == 1


def rewrite(path):
    path.write_bytes(b"1235")


def replace(path):
    other = path.with_name("other")
    other.write_bytes(b"1235")
    other.replace(path)


def lead_elsewhere(path):
    target = path.with_name("target")
    target.write_bytes(b"1235")
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("change", [rewrite, replace, lead_elsewhere])
def test_changed_file_is_read_again_though_its_length_and_time_are_the_same(reader, change):
    reader.run()
    before = reader.path.stat()
    change(reader.path)
    set_back(reader.path, before)
    assert reader.run() == b"1235".hex()


def test_file_that_has_just_been_written_is_not_known_yet(reader):
    """Another write within the same tick of the clock would not show."""
    reader.run(now_ns=time.time_ns)
    reader.run(now_ns=time.time_ns)
    assert reader.reads == 2


def test_file_that_changes_while_it_is_read_is_not_known(reader):
    reader.run(meanwhile=lambda: rewrite(reader.path))
    assert reader.run() == b"1235".hex()


def test_same_folder_elsewhere_is_another_one(reader, tmp_path):
    reader.run()
    (tmp_path / "folder").rename(tmp_path / "moved")
    reader.folder, reader.path = tmp_path / "moved", tmp_path / "moved" / NAME
    reader.run()
    assert reader.reads == 2


def test_damaged_file_of_hashes_counts_as_none_and_is_made_anew(reader):
    reader.run()
    reader.state.write_bytes(b"no database at all, " * 100)
    assert [reader.run() for _ in range(3)] == [b"1234".hex()] * 3
    assert reader.reads == 3  # twice, once to remove it and once to keep the hash


def test_folder_that_cannot_be_written_costs_reading_only(reader, tmp_path):
    reader.state = tmp_path / "folder" / NAME / "hashes.sqlite"
    assert [reader.run() for _ in range(2)] == [b"1234".hex()] * 2
    assert reader.reads == 2


def test_hashes_are_for_their_owner_only(reader):
    reader.run()
    assert stat.S_IMODE(reader.state.stat().st_mode) == 0o600


def test_weights_of_a_plain_folder_are_read_by_the_first_plan_only(tmp_path):
    folder, hashes = make_llama(tmp_path / "m", shards=2), KnownHashes(tmp_path / "hashes.sqlite", later)

    def plan_again():
        store = CountingStore(folder)
        manifest = build_manifest(source_of(folder, store), parse_config({}), Silent(), hashes=hashes)
        return manifest.fingerprint, len(store.staged_names)

    first = plan(folder).fingerprint
    assert [plan_again() for _ in range(2)] == [(first, 2), (first, 0)]
    (folder / "model-00001-of-00002.safetensors").touch()
    assert plan_again() == (first, 1)
