"""Every error this package raises on purpose.

::

    FireworksError                  base: MLflow's exception and click's, so `mlflow` prints one line
    ├── InvalidConfigError          a target, name or -C option that cannot be used as written
    │   └── NoVersionError          a model URI that names none of the versions of a registered model
    ├── CredentialsError            no API key was found, or it cannot be one
    ├── SourceError                 the model URI leads to nothing that can be read
    │   ├── RangeError              a store sent something else than the part of a file that it was asked for
    │   └── ReplacedError           a file is not the one that was planned any more
    ├── CheckpointError             the artifacts hold nothing (or too much) that Fireworks can serve
    │   └── PreflightError          …or a checkpoint with faults; carries all of them
    ├── ConflictError               the name is taken by something else
    ├── InUseError                  an endpoint still serves what is to be deleted
    ├── NotFoundError               no such deployment
    ├── ApiError                    an answer of Fireworks that ends the work; carries its own words
    │   ├── RefusedError            it said no, or stayed busy; carries status, gRPC code, request id
    │   │   ├── InvalidRequestError     what was sent is at fault (400, 413, 422)
    │   │   ├── AlreadyExistsError      the id is taken (409)
    │   │   ├── BusyError               every try was answered that it cannot now (408, 429, 5xx)
    │   │   ├── QuotaError              the account may not have that much (403 or 429)
    │   │   └── FailedPreconditionError not yet: files are still landing, a model is still deployed (code 9)
    │   ├── FailedStateError        what it worked on is FAILED
    │   └── UnexpectedAnswerError   a success in a shape that Fireworks does not answer in
    ├── UnavailableError            no answer at all, after all retries
    ├── TransferError               a file did not reach storage
    ├── DeadlineError               a wait reached its limit; says how to go on
    ├── LimitError                  GPUs were not started: the rule's limit is reached, or nobody approved it
    │   └── HeldError               a rule or a deployment is held by a person, or its endpoint may not move now
    ├── NotWantedError              the work was stopped, because nobody wants its result any more
    └── UnsupportedError            MLflow offers the call, this release does not

A message is one printable line: what happened, to which object, what to do next. It never holds a key, a signed URL or
a password.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import click
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as mlflow_codes
from typing_extensions import Self

from mlflow_fireworks.printable import make_printable
from mlflow_fireworks.redaction import hide_passwords

_CODES_BY_STATUS = {
    400: mlflow_codes.INVALID_PARAMETER_VALUE,
    401: mlflow_codes.UNAUTHENTICATED,
    402: mlflow_codes.PERMISSION_DENIED,
    403: mlflow_codes.PERMISSION_DENIED,
    404: mlflow_codes.RESOURCE_DOES_NOT_EXIST,
    408: mlflow_codes.DEADLINE_EXCEEDED,
    409: mlflow_codes.RESOURCE_ALREADY_EXISTS,
    412: mlflow_codes.PERMISSION_DENIED,
    429: mlflow_codes.REQUEST_LIMIT_EXCEEDED,
    501: mlflow_codes.NOT_IMPLEMENTED,
    502: mlflow_codes.TEMPORARILY_UNAVAILABLE,
    503: mlflow_codes.TEMPORARILY_UNAVAILABLE,
    504: mlflow_codes.TEMPORARILY_UNAVAILABLE,
    507: mlflow_codes.TEMPORARILY_UNAVAILABLE,
    **dict.fromkeys(range(520, 530), mlflow_codes.TEMPORARILY_UNAVAILABLE),
}


class FireworksError(MlflowException, click.ClickException):  # type: ignore[misc]  # both name it `message`
    """Base of all errors of this package.

    It derives from both worlds: Python callers catch `MlflowException` and read `error_code`; the `mlflow`
    command sees a `click.ClickException` and prints `Error: <message>` instead of a traceback.

    Args:
        message: One line for a person: what happened, to what, and what to do next.
    """

    code: ClassVar[int] = mlflow_codes.INTERNAL_ERROR

    def __init__(self, message: str) -> None:
        super().__init__(make_printable(hide_passwords(message)), error_code=self.code)

    def reworded(self, message: str) -> Self:
        """The same error, with all that it carries, in other words.

        Args:
            message: One line for a person.
        """
        message = make_printable(hide_passwords(message))
        clone = type(self).__new__(type(self))
        clone.__dict__.update(self.__dict__, message=message)
        clone.args = (message,)
        return clone


class InvalidConfigError(FireworksError):
    """A target URI, deployment name or `-C` option that cannot be used as written."""

    code = mlflow_codes.INVALID_PARAMETER_VALUE


class NoVersionError(InvalidConfigError):
    """A model URI that names a registered model, and none of its versions.

    Args:
        message: One line for a person, to which the known versions may be added.
        model: What was named, a `registry.uri_types.RegisteredUri` without a version.
    """

    def __init__(self, message: str, model: Any) -> None:
        super().__init__(message)
        self.model = model


class CredentialsError(FireworksError):
    """No API key was found, or what was found cannot be one."""

    code = mlflow_codes.UNAUTHENTICATED


class SourceError(FireworksError):
    """A model URI that leads to nothing that can be read."""

    code = mlflow_codes.RESOURCE_DOES_NOT_EXIST


class RangeError(SourceError):
    """A store sent something else than the part of a file that it was asked for."""


class ReplacedError(SourceError):
    """A file is not the one that was planned any more."""


class CheckpointError(FireworksError):
    """The artifacts hold no checkpoint that Fireworks can serve, or several to choose from."""

    code = mlflow_codes.INVALID_PARAMETER_VALUE


class PreflightError(CheckpointError):
    """A checkpoint with faults, found before anything was sent.

    Args:
        problems: Every fault that was found, one line each.
        subject: What was checked, e.g. `models:/chat/3`.
    """

    def __init__(self, problems: Sequence[str], subject: str) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{subject} cannot be deployed, {count}: " + "; ".join(self.problems))


class ConflictError(FireworksError):
    """The name is taken by another content, or by a model that this plugin did not make."""

    code = mlflow_codes.RESOURCE_ALREADY_EXISTS


class NotFoundError(FireworksError):
    """No such deployment."""

    code = mlflow_codes.RESOURCE_DOES_NOT_EXIST


class InUseError(FireworksError):
    """An endpoint still serves what is to be deleted."""

    code = mlflow_codes.RESOURCE_CONFLICT


class ApiError(FireworksError):
    """An answer of Fireworks that ends the work.

    Args:
        message: One line for a person.
        server_message: The server's own words, unshortened, made printable.
    """

    def __init__(self, message: str, *, server_message: str = "") -> None:
        super().__init__(message)
        self.server_message = make_printable(server_message)

    def without(self, hide: Callable[[str], str]) -> Self:
        """The same error, its words and the server's with something taken out of them.

        Args:
            hide: Takes it out of a text.
        """
        hidden = self.reworded(hide(self.message))
        hidden.server_message = make_printable(hide(self.server_message))
        return hidden


class RefusedError(ApiError):
    """Fireworks' API refused a call, or stayed busy through all retries; `error_code` follows the status.

    Args:
        message: One line for a person.
        status: HTTP status code of the answer.
        api_code: gRPC code of the error body (`code`), if it had one.
        server_message: The server's own words, unshortened.
        request_id: Value of the answer's request-id header, for Fireworks' support.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        api_code: int | None = None,
        server_message: str = "",
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, server_message=server_message)
        self.error_code = mlflow_codes.ErrorCode.Name(_CODES_BY_STATUS.get(status, self.code))
        self.status = status
        self.api_code = api_code
        self.request_id = request_id


