import os
import re
import sqlite3
import stat
import subprocess
import sys

import pytest
from pydantic import SecretStr

from mlflow_fireworks.errors import ConflictError
from mlflow_fireworks.transfer.journal import Journal

MODEL = "accounts/acme/models/chat"
CREATED = "2026-11-23T01:02:03.123456789Z"


def open_journal(folder, model=MODEL, host="api.example"):
    return Journal(folder, host, model)


def test_what_landed_is_known_to_the_next_run(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        journal.record("config.json", 5)
        journal.keep_session("model.safetensors", SecretStr("https://s.example/?upload_id=1"))
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", "2026-11-23T01:02:03.123456Z")
        assert journal.landed() == {"config.json": 5}
        assert journal.session("model.safetensors").get_secret_value() == "https://s.example/?upload_id=1"
        journal.record("model.safetensors", 7)
        assert journal.session("model.safetensors") is None


@pytest.mark.parametrize(("content", "created"), [("other", CREATED), ("ab12", "2026-11-24T00:00:00Z")])
def test_other_content_or_another_model_of_that_name_starts_empty(tmp_path, content, created):
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        journal.record("config.json", 5)
        journal.begin(content, created)
        assert journal.landed() == {}


def test_what_landed_of_a_file_that_was_replaced_meanwhile_is_forgotten(tmp_path):
    versions = {"a": "1", "b": "1", "c": ""}
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        assert journal.expect(versions) == []
        for name in versions:
            journal.record(name, 5)
        journal.keep_session("b", SecretStr("https://s.example/?upload_id=1"))
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        assert journal.expect({"a": "1", "b": "2", "c": "1"}) == ["b"]
        assert set(journal.landed()) == {"a", "c"}
        assert journal.session("b") is None
        assert journal.expect({"a": "", "b": "2", "c": "1"}) == []


def test_models_accounts_and_hosts_do_not_mix(tmp_path):
    journals = [
        open_journal(tmp_path),
        open_journal(tmp_path, "accounts/acme/models/chat-2"),
        open_journal(tmp_path, host="other.example"),
    ]
    for journal in journals:
        with journal:
            journal.begin("ab12", CREATED)
            assert journal.landed() == {}
            journal.record("config.json", 5)


def test_a_second_run_is_refused_while_the_first_one_works(tmp_path):
    with open_journal(tmp_path), pytest.raises(ConflictError, match="another run on this machine is uploading"):
        open_journal(tmp_path).__enter__()
    with open_journal(tmp_path):
        pass


def test_only_the_owner_can_read_it(tmp_path):
    old = os.umask(0)
    try:
        with open_journal(tmp_path / "uploads") as journal:
            journal.begin("ab12", CREATED)
            journal.keep_session("a", SecretStr("https://s.example/?upload_id=1"))
            for file in (tmp_path / "uploads").glob("*.sqlite*"):
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert stat.S_IMODE((tmp_path / "uploads").stat().st_mode) == 0o700
    finally:
        os.umask(old)


@pytest.mark.parametrize("damage", [b"", b"garbage" * 1000, None], ids=["empty", "garbage", "torn"])
def test_a_damaged_journal_counts_as_none(tmp_path, damage):
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        for number in range(500):
            journal.record(f"file-{number}", number)
    (path,) = tmp_path.glob("*.sqlite")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage is None else damage)
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        assert journal.landed() == {}
        journal.record("file", 1)
        assert journal.landed() == {"file": 1}


def test_another_version_counts_as_none(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        journal.record("config.json", 5)
    (path,) = tmp_path.glob("*.sqlite")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE upload SET version = 99")
    database.close()
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        assert journal.landed() == {}


@pytest.mark.slow
def test_a_killed_process_leaves_its_records_and_no_lock(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from mlflow_fireworks.transfer.journal import Journal\n"
        f"journal = Journal(Path(sys.argv[1]), 'api.example', '{MODEL}').__enter__()\n"
        f"journal.begin('ab12', '{CREATED}')\n"
        "for number in range(50): journal.record(f'file-{number}', number)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60, check=False).returncode == -9
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        assert len(journal.landed()) == 50


def test_a_folder_that_cannot_be_made_is_told_and_done_without(tmp_path):
    (tmp_path / "state").write_text("a file in the way")
    warnings = []
    with Journal(tmp_path / "state" / "uploads", "api.example", MODEL, warnings.append) as journal:
        journal.begin("ab12", CREATED)
        journal.record("config.json", 5)
        journal.keep_session("model.safetensors", SecretStr("https://s.example/?upload_id=1"))
        assert journal.landed() == {"config.json": 5}
        assert journal.session("model.safetensors").get_secret_value() == "https://s.example/?upload_id=1"
    (warning,) = warnings
    assert re.search(r"no journal can be kept in .*uploads \(.*\); the upload cont.*MLFLOW_FIREWORKS_HOME", warning)


FULL_DISK = f"""
import resource, sys
from pathlib import Path
from mlflow_fireworks.transfer.journal import Journal
with Journal(Path(sys.argv[1]), 'api.example', {MODEL!r}, print) as journal:
    journal.begin('ab12', {CREATED!r})
    journal.record('before', 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    journal.record('after', 1)
    journal.record('later', 1)
    print(*sorted(journal.landed()))
    if sys.argv[2] == 'forget':
        journal.forget()
"""


def run_on_full_disk(folder, end):
    # Without coverage of the program, which would be told to be written to the full disk.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", FULL_DISK, str(folder), end]
    result = subprocess.run(command, timeout=60, check=True, capture_output=True, text=True, env=environ)
    assert result.stderr == ""
    return result.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are for POSIX")
def test_a_disk_that_becomes_full_costs_a_warning_and_what_is_not_yet_recorded(tmp_path):
    warning, landed = run_on_full_disk(tmp_path, "keep")
    assert warning.startswith(f"no journal can be kept in {tmp_path} (")
    assert landed == "after before later"
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        assert journal.landed() == {"before": 1}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are for POSIX")
def test_forgetting_works_on_a_full_disk_too(tmp_path):
    run_on_full_disk(tmp_path, "forget")
    assert not list(tmp_path.glob("*.sqlite*"))


def test_a_journal_that_can_only_be_read_is_read(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        journal.record("config.json", 5)
    (path,) = tmp_path.glob("*.sqlite")
    path.with_name(f"{path.name}-wal").mkdir()  # where SQLite would write
    warnings = []
    with Journal(tmp_path, "api.example", MODEL, warnings.append) as journal:
        journal.begin("ab12", CREATED)
        assert journal.landed() == {"config.json": 5}
    assert len(warnings) == 1


def test_forgetting_leaves_nothing(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.begin("ab12", CREATED)
        journal.record("config.json", 5)
        journal.forget()
        journal.begin("ab12", CREATED)
        assert journal.landed() == {}
