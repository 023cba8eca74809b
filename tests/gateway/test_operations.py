"""What the gateway makes of the answers to an import and of its operation; answers are scripted."""

import json
import logging

import httpx
import pytest
from pydantic import SecretStr

from mlflow_fireworks.errors import ApiError, FailedPreconditionError, UnexpectedAnswerError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.gateway.operations import S3Source
from mlflow_fireworks.http import Retry

OPERATION = "accounts/acme/operations/op-1"
KEY_ID, SECRET = "AKIAQQQQEXAMPLE12345", "kR9+very/secret/key"
SOURCE = S3Source("models", "chat", access_key_id=SecretStr(KEY_ID), access_secret=SecretStr(SECRET))


def open_gateway(*answers):
    waiting, requests = list(answers), []

    def respond(request):
        requests.append(request)
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    retry = Retry(attempts=2, wait_initial=0.001, wait_max=0.002)
    transport = httpx.MockTransport(respond)
    return Gateway("https://api.example", SecretStr("fw_key"), "acme", retry=retry, transport=transport), requests


def test_an_import_posts_the_source_and_returns_the_operation():
    gateway, requests = open_gateway(
        httpx.Response(200, json={"name": OPERATION, "metadata": {"statusMessage": "a\nb"}})
    )
    operation = gateway.models.import_files("chat", SOURCE)
    assert (operation.name, operation.done, operation.progress) == (OPERATION, False, "a b")
    assert requests[0].method == "POST"
    assert requests[0].url == "https://api.example/v1/accounts/acme/models/chat:import"
    assert json.loads(requests[0].content) == {
        "awsS3Source": {"s3Bucket": "models", "s3Path": "chat/", "accessKeyId": KEY_ID, "accessSecret": SECRET}
    }


@pytest.mark.parametrize(
    "body",
    [
        {"name": OPERATION, "done": True, "error": None, "response": {"@type": "x"}, "metadata": None},
        {"name": OPERATION, "done": True, "metadata": "odd", "news": 1},
        {"name": OPERATION, "done": True, "error": {"code": 0, "message": "", "details": []}, "metadata": {}},
    ],
)
def test_an_operation_that_ended_well_is_read_in_all_spellings(body):
    gateway, requests = open_gateway(httpx.Response(200, json=body))
    operation = gateway.models.find_operation(OPERATION)
    assert operation.done
    assert operation.error.code == 0
    assert operation.progress == ""
    assert requests[0].url.path == f"/v1/{OPERATION}"


def test_an_operation_nobody_knows_is_none():
    gateway, _ = open_gateway(httpx.Response(404, json={"code": 5, "message": "not found"}))
    assert gateway.models.find_operation(OPERATION) is None


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"done": "perhaps"}', b'{"done": true, "error": "x"}'])
def test_an_answer_that_is_no_operation_says_so(content):
    gateway, _ = open_gateway(httpx.Response(200, content=content))
    with pytest.raises(ApiError, match=r"an unexpected reply .not a Operation"):
        gateway.models.find_operation(OPERATION)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(400, json={"code": 9, "message": f"key {KEY_ID} with {SECRET} may not read it"}),
        httpx.Response(403, text=f"<p>{KEY_ID} {SECRET}</p>"),
        httpx.Response(200, text=f'{{"name": 1, "echo": "{KEY_ID} {SECRET}"}}'),
        httpx.Response(503, json={"code": 14, "message": f"{KEY_ID} {SECRET}"}),
    ],
    ids=["code 9", "403", "no operation", "503 for ever"],
)
def test_a_refusal_that_quotes_the_keys_is_told_without_them(answer, caplog):
    caplog.set_level(logging.DEBUG)
    gateway, _ = open_gateway(answer)
    with pytest.raises(ApiError) as caught:
        gateway.models.import_files("chat", SOURCE)
    error = caught.value
    everything = f"{error} {error.message} {error.server_message} {error.__cause__} {caplog.text}"
    assert KEY_ID not in everything
    assert SECRET not in everything
    assert "…" in everything
    if answer.is_success:
        assert isinstance(error, UnexpectedAnswerError)
        return
    assert error.status == answer.status_code
    assert isinstance(error, FailedPreconditionError) == (error.api_code == 9)
