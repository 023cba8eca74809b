"""Workspaces of an MLflow server (`MLFLOW_ENABLE_WORKSPACES`), each with registered models of its own.

Databricks' workspaces are something else: see `uri_types.Workspace`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
import requests
from mlflow.exceptions import MlflowException

from mlflow_fireworks.answers import EndlessAnswerError
from mlflow_fireworks.errors import InvalidConfigError, UnavailableError
from mlflow_fireworks.redaction import brief
from mlflow_fireworks.registry.advice import unanswered
from mlflow_fireworks.registry.questions import ask_server
from mlflow_fireworks.registry.reach import require_mlflow

_DEFAULT = "default"
_QUESTION = "/api/3.0/mlflow/workspaces"
"""MLflow 3.17, `store/workspace/rest_store.py`."""
_ANSWER_SECONDS = 5.0
_OK = 200
_REFUSED = (401, 403)
_NO_LIST = "the MLflow server did not list its workspaces"


@contextmanager
def in_workspace(name: str) -> Iterator[None]:
    """Ask the registry about one workspace while the block runs, in this thread and those that inherit from it.

    MLflow's own way for clients sets a variable of the whole process, in which other threads may be about another one.
    Source: MLflow 3.17, `utils/workspace_context.py`; its server's jobs do the same as here.

    Args:
        name: The workspace; "" for the current one.

    Raises:
        InvalidConfigError: This MLflow knows no workspaces, or the name cannot be one.
    """
    if not name:
        yield
        return
    try:
        from mlflow.utils.workspace_context import ServerWorkspaceContext  # noqa: PLC0415 - older releases have none
    except ImportError:
        raise InvalidConfigError(
            f"workspace '{name}': MLflow {mlflow.__version__} has no workspaces; remove it from the rule, or "
            "upgrade mlflow"
        ) from None
    context = ServerWorkspaceContext(name)
    try:
        context.__enter__()
    except MlflowException as error:
        raise InvalidConfigError(f"workspace '{name}': {brief(error)}") from None
    try:
        yield
    finally:
        context.__exit__(None, None, None)


def current_workspace() -> str:
    """The workspace that MLflow asks about where none is named: MLFLOW_WORKSPACE, or the server's default one."""
    return _find_named() or _DEFAULT


def is_workspace_named() -> bool:
    """Whether the environment names a workspace (MLFLOW_WORKSPACE)."""
    return bool(_find_named())


def _find_named() -> str | None:
    try:
        from mlflow.utils.workspace_context import get_request_workspace  # noqa: PLC0415 - as above
    except ImportError:
        return None
    return get_request_workspace()


def list_workspaces() -> list[str]:
    """The workspaces of the current registry's server; none where it has no such thing.

    Raises:
        UnavailableError: It does not answer.
    """
    address = mlflow.get_registry_uri()
    if not address.startswith(("http://", "https://")):
        return []
    require_mlflow()
    # MLflow's own client asks for minutes where workspaces are not enabled, which is answered as if it were away.
    try:
        answer = ask_server(address, _QUESTION, _ANSWER_SECONDS)
    except (MlflowException, EndlessAnswerError, requests.RequestException) as error:
        raise unanswered(_NO_LIST, error) from None
    if answer.status in _REFUSED:
        raise UnavailableError(
            f"{_NO_LIST} (it answered {answer.status}); check MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if answer.status != _OK:
        return []
    try:
        return sorted(str(workspace["name"]) for workspace in json.loads(answer.content)["workspaces"])
    except (ValueError, KeyError, TypeError):
        raise UnavailableError(f"{_NO_LIST}: unexpected reply") from None
