"""The emulator as a process of its own: start, stop, and state that outlives it."""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from emulator.raw_client import Api, base_files

from mlflow_fireworks.emulator import Emulator, StateError


@pytest.fixture
def spawn():
    """Start emulator processes; returns (process, url)."""
    running = []

    def spawn(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow_fireworks.emulator", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process, process.stdout.readline().strip()

    yield spawn
    for process in running:
        process.kill()
        process.communicate(timeout=10)


def test_it_prints_its_url_logs_requests_and_stops_on_sigterm(spawn, tmp_path):
    process, url = spawn("--state", tmp_path)
    api = Api(url)
    api.create("chat")
    api.validate("chat")
    api.close()
    process.send_signal(signal.SIGTERM)
    _out, log = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "200 POST /v1/accounts/acme/models create_model" in log
    assert "(code 9: FAILED_PRECONDITION: no files have been uploaded)" in log
    assert "a-key" not in log


def test_keys_and_accounts_can_be_given(spawn):
    _process, url = spawn("--account", "acme", "--api-key", "good", "--quiet")
    answers = []
    for account, key in (("acme", "good"), ("acme", "bad"), ("other", "good")):
        api = Api(url, account, key)
        answers.append(api.call("GET", "/models").status_code)
        api.close()
    assert answers == [200, 401, 403]


def test_behaviours_can_be_given(spawn):
    _process, url = spawn("--behaviour", "strict", "--behaviour", "names=kept", "--quiet")
    api = Api(url)
    ways = api.http.get("/_emulator/behaviours").json()
    api.close()
    assert (ways["names"], ways["second-signing"]) == ("kept", "refused-409")


def test_it_stops_when_its_starter_goes_away(spawn):
    process, _url = spawn("--stop-with-stdin", "--quiet")
    process.stdin.close()
    process.stdin = None
    assert process.wait(timeout=10) == 0


def test_a_taken_port_is_an_error_at_once(spawn):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process, url = spawn("--port", taken.getsockname()[1])
        _out, log = process.communicate(timeout=10)
    assert url == ""
    assert process.returncode == 1
    assert "cannot start" in log


def test_state_outlives_the_process_and_kill_9(spawn, tmp_path):
    process, url = spawn("--state", tmp_path)
    api = Api(url)
    files = base_files()
    api.create("chat")
    api.upload("chat", files)
    process.kill()
    process.wait(timeout=10)
    api.close()

    _process, url = spawn("--state", tmp_path)
    again = Api(url)
    assert again.validate("chat").status_code == 200
    assert again.get("chat").json()["state"] == "READY"
    again.close()


def test_the_temporary_folder_that_a_kill_leaves_goes_with_the_next_start(spawn, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    killed, _ = spawn("--quiet")
    [orphan] = tmp_path.iterdir()
    killed.kill()
    killed.wait()
    living, url = spawn("--quiet")
    [home] = set(tmp_path.iterdir()) - {orphan}
    for folder in (orphan, home):
        os.utime(folder / ".in-use", (0, 0))  # not new any more

    spawn("--quiet")

    assert not orphan.exists()
    assert home.exists()
    api = Api(url)
    api.create("chat")
    api.close()
    living.send_signal(signal.SIGTERM)
    living.wait(timeout=10)
    assert not home.exists()


def test_kill_9_during_writes_leaves_usable_state(spawn, tmp_path):
    for _round in range(3):
        process, url = spawn("--state", tmp_path, "--quiet")
        api = Api(url)
        stop = threading.Timer(0.15, process.kill)
        stop.start()
        try:
            for number in range(10_000):
                api.create(f"model-{os.getpid()}-{number}")
                api.upload(f"model-{os.getpid()}-{number}", {"config.json": b"{}"})
        except Exception:  # noqa: BLE001  # whatever the kill makes of the call in flight
            pass
        stop.join()
        api.close()
    _process, url = spawn("--state", tmp_path)
    last = Api(url)
    assert last.call("GET", "/models").json()["totalSize"] > 0
    assert last.create("after").status_code == 200
    last.close()


def test_two_processes_share_one_state(spawn, tmp_path):
    apis = [Api(spawn("--state", tmp_path, "--quiet")[1]) for _ in range(2)]
    errors = []

    def create(api, prefix):
        for number in range(25):
            answer = api.create(f"{prefix}-{number}")
            if answer.status_code != 200:
                errors.append(answer.text)

    threads = [threading.Thread(target=create, args=(api, f"p{index}")) for index, api in enumerate(apis)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for api in apis:
        assert api.call("GET", "/models").json()["totalSize"] == 50

    # A URL signed by one process names that process's port; the file counts for both.
    files = base_files()
    apis[0].upload("p0-0", files)
    assert apis[1].validate("p0-0").status_code == 200
    for api in apis:
        api.close()


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "state.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StateError, match="delete it or name another folder"):
        Emulator(tmp_path).start()


def test_it_imports_nothing_of_the_rest():
    code = (
        "import sys, mlflow_fireworks.emulator.__main__\n"
        "ours = {m for m in sys.modules if m.startswith('mlflow') and not m.startswith('mlflow_fireworks.emulator')}\n"
        "assert ours == {'mlflow_fireworks'}, ours\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
