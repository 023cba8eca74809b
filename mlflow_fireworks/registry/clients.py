"""Whom to ask: MLflow's current servers, or those of the Databricks workspace that a URI names."""

from dataclasses import replace
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_databricks_unity_catalog_uri, is_local_uri

from mlflow_fireworks.redaction import hide_credentials
from mlflow_fireworks.registry.advice import unanswered
from mlflow_fireworks.registry.reach import require_mlflow
from mlflow_fireworks.registry.uri_types import Workspace

_SQLITE = "sqlite:///"


def open_client(workspace: Workspace | None = None, *, patient: bool = False) -> MlflowClient:
    """MLflow's client for a workspace; for MLflow's current servers when None.

    Args:
        workspace: The workspace.
        patient: For what must not be lost: do not ask first whether the server answers, but leave it to MLflow, which
            tries for minutes.

    Raises:
        UnavailableError: The current registry's server does not answer, or its database cannot be opened.
    """
    if workspace is not None:
        return MlflowClient(tracking_uri=workspace.tracking_uri, registry_uri=find_registry(workspace))
    if not patient:
        require_mlflow()
    try:
        return MlflowClient()
    except MlflowException:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a database's driver raises
        where = f"the database {hide_credentials(mlflow.get_tracking_uri())}"
        raise unanswered(f"MLflow cannot open {where}", error, where=where) from None


def find_registry(workspace: Workspace | None) -> str:
    """The URI of the registry that keeps a workspace's models; of MLflow's current one when None.

    `@databricks` means the workspace's own registry to MLflow, but Unity Catalog as soon as that is the current
    registry, which it is by default on Databricks (3.17, `models_artifact_repo.py`). MLflow then forgets the profile,
    which is kept here.
    """
    current: str = mlflow.get_registry_uri()
    if workspace is None:
        return current
    if is_databricks_unity_catalog_uri(current) and ":" not in workspace.profile:
        workspace = replace(workspace, unity_catalog=True)
    return workspace.registry_uri


def is_made(workspace: Workspace | None) -> bool:
    """Whether a registry is there, as far as that is a matter of a file here: MLflow makes one that is not."""
    uri = find_registry(workspace)
    if uri.startswith(_SQLITE):
        return Path(uri.removeprefix(_SQLITE).partition("?")[0]).exists()
    return not is_local_uri(uri) or Path(local_file_uri_to_path(uri)).exists()
