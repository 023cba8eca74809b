"""The address of an endpoint that never changes: a router of its name, and the hands of others on it."""

import pytest

from mlflow_fireworks.errors import ApiError, ConflictError, DeadlineError, FireworksError, InvalidConfigError
from mlflow_fireworks.gateway.revisions import group_deployments
from mlflow_fireworks.serving.endpoints import (
    create_endpoint,
    delete_endpoint,
    get_endpoint,
    list_all,
    undelete_endpoint,
    update_endpoint,
)
from mlflow_fireworks.serving.places import list_endpoints
from mlflow_fireworks.serving.predictions import choose_place, predict
from mlflow_fireworks.serving.removal import stop_serving
from mlflow_fireworks.serving.rollout import serve_deployment

QWEN = "accounts/fireworks/models/qwen3-8b"
ROUTER = "accounts/acme/routers/prod"
MODELS = {"accounts/acme/models/chat", "accounts/acme/models/chat-r2"}
BY_HAND = {"displayName": "mine", "weightedRandom": {}}


def place_of(id_):
    return f"accounts/acme/deployments/{id_}"


@pytest.fixture
def served(world):
    """The endpoint `prod` serves chat; chat-r2 is READY."""
    world.first, world.second = world.base("chat"), world.base("chat-r2")
    create_endpoint(world.run(model="chat", min_replicas=1), "prod")
    world.clock[0] += 60
    return world


@pytest.fixture
def unrouted(world):
    """As `served`, from the time before there were routers."""
    world.emulator.behave("routers=absent-404")
    world.first, world.second = world.base("chat"), world.base("chat-r2")
    create_endpoint(world.run(model="chat", min_replicas=1), "prod")
    world.emulator.behave("routers=offered")
    world.clock[0] += 60
    return world


def move(world, model, run=None, **options):
    return serve_deployment(run or world.run(**options), "prod", model, MODELS, live_merge=False, moving=True)


def router(world, id_="prod"):
    answer = world.api.call("GET", f"/routers/{id_}")
    return answer.json() if answer.status_code == 200 else None


def targets(world, id_="prod"):
    return [name.rpartition("/")[2] for name in router(world, id_)["deployments"]]


def make_router(world, id_, *deployments, **body):
    body = {**BY_HAND, **body, "deployments": [place_of(item) for item in deployments]}
    assert world.api.call("POST", f"/routers?routerId={id_}", json=body).status_code == 200


def point(world, *deployments, id_="prod", **body):
    body = {"deployments": [place_of(item) for item in deployments], **body}
    assert world.api.call("PATCH", f"/routers/{id_}", json=body).status_code == 200


def deploy(world, id_, model="chat"):
    body = {"baseModel": f"accounts/acme/models/{model}", "acceleratorType": "NVIDIA_H100_80GB", "minReplicaCount": 1}
    assert world.api.call("POST", f"/deployments?deploymentId={id_}", json=body).status_code == 200
    world.api.call("GET", f"/deployments/{id_}")


def calls(world, *operations):
    return [call.operation for call in world.emulator.requests if call.operation in operations]


def test_the_address_is_a_router_and_stays_through_moves(served):
    addresses = [get_endpoint(served.run(), "prod")["address"]]
    for model in (served.second, served.first, served.second):
        addresses += [move(served, model).address, get_endpoint(served.run(), "prod")["address"]]
        assert predict(served.run(), choose_place(served.run(), None, "prod"), "hi").values
    assert set(addresses) == {ROUTER}
    assert targets(served) == ["prod-4"]
    assert list(served.deployments()) == ["prod-4"]


def test_the_new_one_answers_before_the_router_leads_to_it_and_through_it_before_the_old_one_goes(served):
    start = len(served.emulator.requests)
    move(served, served.second)
    kinds = [call.operation for call in served.emulator.requests[start:]]
    turned, gone = kinds.index("update_router"), kinds.index("delete_deployment")
    assert "completions" in kinds[kinds.index("create_deployment") : turned]
    assert "completions" in kinds[turned:gone]
    assert kinds.count("update_router") == 1


