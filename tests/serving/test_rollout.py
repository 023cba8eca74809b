"""Endpoints that move to another model: the new one answers before the old one goes, or the old one stays."""

import threading
from dataclasses import replace

import httpx
import pytest

from mlflow_fireworks.errors import (
    ApiError,
    ConflictError,
    DeadlineError,
    InUseError,
    InvalidConfigError,
    UnavailableError,
)
from mlflow_fireworks.serving.endpoints import create_endpoint, get_endpoint, update_endpoint
from mlflow_fireworks.serving.places import list_endpoints
from mlflow_fireworks.serving.removal import stop_serving, take_adapter_off
from mlflow_fireworks.serving.rollout import serve_deployment

QWEN = "accounts/fireworks/models/qwen3-8b"
CHAT, CHAT_2 = "accounts/acme/models/chat", "accounts/acme/models/chat-r2"
ROUTER = "accounts/acme/routers/prod"
LORA, LORA_2 = "accounts/acme/models/lora", "accounts/acme/models/lora-r2"


@pytest.fixture
def served(world):
    """The endpoint `prod` serves chat; chat-r2 is READY."""
    world.first, world.second = world.base("chat"), world.base("chat-r2")
    create_endpoint(world.run(model="chat", max_replicas=2, scale_to_zero_window="20m", description="ours"), "prod")
    world.clock[0] += 60
    return world


@pytest.fixture
def tuned(world):
    """The endpoint `prod` serves a base that accepts adapters; lora and lora-r2 are READY."""
    world.first, world.second = world.adapter("lora"), world.adapter("lora-r2")
    create_endpoint(world.run(model=QWEN, enable_addons=True), "prod")
    world.clock[0] += 60
    return world


def move(world, model, run=None, *, moving=True, siblings=(CHAT, CHAT_2, LORA, LORA_2)):
    return serve_deployment(run or world.run(), "prod", model, set(siblings), live_merge=False, moving=moving)


def test_a_new_revision_takes_over_and_the_old_one_is_retired(served):
    place = move(served, served.second)
    assert (place.address, place.model) == (ROUTER, CHAT_2)
    assert served.deployments() == {"prod-2": "chat-r2"}
    shown = get_endpoint(served.run(), "prod")
    assert (shown["model"], shown["max_replicas"], shown["scale_to_zero_window"]) == (CHAT_2, 2, "1200s")
    assert (shown["description"], shown["others"]) == ("ours", [])


def test_the_old_one_goes_only_after_the_new_one_has_answered(served):
    move(served, served.second)
    kinds = [call.operation for call in served.emulator.requests]
    created = len(kinds) - 1 - kinds[::-1].index("create_deployment")
    assert kinds.index("delete_deployment") > kinds.index("completions", created)
    assert kinds.index("delete_deployment") > kinds.index("update_deployment", created)


def test_no_request_fails_while_an_endpoint_without_a_router_moves(served):
    """Somebody asks all the time, as `predict` does: the address looked up anew, then one question."""
    from mlflow_fireworks.serving.predictions import choose_place

    failed, asked, stop = [], [], threading.Event()

    def ask():
        http = httpx.Client(
            verify=False, base_url=served.gateway.transport.http.base_url, headers={"Authorization": "Bearer k"}
        )
        while not stop.is_set():
            place = choose_place(served.run(), None, "prod")
            answer = http.post("/inference/v1/completions", json={"model": place.address, "prompt": "x"})
            asked.append(place.address)
            if answer.status_code != 200 and choose_place(served.run(), None, "prod").address == place.address:
                failed.append(answer.status_code)
        http.close()

    served.emulator.behave("routers=absent-404")
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        move(served, served.second)
        move(served, served.first)
    finally:
        stop.set()
        asking.join()
    assert not failed
    assert len(set(asked)) > 1


def test_the_previous_one_can_be_kept_and_be_gone_back_to_at_once(served):
    move(served, served.second, served.run(keep_previous=True))
    assert served.deployments() == {"prod": "chat", "prod-2": "chat-r2"}
    assert any("prod is kept running, and billed" in warning for warning in served.told.warnings)
    made = len(served.emulator.calls("create_deployment"))
    served.clock[0] += 60
    back = move(served, served.first)
    assert (back.address, back.model) == (ROUTER, CHAT)
    assert len(served.emulator.calls("create_deployment")) == made
    assert served.deployments() == {"prod": "chat"}


