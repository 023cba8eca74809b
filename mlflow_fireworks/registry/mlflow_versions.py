"""What the releases of MLflow do differently, from 2.19 on. All else that is used of it is alike in all of them.

| since | what | before |
| --- | --- | --- |
| 3.0 | logged models, `models:/m-…` | there are none |
| 3.3 | webhooks, on servers and in the client | comparing with the registry finds what changed |
| 3.3 | a server reads `models:/NAME@latest` | it refuses that; it is asked for the newest version instead |
| 3.5 | an artifact repository is opened for servers that are named | it asks those in its URI, else the current ones |
| 3.5 | that of Unity Catalog as well | it is opened here |
| 3.5.1 | `MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT` | MLflow does not know it; it is read all the same |
| 3.7 | `MLFLOW_S3_EXPECTED_BUCKET_OWNER` | nobody can set it |
| 3.9 | it works with SQLAlchemy 2.1, which needs Python 3.11 | it cannot open a database with that |
| 3.15 | the client asks an MLflow server whether it signs URLs for downloads | no server is asked |

Source: the released packages, each compared with the one before it.
"""

import re
from typing import Any

import requests
from mlflow.environment_variables import _EnvironmentVariable
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
from mlflow.store.artifact.unity_catalog_models_artifact_repo import UnityCatalogModelsArtifactRepository
from mlflow.utils.uri import is_databricks_unity_catalog_uri
from mlflow.version import VERSION

from mlflow_fireworks.answers import EndlessAnswerError
from mlflow_fireworks.errors import SourceError
from mlflow_fireworks.installing import install, install_missing, name_module
from mlflow_fireworks.redaction import hide_credentials
from mlflow_fireworks.registry.questions import ask_server

Release = tuple[int, int]

_LOGGED_MODELS: Release = (3, 0)
_WEBHOOKS: Release = (3, 3)
_NAMED_SERVERS: Release = (3, 5)
_SQLALCHEMY_2_1: Release = (3, 9)
_ANSWER_SECONDS = 5.0
_PREDICT_TOTAL_TIMEOUT = _EnvironmentVariable("MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT", int, None)


def read_release(version: str) -> Release | None:
    """The first two numbers of a version; None when it does not begin with numbers."""
    found = re.match(r"\s*(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def is_set(variable: _EnvironmentVariable) -> bool:
    """Whether somebody set one of MLflow's variables; MLflow 2.21 has another word for it."""
    return variable.get_raw() is not None


def read_predict_seconds(default: float) -> float:
    """How long all tries of a prediction may take together.

    Args:
        default: Seconds, where nobody set MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT.
    """
    seconds = _PREDICT_TOTAL_TIMEOUT.get()
    return default if seconds is None else float(seconds)


def has_logged_models(version: str = VERSION) -> bool:
    """Whether an MLflow client knows of logged models."""
    return _reaches(version, _LOGGED_MODELS)


def require_logged_models(uri: object, version: str = VERSION) -> None:
    """Refuse a logged model that this MLflow cannot read.

    Args:
        uri: Its URI.
        version: MLflow's.

    Raises:
        SourceError: This MLflow knows of none.
    """
    if not has_logged_models(version):
        raise SourceError(
            f"{uri} is a logged model, which MLflow {version} cannot read; upgrade it here: {install('mlflow>=3')}"
        )


def open_artifacts(uri: str, tracking_uri: str, registry_uri: str, version: str = VERSION) -> ArtifactRepository:
    """The artifact repository behind a URI, on servers that need not be MLflow's current ones.

    Args:
        uri: Anything that MLflow has an artifact repository for. Before 3.5 it has to name the servers itself, but for
            Unity Catalog: MLflow asked that only where it was the current registry.
        tracking_uri: The server to ask about runs and logged models.
        registry_uri: The server to ask about registered models.
        version: MLflow's.

    Raises:
        MlflowException: There is no repository for it.
    """
    if _reaches(version, _NAMED_SERVERS):
        return get_artifact_repository(uri, tracking_uri, registry_uri)
    if ModelsArtifactRepository.is_models_uri(uri) and is_databricks_unity_catalog_uri(registry_uri):
        return UnityCatalogModelsArtifactRepository(uri, registry_uri)  # type: ignore[abstract]  # only by its types
    return get_artifact_repository(uri)


def bucket_owner_of(repository: Any) -> dict[str, str]:
    """The arguments of boto3 for MLFLOW_S3_EXPECTED_BUCKET_OWNER; they are private in MLflow, and none before 3.7."""
    return getattr(repository, "_bucket_owner_params", {})


def signs_downloads(repository: MlflowArtifactsRepository) -> bool:
    """Whether a tracking server has signed URLs for the files that it keeps; asked over the network, once."""
    ask = getattr(repository, "_is_multipart_download_enabled", None)
    return bool(ask and ask())


def explain_no_webhooks(server: str, version: str = VERSION) -> str:
    """Why an MLflow server sends no webhooks, or why this MLflow cannot make them there.

    Args:
        server: Its address.
        version: Of MLflow here.

    Returns:
        A part of a sentence; "" when it sends them, or when it does not say which MLflow it runs.
    """
    of_server = _ask_version(server)
    if of_server and not _reaches(of_server, _WEBHOOKS):
        return f"the MLflow server at {hide_credentials(server)} is {of_server}, and webhooks came with MLflow 3.3"
    if not _reaches(version, _WEBHOOKS):
        return f"MLflow {version} here cannot make webhooks; upgrade it with: {install('mlflow>=3.3')}"
    return ""


def explain_import(error: ImportError, version: str = VERSION) -> str:
    """What to do where MLflow could not import a package, such as a database's driver.

    Args:
        error: Names the module.
        version: MLflow's.
    """
    if isinstance(error, ModuleNotFoundError):
        return f"install it: {install_missing(error, unnamed='mlflow')}"
    package = name_module(error)
    if package == "sqlalchemy" and not _reaches(version, _SQLALCHEMY_2_1):
        return f"MLflow {version} needs an older SQLAlchemy: {install('sqlalchemy<2.1')}"
    return f"MLflow {version} needs another version of {package or 'a package'}"


def _reaches(version: str, release: Release) -> bool:
    return (read_release(version) or release) >= release


def _ask_version(server: str) -> str:
    try:
        answer = ask_server(server, "/version", _ANSWER_SECONDS)
    except (MlflowException, EndlessAnswerError, requests.RequestException):
        return ""
    version = answer.content.decode(errors="replace").strip() if answer.status == requests.codes.ok else ""
    return version if read_release(version) else ""