@pytest.mark.parametrize("told", ["told", "untold"])
def test_what_it_led_to_stays_up_as_long_as_requests_may_still_reach_it(served, told):
    """With the header the first answers show where they come from; without it, only time tells."""
    served.emulator.behave("router-changes=slow:200s", f"answering-deployment={told}")
    began = served.clock[0]
    move(served, served.second, routing_lag="240s")
    assert served.clock[0] - began >= (420 if told == "told" else 240)
    assert list(served.deployments()) == ["prod-2"]
    assert served.api.http.post("/inference/v1/completions", json={"model": ROUTER, "prompt": "x"}).status_code == 200


def test_where_answers_tell_their_deployment_no_lag_needs_to_be_guessed(served):
    served.emulator.behave("router-changes=slow:200s")
    move(served, served.second)
    assert any("requests to accounts/acme/routers/prod still reach" in note for note in served.told.notes)
    assert served.api.http.post("/inference/v1/completions", json={"model": ROUTER, "prompt": "x"}).status_code == 200


@pytest.mark.parametrize("trouble", ["refuses to point", "refuses by way of the router", "never follows"])
def test_when_the_router_does_not_follow_it_leads_where_it_led(served, trouble):
    if trouble == "refuses to point":
        served.emulator.fault("update_router", status=400)
    elif trouble == "refuses by way of the router":
        served.emulator.fault("completions", skip=2, status=400, times=1)
    else:
        served.emulator.behave("router-changes=slow:999999s")
    before = router(served)["deployments"]
    with pytest.raises(
        (ApiError, DeadlineError), match=r"prod still answers on endpoint 'prod'.*prod-2 was taken down"
    ):
        move(served, served.second, ready_timeout="20m")
    assert router(served)["deployments"] == before
    assert list(served.deployments()) == ["prod"]
    assert get_endpoint(served.run(), "prod")["model"] == "accounts/acme/models/chat"


def test_what_the_router_cannot_be_turned_away_from_is_not_taken_down(served):
    served.emulator.fault("completions", skip=2, status=400, times=1)
    served.emulator.fault("update_router", skip=1, status=403, times=1)
    with pytest.raises(
        ApiError, match="prod-2 is up and billed: router 'prod' points to it; run the same command again"
    ):
        move(served, served.second)
    assert any("router prod could not be changed back" in text for text in served.told.warnings)
    assert set(served.deployments()) == {"prod", "prod-2"}
    move(served, served.second)
    assert list(served.deployments()) == ["prod-2"]


def test_going_back_to_what_is_still_up_is_one_patch(served):
    move(served, served.second, keep_previous=True)
    for model, target in ((served.first, "prod"), (served.second, "prod-2"), (served.first, "prod")):
        start = len(served.emulator.requests)
        move(served, model, keep_previous=True)
        changes = [call for call in served.emulator.requests[start:] if call.method in ("PATCH", "POST", "DELETE")]
        changes = [call.operation for call in changes if call.operation != "completions"]
        assert changes == ["update_router"]
        assert targets(served) == [target]
    assert set(served.deployments()) == {"prod", "prod-2"}


def test_what_is_kept_is_shown_with_what_removes_it_and_stays_when_nothing_changes(served):
    move(served, served.second, keep_previous=True)
    shown = get_endpoint(served.run(), "prod")
    assert shown["others"] == [place_of("prod")]
    assert shown["remove_others"] == "mlflow-fireworks endpoint delete -t fireworks --name prod -C unused=true"
    move(served, served.second)
    assert set(served.deployments()) == {"prod", "prod-2"}
    assert delete_endpoint(served.run(unused=True), "prod")
    assert list(served.deployments()) == ["prod-2"]
    assert get_endpoint(served.run(), "prod")["remove_others"] is None
    assert not delete_endpoint(served.run(unused=True), "prod")


def test_a_move_that_was_cut_off_before_the_old_one_went_is_finished_by_the_same_command(served):
    served.emulator.fault("delete_deployment", drop="close", times=9)
    with pytest.raises(FireworksError):
        move(served, served.second)
    served.emulator.clear_faults()
    assert set(served.deployments()) == {"prod", "prod-2"}
    assert get_endpoint(served.run(), "prod")["others"] == [place_of("prod")]
    assert move(served, served.second).address == ROUTER
    assert list(served.deployments()) == ["prod-2"]


