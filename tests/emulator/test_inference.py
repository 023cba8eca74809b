"""Which model strings reach which deployment, and what the others are told."""

import json

import httpx
import pytest
from emulator.raw_client import ADDON, BASE, adapter_files
from support.checkpoints import edit_json, make_embedder, read_files

EMBEDDER = "accounts/acme/models/embedder"
QWEN = "accounts/fireworks/models/qwen3-8b"
PROD = "accounts/acme/deployments/prod"


def deploy(api, **body):
    body = {"baseModel": QWEN, "acceleratorType": "NVIDIA_H100_80GB", **body}
    assert api.call("POST", "/deployments?deploymentId=prod", json=body).status_code == 200


def chat(api, model, **body):
    return api.http.post(
        "/inference/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "hello there"}], **body},
    )


@pytest.mark.parametrize("model", [PROD, f"{QWEN}#{PROD}", "fireworks/qwen3-8b#acme/prod"])
def test_these_reach_the_deployment(api, model):
    deploy(api)
    answer = chat(api, model).json()
    assert answer["model"] == model
    assert answer["choices"][0]["message"]["content"].endswith("hello there")


@pytest.mark.parametrize(
    "model",
    [
        QWEN,
        "qwen3-8b",
        f"{QWEN}#prod",
        f"{QWEN}#accounts/acme/deployments/x",
        f"accounts/acme/models/x#{PROD}",
        "#",
        "",
    ],
)
def test_these_do_not(api, model):
    deploy(api)
    answer = chat(api, model)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "NOT_FOUND"
    assert answer.json()["error"]["param"] == "model"


def test_a_bare_model_reaches_its_default_deployment_when_told_so(start):
    _emulator, api = start(behaviours={"bare-model": "routed"})
    deploy(api)
    assert chat(api, QWEN).status_code == 200
    assert chat(api, "accounts/fireworks/models/gpt-oss-20b").status_code == 404


def test_an_adapter_answers_once_it_is_deployed(emulator, api):
    api.ready("lora", ADDON, adapter_files())
    deploy(api, enableAddons=True)
    model = f"accounts/acme/models/lora#{PROD}"
    assert chat(api, model).status_code == 404
    emulator.set_transition("deployedModels", reads=1)
    api.call("POST", "/deployedModels", json={"model": "accounts/acme/models/lora", "deployment": PROD})
    assert [chat(api, model).status_code for _ in "ab"] == [404, 200]


def test_an_adapter_that_failed_to_load_is_412(emulator, api):
    api.ready("lora", ADDON, adapter_files())
    deploy(api, enableAddons=True)
    emulator.set_transition("deployedModels", fails_with="bad tensors")
    api.call("POST", "/deployedModels", json={"model": "accounts/acme/models/lora", "deployment": PROD})
    assert chat(api, f"accounts/acme/models/lora#{PROD}").status_code == 412


def test_a_deployment_that_sleeps_wakes_up(start):
    now = [1_000_000.0]
    emulator, api = start(clock=lambda: now[0])
    deploy(api)
    assert chat(api, PROD).status_code == 200
    now[0] += 3601
    emulator.set_transition("deployments", seconds=120)
    asleep = chat(api, PROD)
    assert (asleep.status_code, asleep.json()["error"]["code"]) == (503, "DEPLOYMENT_SCALING_UP")
    now[0] += 119
    assert chat(api, PROD).status_code == 503
    now[0] += 1
    assert chat(api, PROD).status_code == 200


def test_ready_does_not_mean_routed_yet_when_told_so(start):
    now = [1_000_000.0]
    _emulator, api = start(clock=lambda: now[0], behaviours={"routing": "404-first:60s"})
    deploy(api)
    assert api.call("GET", "/deployments/prod").json()["state"] == "READY"
    assert chat(api, PROD).status_code == 404
    now[0] += 60
    assert chat(api, PROD).status_code == 200


def test_recent_traffic_protects_a_deployment(api):
    deploy(api)
    chat(api, PROD)
    refused = api.call("DELETE", "/deployments/prod")
    assert (refused.status_code, refused.json()["code"]) == (400, 9)
    assert "pass ignore_checks" in refused.json()["message"]
    assert api.call("DELETE", "/deployments/prod?ignoreChecks=true").status_code == 200


def test_a_deleted_or_switched_off_deployment_is_not_found(api):
    deploy(api)
    api.call("PATCH", "/deployments/prod", json={"maxReplicaCount": 0})
    assert chat(api, PROD).status_code == 404
    api.call("DELETE", "/deployments/prod", params={"ignoreChecks": True})
    assert chat(api, PROD).status_code == 404


def test_a_suspended_account_is_412(start):
    emulator, api = start()
    deploy(api)
    emulator.behave("account=suspended")
    assert chat(api, PROD).status_code == 412


def test_streams_end_with_done(api):
    deploy(api)
    lines = [line for line in chat(api, PROD, stream=True).text.split("\n") if line]
    assert lines[-1] == "data: [DONE]"
    pieces = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "".join(piece["choices"][0]["delta"]["content"] for piece in pieces).endswith("hello there")


def test_completions_and_embeddings(api):
    deploy(api)
    text = api.http.post("/inference/v1/completions", json={"model": PROD, "prompt": "once"}).json()
    assert text["choices"][0]["text"].endswith("once")
    body = {"model": PROD, "input": ["a", "b", "a"], "dimensions": 3}
    vectors = [item["embedding"] for item in api.http.post("/inference/v1/embeddings", json=body).json()["data"]]
    assert vectors[0] == vectors[2] != vectors[1]
    assert len(vectors[0]) == 3


def vector_of(api, files):
    api.ready("embedder", BASE | {"kind": "EMBEDDING_MODEL"}, files)
    assert api.call("POST", "/deployments?deploymentId=prod", json={"baseModel": EMBEDDER}).status_code == 200
    api.call("GET", "/deployments/prod")
    answer = api.http.post("/inference/v1/embeddings", json={"model": PROD, "input": "x"}).json()
    return answer["data"][0]["embedding"]


@pytest.mark.parametrize(("projection", "length"), [(None, 16), (8, 8)])
def test_vectors_are_as_long_as_the_models(api, tmp_path, projection, length):
    files = read_files(make_embedder(tmp_path / "m", projection=projection))
    assert len(vector_of(api, files)) == length


def test_several_modes_of_pooling_make_longer_vectors(api, tmp_path):
    folder = make_embedder(tmp_path / "m")
    edit_json(folder / "1_Pooling" / "config.json", pooling_mode_max_tokens=True)
    assert len(vector_of(api, read_files(folder))) == 32


def test_settings_that_cannot_be_read_leave_the_length_open(api, tmp_path):
    files = read_files(make_embedder(tmp_path / "m")) | {"modules.json": b"[", "1_Pooling/config.json": b"\xff"}
    assert vector_of(api, files)


def test_bad_requests_and_keys_have_the_data_planes_shape(emulator, api):
    assert api.http.post("/inference/v1/chat/completions", content=b"{").status_code == 400
    assert api.http.post("/inference/v1/chat/completions", json={}).json()["error"]["param"] == "model"
    answer = httpx.post(f"{emulator.url}/inference/v1/completions", json={})
    assert (answer.status_code, "error" in answer.json()) == (401, True)
