"""How often a promotion that failed is tried again: as long as it is asked for where the failure may pass by itself."""

import httpx
from mlflow.exceptions import MlflowException

from mlflow_fireworks.errors import (
    BusyError,
    CheckpointError,
    CredentialsError,
    DeadlineError,
    FailedPreconditionError,
    FireworksError,
    InvalidConfigError,
    InvalidRequestError,
    LimitError,
    QuotaError,
    RefusedError,
    SourceError,
    TransferError,
    UnavailableError,
    UnsupportedError,
)
from mlflow_fireworks.http import TransientError

FEW = 5
_AWAY_CODES = frozenset({8, 14})  # gRPC: a quota or rate is used up; the service is away
_NO_PERMISSION_CODES = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})


def most_tries(error: Exception) -> int | None:
    """How many tries a promotion gets that fails like this.

    Args:
        error: Why the last one failed.

    Returns:
        None where the network, Fireworks, a registry or a store is at fault: it is tried as long as the pointer asks
        for it. 1 where a person has to change the model, an option or a permission first. `FEW` for all else.
    """
    if _may_pass(error):
        return None
    return 1 if _needs_a_person(error) else FEW


def _may_pass(error: Exception) -> bool:
    match error:
        case FailedPreconditionError() | BusyError() | QuotaError():
            return True
        case RefusedError(api_code=code):
            return code in _AWAY_CODES
        # The files of a model may be missing, or their store away: the type does not tell, and waiting costs little.
        # The same holds for a limit: somebody may approve the rule, or take another endpoint down.
        case UnavailableError() | TransferError() | DeadlineError() | SourceError() | LimitError():
            return True
        case FireworksError():
            return False
        case MlflowException(error_code=code):  # of the registry
            return code not in _NO_PERMISSION_CODES
    # What requests and huggingface_hub raise is an OSError, too.
    return isinstance(error, OSError | httpx.TransportError | TransientError)


def _needs_a_person(error: Exception) -> bool:
    match error:
        case InvalidConfigError() | CredentialsError() | CheckpointError() | UnsupportedError() | InvalidRequestError():
            return True
        case MlflowException(error_code=code):  # Fireworks' refusals are, too
            return code in _NO_PERMISSION_CODES
    return False


def describe_culprit(error: Exception) -> str:
    """What a promotion waits for after a failure, in a few words: `Fireworks (503)`.

    Args:
        error: Why the last try failed.
    """
    match error:
        case RefusedError(status=status):
            return f"Fireworks ({status})"
        case TransferError() | SourceError():
            return "storage" if isinstance(error, TransferError) else "the model's files"
        case DeadlineError():
            return "Fireworks, which takes long"
        case LimitError(waits_for=what):
            return what
        case UnavailableError() | MlflowException() | OSError() | httpx.TransportError() | TransientError():
            return (error.where if isinstance(error, UnavailableError) else "") or "an answer"
    return ""
