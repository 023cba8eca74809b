"""Processes of this package: they get what they need, no keys, and end with the process that started them."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow_fireworks.emulator import child

# Where programs, libraries and temporary files are, how to write text and time, and how many cores to use. What is not
# here stays behind: keys, tokens and passwords, those of clouds and proxies, and what would steer the imports.
_NEEDED = (
    *("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "WINDIR", "TMPDIR", "TEMP", "TMP"),
    *("LANG", "LC_ALL", "LC_CTYPE", "TZ", "OMP_NUM_THREADS", "MKL_NUM_THREADS"),
)


def start(
    module: str,
    *arguments: str,
    folder: Path,
    environ: Mapping[str, str] | None = None,
    most_bytes: int | None = None,
    **streams: Any,
) -> subprocess.Popen[bytes]:
    """Start a module in a process that ends with this one, however that ends.

    Args:
        module: Its full name; it is run as with `python -m`.
        *arguments: For it.
        folder: Where it works and has its home; made when missing.
        environ: Further variables for it.
        most_bytes: Of memory that it may take for itself, on Linux; files that it maps do not count.
        **streams: `stdout` and `stderr`, as for `subprocess.Popen`, and its other arguments.

    Raises:
        OSError: The folder cannot be made, or the process not be started.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    own_site = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    kept = {name: os.environ[name] for name in _NEEDED if name in os.environ}
    process = subprocess.Popen(  # noqa: S603  # our interpreter and our file, no shell
        [sys.executable, "-I", child.__file__, own_site, module, *arguments],
        stdin=subprocess.PIPE,
        cwd=folder,
        env={**kept, "HOME": str(folder), "USERPROFILE": str(folder), **(environ or {})},
        **streams,
    )
    if most_bytes is not None:
        _bound_memory(process.pid, most_bytes)
    return process


def _bound_memory(pid: int, most_bytes: int) -> None:
    """Set from here: a function that runs between fork and exec could lock up, as this process has threads."""
    with suppress(ImportError, AttributeError, OSError, ValueError):  # not Linux, or a lower limit is in force already
        import resource  # noqa: PLC0415 - see above

        resource.prlimit(pid, resource.RLIMIT_DATA, (most_bytes, most_bytes))
