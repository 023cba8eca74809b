"""MLflow deployment target for Fireworks AI: from a registered model to READY.

Stable are the names that this module exports, the commands `mlflow deployments … -t fireworks` and `mlflow-fireworks`,
their options, the fields of results, the `fireworks.*` tags, and `mlflow_fireworks.emulator.pytest_plugin`. Everything
else is internal and may change in any release.

Importing it loads neither MLflow nor the client of the Hugging Face Hub; that happens when a name is first used.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow_fireworks.errors import (
        AlreadyExistsError,
        ApiError,
        BusyError,
        CheckpointError,
        ConflictError,
        CredentialsError,
        DeadlineError,
        FailedPreconditionError,
        FailedStateError,
        FireworksError,
        HeldError,
        InUseError,
        InvalidConfigError,
        InvalidRequestError,
        LimitError,
        NotFoundError,
        NotWantedError,
        NoVersionError,
        PreflightError,
        QuotaError,
        RangeError,
        RefusedError,
        ReplacedError,
        SourceError,
        TransferError,
        UnavailableError,
        UnexpectedAnswerError,
        UnsupportedError,
    )
    from mlflow_fireworks.promotion import promote

    __version__: str

__all__ = [
    "AlreadyExistsError",
    "ApiError",
    "BusyError",
    "CheckpointError",
    "ConflictError",
    "CredentialsError",
    "DeadlineError",
    "FailedPreconditionError",
    "FailedStateError",
    "FireworksError",
    "HeldError",
    "InUseError",
    "InvalidConfigError",
    "InvalidRequestError",
    "LimitError",
    "NoVersionError",
    "NotFoundError",
    "NotWantedError",
    "PreflightError",
    "QuotaError",
    "RangeError",
    "RefusedError",
    "ReplacedError",
    "SourceError",
    "TransferError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnsupportedError",
    "__version__",
    "promote",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("mlflow-fireworks")
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    home = "promotion" if name == "promote" else "errors"
    return getattr(import_module(f"mlflow_fireworks.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