class InvalidRequestError(RefusedError):
    """What was sent is at fault (400, 413 or 422): a field, a file, a question."""


class AlreadyExistsError(RefusedError):
    """The id is taken (409), be it by this very call's first try, whose reply was lost."""


class BusyError(RefusedError):
    """Every try was answered that the server cannot now (408, 429, 5xx); the same call may succeed later."""


class QuotaError(RefusedError):
    """The account may not have that much of something: GPUs, adapters. The status (403 or 429) does not tell."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message, **details)
        self.error_code = mlflow_codes.ErrorCode.Name(mlflow_codes.REQUEST_LIMIT_EXCEEDED)


class FailedPreconditionError(RefusedError):
    """The API says "not yet" (code 9): uploaded files are still landing, or a model is still deployed."""


class FailedStateError(ApiError):
    """Fireworks gave up on a model, a deployment, an adapter or an import; `server_message` says why."""


class UnexpectedAnswerError(ApiError):
    """A success in a shape that Fireworks does not answer in."""


class UnavailableError(FireworksError):
    """No answer could be had from the API or from storage, after all retries.

    Args:
        message: As for `FireworksError`.
        where: What does not answer, for a headline: `the MLflow server at http://…`; "" when that is not known.
    """

    code = mlflow_codes.TEMPORARILY_UNAVAILABLE

    def __init__(self, message: str, *, where: str = "") -> None:
        super().__init__(message)
        self.where = where


class TransferError(FireworksError):
    """A file did not reach storage."""

    code = mlflow_codes.IO_ERROR


class DeadlineError(FireworksError):
    """A wait reached its limit."""

    code = mlflow_codes.DEADLINE_EXCEEDED


class LimitError(FireworksError):
    """GPUs were not started: the limit of a rule is reached, or nobody has approved that it starts any.

    Args:
        message: One line for a person, with the figures and the next step.
        waits_for: What would let them start, in a few words.
    """

    code = mlflow_codes.RESOURCE_EXHAUSTED

    def __init__(self, message: str, waits_for: str = "") -> None:
        super().__init__(message)
        self.waits_for = waits_for


class HeldError(LimitError):
    """Nothing is wrong: a rule or a deployment is held by a person, or its endpoint may not move at this hour.

    Args:
        message: One line for a person, with who holds it and what lifts it.
        waits_for: What will let it go on, in a few words.
        until: Unix time in seconds at which it may go on; 0 when nobody has said.
    """

    def __init__(self, message: str, waits_for: str = "", until: float = 0.0) -> None:
        super().__init__(message, waits_for)
        self.until = until


class NotWantedError(FireworksError):
    """The work was stopped, because nobody wants its result any more."""

    code = mlflow_codes.CANCELLED


class UnsupportedError(FireworksError):
    """MLflow offers the call, this release does not; or the MLflow at hand is too old for it."""

    code = mlflow_codes.NOT_IMPLEMENTED
