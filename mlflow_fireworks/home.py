"""Where the plugin keeps state on this machine."""

import errno
import os
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

_OF_OTHERS = 0o022


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


def make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user only, whatever the umask.

    `Path.mkdir(parents=True)` makes those above with the umask alone: with 000 anybody could put another folder there.

    Raises:
        OSError: It cannot be made.
    """
    for place in (*reversed(folder.parents), folder):
        if not place.exists():
            place.mkdir(mode=0o700, exist_ok=True)


def claim(folder: Path) -> None:
    """Make a folder that is ours alone, or take one that always was.

    What stands in it says where files are sent to and what is run, so nobody else may have put anything there.

    Raises:
        PermissionError: It is another user's, or holds something of another user.
        OSError: It cannot be made or used.
    """
    make_private(folder)
    if sys.platform == "win32":
        return
    me = _find_me(folder)
    if folder.stat().st_uid != me:
        raise PermissionError(errno.EPERM, "it belongs to another user")
    if folder.stat().st_mode & _OF_OTHERS:
        with suppress(OSError):  # a file system of Windows has no such thing
            folder.chmod(0o700)
    require_own(folder.iterdir(), {0, me})


def require_own(files: Iterable[Path], trusted: Collection[int]) -> None:
    """Refuse files that another user has made, links among them.

    Args:
        files: What is about to be read, as far as it exists.
        trusted: The users whose files are taken.

    Raises:
        PermissionError: Names one.
        OSError: They cannot be looked at.
    """
    if sys.platform == "win32":
        return
    for file in files:
        with suppress(FileNotFoundError):
            if file.lstat().st_uid not in trusted:
                raise PermissionError(errno.EPERM, f"{file.name} belongs to another user")


def is_own(file: Path) -> bool:
    """Whether this user, or root, has made a file; also in a folder that cannot be written."""
    try:
        return sys.platform == "win32" or file.lstat().st_uid in (os.geteuid(), 0)
    except OSError:
        return False


def find_trusted(folder: Path) -> set[int]:
    """The users whose files in a folder are taken: this one and root, who may do what it likes anyway.

    Root, who looks after a service, takes those of the service's user, in a folder where only that user writes.

    Raises:
        OSError: It cannot be written into, or be looked at.
    """
    if sys.platform == "win32":
        return set()
    me, status = _find_me(folder), folder.stat()
    is_of_a_service = me == 0 and not status.st_mode & _OF_OTHERS
    return {0, me, status.st_uid} if is_of_a_service else {0, me}


def _find_me(folder: Path) -> int:
    """The user that new files in a folder belong to: network file systems have their own idea of it."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_uid
