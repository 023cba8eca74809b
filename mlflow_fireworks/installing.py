"""What installs a package in the environment that this program runs in, as a command to paste."""

import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

_OF_PIPX = "pipx_metadata.json"
_PACKAGES = {
    "azure": ("azure-storage-blob", "azure-storage-file-datalake", "azure-identity"),
    "google": ("google-cloud-storage",),
    "MySQLdb": ("mysqlclient",),
    "psycopg": ("psycopg[binary]",),
    "psycopg2": ("psycopg2-binary",),
}


def install(*packages: str) -> str:
    """The command that installs packages here.

    A bare `pip install` reaches another environment where the program came with `pipx` or `uv tool`, or where its own
    environment is not the active one; and what uv makes has no pip.

    Args:
        packages: As pip takes them: `huey`, `mlflow>=3`, `mlflow-fireworks[redis]`.
    """
    here = Path(sys.prefix)
    if (here / _OF_PIPX).is_file():
        command = ["pipx", "inject", here.name]
    elif find_spec("pip") is None:
        command = ["uv", "pip", "install", "--python", sys.executable]
    elif _is_active(here):
        command = ["pip", "install"]
    else:
        command = [sys.executable, "-m", "pip", "install"]
    return shlex.join([*command, *packages])


def name_module(error: ImportError) -> str:
    """The outermost module of what could not be imported; empty where the error names none."""
    return (error.name or "").partition(".")[0]


def install_missing(error: ImportError, unnamed: str) -> str:
    """The command that installs what could not be imported.

    Args:
        error: Names the module.
        unnamed: What to install where it names none.
    """
    module = name_module(error)
    return install(*(_PACKAGES.get(module) or (module or unnamed,)))


def _is_active(here: Path) -> bool:
    """Whether `pip` in a shell is the one of this environment."""
    found = shutil.which("pip")
    return found is not None and Path(found).parent.parent == here
