"""Endpoints on the local Fireworks, on good days and bad ones."""

from dataclasses import replace

import pytest

from mlflow_fireworks.errors import ApiError, ConflictError, DeadlineError, InvalidConfigError, NotFoundError
from mlflow_fireworks.serving.endpoints import (
    create_endpoint,
    delete_endpoint,
    get_endpoint,
    list_all,
    update_endpoint,
)

CHAT = "accounts/acme/models/chat"
QWEN = "accounts/fireworks/models/qwen3-8b"


def test_an_endpoint_is_ready_when_it_has_answered(world):
    world.base()
    made = create_endpoint(world.run(model="chat"), "prod")
    assert (made["name"], made["state"], made["model"]) == ("prod", "READY", CHAT)
    assert (made["address"], made["router"]) == ("accounts/acme/routers/prod",) * 2
    assert made["deployment"] == "accounts/acme/deployments/prod"
    assert made["endpoint_type"] == "llm/v1/chat"
    assert made["managed"]
    assert len(world.emulator.calls("completions")) == 2  # at its own address, and by way of the router
    assert get_endpoint(world.run(), "prod") == made
    assert list_all(world.run()) == [made]
    assert any("answers" in note for note in world.told.notes)


def test_a_list_of_endpoints_asks_for_the_models_that_are_served_only(world):
    world.base()
    for name, model in (("prod", "chat"), ("beta", "chat"), ("public", QWEN)):
        create_endpoint(world.run(model=model), name)
    before = len(world.emulator.calls("get_model")), len(world.emulator.calls("list_models"))
    assert [item["name"] for item in list_all(world.run())] == ["beta", "prod", "public"]
    assert len(world.emulator.calls("get_model")) - before[0] == 2
    assert len(world.emulator.calls("list_models")) == before[1]


def test_a_model_of_another_account_that_may_not_be_seen_hides_no_endpoint(world):
    create_endpoint(world.run(model=QWEN), "public")
    world.emulator.fault("get_model", status=403, times=2)
    assert [item["task"] for item in list_all(world.run())] == ["llm/v1/chat"]


def test_the_price_is_said_before_it_is_owed(world):
    create_endpoint(world.run(model=QWEN, accelerator_type="h100", accelerator_count=2, max_replicas=3), "prod")
    (warning,) = world.told.warnings
    assert "billing begins" in warning
    assert "2 x NVIDIA_H100_80GB) costs about $16.00 an hour, $384 a day" in warning
    assert "up to 3 replicas, none after 1h 0m without a request" in warning


def test_a_slow_start_is_waited_for_with_progress(open_world):
    world = open_world(behaviours={"routing": "404-first:180s"})
    world.emulator.set_transition("deployments", seconds=400)
    create_endpoint(world.run(model=QWEN), "prod")
    assert any("prod is CREATING: no replica yet" in note for note in world.told.notes)
    assert any("READY but not reachable yet (404)" in note for note in world.told.notes)


def test_a_start_that_takes_too_long_says_how_to_go_on_and_what_it_costs(world):
    world.emulator.set_transition("deployments", seconds=4000)
    with pytest.raises(
        DeadlineError, match=r"CREATING.*after 10m 0s; it may still start, and is billed from then on"
    ) as caught:
        create_endpoint(world.run(model=QWEN, ready_timeout="10m"), "prod")
    assert "mlflow-fireworks endpoint delete -t fireworks --name prod" in caught.value.message
    world.clock[0] += 4000
    world.api.http.delete("/_emulator/transitions")
    assert create_endpoint(world.run(model=QWEN), "prod")["state"] == "READY"
    assert len(world.emulator.calls("create_deployment")) == 1


def test_stopping_while_it_starts_says_that_it_may_still_be_billed(world):
    def stop(_seconds):
        raise KeyboardInterrupt

    run = world.run(model=QWEN)
    world.emulator.set_transition("deployments", seconds=100)
    with pytest.raises(KeyboardInterrupt):
        create_endpoint(replace(run, waiter=replace(run.waiter, sleep=stop)), "prod")
    assert "prod may still start, and is billed from then on; continue with the same command" in world.told.warnings[-1]


