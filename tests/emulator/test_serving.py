"""Deployments, loaded adapters, shapes, quotas and imports over plain HTTP."""

import pytest
from emulator.raw_client import ADDON, Api, adapter_files, base_files

QWEN = "accounts/fireworks/models/qwen3-8b"
GPU = {"acceleratorType": "NVIDIA_H100_80GB"}


def error(response):
    body = response.json()
    return response.status_code, body["code"], body["message"]


def deploy(api, id_="prod", model=QWEN, query="", **body):
    body = {"baseModel": model, **(body if "deploymentShape" in body else {**GPU, **body})}
    return api.call("POST", f"/deployments?deploymentId={id_}{query}", json=body)


def state(api, id_="prod"):
    return api.call("GET", f"/deployments/{id_}").json()["state"]


def test_a_deployment_is_creating_then_ready(api):
    created = deploy(api).json()
    assert created["name"] == "accounts/acme/deployments/prod"
    assert created["state"] == "CREATING"
    assert (created["minReplicaCount"], created["maxReplicaCount"], created["replicaCount"]) == (0, 1, 0)
    assert created["autoscalingPolicy"]["scaleToZeroWindow"] == "3600s"
    ready = api.call("GET", "/deployments/prod").json()
    assert (ready["state"], ready["replicaStats"]["readyReplicaCount"]) == ("READY", 1)


def test_transitions_after_reads_and_after_seconds_and_failures(start):
    now = [1_000_000.0]
    emulator, api = start(clock=lambda: now[0])
    emulator.set_transition("deployments", reads=2)
    emulator.set_transition("accounts/acme/deployments/slow", seconds=60)
    emulator.set_transition("accounts/*/deployments/bad", fails_with="no capacity")
    for id_ in ("prod", "slow", "bad"):
        deploy(api, id_)
    assert [state(api), state(api), state(api)] == ["CREATING", "CREATING", "READY"]
    assert state(api, "slow") == "CREATING"
    now[0] += 60
    assert state(api, "slow") == "READY"
    failed = api.call("GET", "/deployments/bad").json()
    assert (failed["state"], failed["status"]) == ("FAILED", {"code": "INTERNAL", "message": "no capacity"})


def test_validate_only_returns_what_would_be_and_keeps_nothing(api):
    assert deploy(api, query="&validateOnly=true").json()["baseModel"] == QWEN
    assert api.call("GET", "/deployments/prod").status_code == 404


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"acceleratorType": ""}, (400, 3)),
        ({}, (400, 3, "accelerator_type must be specified for non-embeddings engines")),
        ({**GPU, "acceleratorType": "h200-141gb"}, (400, 3)),
        ({**GPU, "minReplicaCount": 2, "maxReplicaCount": 1}, (400, 3, "min_replica_count cannot be greater than max")),
        ({**GPU, "autoscalingPolicy": {"scaleToZeroWindow": "60s"}}, (400, 3, "at least 5 minutes")),
        ({**GPU, "autoscalingPolicy": {"scaleToZeroWindow": "10m"}}, (400, 3, "google.protobuf.Duration")),
        ({**GPU, "enableAddons": True, "precision": "FP8"}, (400, 3, "quantized precisions (FP8/FP4)")),
        ({**GPU, "acceleratorCount": 9}, (429, 8, "global--h100-count for account acme, in use: 0, quota: 8")),
        ({**GPU, "deploymentShape": "default"}, (400, 3)),
        ({"deploymentShape": "accounts/fireworks/deploymentShapes/nope"}, (400, 3, "does not exist or you do not")),
        ({"deploymentShape": "accounts/fireworks/deploymentShapes/gpt-oss-20b-fast"}, (400, 3, "not validated")),
        ({**GPU, "placement": {"region": "US_IOWA_1", "multiRegion": "US"}}, (400, 3, "exactly one")),
    ],
)
def test_deployments_that_fireworks_refuses(api, body, expected):
    got = error(api.call("POST", "/deployments", json={"baseModel": QWEN, **body}))
    assert got[:2] == expected[:2]
    assert (expected[2] if len(expected) > 2 else "") in got[2]


