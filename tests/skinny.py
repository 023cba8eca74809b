"""mlflow-skinny is enough: run by `nox -s skinny`, where pandas, sqlalchemy and the hooks' packages are not."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.checkpoints import make_llama

BIN = Path(sys.executable).parent


def run(program, *arguments, **environ):
    return subprocess.run(
        [BIN / program, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environ},
    )


def test_this_is_skinny():
    assert not [name for name in ("pandas", "sqlalchemy", "huey") if find_spec(name)]


def test_a_folder_goes_to_ready(tmp_path):
    model = make_llama(tmp_path / "llama")
    target = ["-t", "fireworks://local"]
    made = run("mlflow", "deployments", "create", *target, "-m", str(model), "--name", "chat")
    assert made.returncode == 0, made.stderr
    assert "state: READY" in run("mlflow", "deployments", "get", *target, "--name", "chat").stdout


def test_a_registry_in_a_database_names_what_is_missing(tmp_path):
    plan = ["plan", "-t", "fireworks://local", "-m", "models:/chat/1", "--name", "chat"]
    result = run("mlflow-fireworks", *plan, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    assert result.returncode == 1
    assert re.search(r"mlflow-skinny cannot read a database: .*pip install .*mlflow\b", result.stderr)


@pytest.mark.parametrize("command", [["hooks", "jobs"], ["status", "-t", "fireworks://local"]])
def test_commands_of_the_hooks_name_what_is_missing(command):
    result = run("mlflow-fireworks", *command)
    assert result.returncode == 1
    assert re.search(r"which is not installed: .*pip install .*huey prometheus_client", result.stderr)
    assert len(result.stderr.splitlines()) == 1
