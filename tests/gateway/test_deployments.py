"""The serving half of the control plane, against the local Fireworks."""

import json

import httpx
import pytest
from emulator.raw_client import ADDON, Api, adapter_files
from pydantic import SecretStr

from mlflow_fireworks.errors import ApiError, BusyError, FailedPreconditionError, QuotaError, RefusedError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.gateway.refusals import refusal
from mlflow_fireworks.http import Retry

QWEN = "accounts/fireworks/models/qwen3-8b"
GPU = {"baseModel": QWEN, "acceleratorType": "NVIDIA_H100_80GB"}


@pytest.fixture
def told():
    return []


@pytest.fixture
def gateway(fireworks, told):
    retry = Retry(attempts=3, wait_initial=0.001, wait_max=0.002)
    with Gateway(fireworks.url, SecretStr("k"), "acme", retry=retry, tell=told.append) as gateway:
        yield gateway


@pytest.fixture
def deployments(gateway):
    return gateway.deployments


def test_the_life_of_a_deployment(deployments):
    made = deployments.create("prod", GPU)
    assert (made.name, made.state) == ("accounts/acme/deployments/prod", "CREATING")
    ready = deployments.find("prod")
    assert (ready.state, ready.replica_stats.ready_replica_count) == ("READY", 1)
    assert ready.autoscaling_policy.scale_to_zero_window == "3600s"
    changed = deployments.update(ready, {"description": "mine", "maxReplicaCount": 2})
    assert (changed.description, changed.max_replica_count) == ("mine", 2)
    assert [item.deployment_id for item in deployments.list()] == ["prod"]
    deployments.delete("prod")
    assert deployments.find("prod").is_gone
    assert list(deployments.list()) == []
    deployments.delete("prod", hard=True, ignore_checks=True)
    assert deployments.find("prod") is None
    deployments.delete("prod")


def test_validate_only_makes_nothing(deployments):
    assert deployments.create("prod", GPU, validate_only=True).accelerator_count == 1
    assert deployments.find("prod") is None


def test_recent_traffic_is_a_reason_to_refuse_a_delete(gateway, deployments):
    deployments.create("prod", GPU)
    deployments.find("prod")
    body = {"model": "accounts/acme/deployments/prod", "prompt": "hi"}
    assert gateway.transport.http.post("/inference/v1/completions", json=body).status_code == 200
    with pytest.raises(FailedPreconditionError, match="received inference requests"):
        deployments.delete("prod")
    deployments.delete("prod", ignore_checks=True)


def test_a_quota_is_said_at_once_and_not_waited_for(deployments, told, fireworks):
    with pytest.raises(ApiError, match=r"in use: 0, quota: 8, requesting: 9 \(429\); the account's quota") as caught:
        deployments.create("prod", {**GPU, "acceleratorCount": 9})
    assert caught.value.error_code == "REQUEST_LIMIT_EXCEEDED"
    assert told == []
    assert len(fireworks.calls("create_deployment")) == 1


@pytest.mark.parametrize("status", ["429", "403"])
def test_a_quota_is_a_quota_whatever_its_status(deployments, told, fireworks, status):
    fireworks.behave(f"quota-status={status}")
    expected = rf"quota: 8, requesting: 9 \({status}\); the account's quota is used up; free some"
    with pytest.raises(QuotaError, match=expected) as caught:
        deployments.create("prod", {**GPU, "acceleratorCount": 9})
    assert caught.value.error_code == "REQUEST_LIMIT_EXCEEDED"
    assert (told, len(fireworks.calls("create_deployment"))) == ([], 1)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, {"code": 8, "message": "resource exhausted"}, QuotaError),
        (403, {"code": 7, "message": "GPU quota exceeded"}, QuotaError),
        (403, {"code": 7, "message": "no", "details": [{"metadata": {"quota_required": "8"}}]}, QuotaError),
        (429, {"code": 8, "message": "no", "details": [{"metadata": {"quota_available": "0"}}]}, QuotaError),
        (403, {"code": 7, "message": "caller does not have permission"}, RefusedError),
        (429, {"code": 8, "message": "too many requests"}, BusyError),
        (429, {"code": 8, "message": "request rate over the quota of 6000 a minute"}, BusyError),
    ],
)
def test_refusals_about_quota_are_told_from_others(deployments, fireworks, status, body, kind):
    fireworks.fault("create_deployment", status=status, body=json.dumps(body), times=9)
    with pytest.raises(RefusedError) as caught:
        deployments.create("prod", GPU)
    assert type(caught.value) is kind
    assert ("quota is used up" in caught.value.message) == (kind is QuotaError)