def test_only_ready_models_can_be_deployed(api):
    api.create("chat")
    assert error(deploy(api, model="accounts/acme/models/chat"))[:2] == (400, 9)
    assert error(deploy(api, model="accounts/acme/models/nope"))[:2] == (404, 5)


def test_a_shape_brings_its_hardware_and_its_version_name(api):
    body = deploy(api, deploymentShape="accounts/fireworks/deploymentShapes/qwen3-8b-minimal").json()
    assert body["deploymentShape"] == "accounts/fireworks/deploymentShapes/qwen3-8b-minimal/versions/v1"
    assert (body["acceleratorType"], body["precision"]) == ("NVIDIA_H100_80GB", "BF16")
    assert deploy(api, "other", deploymentShape="default").status_code == 200


def test_a_second_deployment_of_that_id_is_refused_and_an_id_is_made_up(api):
    deploy(api)
    assert error(deploy(api))[:2] == (409, 6)
    made = api.call("POST", "/deployments", json={"baseModel": QWEN, **GPU}).json()["name"]
    assert len(made.rpartition("/")[2]) == 8


def test_made_up_ids_repeat_with_a_seed(start):
    names = [
        start(seed=7)[1].call("POST", "/deployments", json={"baseModel": QWEN, **GPU}).json()["name"] for _ in "ab"
    ]
    assert names[0] == names[1]


def test_a_soft_delete_blocks_the_id_for_seven_days(start):
    now = [1_000_000.0]
    _emulator, api = start(clock=lambda: now[0])
    deploy(api)
    assert api.call("DELETE", "/deployments/prod").json() == {}
    assert state(api) == "DELETED"
    assert api.call("GET", "/deployments").json()["totalSize"] == 0
    assert api.call("GET", "/deployments?showDeleted=true").json()["totalSize"] == 1
    assert error(deploy(api))[:2] == (409, 6)
    now[0] += 7 * 86400
    assert api.call("GET", "/deployments/prod").status_code == 404
    assert deploy(api).status_code == 200


def test_undelete_brings_a_deployment_back(api):
    deploy(api)
    assert error(api.call("POST", "/deployments/prod:undelete", json={}))[:2] == (400, 9)
    api.call("DELETE", "/deployments/prod")
    assert api.call("POST", "/deployments/prod:undelete", json={}).json()["deleteTime"] is None
    assert state(api) == "READY"


def test_a_hard_delete_is_gone_at_once(api):
    deploy(api)
    assert api.call("DELETE", "/deployments/prod?hard=true&ignoreChecks=true").json() == {}
    assert api.call("GET", "/deployments/prod").status_code == 404


def test_update_and_scale(api):
    deploy(api)
    updated = api.call("PATCH", "/deployments/prod", json={"displayName": "Prod", "baseModel": "accounts/x/models/y"})
    assert (updated.json()["state"], updated.json()["baseModel"]) == ("UPDATING", QWEN)
    assert api.call("PATCH", "/deployments/prod:scale", json={"replicaCount": 3}).json() == {}
    scaled = api.call("GET", "/deployments/prod").json()
    assert (scaled["replicaCount"], scaled["desiredReplicaCount"], scaled["displayName"]) == (3, 3, "Prod")
    zero = api.call("PATCH", "/deployments/prod", json={"minReplicaCount": 0, "maxReplicaCount": 0})
    assert zero.status_code == 200
    assert api.call("GET", "/deployments/prod").json()["replicaCount"] == 0


def test_an_idle_deployment_scales_to_zero(start):
    now = [1_000_000.0]
    _emulator, api = start(clock=lambda: now[0])
    deploy(api, autoscalingPolicy={"scaleToZeroWindow": "300s"})
    assert api.call("GET", "/deployments/prod").json()["replicaCount"] == 1
    now[0] += 301
    assert api.call("GET", "/deployments/prod").json()["replicaCount"] == 0


