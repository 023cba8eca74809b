"""What the gateway makes of answers, the odd ones too. Answers are scripted; real servers are in other tests."""

import json

import httpx
import pytest
from pydantic import SecretStr

from mlflow_fireworks.errors import (
    ApiError,
    FailedPreconditionError,
    InvalidConfigError,
    InvalidRequestError,
    UnavailableError,
)
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry

QUICK = Retry(attempts=3, wait_initial=0.001, wait_max=0.002)
MODEL = "accounts/acme/models/chat"


class Script:
    """Gives the scripted answers in turn, the last one again and again."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def answer(body, status=200, **headers):
    return httpx.Response(status, json=body, headers=headers)


def open_gateway(*answers, account="acme"):
    script = Script(*answers)
    told = []
    gateway = Gateway(
        "https://api.example",
        SecretStr("fw_secret"),
        account,
        retry=QUICK,
        tell=told.append,
        transport=httpx.MockTransport(script),
    )
    return gateway, script, told


def test_the_key_goes_out_as_a_bearer_token():
    gateway, script, _ = open_gateway(answer({"name": MODEL}))
    gateway.models.find("chat")
    assert script.requests[0].headers["authorization"] == "Bearer fw_secret"
    assert script.requests[0].url == "https://api.example/v1/accounts/acme/models/chat"


def test_an_answer_full_of_nulls_and_news_is_read():
    body = {
        "name": MODEL,
        "state": "SOMETHING_NEW",
        "deprecationDate": None,
        "description": None,
        "status": None,
        "contextLength": None,
        "baseModelDetails": {"parameterCount": "8030261248", "modelType": "llama", "news": 1},
        "deployedModelRefs": [],
    }
    model = open_gateway(answer(body))[0].models.find("chat")
    assert model.state == "SOMETHING_NEW"
    assert model.base_model_details.parameter_count == 8_030_261_248
    assert model.status.code == "OK"
    assert model.description == ""


def test_the_account_is_asked_for_once():
    gateway, script, _ = open_gateway(
        httpx.Response(200, headers={"x-fireworks-account-id": "acme"}), answer({"models": []}), account=None
    )
    assert gateway.account == "acme"
    assert list(gateway.models.list()) == []
    assert [request.url.path for request in script.requests] == ["/verifyApiKey", "/v1/accounts/acme/models"]


def test_an_api_that_does_not_say_the_account_asks_for_it():
    gateway, _, _ = open_gateway(httpx.Response(200), account=None)
    with pytest.raises(InvalidConfigError, match="use the target fireworks:/ACCOUNT"):
        _ = gateway.account


def test_an_api_without_that_call_lists_the_accounts():
    missing = answer({"code": 5, "message": "not found"}, 404)
    gateway, _, _ = open_gateway(missing, answer({"accounts": [{"name": "accounts/acme"}]}), account=None)
    assert gateway.account == "acme"
    gateway, _, _ = open_gateway(
        missing, answer({"accounts": [{"name": "accounts/a"}, {"name": "accounts/b"}]}), account=None
    )
    with pytest.raises(InvalidConfigError, match="it has access to a, b"):
        _ = gateway.account


def test_lists_are_read_to_the_last_page():
    pages = [
        answer({"models": [{"name": f"{MODEL}-{number}"}], "nextPageToken": token})
        for number, token in enumerate(["a", "b", ""])
    ]
    gateway, script, _ = open_gateway(*pages)
    assert [model.model_id for model in gateway.models.list()] == ["chat-0", "chat-1", "chat-2"]
    assert [request.url.params.get("pageToken") for request in script.requests] == [None, "a", "b"]


def test_a_page_token_that_repeats_does_not_loop_for_ever():
    gateway, script, _ = open_gateway(answer({"models": [], "nextPageToken": "same"}))
    assert list(gateway.models.list()) == []
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"code": 3, "details": [], "message": "bad enum"}, "INVALID_PARAMETER_VALUE"),
        (401, {"error": "unauthorized"}, "UNAUTHENTICATED"),
        (403, {"error": {"code": 7, "message": "no"}}, "PERMISSION_DENIED"),
        (404, {"code": 5, "message": "not found"}, "RESOURCE_DOES_NOT_EXIST"),
        (409, {"code": 6, "message": "already exists"}, "RESOURCE_ALREADY_EXISTS"),
        (412, {"message": "suspended"}, "PERMISSION_DENIED"),
        (418, {}, "INTERNAL_ERROR"),
        (429, {"code": 8, "message": "slow"}, "REQUEST_LIMIT_EXCEEDED"),
        (503, {"code": 14, "message": "down"}, "TEMPORARILY_UNAVAILABLE"),
    ],
)
def test_refusals_become_one_line_with_the_servers_words(status, body, code):
    gateway, _, _ = open_gateway(answer(body, status, **{"x-request-id": "r-1"}))
    with pytest.raises(ApiError) as caught:
        gateway.models.create("chat", {})
    error = caught.value
    assert (error.status, error.error_code, error.request_id) == (status, code, "r-1")
    assert "chat" in str(error)
    assert "\n" not in str(error)
    assert "fw_secret" not in str(error)


@pytest.mark.parametrize("body", [b"<html>\n<h1>Bad gateway</h1></html>", b"", b"[1]", b'"x"', b'{"code": "x"}'])
def test_a_refusal_that_is_not_json_is_still_one_line(body):
    gateway, _, _ = open_gateway(httpx.Response(400, content=body))
    with pytest.raises(ApiError) as caught:
        gateway.models.create("chat", {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        {"code": 9, "details": [], "message": "file a is not there yet"},
        {"error": {"code": 9, "message": "landing"}},
        {"message": "FAILED_PRECONDITION: landing"},
    ],
)
def test_not_yet_is_told_by_number_or_word(body):
    with pytest.raises(FailedPreconditionError):
        open_gateway(answer(body, 400))[0].models.validate("chat")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_trouble_that_passes_is_tried_again(status):
    gateway, script, told = open_gateway(answer({}, status), answer({}, status), answer({"warnings": ["w"]}))
    assert gateway.models.validate("chat").warnings == ("w",)
    assert len(script.requests) == 3
    assert len(told) == 2


def test_a_conflict_is_never_tried_again():
    gateway, script, _ = open_gateway(answer({"code": 6, "message": "already exists"}, 409))
    with pytest.raises(ApiError):
        gateway.models.create("chat", {})
    assert len(script.requests) == 1


def test_no_network_says_what_to_check():
    gateway, script, _ = open_gateway(httpx.ConnectError("[Errno -2] Name or service not known"))
    with pytest.raises(UnavailableError, match=r"api\.example.*Name or service.*3 times; check the network"):
        gateway.models.find("chat")
    assert len(script.requests) == 3


def test_a_page_that_is_not_the_api_says_so():
    gateway, _, _ = open_gateway(httpx.Response(200, text="<html>login</html>"))
    with pytest.raises(ApiError, match="is the target an address of Fireworks' API"):
        gateway.models.find("chat")


PAGE = "<!doctype html><html><head><title>Acme\n  Secure Gateway</title></head><body>?token=s3cret</body></html>"


@pytest.mark.parametrize("content_type", ["text/html", "text/html; charset=utf-8", "application/xhtml+xml"])
@pytest.mark.parametrize("status", [200, 403, 404, 511])
def test_a_page_of_something_in_between_is_no_answer_of_fireworks(status, content_type):
    def reply():
        return httpx.Response(status, content=PAGE.encode(), headers={"content-type": content_type})

    for call in (
        lambda models: models.create("chat", {}),
        lambda models: models.update("chat", {}),
        lambda models: models.validate("chat"),
        lambda models: list(models.list()),
    ):
        gateway, script, _ = open_gateway(reply())
        with pytest.raises(ApiError, match=r"“Acme Secure Gateway”.*something in between answered") as caught:
            call(gateway.models)
        assert "s3cret" not in str(caught.value)
        assert len(script.requests) == 1


@pytest.mark.parametrize("status", [200, 404])
def test_a_page_does_not_pass_for_a_deletion_or_an_absence(status):
    gateway, _, _ = open_gateway(httpx.Response(status, html=PAGE), httpx.Response(status, html=PAGE))
    for call in (gateway.models.delete, gateway.models.find):
        with pytest.raises(ApiError, match="something in between"):
            call("chat")


def test_a_limit_of_size_on_the_way_says_who_has_it():
    gateway, script, _ = open_gateway(httpx.Response(413, html="<h1>413 Request Entity Too Large</h1>"))
    with pytest.raises(InvalidRequestError, match=r"“413 Request .* Large” .413.; a proxy or gateway in between"):
        gateway.models.create("chat", {})
    assert len(script.requests) == 1


def test_redirects_are_not_followed_with_the_key():
    gateway, script, _ = open_gateway(httpx.Response(302, headers={"location": "https://evil.example/"}))
    with pytest.raises(ApiError, match=r"\(302\); something in between answered"):
        gateway.models.find("chat")
    assert len(script.requests) == 1


def test_a_missing_model_is_none_and_deleting_it_is_fine():
    gateway, _, _ = open_gateway(answer({"code": 5, "message": "not found"}, 404))
    assert gateway.models.find("chat") is None
    gateway.models.delete("chat")


def test_sizes_travel_in_one_call_as_text():
    urls = {"a": "https://s.example/a?sig=1", "d/b": "https://s.example/b?sig=2"}
    gateway, script, _ = open_gateway(answer({"filenameToSignedUrls": urls}))
    signed = gateway.models.sign_uploads("chat", {"a": 5, "d/b": 2**40})
    assert {name: url.get_secret_value() for name, url in signed.items()} == urls
    assert "sig" not in repr(signed)
    assert json.loads(script.requests[0].content)["filenameToSize"] == {"a": "5", "d/b": str(2**40)}


def test_a_file_without_a_url_is_an_error():
    gateway, _, _ = open_gateway(answer({"filenameToSignedUrls": {"a": "https://s.example/a"}}))
    with pytest.raises(ApiError, match="no upload URL for b"):
        gateway.models.sign_uploads("chat", {"a": 1, "b": 1})


def test_files_are_never_sent_in_the_clear():
    gateway, _, _ = open_gateway(answer({"filenameToSignedUrls": {"a": "http://storage.example/a?sig=s3cret"}}))
    with pytest.raises(ApiError, match="not https") as caught:
        gateway.models.sign_uploads("chat", {"a": 1})
    assert "s3cret" not in str(caught.value)