def test_one_that_never_answers_says_that_it_is_billed(open_world):
    world = open_world(behaviours={"routing": "404-first:99999s"})
    with pytest.raises(
        DeadlineError, match=r"not reachable yet \(404\) after 1h 0m; it may still start, and is billed from then on"
    ):
        create_endpoint(world.run(model=QWEN), "prod")


def test_a_failed_start_quotes_the_status_and_is_made_again_the_next_time(world):
    world.emulator.set_transition("deployments", fails_with="no capacity in US_IOWA_1")
    with pytest.raises(ApiError, match=r"deployments/prod is FAILED: no capacity in US_IOWA_1"):
        create_endpoint(world.run(model=QWEN), "prod")
    world.api.http.delete("/_emulator/transitions")
    assert create_endpoint(world.run(model=QWEN), "prod")["state"] == "READY"


def test_not_waiting_returns_at_once_and_a_second_call_finishes(world):
    world.emulator.set_transition("deployments", seconds=100)
    assert create_endpoint(world.run(model=QWEN, wait=False), "prod")["state"] == "CREATING"
    assert world.emulator.calls("completions") == []
    assert create_endpoint(world.run(model=QWEN), "prod")["state"] == "READY"
    assert world.deployments() == {"prod": "qwen3-8b"}


def test_the_same_again_starts_no_second_one(world):
    for _ in "ab":
        create_endpoint(world.run(model=QWEN), "prod")
    assert len(world.emulator.calls("create_deployment")) == 1


def test_a_lost_reply_to_create_is_found_again(world):
    world.emulator.fault("create_deployment", act=True, drop="close")
    assert create_endpoint(world.run(model=QWEN), "prod")["state"] == "READY"
    assert world.deployments() == {"prod": "qwen3-8b"}


def test_another_model_under_the_same_name_is_a_conflict(world):
    world.base()
    create_endpoint(world.run(model=QWEN), "prod")
    with pytest.raises(ConflictError, match="endpoint update -t fireworks --name prod -C model=chat"):
        create_endpoint(world.run(model="chat"), "prod")


def test_a_dry_run_asks_fireworks_and_starts_nothing(world):
    assert create_endpoint(world.run(model=QWEN, dry_run=True), "prod")["state"] == "DRY_RUN"
    assert world.deployments() == {}
    assert any("costs about $8.00 an hour" in warning for warning in world.told.warnings)
    with pytest.raises(ApiError, match="must be at least 5 minutes"):
        create_endpoint(world.run(model=QWEN, dry_run=True, scale_to_zero_window="1m"), "prod")


def test_everything_that_is_given_arrives(world):
    create_endpoint(
        world.run(
            model=QWEN,
            accelerator_type="NVIDIA_H100_80GB",
            accelerator_count="1",
            precision="bf16",
            min_replicas="1",
            max_replicas="2",
            scale_up_window="1m",
            scale_down_window="5m",
            scale_to_zero_window="10m",
            load_targets='{"concurrent_requests": 8}',
            placement="US",
            enable_addons="true",
            max_context_length="4096",
            display_name="Production",
            description="ours",
        ),
        "prod",
    )
    body = world.api.call("GET", "/deployments/prod").json()
    assert (body["minReplicaCount"], body["maxReplicaCount"], body["precision"]) == (1, 2, "BF16")
    policy = body["autoscalingPolicy"]
    assert (policy["scaleUpWindow"], policy["scaleDownWindow"], policy["scaleToZeroWindow"]) == ("60s", "300s", "600s")
    assert policy["loadTargets"] == {"concurrent_requests": 8}
    assert body["placement"]["multiRegion"] == "US"
    assert (body["enableAddons"], body["maxContextLength"], body["displayName"]) == (True, 4096, "Production")
    assert body["description"].startswith("ours\nEndpoint prod by mlflow-fireworks: live=20")