def test_a_model_in_use_cannot_be_deleted(api):
    api.ready("chat")
    deploy(api, model="accounts/acme/models/chat")
    assert error(api.call("DELETE", "/models/chat")) == (400, 9, "cannot delete model with active deployments")
    api.call("DELETE", "/deployments/prod")
    api.call("GET", "/deployments/prod")
    assert api.call("DELETE", "/models/chat").status_code == 200


def test_the_first_deployment_of_a_model_is_its_default_target(api):
    api.ready("chat")
    for id_ in ("one", "two"):
        deploy(api, id_, model="accounts/acme/models/chat")
    refs = api.get("chat").json()["deployedModelRefs"]
    assert {ref["deployment"].rpartition("/")[2]: ref["default"] for ref in refs} == {"one": True, "two": False}
    assert {ref["state"] for ref in refs} == {"DEPLOYED"}
    assert api.call("GET", "/models").json()["models"][0]["deployedModelRefs"] == []


def test_an_adapter_is_loaded_and_unloaded(emulator, api):
    api.ready("lora", ADDON, adapter_files())
    deploy(api, enableAddons=True)
    loading = {"model": "accounts/acme/models/lora", "deployment": "accounts/acme/deployments/prod"}
    emulator.set_transition("deployedModels", reads=1)
    loaded = api.call("POST", "/deployedModels", json=loading).json()
    assert (loaded["state"], loaded["default"]) == ("DEPLOYING", True)
    path = loaded["name"].removeprefix("accounts/acme")
    assert [api.call("GET", path).json()["state"] for _ in "ab"] == ["DEPLOYING", "DEPLOYED"]
    assert error(api.call("POST", "/deployedModels", json=loading))[:2] == (409, 6)
    assert api.call("PATCH", path, json={"displayName": "L"}).json()["displayName"] == "L"
    assert api.call("DELETE", path).json() == {}
    assert api.call("GET", path).json()["state"] == "UNDEPLOYING"
    assert api.call("GET", path).status_code == 404


def test_adapters_need_a_deployment_made_for_them(api):
    api.ready("lora", ADDON, adapter_files())
    api.ready("chat")
    deploy(api)
    deploy(api, "other", model="accounts/fireworks/models/gpt-oss-20b", enableAddons=True)

    def load(model, deployment):
        body = {"model": f"accounts/acme/models/{model}", "deployment": f"accounts/acme/deployments/{deployment}"}
        return error(api.call("POST", "/deployedModels", json=body))

    assert load("lora", "prod")[:2] == (400, 9)
    assert "was tuned from" in load("lora", "other")[2]
    assert "not a LoRA addon" in load("chat", "other")[2]
    assert load("lora", "nope")[:2] == (404, 5)


def test_shapes_are_listed_read_and_matched(api):
    anywhere = Api(str(api.http.base_url), account="-")
    listed = anywhere.call("GET", "/deploymentShapes/-/versions", params={"filter": f'snapshot.base_model="{QWEN}"'})
    versions = listed.json()["deploymentShapeVersions"]
    assert {version["snapshot"]["presetType"] for version in versions} == {"MINIMAL", "FAST"}
    public = Api(str(api.http.base_url), account="fireworks")
    assert public.call("GET", "/deploymentShapes/qwen3-8b-fast/versions/v1").json() in versions
    assert public.call("GET", "/deploymentShapes/qwen3-8b-fast").json() in [item["snapshot"] for item in versions]

    def match(model, *, addons=False):
        request = {"parent": "accounts/acme", "deployment": {"baseModel": model, "enableAddons": addons}}
        answer = api.call("POST", "/deploymentShapeVersions:match", json={"createDeploymentRequest": request})
        return [item["snapshot"]["name"].rpartition("/")[2] for item in answer.json()["deploymentShapeVersions"]]

    assert match(QWEN) == ["qwen3-8b-minimal", "qwen3-8b-fast"]
    assert match(QWEN, addons=True) == ["qwen3-8b-minimal"]
    api.ready("chat")
    assert match("accounts/acme/models/chat") == ["llama-v3p2-1b-instruct-minimal", "llama-v3p2-1b-instruct-fast"]
    api.ready("lora", ADDON, adapter_files())
    assert match("accounts/acme/models/lora") == match(QWEN)
    anywhere.close()
    public.close()


