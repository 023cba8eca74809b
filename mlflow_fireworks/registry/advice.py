"""What an answer of a registry or tracking server means that is none, and what to do about it."""

import re
from importlib.util import find_spec

from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.in_between import find_obstacle
from mlflow_fireworks.installing import install
from mlflow_fireworks.redaction import brief
from mlflow_fireworks.registry.mlflow_versions import explain_import

CERTIFICATES = "MLFLOW_TRACKING_SERVER_CERT_PATH"
"""The variable that tells MLflow's client which certificates to trust."""
_STATUS = re.compile(r"\berror code (\d{3})\b")  # MLflow 3.17, `rest_utils.py`, where the body is no JSON
_NO_DATABASES = "functionality is unavailable; got unsupported URI"  # of mlflow-skinny, which has no sqlalchemy
_NO_WORKSPACE = re.compile(r"Workspace '.*' not found")


def unanswered(what: str, error: BaseException, *, where: str = "") -> UnavailableError:
    """The error for a question that was asked in vain.

    Args:
        what: `the registry could not look up models:/chat@champion`.
        error: What MLflow or a store's driver raised. One of ours says it all, and is returned as it is.
        where: As for `UnavailableError`.
    """
    if isinstance(error, UnavailableError):
        return error
    return UnavailableError(f"{what}: {brief(error)}; {describe_remedy(error)}", where=where)


def is_absent(error: BaseException) -> bool:
    """Whether the registry answered that there is no such thing, in a workspace that there is.

    Args:
        error: What MLflow raised.
    """
    return getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST" and not is_about_workspace(error)


def describe_remedy(error: BaseException) -> str:  # noqa: PLR0911 - one for each cause
    """The next step after a failed question, for the end of a message.

    Args:
        error: What MLflow or a store's driver raised.
    """
    text, code = str(error), getattr(error, "error_code", "")
    status = found[1] if (found := _STATUS.search(text)) else ""
    if _NO_DATABASES in text and not find_spec("sqlalchemy"):
        return f"mlflow-skinny cannot read a database: {install('mlflow')}, or set MLFLOW_TRACKING_URI to a server"
    if isinstance(error, ImportError):
        return explain_import(error)
    if obstacle := find_obstacle(error, CERTIFICATES):
        return obstacle
    if code == "UNAUTHENTICATED" or status == "401":
        return "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    if "Invalid Host header" in text:  # of MLflow's own server (3.17, `security_utils.py`)
        return "let the server's --allowed-hosts list the host name in MLFLOW_TRACKING_URI, with its port"
    if code == "PERMISSION_DENIED" or status == "403":
        return "no permission to read it: check MLFLOW_TRACKING_USERNAME or MLFLOW_TRACKING_TOKEN, or ask for access"
    if is_about_workspace(error):
        return "check MLFLOW_WORKSPACE"
    return "is it running, and is MLFLOW_TRACKING_URI right?"


def is_about_workspace(error: BaseException) -> bool:
    """Whether the workspace that MLFLOW_WORKSPACE names does not exist, so that nothing in it can be said to be gone.

    Source: MLflow 3.17, `store/workspace/sqlalchemy_store.py`; the code is the one for anything that does not exist.

    Args:
        error: What MLflow raised.
    """
    return bool(_NO_WORKSPACE.search(str(error)))
