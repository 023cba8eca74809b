"""This machine: versions, connections, folders."""

import os
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
from mlflow_fireworks.home import state_folder
from mlflow_fireworks.progress import format_bytes

_PACKAGE = "mlflow-fireworks"
_NAMED = ("mlflow", "mlflow-skinny", "huggingface_hub", "httpx", "stamina")
_TIGHT_BYTES = 1024**3


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
    folder = state_folder()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    with tempfile.TemporaryFile(dir=place):
        pass
    free = measure_free_bytes(place)
    return ok("state", f"{folder} is writable, {format_bytes(max(0, free))} free")


def _check_scratch() -> Check:
    folder = Path(temporary_folder())
    if not os.access(folder, os.W_OK):
        return problem("temporary files", f"{folder} is not writable; set TMPDIR to another folder")
    free = max(0, measure_free_bytes(folder))
    text = f"{folder} has {format_bytes(free)} free for files that must be downloaded first"
    return ok("temporary files", text) if free > _TIGHT_BYTES else note("temporary files", text)
