"""The first minutes of a deployment that is READY: refusals that pass, answers that are wrong, and what is given up."""

import json
from dataclasses import replace

import pytest

from mlflow_fireworks.errors import (
    ApiError,
    ConflictError,
    DeadlineError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    UnexpectedAnswerError,
)
from mlflow_fireworks.serving.endpoints import create_endpoint, delete_endpoint, get_endpoint, undelete_endpoint
from mlflow_fireworks.serving.predictions import choose_place, predict
from mlflow_fireworks.serving.rollout import serve_deployment

QWEN = "accounts/fireworks/models/qwen3-8b"
CHAT, CHAT_2 = "accounts/acme/models/chat", "accounts/acme/models/chat-r2"
LORA = "accounts/acme/models/lora"
EARLY = [
    {"status": 503, "body": "fault filter abort"},
    {"status": 404},
    {"status": 500},
    {"status": 502},
    {"status": 504},
    {"status": 520},
    {"status": 429},
    {"drop": "close"},
    {"drop": "reset"},
]


@pytest.fixture
def served(world):
    """The endpoint `prod` serves chat; chat-r2 is READY."""
    world.first, world.second = world.base("chat"), world.base("chat-r2")
    create_endpoint(world.run(model="chat", min_replicas=1), "prod")
    world.clock[0] += 3600
    return world


def move(world, model, **options):
    return serve_deployment(world.run(**options), "prod", model, {CHAT, CHAT_2}, live_merge=False, moving=True)


@pytest.mark.parametrize("trouble", EARLY, ids=str)
def test_what_a_fresh_deployment_answers_first_is_waited_out(served, trouble):
    served.emulator.fault("completions", times=12, **trouble)
    place = move(served, served.second)
    assert (place.address, place.model) == ("accounts/acme/routers/prod", CHAT_2)
    assert served.deployments() == {"prod-2": "chat-r2"}


@pytest.mark.parametrize("way", ["503-first:40", "404-first:40", "503-first:600s", "404-first:600s"])
def test_minutes_of_early_refusals_are_waited_out(served, way):
    served.emulator.behave(f"routing={way}")
    move(served, served.second)
    assert served.deployments() == {"prod-2": "chat-r2"}


def test_replicas_that_still_start_are_told_once_a_minute(served):
    served.emulator.behave("routing=503-first:600s")
    move(served, served.second)
    told = [
        note for note in served.told.notes if "prod-2 is READY, but its replicas are not: 1 initializing (503)" in note
    ]
    asked = [call for call in served.emulator.calls("completions") if call.status == 503]
    assert 0 < len(told) < len(asked) / 2


def test_an_answer_counts_although_no_replica_is_told_to_be_ready(served):
    served.emulator.fault("completions", times=9, status=200, body='{"choices": [{"text": " the"}]}')
    served.emulator.behave("routing=503-first:99999s")
    before = served.clock[0]
    move(served, served.second)
    assert served.clock[0] - before < 60


def test_any_refusal_passes_while_the_replicas_start(served):
    served.emulator.behave("routing=503-first:300s")
    served.emulator.fault("completions", status=400, times=5)
    move(served, served.second)
    assert served.deployments() == {"prod-2": "chat-r2"}


def test_a_refusal_that_does_not_pass_ends_a_move_at_once(served):
    before = served.clock[0]
    served.emulator.fault("completions", status=400, times=99, body='{"error": {"message": "no such operation"}}')
    with pytest.raises(RefusedError, match=r"no such operation.*prod still answers.*prod-2 was taken down again"):
        move(served, served.second)
    assert served.clock[0] - before < 60


def test_errors_of_the_model_itself_are_not_waited_out_for_an_hour(served):
    before = served.clock[0]
    served.emulator.fault("completions", status=500, times=999)
    with pytest.raises(RefusedError, match=r"\(500\).*prod still answers"):
        move(served, served.second)
    assert 240 < served.clock[0] - before < 600


