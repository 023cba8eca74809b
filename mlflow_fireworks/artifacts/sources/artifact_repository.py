"""MLflow's artifact repositories: S3, GCS, Azure, the tracking server's proxy, Databricks.

Only the listing and the fetching of single files are used. `download_artifacts` on a model would write a
`registered_model_meta` file into a local store (MLflow 3.17, `models_artifact_repo.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from threading import Lock

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository

from mlflow_fireworks.answers import take
from mlflow_fireworks.artifacts.sources.address import check_address, check_bucket, check_folder
from mlflow_fireworks.artifacts.sources.range_clients import download_in_one, find_encoded, find_opener
from mlflow_fireworks.artifacts.sources.ranges import Answer, OpenRange
from mlflow_fireworks.artifacts.sources.staging import Fetch
from mlflow_fireworks.artifacts.sources.tries import find_status, status_of, tell
from mlflow_fireworks.errors import FireworksError, InvalidConfigError, RangeError, ReplacedError, SourceError
from mlflow_fireworks.http import TRANSIENT_STATUSES
from mlflow_fireworks.in_between import LATER, find_obstacle
from mlflow_fireworks.installing import install_missing, name_module
from mlflow_fireworks.redaction import brief, hide_credentials
from mlflow_fireworks.registry.advice import CERTIFICATES
from mlflow_fireworks.registry.clients import find_registry
from mlflow_fireworks.registry.mlflow_versions import open_artifacts
from mlflow_fireworks.registry.uri_types import Workspace

_ONE_AT_A_TIME = Lock()
"""Making clients of boto3 is not safe in several threads at once."""
_FINAL_CODES = {
    "RESOURCE_DOES_NOT_EXIST",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "INVALID_PARAMETER_VALUE",
}
_DENIALS = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
# Which variable tells a store's client which certificates to trust; all others have that of requests.
_CERTIFICATES = {"s3": "AWS_CA_BUNDLE"} | dict.fromkeys(("http", "https", "mlflow-artifacts"), CERTIFICATES)
_FINAL_STATUSES = {*_DENIALS, HTTPStatus.NOT_FOUND}


def open_repository(uri: str, workspace: Workspace | None = None) -> ArtifactRepository:
    """The artifact repository behind a URI; for `models:/` the one that really holds the files.

    Args:
        uri: Anything MLflow has an artifact repository for, `models:/name/version` and `models:/m-…` included.
        workspace: Whose servers are asked for it; MLflow's current ones when None.

    Raises:
        InvalidConfigError: No repository knows the URI's scheme.
        SourceError: The repository cannot be opened, or would read another place than the URI names.
    """
    check_bucket(uri)
    try:
        repository = (
            open_artifacts(uri, workspace.tracking_uri, find_registry(workspace))
            if workspace
            else get_artifact_repository(uri)
        )
    except MlflowException as error:
        if "registered artifact repository" in str(error):
            raise InvalidConfigError(
                f"there is no artifact store for {hide_credentials(uri)}; use models:/NAME/VERSION, "
                "models:/NAME@ALIAS, "
                "runs:/RUN/PATH, hf:/ORG/NAME, a folder, or a URI such as s3://BUCKET/PATH"
            ) from None
        raise _unreadable(uri, error) from None
    except Exception as error:  # noqa: BLE001 - repositories are plugins and raise what they like
        raise _unreadable(uri, error) from None
    while isinstance(repository, ModelsArtifactRepository):
        repository = repository.repo
    check_address(repository)
    return repository


def find_local_folder(repository: ArtifactRepository) -> Path | None:
    """The folder of a repository that is just a folder of this machine, else None."""
    if isinstance(repository, LocalArtifactRepository):
        return Path(repository.artifact_dir)
    return None


def list_repository(repository: ArtifactRepository, folder: str) -> dict[str, int | None]:
    """Every file of a repository below a folder.

    Args:
        repository: Where.
        folder: POSIX path inside it, "" for all.

    Returns:
        Path relative to `folder`, and the size in bytes or None where the store does not tell that of its content.

    Raises:
        SourceError: The store cannot be listed, or would read another folder.
    """
    check_folder(repository, folder)
    try:
        found = dict(_walk(repository, folder))
        encoded = find_encoded(_find_holder(repository), folder)
    except Exception as error:  # noqa: BLE001 - repositories are plugins and raise what they like
        raise _unreadable(repository.artifact_uri, error) from None
    prefix = f"{folder}/" if folder else ""
    return {path.removeprefix(prefix): None if path in encoded else size for path, size in found.items()}


def _walk(repository: ArtifactRepository, top: str) -> Iterator[tuple[str, int | None]]:
    holder = _find_holder(repository)
    waiting, seen = [top], {top, "."}

    def list_all() -> Iterator[FileInfo]:
        while waiting:
            folder = waiting.pop(0)
            # Some know their top as None, one (`presigned_url_artifact_repo.py`) as "".
            yield from holder.list_artifacts(folder) if folder else holder.list_artifacts()

    for info in take(list_all()):
        if not info.is_dir:
            yield info.path, info.file_size
        elif info.path not in seen:  # some stores list a folder as part of itself
            seen.add(info.path)
            waiting.append(info.path)


def fetch_from(repository: ArtifactRepository, folder: str) -> Fetch:
    """A function that gets single files below a folder of a repository.

    Args:
        repository: Where.
        folder: POSIX path inside it, "" for all.
    """
    prefix = f"{folder}/" if folder else ""
    tried: set[str] = set()

    def fetch(name: str, into: Path) -> Path:
        target = into / Path(name).name
        with _final_told(repository, name):
            holder = _find_holder(repository)
            if name in tried and download_in_one(holder, prefix + name, target):
                return target
            tried.add(name)
            # Every repository of MLflow's that holds files implements `_download_file`. `download_artifacts` does the
            # same for those that do not, but lists once more and draws a progress bar for every file.
            if type(holder)._download_file is ArtifactRepository._download_file:  # noqa: SLF001 - see above
                return Path(holder.download_artifacts(prefix + name, str(into)))
            holder._download_file(prefix + name, str(target))  # noqa: SLF001 - see above
        return target

    return fetch


def open_from(repository: ArtifactRepository, folder: str) -> OpenRange:
    """A function that opens ranges of files below a folder of a repository, where it can do that.

    Args:
        repository: Where.
        folder: POSIX path inside it, "" for all.
    """
    prefix = f"{folder}/" if folder else ""

    def open_below(name: str, begin: int, end: int, version: str | None) -> Answer:
        with _final_told(repository, name, was_read=version is not None):
            holder = _find_holder(repository)
            with _ONE_AT_A_TIME:
                open_range = find_opener(holder)
            return open_range(prefix + name, begin, end, version)

    return open_below


def _find_holder(repository: ArtifactRepository) -> ArtifactRepository:
    """The repository that holds the files, with credentials that are fresh.

    Those of Unity Catalog wrap the one of the cloud's store (MLflow 3.17, `unity_catalog_models_artifact_repo.py`). It
    is asked for anew for each file, since its credentials last for an hour or so: a file, but not a large model.
    """
    find = getattr(repository, "_get_artifact_repo", None)
    if find is None:
        return repository
    with _ONE_AT_A_TIME:
        holder: ArtifactRepository = find()
    return holder


@contextmanager
def _final_told(repository: ArtifactRepository, name: str, *, was_read: bool | None = None) -> Iterator[None]:
    """Turn failures that will not pass into one line.

    Args:
        repository: Which is asked.
        name: For the file.
        was_read: It was read before, so a refusal may pass with credentials that are fresh, and the version of then is
            asked for. None where no range is.
    """
    try:
        yield
    except FireworksError:
        raise
    except Exception as error:
        status = status_of(error)
        if was_read and status == HTTPStatus.PRECONDITION_FAILED:
            raise ReplacedError("it has been replaced") from None
        if was_read is not None and status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise (ReplacedError("it is shorter now") if was_read else RangeError("it refuses this range")) from None
        if not _is_final(error) or (was_read and status in _DENIALS):
            raise
        place = hide_credentials(repository.artifact_uri)
        raise SourceError(
            f"cannot fetch {name} from {place}: {tell(error)}; "
            + _advise(place, error, "check that it exists, and the store's credentials")
        ) from None


def _is_final(error: Exception) -> bool:
    # MLflow's, or that of databricks-sdk; Azure has its own
    return getattr(error, "error_code", None) in _FINAL_CODES or status_of(error) in _FINAL_STATUSES


def _unreadable(uri: str, error: Exception) -> SourceError:
    place = hide_credentials(uri)
    if isinstance(error, ImportError):
        module = name_module(error)
        if module and not isinstance(error, ModuleNotFoundError):  # pysftp wants a class that paramiko 4 has not
            return SourceError(f"cannot read {place}: {brief(error)}; another release of {module} is needed")
        command = install_missing(error, unnamed="mlflow[extras]")
        return SourceError(f"reading {place} needs a package that is missing; install it: {command}")
    next_step = _advise(place, error, "check the URI and the store's credentials")
    return SourceError(f"cannot read {place}: {tell(error, uri)}; {next_step}")


def _advise(place: str, error: Exception, otherwise: str) -> str:
    scheme = place.partition(":")[0]
    if obstacle := find_obstacle(error, _CERTIFICATES.get(scheme, "REQUESTS_CA_BUNDLE")):
        return obstacle
    return LATER if find_status(error) in TRANSIENT_STATUSES else otherwise
