"""Which failures a promotion outlasts, and which end it."""

import sqlite3

import httpx
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes

from mlflow_fireworks import errors
from mlflow_fireworks.gateway.refusals import refusal
from mlflow_fireworks.hooks.failures import FEW, describe_culprit, most_tries
from mlflow_fireworks.http import TransientError

AS_LONG_AS_ASKED = None
TRIES = {
    errors.InvalidConfigError: 1,
    errors.NoVersionError: 1,
    errors.BusyError: AS_LONG_AS_ASKED,
    errors.CredentialsError: 1,
    errors.SourceError: AS_LONG_AS_ASKED,
    errors.RangeError: AS_LONG_AS_ASKED,
    errors.ReplacedError: AS_LONG_AS_ASKED,
    errors.CheckpointError: 1,
    errors.PreflightError: 1,
    errors.ConflictError: FEW,
    errors.InUseError: FEW,
    errors.NotFoundError: FEW,
    errors.ApiError: FEW,
    errors.RefusedError: FEW,
    errors.InvalidRequestError: 1,
    errors.AlreadyExistsError: FEW,
    errors.QuotaError: AS_LONG_AS_ASKED,
    errors.FailedPreconditionError: AS_LONG_AS_ASKED,
    errors.FailedStateError: FEW,
    errors.UnexpectedAnswerError: FEW,
    errors.UnavailableError: AS_LONG_AS_ASKED,
    errors.TransferError: AS_LONG_AS_ASKED,
    errors.DeadlineError: AS_LONG_AS_ASKED,
    errors.LimitError: AS_LONG_AS_ASKED,
    errors.HeldError: AS_LONG_AS_ASKED,
    errors.NotWantedError: FEW,
    errors.UnsupportedError: 1,
}
STATUSES = dict.fromkeys((401, 402, 403, 412), 1)
STATUSES |= dict.fromkeys((404, 409, 410, 501), FEW)
STATUSES |= dict.fromkeys((408, 429, 500, 502, 503, 504, 522), AS_LONG_AS_ASKED)


def make(kind):
    if issubclass(kind, errors.PreflightError):
        return kind(["no tokenizer"], "models:/chat/3")
    if issubclass(kind, errors.NoVersionError):
        return kind("no", None)
    return kind("no", status=404) if issubclass(kind, errors.RefusedError) else kind("no")


def all_errors(base=errors.FireworksError):
    for error in base.__subclasses__():
        yield error
        yield from all_errors(error)


def test_every_error_of_the_package_is_decided_on():
    assert set(all_errors()) - set(TRIES) == set()


@pytest.mark.parametrize("kind", TRIES, ids=lambda kind: kind.__name__)
def test_tries_by_type(kind):
    assert most_tries(make(kind)) == TRIES[kind]


@pytest.mark.parametrize("status", STATUSES)
def test_tries_of_what_fireworks_refuses(status):
    refused = refusal(httpx.Response(status, json={"message": "no"}), "create accounts/acme/models/chat", "api.example")
    assert most_tries(refused) == STATUSES[status]


def test_a_quota_that_is_used_up_may_be_raised_whatever_the_status():
    assert most_tries(errors.RefusedError("no", status=403, api_code=8)) is AS_LONG_AS_ASKED
    assert most_tries(errors.InvalidRequestError("no", status=400, api_code=8)) is AS_LONG_AS_ASKED
    for status in (403, 429):
        body = {"code": 7, "message": "global--h100-count for account acme, in use: 8, quota: 8, requesting: 1"}
        refused = refusal(httpx.Response(status, json=body), "create endpoint prod", "api.example")
        assert most_tries(refused) is AS_LONG_AS_ASKED


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (MlflowException("away", error_code=codes.TEMPORARILY_UNAVAILABLE), AS_LONG_AS_ASKED),
        (MlflowException("500"), AS_LONG_AS_ASKED),
        (MlflowException("no", error_code=codes.PERMISSION_DENIED), 1),
        (requests.ConnectionError("refused"), AS_LONG_AS_ASKED),
        (httpx.ConnectTimeout("slow"), AS_LONG_AS_ASKED),
        (TransientError("503"), AS_LONG_AS_ASKED),
        (OSError("no space left on device"), AS_LONG_AS_ASKED),
        (sqlite3.OperationalError("locked"), FEW),
        (KeyError("a fault of ours"), FEW),
    ],
)
def test_tries_of_errors_from_elsewhere(error, tries):
    assert most_tries(error) == tries


def test_a_promotion_waits_for_what_did_not_answer_by_its_name():
    away = errors.UnavailableError("it does not answer", where="the MLflow server at http://registry")
    assert describe_culprit(away) == "the MLflow server at http://registry"
    assert describe_culprit(errors.UnavailableError("it does not answer")) == "an answer"