@pytest.mark.parametrize("trouble", ["fails", "hangs", "does not answer", "no quota"])
def test_when_the_new_one_fails_it_is_cleaned_up_and_the_old_one_is_untouched(served, trouble):
    update_endpoint(served.run(min_replicas=1), "prod")
    before = get_endpoint(served.run(), "prod")
    run = served.run(ready_timeout="20m")
    if trouble == "fails":
        served.emulator.set_transition("accounts/*/deployments/prod-2", fails_with="out of memory")
    elif trouble == "hangs":
        served.emulator.set_transition("accounts/*/deployments/prod-2", seconds=9999)
    elif trouble == "does not answer":
        served.emulator.fault("completions", status=500, times=999)
    else:
        served.api.call("PATCH", "/quotas/global--h100-count", json={"value": 1})
    with pytest.raises((ApiError, DeadlineError, UnavailableError)) as caught:
        move(served, served.second, run)
    assert [item.deployment_id for item in served.gateway.deployments.list() if not item.is_gone] == ["prod"]
    assert get_endpoint(served.run(), "prod") == before
    assert "deployments/prod still answers on endpoint 'prod' with accounts/acme/models/chat" in caught.value.message
    if trouble != "no quota":
        assert "prod-2 was taken down again; it can be restored within seven days" in caught.value.message
        assert served.gateway.deployments.find("prod-2").is_gone


def test_a_move_that_was_cut_off_goes_on_with_what_is_up(served):
    def stop(_seconds):
        raise KeyboardInterrupt

    run = served.run()
    interrupted = replace(run, waiter=replace(run.waiter, sleep=stop))
    served.emulator.set_transition("accounts/*/deployments/prod-2", seconds=100)
    with pytest.raises(KeyboardInterrupt):
        move(served, served.second, interrupted)
    assert any("may still start, and is billed from then on" in text for text in served.told.warnings)
    assert get_endpoint(served.run(), "prod")["model"] == CHAT
    move(served, served.second)
    assert served.deployments() == {"prod-2": "chat-r2"}
    assert len(served.emulator.calls("create_deployment")) == 2


def test_the_same_revision_again_changes_nothing(served):
    before = len(served.emulator.calls("create_deployment"))
    move(served, served.first)
    assert len(served.emulator.calls("create_deployment")) == before


def test_what_serves_something_else_is_moved_only_by_force(served):
    served.base("other")
    other = served.gateway.models.find("other")
    with pytest.raises(ConflictError, match="endpoint 'prod' serves accounts/acme/models/chat"):
        move(served, other, siblings=[other.name])
    with pytest.raises(ConflictError, match="endpoint 'prod' serves"):
        move(served, served.second, moving=False)
    move(served, other, served.run(force=True), siblings=[other.name])
    assert served.deployments() == {"prod-2": "other"}


def test_other_gpus_for_the_same_model(world):
    create_endpoint(world.run(model=QWEN, max_replicas=2), "prod")
    changed = update_endpoint(world.run(accelerator_type="H200", accelerator_count=2), "prod")
    assert (changed["accelerator_type"], changed["accelerator_count"]) == ("NVIDIA_H200_141GB", 2)
    assert (changed["model"], changed["max_replicas"]) == (QWEN, 2)
    assert list(world.deployments()) == ["prod-2"]


def test_an_adapter_is_loaded_on_the_endpoint_and_the_next_one_takes_its_place(tuned):
    first = move(tuned, tuned.first)
    assert first.address == f"{LORA}#accounts/acme/deployments/prod"
    tuned.emulator.set_transition("deployedModels", seconds=600)
    tuned.clock[0] += 60
    second = move(tuned, tuned.second)
    assert second.address == f"{LORA_2}#accounts/acme/deployments/prod"
    assert any(f"{LORA_2} is DEPLOYING" in note for note in tuned.told.notes)
    tuned.clock[0] += 600
    assert get_endpoint(tuned.run(), "prod")["adapters"] == [LORA_2]
    assert tuned.deployments() == {"prod": "qwen3-8b"}