def test_quotas_are_read_changed_and_used_up(api):
    quota = api.call("GET", "/quotas/global--h100-count").json()
    assert (quota["value"], quota["maxValue"], quota["usage"]) == ("8", "8", 0.0)
    assert error(api.call("PATCH", "/quotas/global--h100-count", json={"value": 9}))[:2] == (400, 3)
    api.call("PATCH", "/quotas/global--h100-count", json={"value": "1"})
    deploy(api)
    assert error(deploy(api, "second"))[:2] == (429, 8)
    assert api.call("GET", "/quotas").json()["totalSize"] == 6


def test_an_adapter_that_is_unloaded_can_be_deleted(api):
    api.ready("lora", ADDON, adapter_files())
    api.call("POST", "/deployments?deploymentId=prod", json={**GPU, "baseModel": QWEN, "enableAddons": True})
    wanted = {"model": "accounts/acme/models/lora", "deployment": "accounts/acme/deployments/prod"}
    loaded = api.call("POST", "/deployedModels", json=wanted).json()["name"].removeprefix("accounts/acme")
    assert error(api.call("DELETE", "/models/lora")) == (400, 9, "cannot delete model with active deployments")
    api.call("DELETE", loaded)
    assert api.call("GET", loaded).status_code == 404
    assert api.call("DELETE", "/models/lora").status_code == 200


@pytest.mark.parametrize(
    "source", [{"awsS3Source": {"s3Bucket": "b"}}, {"azure_blob_source": {"storage_account": "a", "container": "c"}}]
)
def test_an_import_is_an_operation_and_validation_makes_it_ready(emulator, api, source):
    emulator.set_transition("operations", reads=1)
    api.create("chat")
    operation = api.call("POST", "/models/chat:import", json=source).json()
    assert operation["done"] is False
    path = operation["name"].removeprefix("accounts/acme")
    assert [api.call("GET", path).json()["done"] for _ in "ab"] == [False, True]
    assert api.validate("chat").status_code == 200
    assert api.get("chat").json()["state"] == "READY"


def test_a_failed_import_says_why(emulator, api):
    emulator.set_transition("operations", fails_with="access denied")
    api.create("chat")
    operation = api.call("POST", "/models/chat:import", json={"awsS3Source": {"s3Bucket": "b"}}).json()
    done = api.call("GET", operation["name"].removeprefix("accounts/acme")).json()
    assert (done["done"], done["error"]) == (True, {"code": 13, "message": "access denied"})
    assert error(api.validate("chat"))[:2] == (400, 9)


def test_prepare_adds_a_precision(emulator, api):
    emulator.set_transition("models", reads=1)
    api.ready("chat")
    assert api.call("POST", "/models/chat:prepare", json={"precision": "FP8"}).json() == {}
    assert [api.get("chat").json()["supportedPrecisions"] for _ in "ab"] == [["BF16"], ["BF16", "FP8"]]


def test_small_files_can_be_downloaded_again(api):
    files = base_files()
    api.ready("chat", files=files)
    urls = api.call("GET", "/models/chat:getDownloadEndpoint").json()["filenameToSignedUrls"]
    assert sorted(urls) == sorted(files)
    assert api.storage.get(urls["config.json"]).content == files["config.json"]
    assert api.storage.put(urls["config.json"], content=b"x").status_code == 403
    assert api.storage.get(urls["model.safetensors"]).status_code == 404


def test_shapes_of_all_accounts_can_be_listed(api):
    everywhere = api.http.get("/v1/accounts/-/deploymentShapes?pageSize=200").json()
    assert everywhere == api.http.get("/v1/accounts/fireworks/deploymentShapes?pageSize=200").json()
    assert everywhere["totalSize"] > 0
    wanted = {"targetModel": QWEN}
    found = api.http.get("/v1/accounts/-/deploymentShapes", params=wanted).json()["deploymentShapes"]
    assert {shape["baseModel"] for shape in found} == {QWEN}


