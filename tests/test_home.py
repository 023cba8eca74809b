"""A state folder that another user has prepared, links in it, and a umask that hides nothing."""

import os
import sqlite3
import stat
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.home import claim, make_private
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.local import local_url
from mlflow_fireworks.transfer.journal import Journal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="owners and modes are POSIX's")
SOMEBODY = 65534
MODEL = "accounts/acme/models/chat"
CREATED = "2026-11-23T01:02:03Z"
by_root = pytest.mark.skipif(sys.platform != "win32" and os.geteuid() != 0, reason="only root can give files away")


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_every_folder_that_is_made_is_for_its_owner_only_whatever_the_umask(tmp_path):
    with umask(0):
        claim(tmp_path / "state" / "mlflow-fireworks" / "uploads")
        make_private(tmp_path / "hooks" / "queue")
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) == 5
    assert {mode_of(path) for path in made} == {0o700}


def test_a_folder_of_ours_that_others_could_write_into_is_closed(tmp_path):
    tmp_path.chmod(0o777)
    claim(tmp_path)
    assert mode_of(tmp_path) == 0o700


def plant_folder(folder):
    folder.mkdir()
    os.chown(folder, SOMEBODY, SOMEBODY)


def plant_file(folder):
    folder.mkdir()
    plant_journal(folder)
    for file in folder.iterdir():
        os.chown(file, SOMEBODY, SOMEBODY)


def plant_link(folder):
    folder.mkdir()
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    plant_journal(elsewhere)
    for file in elsewhere.iterdir():
        (folder / file.name).symlink_to(file)
        os.lchown(folder / file.name, SOMEBODY, SOMEBODY)


def plant_link_to_folder(folder):
    plant_folder(folder.parent / "theirs")
    folder.symlink_to(folder.parent / "theirs")


def plant_rollback(folder):
    """What SQLite would play into the journal when it opens it the next time."""
    folder.mkdir()
    name = next(iter(name_files(folder.parent / "named")))
    (folder / f"{name}-journal").write_bytes(b"x")
    os.chown(folder / f"{name}-journal", SOMEBODY, SOMEBODY)


def plant_journal(folder):
    """A session of somebody else's storage, to which a run would send the weights."""
    with Journal(folder, "api.example", MODEL) as journal:
        journal.begin("ab12", CREATED)
        journal.keep_session("model.safetensors", SecretStr("https://evil.example/?upload_id=1"))


def name_files(folder):
    plant_journal(folder)
    return [path.name for path in folder.glob("*.sqlite")]


@by_root
@pytest.mark.parametrize("plant", [plant_folder, plant_file, plant_link, plant_link_to_folder, plant_rollback])
def test_a_journal_that_another_user_prepared_is_not_read_and_the_upload_goes_on(tmp_path, plant):
    folder, warnings = tmp_path / "uploads", []
    plant(folder)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with Journal(folder, "api.example", MODEL, warnings.append) as journal:
        journal.begin("ab12", CREATED)
        assert journal.session("model.safetensors") is None
        journal.record("config.json", 5)
        assert journal.landed() == {"config.json": 5}
    (warning,) = warnings
    assert "belongs to another user); the upload continues" in warning
    left = {path: path.read_bytes() for path in before if path.exists()}
    assert left == {path: before[path] for path in left}  # nothing was written into what stood there
    assert {path for path in before if path.parent.name == "elsewhere"} <= set(left)


@by_root
@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", ".locks"])
def test_a_queue_that_another_user_prepared_is_refused(tmp_path, suffix):
    planted = tmp_path / f"hooks.db{suffix}"
    planted.mkdir() if suffix == ".locks" else planted.touch()
    os.chown(planted, SOMEBODY, SOMEBODY)
    with pytest.raises(UnavailableError, match=r"cannot be opened: hooks\.db\S* belongs to another user; run this as"):
        open_queue(str(tmp_path / "hooks.db"))


@by_root
def test_root_may_look_after_the_queue_of_a_service(tmp_path):
    folder = tmp_path / "service"
    open_queue(str(folder / "hooks.db")).close()
    for path in (folder, *folder.iterdir()):
        os.chown(path, SOMEBODY, SOMEBODY)
    open_queue(str(folder / "hooks.db")).close()
    assert (folder / "hooks.db").stat().st_uid == SOMEBODY
    folder.chmod(0o777)
    with pytest.raises(UnavailableError, match="belongs to another user"):
        open_queue(str(folder / "hooks.db"))


def test_a_queue_is_for_its_owner_only_whatever_the_umask(tmp_path):
    with umask(0):
        queue = open_queue(str(tmp_path / "a" / "b" / "hooks.db"))
        with queue.locks.hold("reconcile"):
            made = {path: mode_of(path) for path in (tmp_path / "a").rglob("*")}
    assert {mode for path, mode in made.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in made.items() if path.is_file()} == {0o600}
    assert mode_of(tmp_path / "a") == 0o700


@by_root
def test_the_local_fireworks_keeps_nothing_in_a_folder_of_another_user(tmp_path):
    plant_folder(tmp_path / "local")
    with pytest.raises(UnavailableError, match="it belongs to another user; set MLFLOW_FIREWORKS_HOME to a folder of"):
        local_url(tmp_path / "local")


@by_root
def test_what_root_made_in_our_folder_is_taken(tmp_path):
    """After `sudo` has been at it."""
    claim(tmp_path / "uploads")
    name = Path(name_files(tmp_path / "uploads")[0]).name
    with sqlite3.connect(tmp_path / "uploads" / name) as database:
        assert database.execute("SELECT count(*) FROM session").fetchone() == (1,)
    claim(tmp_path / "uploads")