def test_what_another_run_is_bringing_up_is_left_alone_when_nothing_changes(served):
    deploy(served, "prod-2", "chat-r2")
    point(served, "prod")
    served.gateway.deployments.update(
        served.gateway.deployments.find("prod-2"), {"description": "Endpoint prod by mlflow-fireworks: live=no"}
    )
    move(served, served.first)
    assert set(served.deployments()) == {"prod", "prod-2"}
    assert get_endpoint(served.run(), "prod")["others"] == [place_of("prod-2")]


def test_an_endpoint_from_before_routers_gets_one_at_its_next_move(unrouted):
    assert get_endpoint(unrouted.run(), "prod")["address"].endswith("#accounts/acme/deployments/prod")
    assert move(unrouted, unrouted.second).address == ROUTER
    assert targets(unrouted) == ["prod-2"]
    assert list(unrouted.deployments()) == ["prod-2"]


def test_an_endpoint_from_before_routers_gets_one_without_a_move_when_asked(unrouted):
    assert update_endpoint(unrouted.run(router="true"), "prod")["address"] == ROUTER
    assert list(unrouted.deployments()) == ["prod"]


@pytest.mark.parametrize("way", ["absent-404", "absent-501"])
def test_where_the_service_has_no_routers_it_is_as_before_and_says_so(world, way):
    world.emulator.behave(f"routers={way}")
    first, second = world.base("chat"), world.base("chat-r2")
    made = create_endpoint(world.run(model="chat"), "prod")
    assert made["address"] == f"{first.name}#{place_of('prod')}"
    assert any("prod has no router (127.0.0.1" in note for note in world.told.notes)
    assert move(world, second).address == f"{second.name}#{place_of('prod-2')}"
    assert list_all(world.run())[0]["router"] is None
    with pytest.raises(InvalidConfigError, match=r"'other' cannot have a router: .* has none; omit -C router=true"):
        create_endpoint(world.run(model="chat", router="true"), "other")
    assert list(world.deployments()) == ["prod-2"]
    assert delete_endpoint(world.run(), "prod")


@pytest.mark.parametrize("status", [400, 403, 404, 501])
def test_a_router_that_cannot_be_made_after_all_leaves_the_deployment_as_the_address(world, status):
    world.base()
    world.emulator.fault("create_router", status=status)
    assert create_endpoint(world.run(model="chat"), "prod")["address"].endswith(f"#{place_of('prod')}")
    assert any("has no router" in note for note in world.told.notes)


def test_a_router_that_never_answers_is_not_kept(world):
    world.base()
    world.emulator.behave("router-changes=slow:99999s")
    assert create_endpoint(world.run(model="chat"), "prod")["address"].endswith(f"#{place_of('prod')}")
    assert router(world) is None


def test_a_lost_reply_to_the_routers_creation_is_found_again(world):
    world.base()
    world.emulator.fault("create_router", act=True, drop="close")
    assert create_endpoint(world.run(model="chat"), "prod")["address"] == ROUTER


def test_routers_that_fireworks_makes_by_itself_change_nothing(world):
    world.emulator.behave("auto-routers=listed")
    _first, second = world.base("chat"), world.base("chat-r2")
    made = create_endpoint(world.run(model="chat"), "prod")
    assert (made["managed"], made["address"].partition("#")[2]) == (True, place_of("prod"))
    assert any("Fireworks itself has created one with that name" in note for note in world.told.notes)
    move(world, second)
    assert list(list_endpoints(world.gateway)) == ["prod"]
    assert list(world.deployments()) == ["prod-2"]


@pytest.mark.parametrize("placement", ["US_IOWA_1", "US_IOWA_1,US_TEXAS_2"])
def test_a_single_region_has_no_router_and_says_so(world, placement):
    world.base()
    made = create_endpoint(world.run(model="chat", placement=placement), "prod")
    assert made["address"].endswith(f"#{place_of('prod')}")
    assert any("routers only work with multi-region placements" in note for note in world.told.notes)
    assert world.emulator.calls("create_router") == []
    with pytest.raises(InvalidConfigError, match="only work with multi-region placements"):
        create_endpoint(world.run(model="chat", placement=placement, router="true"), "other")
    assert list(world.deployments()) == ["prod"]