def matches(api, model):
    request = {"createDeploymentRequest": {"parent": "accounts/acme", "deployment": {"baseModel": model}}}
    answer = api.call("POST", "/deploymentShapeVersions:match", json=request).json()
    return [version["name"].split("/")[3] for version in answer["deploymentShapeVersions"]]


def test_embedding_models_match_embedding_shapes_and_others_do_not(api):
    embedder = {"kind": "EMBEDDING_MODEL", "baseModelDetails": {"checkpointFormat": "HUGGINGFACE", "worldSize": 1}}
    api.ready("vectors", embedder)
    assert matches(api, "accounts/acme/models/vectors") == [
        "qwen3-embedding-0p6b-minimal",
        "qwen3-embedding-8b-minimal",
    ]
    assert matches(api, "accounts/fireworks/models/qwen3-embedding-8b") == ["qwen3-embedding-8b-minimal"]
    assert matches(api, QWEN) == ["qwen3-8b-minimal", "qwen3-8b-fast"]


def test_another_precision_must_be_prepared_first(api):
    api.ready("chat")
    model = "accounts/acme/models/chat"
    assert error(deploy(api, model=model, precision="FP8"))[:2] == (400, 9)
    assert deploy(api, "plain", model=model, precision="BF16").status_code == 200
    assert api.call("POST", "/models/chat:prepare", json={"precision": "FP8"}).json() == {}
    assert "FP8" in api.get("chat").json()["supportedPrecisions"]
    assert deploy(api, model=model, precision="FP8").status_code == 200


def test_tags_are_set_and_deleted_one_by_one(api):
    made = deploy(api, annotations={"custom/team": "search"}).json()
    assert made["annotations"] == {"custom/team": "search"}
    tagged = api.call("POST", "/deployments/prod:setTags", json={"tags": {"custom/env": "prod"}}).json()
    assert tagged["annotations"] == {"custom/team": "search", "custom/env": "prod"}
    rest = api.call("POST", "/deployments/prod:deleteTags", json={"keys": ["custom/team", "custom/none"]}).json()
    assert rest["annotations"] == {"custom/env": "prod"}


@pytest.mark.parametrize("key", ["team", "custom/", "Custom/team"])
def test_bare_annotation_keys_are_refused(api, key):
    assert error(deploy(api, annotations={key: "x"}))[:2] == (403, 7)
    deploy(api)
    assert error(api.call("POST", "/deployments/prod:setTags", json={"tags": {key: "x"}}))[:2] == (403, 7)
    assert error(api.call("PATCH", "/deployments/prod", json={"annotations": {key: "x"}}))[:2] == (403, 7)
    assert api.call("GET", "/deployments/prod").json()["annotations"] == {}


def test_secrets_never_show_their_value(api):
    secret = {"name": "accounts/acme/secrets/azure-sas", "keyName": "AZURE_SAS", "value": "sv=2024&sig=hidden"}
    assert api.call("POST", "/secrets", json=secret).status_code == 200
    answers = [
        api.call("GET", "/secrets/azure-sas"),
        api.call("GET", "/secrets"),
        api.call("PATCH", "/secrets/azure-sas", json={"keyName": "AZURE_SAS", "value": "hidden, too"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert not any("hidden" in answer.text for answer in answers)
    assert error(api.call("POST", "/secrets", json=secret))[:2] == (409, 6)
    assert error(api.call("POST", "/secrets", json={"keyName": "X"}))[:2] == (400, 3)
    assert api.call("DELETE", "/secrets/azure-sas").json() == {}
    assert error(api.call("GET", "/secrets/azure-sas"))[:2] == (404, 5)


def test_an_import_from_azure_needs_the_secret_that_it_names(api):
    api.create("chat")
    source = {"storageAccount": "a", "container": "c", "sasTokenSecret": "accounts/acme/secrets/azure-sas"}
    assert error(api.call("POST", "/models/chat:import", json={"azureBlobSource": source}))[:2] == (404, 5)
    api.call("POST", "/secrets", json={"name": "azure-sas", "keyName": "AZURE_SAS", "value": "x"})
    assert api.call("POST", "/models/chat:import", json={"azureBlobSource": source}).status_code == 200
