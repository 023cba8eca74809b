"""Where the plugin keeps state on this machine."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The plugin's folder: `MLFLOW_FIREWORKS_HOME`, else below the user's state directory.

    Args:
        environ: Also read for `XDG_STATE_HOME` (XDG base directory specification) and `LOCALAPPDATA`.

    Returns:
        An absolute path; nothing is created.
    """
    if own := environ.get("MLFLOW_FIREWORKS_HOME"):
        return Path(own).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "mlflow-fireworks"