def test_silence_is_waited_out_only_for_the_first_answer(served):
    hasty = replace(served.run(), request_timeout=0.1)
    served.emulator.fault("completions", times=2, stall_seconds=0.4)
    serve_deployment(hasty, "prod", served.second, {CHAT, CHAT_2}, live_merge=False, moving=True)
    assert any("prod-2 is READY but not reachable yet" in note for note in served.told.notes)
    served.emulator.fault("chat_completions", stall_seconds=0.4)
    with pytest.raises(UnavailableError, match=r"sent nothing for .*; allow more"):
        predict(hasty, choose_place(hasty, None, "prod"), "hi")


def test_the_limit_ends_it_in_one_line_and_can_be_undone(served):
    served.emulator.behave("routing=503-first:99999s")
    with pytest.raises(DeadlineError) as caught:
        move(served, served.second, ready_timeout="30m")
    message = caught.value.message
    assert "its replicas are not: 1 initializing (503) after 30m 0s; accounts/acme/deployments/prod still" in message
    assert "-C ready_timeout=" in message
    assert message.endswith("with: mlflow-fireworks endpoint undelete -t fireworks --name prod")
    assert served.deployments() == {"prod": "chat"}
    served.emulator.behave("routing=at-once")
    assert undelete_endpoint(served.run(), "prod")["model"] == CHAT
    assert served.deployments() == {"prod": "chat", "prod-2": "chat-r2"}
    move(served, served.second)
    assert served.deployments() == {"prod-2": "chat-r2"}
    assert len(served.emulator.calls("create_deployment")) == 2


def test_nothing_is_deleted_for_good_unless_it_is_asked_for(served):
    served.emulator.fault("completions", status=400, times=1)
    with pytest.raises(ApiError):
        move(served, served.second)
    served.emulator.set_transition("accounts/*/deployments/late", fails_with="no capacity")
    with pytest.raises(ApiError):
        create_endpoint(served.run(model="chat"), "late")
    create_endpoint(served.run(model="chat"), "late")
    for name in ("prod-2", "late"):
        assert served.api.call("GET", f"/deployments/{name}").json()["state"] == "DELETED"


def test_a_new_endpoint_that_refuses_is_stopped_too(world):
    world.emulator.fault("completions", status=400, times=1, body='{"error": {"message": "no such operation"}}')
    with pytest.raises(RefusedError, match=r"no such operation.*prod was taken down again.*endpoint undelete"):
        create_endpoint(world.run(model=QWEN), "prod")
    assert world.deployments() == {}


def test_what_cannot_be_taken_down_is_said_to_be_billed(served):
    served.emulator.fault("completions", status=400, times=1)
    served.emulator.fault("delete_deployment", status=403, times=9)
    with pytest.raises(RefusedError, match=r"prod-2 could not be taken down .*403.* and is billed while it is up"):
        move(served, served.second)


def test_an_outage_of_the_api_is_no_reason_to_give_a_deployment_up(served):
    served.emulator.set_transition("accounts/*/deployments/prod-2", seconds=120)
    served.emulator.fault("get_deployment", skip=3, status=503, times=12)
    move(served, served.second)
    assert any("prod-2 cannot be checked" in note for note in served.told.notes)
    assert served.deployments() == {"prod-2": "chat-r2"}


def test_one_that_stops_answering_when_it_takes_over_hands_back(served):
    served.emulator.fault("completions", skip=1, status=400, times=1)
    with pytest.raises(RefusedError, match="prod still answers"):
        move(served, served.second)
    assert get_endpoint(served.run(), "prod")["model"] == CHAT
    undelete_endpoint(served.run(), "prod")
    served.clock[0] += 60
    assert get_endpoint(served.run(), "prod")["model"] == CHAT  # what failed does not take over by coming back