@pytest.mark.parametrize("placement", ["US", "EUROPE", "APAC"])
def test_every_multi_region_has_one(world, placement):
    world.base()
    assert create_endpoint(world.run(model="chat", placement=placement), "prod")["address"] == ROUTER


@pytest.mark.parametrize("options", [{"placement": "US_IOWA_1"}, {"router": "false"}])
def test_an_address_that_clients_have_is_not_taken_away(served, options):
    before = len(served.emulator.calls("create_deployment"))
    with pytest.raises(InvalidConfigError, match=f"has the address {ROUTER}, which would be lost"):
        update_endpoint(served.run(model="chat-r2", **options), "prod")
    assert len(served.emulator.calls("create_deployment")) == before
    assert targets(served) == ["prod"]


def test_who_wants_no_router_gets_none_at_later_moves_either(world):
    first, second = world.base("chat"), world.base("chat-r2")
    made = create_endpoint(world.run(model="chat", router="false", description="ours"), "prod")
    assert (made["address"], made["description"]) == (f"{first.name}#{place_of('prod')}", "ours")
    assert move(world, second).address == f"{second.name}#{place_of('prod-2')}"
    assert router(world) is None
    assert not any("has no router" in note for note in world.told.notes)
    assert update_endpoint(world.run(router="true"), "prod")["address"] == ROUTER


def test_a_router_of_somebody_else_is_not_taken_over_without_force(world):
    world.base("chat")
    deploy(world, "theirs")
    make_router(world, "prod", "theirs")
    with pytest.raises(ConflictError, match=r"there is a router 'prod' that this plugin did not create.*force=true"):
        create_endpoint(world.run(model="chat"), "prod")
    assert list(world.deployments()) == ["theirs"]
    made = create_endpoint(world.run(model="chat", force=True), "mine")
    assert made["address"] == "accounts/acme/routers/mine"


def test_a_router_that_somebody_put_in_front_of_an_endpoint_is_not_turned_without_force(unrouted):
    make_router(unrouted, "prod", "prod")
    for change in (
        lambda: move(unrouted, unrouted.second),
        lambda: update_endpoint(unrouted.run(max_replicas=2), "prod"),
        lambda: delete_endpoint(unrouted.run(), "prod"),
        lambda: stop_serving(unrouted.run(), "chat", MODELS, cascade=True),
    ):
        with pytest.raises(ConflictError, match="-C force=true"):
            change()
    assert (targets(unrouted), list(unrouted.deployments())) == (["prod"], ["prod"])
    assert move(unrouted, unrouted.second, force=True).address == ROUTER
    assert targets(unrouted) == ["prod-2"]
    assert get_endpoint(unrouted.run(), "prod")["managed"]


def test_somebodys_router_of_another_name_keeps_what_it_leads_to(served):
    make_router(served, "demo", "prod")
    assert move(served, served.second).address == ROUTER
    assert set(served.deployments()) == {"prod", "prod-2"}
    assert any(
        "is kept running, and billed while it is up: router 'demo' points to it" in t for t in served.told.warnings
    )
    with pytest.raises(ConflictError, match="routers/demo routes requests to endpoint 'prod', and would fail"):
        delete_endpoint(served.run(), "prod")
    assert set(served.deployments()) == {"prod", "prod-2"}
    shown = {item["name"]: item for item in list_all(served.run())}
    assert (shown["demo"]["managed"], shown["demo"]["address"]) == (False, "accounts/acme/routers/demo")


@pytest.fixture
def divided(served):
    """Somebody has the router of `prod` lead to two deployments, for an A/B test."""
    served.base("other")
    move(served, served.second, keep_previous=True)
    update_endpoint(served.run(min_replicas=3, max_replicas=3), "prod")
    served.clock[0] += 60
    served.api.call("GET", "/deployments/prod-2")
    point(served, "prod", "prod-2")
    return served


def test_a_router_that_divides_requests_is_shown_with_its_shares(divided):
    shown = get_endpoint(divided.run(), "prod")
    assert shown["address"] == ROUTER
    assert [(item["model"].rpartition("/")[2], item["share"]) for item in shown["shares"]] == [
        ("chat", 0.25),
        ("chat-r2", 0.75),
    ]
    assert shown["others"] == []
    point(divided, "prod", "prod-2", evenLoad={})
    assert [item["share"] for item in get_endpoint(divided.run(), "prod")["shares"]] == [None, None]


