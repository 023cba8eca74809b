"""Processes of the package: no secrets in them, nobody else's imports, and no life after their starter."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mlflow_fireworks
from mlflow_fireworks.emulator import processes
from mlflow_fireworks.local import local_url

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
SECRETS = (
    *("FIREWORKS_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_SESSION_TOKEN", "AZURE_STORAGE_CONNECTION_STRING", "GOOGLE_APPLICATION_CREDENTIALS", "DATABRICKS_TOKEN"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI", "MLFLOW_FIREWORKS_QUEUE"),
    *("MLFLOW_FIREWORKS_WEBHOOK_SECRET", "MLFLOW_FIREWORKS_HUB_SECRET", "MLFLOW_FIREWORKS_HOOKS_TOKEN"),
    *("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "NPM_TOKEN", "GITHUB_TOKEN", "SSH_AUTH_SOCK", "ANYTHING_ELSE"),
)


@pytest.fixture
def strangers(tmp_path, monkeypatch):
    """A current folder and a PYTHONPATH in which modules of the standard library and of this package lie in wait."""
    folder = tmp_path / "current"
    for name in ("json.py", "httpx.py", "click.py", "sitecustomize.py", "mlflow_fireworks/__init__.py"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"open({str(tmp_path / 'MARK')!r}, 'a').write(__file__)")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PYTHONSTARTUP", str(folder / "json.py"))
    return tmp_path / "MARK"


def run(code, folder):
    """What some code prints in such a process; `timeit` is a module that runs code."""
    process = processes.start("timeit", "-n1", "-r1", code, folder=folder, stdout=subprocess.PIPE)
    try:
        return json.loads(process.stdout.readline())
    finally:  # closing its input any earlier would end it
        process.communicate(timeout=60)


def test_no_secret_is_in_its_environment_or_its_command_line(tmp_path, monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(name, "s3cr3t")
    home = tmp_path / "home"
    code = "import json, os, sys; print(json.dumps([dict(os.environ), os.getcwd(), sys.argv]))"
    environ, folder, arguments = run(code, home)
    assert "s3cr3t" not in json.dumps([environ, arguments])
    assert (folder, environ["HOME"]) == (str(home), str(home))
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_nothing_of_the_current_folder_or_of_pythonpath_is_imported(strangers, tmp_path):
    code = "import json, mlflow_fireworks, click; print(json.dumps([json.__file__, mlflow_fireworks.__file__]))"
    library, package = run(code, tmp_path / "home")
    assert library == json.__file__
    assert package == mlflow_fireworks.__file__
    assert not strangers.exists()


def test_the_local_fireworks_sees_no_key_and_imports_nothing_strange(strangers, tmp_path, monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(name, "s3cr3t")
    assert local_url(tmp_path / "state").startswith("http://127.0.0.1:")
    (child,) = [path for path in Path("/proc").glob("[0-9]*") if is_child(path, tmp_path / "state")]
    assert b"s3cr3t" not in (child / "environ").read_bytes()
    assert b"s3cr3t" not in (child / "cmdline").read_bytes()
    assert not strangers.exists()


def is_child(path, state):
    try:
        return str(state).encode() in (path / "cmdline").read_bytes()
    except OSError:
        return False


def test_it_inherits_no_open_file_and_leaves_no_core(tmp_path):
    secret = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        code = (
            "import json, os, resource; files = [f'/proc/self/fd/{n}' for n in os.listdir('/proc/self/fd')]; "
            "print(json.dumps([[os.readlink(f) for f in files if os.path.exists(f)], os.umask(0), "
            "resource.getrlimit(resource.RLIMIT_CORE)]))"
        )
        files, umask, core = run(code, tmp_path / "home")
    finally:
        os.close(secret)
    assert str(tmp_path) not in files
    assert (umask, core) == (0o077, [0, 0])


@pytest.mark.parametrize(("most", "outcome"), [(None, "taken"), (2**29, "refused")])
def test_its_memory_has_a_bound_where_one_is_set(tmp_path, most, outcome):
    code = """
try:
    said = "taken" if len(bytearray(2**30)) else ""
except MemoryError:
    said = "refused"
import json
print(json.dumps(said))
"""
    process = processes.start(
        "timeit", "-n1", "-r1", code, folder=tmp_path / "home", most_bytes=most, stdout=subprocess.PIPE
    )
    try:
        assert json.loads(process.stdout.readline()) == outcome
    finally:
        process.communicate(timeout=60)


STARTER = """
import os, sys
from pathlib import Path
from mlflow_fireworks.emulator import processes
arguments = [["timeit", "import time; time.sleep(60)"], ["mlflow_fireworks.emulator", "--quiet"]]
for number, words in enumerate(arguments):
    started = processes.start(*words, folder=Path(sys.argv[1]) / str(number), stdout=open(os.devnull, "w"))
    print(started.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_it_ends_when_its_starter_is_killed(tmp_path):
    environ = os.environ | {"PYTHONPATH": str(Path(mlflow_fireworks.__file__).parents[1])}
    starter = subprocess.run(
        [sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environ, check=False
    )
    assert starter.returncode == -9
    left = [Path("/proc") / pid for pid in starter.stdout.split()]
    assert len(left) == 2
    deadline = time.monotonic() + 10
    while any(is_alive(path) for path in left) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(is_alive(path) for path in left)


def is_alive(path):
    """A process that nobody has waited for is a zombie, in a container whose first process waits for none."""
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
