"""This machine: versions, connections, folders."""

import platform
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from mlflow_fireworks.artifacts.sources.disk import measure_free_bytes
from mlflow_fireworks.artifacts.sources.scratch import temporary_folder
from mlflow_fireworks.connections import describe_certificates, describe_proxy
from mlflow_fireworks.doctor.check import Check, look, note, ok, problem
from mlflow_fireworks.home import find_trusted, require_own, state_folder
from mlflow_fireworks.progress import format_bytes

_PACKAGE = "mlflow-fireworks"
_NAMED = ("mlflow", "mlflow-skinny", "huggingface_hub", "httpx", "stamina")
_TIGHT_BYTES = 1024**3
_BLOCK_BYTES = 4096


def check_machine() -> Iterator[Check]:
    """Look at versions, proxies, certificates and folders."""
    yield look("versions", _check_versions)
    yield look("proxy", lambda: ok("proxy", describe_proxy() or "none"))
    yield look("certificates", lambda: ok("certificates", describe_certificates()))
    yield look("state", _check_state)
    yield look("temporary files", _check_scratch)


def _check_versions() -> Check:
    installed = {name: version for name in _NAMED if (version := _version_of(name))}
    found = ", ".join(f"{name} {version}" for name, version in installed.items())
    told = f"{_PACKAGE} {_version_of(_PACKAGE) or 'not installed'}, Python {platform.python_version()}, {found}"
    if unfit := list(_find_unfit()):
        return problem("versions", f"{told}; not what {_PACKAGE} requires: {', '.join(unfit)}; reinstall it with pip")
    return ok("versions", told)


def _find_unfit() -> Iterator[str]:
    """What is installed in another version than this package asks for, in words."""
    for line in metadata.requires(_PACKAGE) or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version_of(requirement.name)
        if requirement.name == "mlflow" and version is None:  # in its place for all but the hooks' registry
            version = _version_of("mlflow-skinny")
        if version is None:
            yield f"{requirement.name} is missing"
        elif not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} {version} does not satisfy {requirement.specifier}"


def _version_of(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _check_state() -> Check:
    folder, variable = state_folder(), "MLFLOW_FIREWORKS_HOME"
    try:
        place = next(path for path in (folder, *folder.parents) if path.exists())
        if place == folder:
            require_own(folder.iterdir(), find_trusted(folder))
    except OSError as error:
        return _refuse("state", folder, variable, error)
    return _check_folder("state", place, variable, f"{folder} is writable,", "")


def _check_scratch() -> Check:
    folder = Path(temporary_folder())
    return _check_folder(
        "temporary files", folder, "TMPDIR", f"{folder} has", "for files that must be downloaded first"
    )


def _check_folder(subject: str, folder: Path, variable: str, before: str, after: str) -> Check:
    """Whether something can be written there; a file that is empty would fit on a full disk, too."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_BLOCK_BYTES))
            file.flush()
    except OSError as error:
        return _refuse(subject, folder, variable, error)
    free = max(0, measure_free_bytes(folder))
    text = " ".join(part for part in (before, format_bytes(free), "free", after) if part)
    return ok(subject, text) if free > _TIGHT_BYTES else note(subject, text)


def _refuse(subject: str, folder: Path, variable: str, error: OSError) -> Check:
    return problem(
        subject,
        f"cannot write into {folder}: {error.strerror or error}; repair that, or set {variable} to another folder",
    )
