"""What a store's client does for us, tried again while a failure may pass, and told in one line where it does not."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar

from mlflow.exceptions import MlflowException

from mlflow_fireworks.errors import FireworksError, SourceError
from mlflow_fireworks.http import Retry, TransientError, read_retry_after
from mlflow_fireworks.in_between import causes
from mlflow_fireworks.progress import Reporter
from mlflow_fireworks.redaction import brief

T = TypeVar("T")

# The names of databricks-sdk's classes; 0 for its base, which stands for any other status.
_DATABRICKS = {
    "Unauthenticated": HTTPStatus.UNAUTHORIZED,
    "PermissionDenied": HTTPStatus.FORBIDDEN,
    "NotFound": HTTPStatus.NOT_FOUND,
    "DatabricksError": 0,
}
_REPEATED_SECONDS = 10.0
_QUOTED = re.compile(r"PRECONDITION_FAILED|FAILED_PRECONDITION|< (?P<status>41[26]) ")


@dataclass(frozen=True)
class Tries:
    """How the files of one store are tried.

    Args:
        origin: The store's URI, for messages.
        reporter: Is told about tries that failed.
        retry: How often.
    """

    origin: str
    reporter: Reporter
    retry: Retry
    _told: dict[str, float] = field(default_factory=dict, init=False)

    def call(self, name: str, attempt: Callable[[], T]) -> T:
        """Do something with a file.

        Args:
            name: The file.
            attempt: A FireworksError of it means that another try is useless; any other exception is tried again.

        Raises:
            SourceError: It failed as often as it may.
        """

        def once() -> T:
            try:
                return attempt()
            except (FireworksError, TransientError):
                raise
            except Exception as error:  # noqa: BLE001 - clients of any store come through here
                # The cause stays out of the chain: its text and traceback may hold a signed URL.
                raise TransientError(tell(error), _retry_after(error)) from None

        try:
            return self.retry.call(once, lambda failure: self._warn(f"{name}: {failure}"))
        except TransientError as error:
            raise SourceError(
                f"cannot fetch {name} from {self.origin}: {error}; run the same command again to resume"
            ) from None

    def _warn(self, text: str) -> None:
        """Once, where all streams of a file say the same because its store is away."""
        now = time.monotonic()
        if now - self._told.get(text, -math.inf) > _REPEATED_SECONDS:
            self._told[text] = now
            self.reporter.warn(text)


def tell(error: Exception, uri: str = "") -> str:
    """What happened, as `brief` tells it, with the status that some clients keep to themselves.

    Args:
        error: Of a store's client, or of MLflow because of one.
        uri: As for `brief`.
    """
    told, status = brief(error, uri).rstrip(": "), find_status(error)
    return told if status is None or str(status) in told else f"{told} ({status})"


def find_status(error: Exception) -> int | None:
    """The status that a store answered with; MLflow translates some to others."""
    found = (status_of(cause) for cause in causes(error) if not isinstance(cause, MlflowException))
    return next((status for status in found if status), None)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an exception of any store's client stands for.

    Args:
        error: Of botocore, requests, Azure, Google, huggingface_hub, databricks-sdk or MLflow.
    """
    if isinstance(error, MlflowException):
        return int(error.get_http_status_code())
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's ClientError
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None)
    return status if isinstance(status, int) else _status_of_databricks(error)


def _status_of_databricks(error: BaseException) -> int | None:
    """Its SDK keeps no status: some have a class of their own, and an answer that it cannot read is quoted."""
    found = next((_DATABRICKS[kind.__name__] for kind in type(error).__mro__ if kind.__name__ in _DATABRICKS), None)
    quoted = _QUOTED.search(f"{getattr(error, 'error_code', None)} {error}")
    if found == _DATABRICKS["DatabricksError"] and quoted:
        return int(quoted["status"] or HTTPStatus.PRECONDITION_FAILED)
    return found or None


def _retry_after(error: Exception) -> float | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
    else:
        headers = getattr(response, "headers", None)
    return read_retry_after(headers) if headers else None