@pytest.mark.parametrize(
    ("body", "next_step"),
    [
        ({"code": 9, "message": "account acme is suspended"}, "the account is suspended; see its billing page"),
        ({"error": {"message": "Account acme is suspended"}}, "the account is suspended; see its billing page"),
        ({"error": {"message": "LoRA lora failed to load"}}, "the adapter is not loaded there"),
        ({"error": {"message": "precondition failed"}}, "the account may be suspended"),
    ],
)
def test_a_412_says_which_of_its_meanings_it_has(body, next_step):
    refused = refusal(httpx.Response(412, json=body), "get an answer from chat", "api.example")
    assert next_step in refused.message
    assert not isinstance(refused, FailedPreconditionError)


@pytest.mark.parametrize(
    ("status", "headers", "next_step"),
    [
        (429, {}, "try again in a minute"),
        (429, {"Retry-After": "0"}, "try again in a minute"),
        (429, {"Retry-After": "300"}, "try again in 5m 0s"),
        (503, {}, "run the same command again in a few minutes"),
        (503, {"Retry-After": "7200"}, "run the same command again in 2h 0m"),
    ],
)
def test_a_busy_service_says_when_to_come_back(status, headers, next_step):
    refused = refusal(httpx.Response(status, headers=headers), "list models", "api.example")
    assert refused.message.endswith(next_step)


def test_hardware_without_a_shape_says_that_the_risk_is_taken(deployments):
    seen = []
    deployments.transport.http.event_hooks["request"].append(seen.append)
    deployments.create("prod", GPU)
    deployments.create("tried", {"baseModel": QWEN, "deploymentShape": "default"})
    assert [sent.url.params.get("acceptShapelessRisk") for sent in seen] == ["true", None]


@pytest.mark.parametrize("word", ["accept_shapeless_risk", "acceptShapelessRisk"])
def test_a_service_that_does_not_know_the_risk_is_asked_without_it(deployments, fireworks, word):
    fireworks.fault("create_deployment", status=400, body=json.dumps({"code": 3, "message": f'unknown "{word}"'}))
    assert deployments.create("prod", GPU).accelerator_count == 1
    assert len(fireworks.calls("create_deployment")) == 2


def test_what_was_deleted_softly_can_be_brought_back(deployments):
    made = deployments.create("prod", GPU)
    deployments.delete("prod")
    deployments.find("prod")
    assert [item.name for item in deployments.list(deleted=True)] == [made.name]
    assert deployments.undelete(made).state == "CREATING"
    assert [item.name for item in deployments.list()] == [made.name]


def test_the_catalogue_of_shapes_is_asked_for_in_two_places(deployments, fireworks):
    shapes = deployments.list_shapes()
    assert any("embedding" in shape.name and shape.parameter_count for shape in shapes)
    fireworks.fault("list_shapes", status=403)
    assert deployments.list_shapes() == shapes
    fireworks.fault("list_shapes", status=404, times=2)
    assert deployments.list_shapes() == ()


def test_shapes_that_fit(deployments):
    assert [version.snapshot.preset_type for version in deployments.match_shapes(QWEN)] == ["MINIMAL", "FAST"]
    assert [version.snapshot.precision for version in deployments.match_shapes(QWEN, addons=True)] == ["BF16"]


def test_an_adapter_is_loaded_described_and_unloaded(gateway, fireworks):
    api = Api(fireworks.url)
    api.ready("lora", ADDON, adapter_files())
    api.close()
    gateway.deployments.create("prod", {**GPU, "enableAddons": True})
    lora, prod = "accounts/acme/models/lora", "accounts/acme/deployments/prod"
    loaded = gateway.adapters.load(lora, prod, "first", replace_merged=False)
    assert (loaded.state, loaded.description) == ("DEPLOYING", "first")
    assert gateway.adapters.find(loaded.name).state == "DEPLOYED"
    assert gateway.adapters.describe(loaded, "second").description == "second"
    assert {item.model for item in gateway.adapters.list()} == {QWEN, lora}
    gateway.adapters.unload(loaded)
    gateway.adapters.find(loaded.name)
    assert gateway.adapters.find(loaded.name) is None