def test_shapes_by_default_by_preset_and_for_adapters(world):
    for name, options in {"one": {}, "two": {"deployment_shape": "fast"}, "three": {"enable_addons": True}}.items():
        create_endpoint(world.run(model=QWEN, wait=False, **options), name)
    shapes = [get_endpoint(world.run(), name)["deployment_shape"] for name in ("one", "two", "three")]
    assert [shape.split("/")[3] for shape in shapes] == ["qwen3-8b-minimal", "qwen3-8b-fast", "qwen3-8b-minimal"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deployment_shape": "THROUGHPUT"}, r"no shape THROUGHPUT fits.*these do: MINIMAL \(1 x NVIDIA_H100_80GB"),
        ({"deployment_shape": "biggest"}, "needs default, a preset"),
        ({"deployment_shape": "fast", "accelerator_type": "H100"}, "are mutually exclusive"),
        ({"accelerator_count": 2}, "needs -C accelerator_type"),
    ],
)
def test_hardware_that_cannot_be_is_said_before_anything_starts(world, options, message):
    with pytest.raises(InvalidConfigError, match=message):
        create_endpoint(world.run(model=QWEN, **options), "prod")
    assert world.emulator.calls("create_deployment") == []


def test_what_fireworks_refuses_comes_with_the_shapes_that_fit(world):
    shape = "accounts/fireworks/deploymentShapes/gpt-oss-20b-fast"
    with pytest.raises(ApiError, match=r"is not validated for model.*shapes that fit .*MINIMAL \(1 x NVIDIA_H100"):
        create_endpoint(world.run(model=QWEN, deployment_shape=shape), "prod")


def test_a_used_up_quota_is_one_line(world):
    with pytest.raises(ApiError, match="in use: 0, quota: 8, requesting: 9"):
        create_endpoint(world.run(model=QWEN, accelerator_type="H100", accelerator_count=9), "prod")


def test_only_ready_models_and_models_that_exist(world):
    world.api.create("raw")
    with pytest.raises(InvalidConfigError, match="raw is UPLOADING, not READY"):
        create_endpoint(world.run(model="raw"), "prod")
    with pytest.raises(NotFoundError, match="no deployment or model 'nope'"):
        create_endpoint(world.run(model="nope"), "prod")
    with pytest.raises(InvalidConfigError, match="needs a model"):
        create_endpoint(world.run(), "prod")


def test_replicas_and_texts_change_in_place(world):
    create_endpoint(world.run(model=QWEN, description="first"), "prod")
    changed = update_endpoint(world.run(max_replicas=3, description="second", scale_to_zero_window="30m"), "prod")
    assert (changed["max_replicas"], changed["description"]) == (3, "second")
    assert changed["scale_to_zero_window"] == "1800s"
    assert changed["managed"]
    assert len(world.emulator.calls("create_deployment")) == 1
    off = update_endpoint(world.run(min_replicas=0, max_replicas=0), "prod")
    assert off["replicas"] == "paused: max_replicas is 0"


def test_deleting_is_idempotent_and_needs_no_second_asking_after_traffic(world):
    create_endpoint(world.run(model=QWEN), "prod")
    assert delete_endpoint(world.run(), "prod")
    assert any("received inference requests" in note for note in world.told.notes)
    assert not delete_endpoint(world.run(), "prod")
    assert world.deployments() == {}


def test_a_name_that_was_deleted_can_be_used_again(world):
    create_endpoint(world.run(model=QWEN), "prod")
    delete_endpoint(world.run(), "prod")
    again = create_endpoint(world.run(model=QWEN), "prod")
    assert (again["name"], again["deployment"]) == ("prod", "accounts/acme/deployments/prod-2")
    delete_endpoint(world.run(hard=True), "prod")
    assert world.api.call("GET", "/deployments/prod-2").status_code == 404


def test_what_others_made_is_shown_and_left_alone(world):
    body = {"baseModel": QWEN, "acceleratorType": "NVIDIA_H100_80GB"}
    world.api.call("POST", "/deployments?deploymentId=theirs", json=body)
    assert get_endpoint(world.run(), "theirs")["managed"] is False
    for change in (delete_endpoint, update_endpoint):
        with pytest.raises(ConflictError, match=r"was not created by this plugin.*-C force=true"):
            change(world.run(), "theirs")
    assert delete_endpoint(world.run(force=True), "theirs")
    assert world.deployments() == {}
