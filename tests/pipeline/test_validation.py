"""A validation that fails, on good days and on bad ones: what was sent is kept, and what passes is waited for."""

import json

import pytest
from support.advice import find_commands, parse
from support.checkpoints import make_llama

from mlflow_fireworks.errors import ApiError, DeadlineError, FireworksError

FILES = 6


def refusal(message, code=3):
    return json.dumps({"code": code, "details": [], "message": message})


@pytest.fixture
def llama(tmp_path):
    return str(make_llama(tmp_path / "llama"))


def create(account, llama, **options):
    return account.run(**options).create("chat", llama).to_dict()["state"]


@pytest.mark.parametrize(
    "trouble",
    [
        (400, refusal("config.json not found"), 3),  # as a client in production saw it
        (400, refusal("tokenizer.json: no such file"), 2),
        (400, refusal("files are landing", 9), 3),
        (412, refusal("files are landing", 9), 3),
        (412, '{"error": {"message": "FAILED_PRECONDITION: landing"}}', 1),
        (504, "", 7),
        (524, "<html>a timeout occurred</html>", 7),
        (503, refusal("try later", 14), 7),
    ],
)
def test_a_refusal_that_passes_costs_nothing_but_time(account, llama, trouble):
    status, body, times = trouble
    account.emulator.fault("validate_upload", status=status, body=body, times=times)
    assert create(account, llama) == "READY"
    assert len(account.sent()) == FILES


@pytest.mark.parametrize("status", [400, 504, 500, 524])
def test_a_success_whose_answer_was_lost_is_a_success(account, llama, status):
    account.emulator.fault("validate_upload", status=status, body=refusal("lost"), times=9, act=True)
    assert create(account, llama) == "READY"
    assert account.gateway.models.find("chat").state == "READY"


@pytest.mark.parametrize("message", ["tensor model.norm.weight has the wrong shape", "architecture X is not supported"])
def test_a_refusal_that_is_final_keeps_what_was_sent(account, llama, message):
    account.emulator.fault("validate_upload", status=400, body=refusal(message), times=1)
    with pytest.raises(ApiError, match="the uploaded part is kept: validate it again with: ") as caught:
        create(account, llama)
    assert message in caught.value.message
    [command] = find_commands(caught.value.message)
    assert parse(command)[0] == "update"
    assert account.run().finish("chat").model.state == "READY"
    assert len(account.sent()) == FILES


@pytest.mark.parametrize(
    ("message", "again"),
    [
        ("model.safetensors is truncated or corrupt", ["model.safetensors"]),
        ("model files are still being uploaded: config.json, tokenizer.json (2 of 6 missing)", None),
        ("tokenizer_config.json: bad JSON", ["tokenizer_config.json"]),
        ("something is wrong with my-config.json.bak", []),
        ("internal", []),
    ],
)
def test_only_what_the_service_names_is_sent_again(account, llama, message, again):
    account.emulator.fault("validate_upload", status=400, body=refusal(message), times=99)
    with pytest.raises(FireworksError):
        create(account, llama, timeout="60s")
    before = account.sent()
    account.emulator.clear_faults()
    assert create(account, llama) == "READY"
    expected = ["config.json", "tokenizer.json"] if again is None else again
    assert sorted(name for name in account.sent()[len(before) :]) == expected


def test_everything_is_sent_again_on_request(account, llama):
    account.emulator.fault("validate_upload", status=400, body=refusal("files are landing", 9), times=99)
    with pytest.raises(DeadlineError) as caught:
        create(account, llama, timeout="60s")
    account.emulator.clear_faults()
    finish, resend = find_commands(caught.value.message)
    assert "resend=true" in resend
    assert "resend" not in finish
    assert create(account, llama, resend=True) == "READY"
    assert len(account.sent()) == 2 * FILES


def test_a_key_without_permission_is_not_waited_for(account, llama):
    account.emulator.fault("validate_upload", status=403, body=refusal("no", 7), times=9)
    with pytest.raises(ApiError, match="this key has no permission"):
        create(account, llama)
    assert len(account.emulator.calls("validate_upload")) == 1
    assert account.gateway.models.find("chat").state == "UPLOADING"
    account.emulator.clear_faults()
    assert create(account, llama) == "READY"
    assert len(account.sent()) == FILES