def test_a_router_that_divides_requests_is_left_as_it_is(divided):
    before = router(divided)
    for model in (divided.first, divided.second):  # both answer already
        move(divided, model)
    other = divided.gateway.models.find("other")
    with pytest.raises(ConflictError, match=r"splits requests between prod \(accounts/acme/models/chat, 25%\), prod-2"):
        serve_deployment(divided.run(), "prod", other, MODELS | {other.name}, live_merge=False, moving=True)
    assert (router(divided), set(divided.deployments())) == (before, {"prod", "prod-2"})
    forced = divided.run(force=True)
    serve_deployment(forced, "prod", other, MODELS | {other.name}, live_merge=False, moving=True)
    assert (targets(divided), divided.deployments()) == (["prod-3"], {"prod-3": "other"})


def test_a_model_is_asked_where_no_other_one_answers(divided):
    chat = group_deployments(divided.gateway.models.list())["chat"]
    assert chat.models == {"accounts/acme/models/chat"}
    assert choose_place(divided.run(), chat, None).address == f"accounts/acme/models/chat#{place_of('prod')}"
    assert choose_place(divided.run(), None, "prod").address == ROUTER


def test_deleting_takes_the_router_first_and_bringing_back_restores_the_address(served):
    start = len(served.emulator.requests)
    assert delete_endpoint(served.run(), "prod")
    assert calls(served, "delete_router", "delete_deployment")[0] == "delete_router"
    assert start < len(served.emulator.requests)
    assert router(served) is None
    assert undelete_endpoint(served.run(), "prod")["address"] == ROUTER
    assert targets(served) == ["prod"]


def test_a_router_that_leads_to_nothing_is_used_again_or_deleted(served):
    served.api.call("DELETE", "/deployments/prod?ignoreChecks=true")
    assert list_endpoints(served.gateway) == {}
    assert create_endpoint(served.run(model="chat"), "prod")["address"] == ROUTER
    assert targets(served) == ["prod-2"]
    served.api.call("DELETE", "/deployments/prod-2?ignoreChecks=true")
    assert delete_endpoint(served.run(), "prod")
    assert router(served) is None


def test_what_is_brought_back_beside_what_answers_stays_up(served):
    move(served, served.second)
    undelete_endpoint(served.run(), "prod")
    assert targets(served) == ["prod-2"]
    move(served, served.second)
    assert set(served.deployments()) == {"prod", "prod-2"}


def test_a_model_that_is_taken_off_takes_the_router_along(served):
    stop_serving(served.run(), "chat", MODELS, cascade=True)
    assert (router(served), served.deployments()) == (None, {})


def test_half_of_a_divided_endpoint_can_be_taken_off(divided):
    stop_serving(divided.run(), "chat", {"accounts/acme/models/chat"}, cascade=True)
    assert (targets(divided), list(divided.deployments())) == (["prod-2"], ["prod-2"])


@pytest.mark.parametrize("way", ["ends", "lasts"])
def test_predict_wakes_an_endpoint_whose_router_may_not(world, way):
    world.base()
    world.emulator.behave(f"router-sleep={way}")
    create_endpoint(world.run(model="chat", scale_to_zero_window="5m"), "prod")
    world.clock[0] += 4000
    assert predict(world.run(), choose_place(world.run(), None, "prod"), "hi").values


def test_an_adapter_keeps_the_address_of_its_deployment(world):
    lora = world.adapter("lora")
    create_endpoint(world.run(model=QWEN, enable_addons=True), "prod")
    place = serve_deployment(world.run(), "prod", lora, {lora.name}, live_merge=False, moving=True)
    assert place.address == f"{lora.name}#{place_of('prod')}"
    assert any("a router cannot name an adapter" in note for note in world.told.notes)
    assert get_endpoint(world.run(), "prod")["address"] == ROUTER


def test_a_dry_run_makes_no_router(world):
    world.base()
    create_endpoint(world.run(model="chat", dry_run=True), "prod")
    assert router(world) is None
