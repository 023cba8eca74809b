"""The MLflow server and the Hugging Face Hub."""

from collections.abc import Iterator

import mlflow
from huggingface_hub import constants, get_token

from mlflow_fireworks.doctor.check import Check, look, note, ok
from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.redaction import hide_credentials
from mlflow_fireworks.registry.clients import is_made
from mlflow_fireworks.registry.reach import require_hub, require_mlflow
from mlflow_fireworks.registry.versions import is_registered

_NO_MODEL = "mlflow-fireworks-doctor"


def check_registries() -> Iterator[Check]:
    """Look at MLflow's tracking server and registry, and at the Hub."""
    tracking, registry = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    if tracking != registry:
        yield look("MLflow tracking", lambda: _check_server("MLflow tracking", tracking))
    yield look("MLflow registry", lambda: _check_registry(registry))
    yield _check_hub()


def _check_server(subject: str, uri: str) -> Check:
    require_mlflow(uri, afresh=True)
    return ok(subject, f"{hide_credentials(uri)} answers")


def _check_registry(uri: str) -> Check:
    """Ask for a model that there is not, which needs the credentials and the database."""
    if not is_made(None):
        return note("MLflow registry", f"{hide_credentials(uri)} does not exist yet; is MLFLOW_TRACKING_URI right?")
    require_mlflow(uri, afresh=True)
    is_registered(_NO_MODEL)
    return ok("MLflow registry", f"{hide_credentials(uri)} answers")


def _check_hub() -> Check:
    """Only a note: without the Hub, all that does not come from there can be deployed."""
    subject = "Hugging Face Hub"
    if constants.HF_HUB_OFFLINE:
        return note(subject, "not checked, because HF_HUB_OFFLINE is set; repositories are not verified")
    try:
        require_hub(afresh=True)
    except UnavailableError as error:
        return note(subject, error.message)
    token = "with a token" if get_token() else "without a token: gated and private models cannot be read"
    return ok(subject, f"{hide_credentials(constants.ENDPOINT)} answers, {token}")
