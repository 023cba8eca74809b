"""Plain folders: listed with their sizes, read in place, links watched."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.source_world import Remembers, picture, write_files

from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.errors import InvalidConfigError, SourceError

SHA = "c379e821c9c95d613899e8c4343e4bfee2b0c600"


@pytest.fixture
def folder(tmp_path):
    write_files(tmp_path / "my model", {"config.json": b"{}", "sub/weights.bin": b"1234", ".git/HEAD": b"ref"})
    return tmp_path / "my model"


@pytest.mark.parametrize("spell", [str, lambda path: path.as_uri(), lambda path: f"{path.as_uri()}/"])
def test_folder_is_found_however_it_is_written(folder, spell):
    source = open_source(spell(folder))

    assert source.files == {".git/HEAD": 3, "config.json": 2, "sub/weights.bin": 4}
    assert source.resolved == folder.as_uri()
    assert source.identity is None
    assert source.registered is None
    assert source.mlmodel == {}
    assert source.store.beginnings_are_cheap


def test_relative_folder_is_pinned_to_where_it_is_now(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    source = open_source("my model")
    monkeypatch.chdir("/")

    assert source.store.read("sub/weights.bin") == b"1234"


def test_files_are_read_where_they_are(folder):
    store = open_source(str(folder)).store

    assert store.path("config.json") == folder / "config.json"
    assert store.read_beginning("sub/weights.bin", 2) == b"12"
    with store.staged("sub/weights.bin") as path:
        assert path == folder / "sub/weights.bin"
    store.close()
    assert path.exists()


def test_read_only_folder_is_untouched(folder):
    before = picture(folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        source = open_source(str(folder))
        for name, size in source.files.items():
            assert len(source.store.read_beginning(name, 1_000)) == size
            with source.store.staged(name):
                pass
        source.store.close()
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert {name: facts[:2] for name, facts in picture(folder).items()} == {
        name: facts[:2] for name, facts in before.items()
    }


def test_link_has_the_size_of_its_target(folder):
    (folder / "link.bin").symlink_to("sub/weights.bin")

    source = open_source(str(folder))

    assert source.files["link.bin"] == 4
    assert source.outside_links == ()


def test_link_out_of_the_folder_is_told_and_a_linked_folder_outside_is_not_entered(folder, tmp_path):
    write_files(tmp_path / "elsewhere", {"secret.txt": b"secret"})
    (folder / "file.txt").symlink_to(tmp_path / "elsewhere" / "secret.txt")
    (folder / "all").symlink_to(tmp_path / "elsewhere")
    (folder / "root").symlink_to("/")

    source = open_source(str(folder))

    assert source.outside_links == ("all", "file.txt", "root")
    assert not any(name.startswith(("all/", "root/")) for name in source.files)


def test_link_to_nothing_is_told(folder):
    (folder / "gone.bin").symlink_to("sub/missing.bin")
    (folder / "self").symlink_to("self")

    source = open_source(str(folder))

    assert source.broken_links == ("gone.bin", "self")
    assert "gone.bin" not in source.files


def test_loop_of_links_ends(folder):
    (folder / "sub" / "up").symlink_to("..")
    (folder / "here").symlink_to(".")

    assert set(open_source(str(folder)).files) == {".git/HEAD", "config.json", "sub/weights.bin"}


def test_links_of_a_hub_cache_into_its_own_blobs_are_fine(tmp_path):
    repo = tmp_path / "models--org--name"
    write_files(repo, {"blobs/abc": b"weights", "elsewhere": b"x"})
    snapshot = repo / "snapshots" / SHA
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    (snapshot / "odd").symlink_to("../../elsewhere")

    source = open_source(str(snapshot))

    assert source.files["model.safetensors"] == 7
    assert source.outside_links == ("odd",)


def test_pipe_in_the_folder_does_not_block(folder):
    os.mkfifo(folder / "pipe")

    assert "pipe" not in open_source(str(folder)).files


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "does not exist on this machine"),
        ("my model/config.json", "is a file; name its folder"),
        ("empty", "holds no files"),
    ],
)
def test_folder_that_leads_to_nothing_is_refused(folder, name, says):
    (folder.parent / "empty").mkdir()

    with pytest.raises(SourceError, match=says) as caught:
        open_source(str(folder.parent / name))
    assert "\n" not in str(caught.value)


def test_file_that_vanishes_after_listing_is_named(folder):
    store = open_source(str(folder)).store
    (folder / "config.json").unlink()

    with pytest.raises(SourceError, match=r"cannot read .*config\.json: No such file"):
        store.read_beginning("config.json", 8)
    with pytest.raises(SourceError, match=r"config\.json has disappeared"), store.staged("config.json"):
        pass


@pytest.mark.parametrize("content", ["a: [", "- a list", "\x00"])
def test_damaged_mlmodel_is_named(folder, content):
    (folder / "MLmodel").write_text(content)

    with pytest.raises(SourceError, match="its MLmodel file is not"):
        open_source(str(folder))


@pytest.mark.parametrize("uri", ["", "  ", "nonsense://bucket/x"])
def test_uri_of_no_known_kind_is_refused(uri):
    with pytest.raises(InvalidConfigError, match="models:/NAME"):
        open_source(uri)


@contextmanager
def somebody_else():
    """Another user than root, who may do anything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def volume():
    """A folder that every user may enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="volume-"))
    folder.chmod(0o755)
    write_files(folder, {"config.json": b"{}", "lost+found/x": b"1", "sub/deep/y": b"2", "sub/z": b"3"})
    yield folder
    for path in folder.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def test_subfolder_that_may_not_be_read_is_left_out_with_a_warning(volume):
    (volume / "lost+found").chmod(0)
    (volume / "sub/deep").chmod(0)
    told = Remembers()

    with somebody_else():
        source = open_source(str(volume), reporter=told)

    assert source.files == {"config.json": 2, "sub/z": 1}
    assert [warning.partition(" cannot be read")[0] for warning in told.warnings] == [
        f"{volume}/lost+found",
        f"{volume}/sub/deep",
    ]


@pytest.mark.parametrize(("closed", "asked"), [(".", "."), ("sub", "sub"), ("sub", "sub/deep")])
def test_folder_that_may_not_be_read_is_one_line(volume, closed, asked):
    (volume / closed).chmod(0)

    with (
        somebody_else(),
        pytest.raises(SourceError, match=r"cannot (read|look for) the folder .*Permission denied") as caught,
    ):
        open_source(str(volume / asked))
    (volume / closed).chmod(0o755)
    assert "\n" not in caught.value.message


def test_path_that_is_too_long_is_one_line():
    with pytest.raises(SourceError, match=r"cannot look for the folder .*File name too long; check the path"):
        open_source(f"/tmp/{'x' * 300}")
