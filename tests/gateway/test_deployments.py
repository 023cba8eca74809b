"""The serving half of the control plane, against the local Fireworks."""

import pytest
from emulator.raw_client import ADDON, Api, adapter_files
from pydantic import SecretStr

from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.errors import ApiError, FailedPreconditionError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry

QWEN = "accounts/fireworks/models/qwen3-8b"
GPU = {"baseModel": QWEN, "acceleratorType": "NVIDIA_H100_80GB"}


@pytest.fixture
def told():
    return []


@pytest.fixture
def fireworks():
    with Emulator() as emulator:
        yield emulator
        assert not emulator.failures


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
    with pytest.raises(ApiError, match=r"in use: 0, quota: 8, requesting: 9 \(429\); free some of it") as caught:
        deployments.create("prod", {**GPU, "acceleratorCount": 9})
    assert caught.value.error_code == "REQUEST_LIMIT_EXCEEDED"
    assert told == []
    assert len(fireworks.calls("create_deployment")) == 1


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
