"""The command that installs a package, in environments as venv, uv and pipx make them."""

import os
import shlex
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = "from mlflow_fireworks.installing import install; print(install('mlflow>=3', 'huey'))"


@pytest.fixture
def environment(tmp_path):
    """An environment without pip, as uv makes it; called like the application in it, as pipx and `uv tool` do."""
    folder = tmp_path / "mlflow-fireworks"
    venv.create(folder, symlinks=True)
    return folder


def add_pip(environment):
    (package,) = environment.glob("lib/python*/site-packages")
    (package / "pip").mkdir()
    (package / "pip" / "__init__.py").touch()
    (environment / "bin" / "pip").touch(mode=0o755)


def command_in(environment, *path):
    """The words of the command there; `path` is what stands first in PATH."""
    return shlex.split(
        subprocess.run(
            [environment / "bin" / "python", "-c", PROGRAM],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": os.pathsep.join([*path, os.environ["PATH"]])},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
    )


def test_uv_installs_where_there_is_no_pip(environment):
    python = str(environment / "bin" / "python")
    assert command_in(environment) == ["uv", "pip", "install", "--python", python, "mlflow>=3", "huey"]


def test_pip_of_the_active_environment_needs_no_path(environment):
    add_pip(environment)
    assert command_in(environment, str(environment / "bin")) == ["pip", "install", "mlflow>=3", "huey"]


def test_pip_of_another_environment_is_not_meant(environment):
    add_pip(environment)
    python = str(environment / "bin" / "python")
    assert command_in(environment) == [python, "-m", "pip", "install", "mlflow>=3", "huey"]


def test_pipx_injects_into_the_application(environment):
    add_pip(environment)
    (environment / "pipx_metadata.json").write_text("{}")
    expected = ["pipx", "inject", "mlflow-fireworks", "mlflow>=3", "huey"]
    assert command_in(environment, str(environment / "bin")) == expected
