"""Which version of a registered model a URI means."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import get_model_name_and_version
from mlflow.utils.uri import is_databricks_unity_catalog_uri

from mlflow_fireworks.errors import InvalidConfigError, NoVersionError
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.registry.advice import is_about_workspace
from mlflow_fireworks.registry.clients import find_registry, open_client
from mlflow_fireworks.registry.model_uri import LATEST, parse_model_uri
from mlflow_fireworks.registry.uri_types import ModelUri, RegisteredUri, Workspace
from mlflow_fireworks.registry.versions import list_versions

T = TypeVar("T")

_GONE = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
"""MLflow says INVALID_PARAMETER_VALUE for an unknown alias, RESOURCE_DOES_NOT_EXIST for the rest (3.17)."""
_NONE_IN_STAGE = "No versions of model"
"""How MLflow begins when no version is in a stage; the code is INTERNAL_ERROR (3.17, `utils/models.py`)."""
_SHOWN = 5


def find_version(client: MlflowClient, uri: RegisteredUri) -> ModelVersion:
    """The version that a URI means now.

    Args:
        client: From `open_client`, for the URI's home.
        uri: The URI.

    Raises:
        MlflowException: There is none, or the registry does not answer; `is_gone` knows which.
    """
    is_in_catalog = is_databricks_unity_catalog_uri(find_registry(uri.home))
    if uri.alias and uri.alias.lower() == LATEST and not is_in_catalog:
        # Nobody can set this alias. Servers read it as the newest version since MLflow 3.3, and refused it before.
        uri = replace(uri, alias=None, stage=LATEST)
    if uri.alias:
        return client.get_model_version_by_alias(uri.name, uri.alias)
    return client.get_model_version(uri.name, uri.version or _find_newest(client, uri))


def _find_newest(client: MlflowClient, uri: RegisteredUri) -> str:
    if uri.stage == LATEST and is_databricks_unity_catalog_uri(find_registry(uri.home)):
        # Unity Catalog has no stages, for which MLflow refuses `latest` there too (3.17, `rest_store.py`).
        newest = next(iter(list_versions(uri.name, uri.home)), None)
        if newest is None:
            raise MlflowException(f"{_NONE_IN_STAGE} with name '{uri.name}' found")
        return str(newest.version)
    # `MlflowClient.get_latest_versions` asks the same, and warns that it is deprecated.
    _, version = get_model_name_and_version(client, str(replace(uri, folder="")))
    return str(version)


def is_gone(error: Exception) -> bool:
    """Whether the registry answered that what was asked for does not exist; else it may only be unreachable."""
    if not isinstance(error, MlflowException) or is_about_workspace(error):
        return False
    return error.error_code in _GONE or error.message.startswith(_NONE_IN_STAGE)


def read_model_uri(text: str) -> ModelUri:
    """`parse_model_uri`, with the known aliases and versions in the message when a URI names none of them.

    Args:
        text: The URI.

    Raises:
        InvalidConfigError: It is malformed, or names no version.
    """
    try:
        return parse_model_uri(text)
    except NoVersionError as error:
        raise InvalidConfigError(error.message + describe_known(error.model.name, error.model.home)) from None


def describe_known(name: str, workspace: Workspace | None) -> str:
    """What a registered model has, for the end of a message; "" when there is no such model, or no answer."""
    try:
        model = open_client(workspace).get_registered_model(name)
        numbers = [str(version.version) for version in list_versions(name, workspace)]
    except Exception:  # noqa: BLE001 - the message that this completes is about something else
        return ""
    aliases = [f"{alias} → {version}" for alias, version in sorted(model.aliases.items())]
    parts = [f"aliases: {enumerate_names(aliases, _SHOWN)}"] if aliases else []
    parts.append(f"versions: {enumerate_names(numbers, _SHOWN)}" if numbers else "it has no versions")
    return "; " + "; ".join(parts)


def ask(question: Callable[[], T]) -> T | None:
    """The answer, or None where MLflow has none: for what is only a hint, such as the tags of a deleted run."""
    try:
        return question()
    except MlflowException:
        return None