def test_an_adapter_that_does_not_load_is_unloaded_again(tuned):
    move(tuned, tuned.first)
    tuned.emulator.set_transition("deployedModels", fails_with="bad tensors")
    with pytest.raises(ApiError, match=r"lora-r2 could not be loaded on .*/prod: bad tensors"):
        move(tuned, tuned.second)
    assert get_endpoint(tuned.run(), "prod")["adapters"] == [LORA]
    states = {item.model: item.state for item in tuned.gateway.adapters.list()}
    assert LORA_2 not in states


def test_adapters_can_be_kept_side_by_side(tuned):
    move(tuned, tuned.first)
    move(tuned, tuned.second, tuned.run(keep_previous=True))
    assert set(get_endpoint(tuned.run(), "prod")["adapters"]) == {LORA, LORA_2}


def test_rules_for_adapters_come_first(world):
    lora = world.adapter()
    run = world.run()
    with pytest.raises(
        InvalidConfigError, match=r"no endpoint 'prod' to load it on.*-C enable_addons=true, or .*live_"
    ):
        move(world, lora)
    create_endpoint(world.run(model=QWEN), "prod")
    with pytest.raises(InvalidConfigError, match="it was created without -C enable_addons=true"):
        move(world, lora)
    create_endpoint(world.run(model="accounts/fireworks/models/gpt-oss-20b"), "other")
    with pytest.raises(InvalidConfigError, match=r"it serves .*gpt-oss-20b, and the adapter belongs to .*qwen3-8b"):
        serve_deployment(run, "other", lora, {LORA}, live_merge=False, moving=True)
    assert world.emulator.calls("create_deployed_model") == []


def test_an_adapter_may_have_gpus_of_its_own(world):
    lora = world.adapter()
    place = serve_deployment(world.run(), "mine", lora, {LORA}, live_merge=True, moving=False)
    assert (place.address, place.model) == ("accounts/acme/routers/mine", LORA)


def test_the_next_revision_of_a_merged_adapter_needs_no_option(world):
    first, second = world.adapter("lora"), world.adapter("lora-r2")
    serve_deployment(world.run(), "prod", first, {LORA}, live_merge=True, moving=False)
    assert move(world, second).address == ROUTER
    assert world.deployments() == {"prod-2": "lora-r2"}


def test_a_base_with_adapters_on_it_does_not_move_under_them(tuned):
    move(tuned, tuned.first)
    with pytest.raises(ConflictError, match=r"would drop its adapters .*/lora"):
        update_endpoint(tuned.run(accelerator_type="H200"), "prod")


def test_a_model_that_serves_is_released_only_on_request(served):
    with pytest.raises(InUseError, match=r"chat on endpoint prod; to take that down first: .*cascade=true"):
        stop_serving(served.run(), "chat", {CHAT, CHAT_2}, cascade=False)
    served.emulator.set_transition("deployments", seconds=20)
    stop_serving(served.run(), "chat", {CHAT, CHAT_2}, cascade=True)
    assert served.deployments() == {}


def test_release_unloads_adapters_and_leaves_their_base(tuned):
    move(tuned, tuned.first)
    stop_serving(tuned.run(), "lora", {LORA, LORA_2}, cascade=True)
    assert tuned.deployments() == {"prod": "qwen3-8b"}
    assert get_endpoint(tuned.run(), "prod")["adapters"] == []


def test_what_others_made_or_use_is_not_taken_down_by_a_cascade(tuned):
    move(tuned, tuned.first)
    with pytest.raises(ConflictError, match="also serves accounts/acme/models/lora"):
        stop_serving(tuned.run(), "base", {QWEN}, cascade=True)
    body = {"baseModel": CHAT, "acceleratorType": "NVIDIA_H100_80GB"}
    tuned.base("chat")
    tuned.api.call("POST", "/deployments?deploymentId=theirs", json=body)
    with pytest.raises(ConflictError, match="'theirs' was not created by this plugin"):
        stop_serving(tuned.run(), "chat", {CHAT}, cascade=True)
    assert set(tuned.deployments()) == {"prod", "theirs"}


def test_an_adapter_can_be_taken_off_and_its_model_kept(tuned):
    move(tuned, tuned.first)
    endpoint = list_endpoints(tuned.gateway)["prod"]
    take_adapter_off(tuned.run(), "lora", {LORA}, endpoint)
    assert tuned.gateway.models.find("lora").state == "READY"
    assert get_endpoint(tuned.run(), "prod")["adapters"] == []