def test_one_that_is_deleted_while_it_is_asked_is_not_waited_for(served):
    def sleep(seconds):
        served.sleep(seconds)
        served.api.call("DELETE", "/deployments/prod-2?hard=true&ignoreChecks=true")

    served.emulator.behave("routing=503-first:99999s")
    run = served.run()
    run = replace(run, waiter=replace(run.waiter, sleep=sleep))
    with pytest.raises(NotFoundError, match=r"prod-2 was deleted while it was starting; .*prod still answers"):
        serve_deployment(run, "prod", served.second, {CHAT, CHAT_2}, live_merge=False, moving=True)


def test_predict_is_as_patient_with_a_fresh_endpoint(served):
    move(served, served.second)
    for trouble in EARLY:
        served.emulator.fault("chat_completions", times=5, **trouble)
        assert predict(served.run(), choose_place(served.run(), None, "prod"), "hi").values
    served.clock[0] += 3600
    served.emulator.fault("chat_completions", times=5, status=503, body="fault filter abort")
    with pytest.raises(UnavailableError, match="503 Service Unavailable, 3 times"):
        predict(served.run(), choose_place(served.run(), None, "prod"), "hi")


def test_an_adapter_that_does_not_answer_leaves_the_endpoint_alone(world):
    lora = world.adapter("lora")
    create_endpoint(world.run(model=QWEN, enable_addons=True), "prod")
    world.emulator.fault("completions", times=999, status=503)
    with pytest.raises(DeadlineError, match=r"after 10m 0s; run the same command again, or .*ready_timeout=") as caught:
        serve_deployment(world.run(ready_timeout="10m"), "prod", lora, {LORA}, live_merge=False, moving=True)
    assert "delete" not in caught.value.message
    assert world.deployments() == {"prod": "qwen3-8b"}


@pytest.mark.parametrize(
    "body",
    [
        {"choices": []},
        {"choices": None},
        {},
        {"choices": [{"text": ""}]},
        {"choices": [{"text": "", "finish_reason": None}], "usage": {"completion_tokens": 0}},
    ],
    ids=str,
)
def test_an_empty_answer_is_none(served, body):
    served.emulator.fault("completions", status=200, body=json.dumps(body))
    with pytest.raises(UnexpectedAnswerError, match=r"answers, but with nothing.*prod still answers"):
        move(served, served.second)
    assert served.deployments() == {"prod": "chat"}


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"text": " the"}]},
        {"choices": [{"text": "", "finish_reason": "length"}]},
        {"choices": [{"text": ""}], "usage": {"completion_tokens": 1}},
    ],
    ids=str,
)
def test_a_token_without_a_text_is_an_answer(served, body):
    served.emulator.fault("completions", status=200, times=2, body=json.dumps(body))
    move(served, served.second)
    assert served.deployments() == {"prod-2": "chat-r2"}


def test_ids_that_are_taken_though_nothing_shows_them_are_passed_over(world):
    """Some services may not show what was softly deleted, while its id is taken all the same."""
    world.emulator.fault("create_deployment", status=409, times=2)
    assert create_endpoint(world.run(model=QWEN), "prod")["deployment"] == "accounts/acme/deployments/prod-3"
    world.emulator.fault("create_deployment", status=409, times=99)
    with pytest.raises(ConflictError, match="are all taken; choose another endpoint name"):
        create_endpoint(world.run(model=QWEN), "other")


def test_only_what_is_softly_deleted_can_be_brought_back(served):
    with pytest.raises(NotFoundError, match=r"endpoint 'prod' cannot be restored.*list-endpoints"):
        undelete_endpoint(served.run(), "prod")
    delete_endpoint(served.run(), "prod")
    assert undelete_endpoint(served.run(), "prod")["model"] == CHAT
    assert any("billing begins" in warning for warning in served.told.warnings)
    assert served.deployments() == {"prod": "chat"}
    delete_endpoint(served.run(hard=True), "prod")
    with pytest.raises(NotFoundError):
        undelete_endpoint(served.run(), "prod")
