"""The model half of the API over plain HTTP: what is refused, in which words, and what comes back."""

import json

import httpx
import pytest
from emulator.raw_client import ADDON, BASE, Api, adapter_files, base_files, safetensors


def error(response):
    body = response.json()
    assert sorted(body) == ["code", "details", "message"]
    assert body["details"] == []
    return response.status_code, body["code"], body["message"]


def test_a_model_goes_from_uploading_to_ready(api, files):
    created = api.create("chat", {**BASE, "huggingFaceUrl": "https://huggingface.co/org/name"}).json()
    assert created["name"] == "accounts/acme/models/chat"
    assert created["state"] == "UPLOADING"

    api.upload("chat", files)
    assert api.get("chat").json()["state"] == "UPLOADING"

    assert api.validate("chat").json() == {"warnings": []}
    model = api.get("chat").json()
    assert model["state"] == "READY"
    assert model["contextLength"] == 512
    assert model["baseModelDetails"]["modelType"] == "llama"
    assert model["baseModelDetails"]["parameterCount"] == "32"
    assert model["baseModelDetails"]["defaultPrecision"] == "BF16"
    assert model["supervisedLoraTunable"] is True
    assert model["supportsLora"] is True


def test_answers_have_sorted_keys_and_every_field(api):
    text = api.create("chat").text
    body = json.loads(text)
    assert list(body) == sorted(body)
    assert body["displayName"] == ""
    assert body["deployedModelRefs"] == []
    assert body["deprecationDate"] is None
    assert body["peftDetails"] == {
        "baseModel": "",
        "baseModelType": "",
        "mergeAddonModelName": "",
        "r": 0,
        "targetModules": [],
    }
    assert body["status"] == {"code": "OK", "message": ""}


def test_create_answers_nanoseconds_and_get_microseconds(api):
    created = api.create("chat").json()["createTime"]
    read = api.get("chat").json()["createTime"]
    assert len(created.partition(".")[2]) == len("123456789Z")
    assert len(read.partition(".")[2]) == len("123456Z")
    assert created.startswith(read[:-1])


def test_snake_case_is_read_like_camel_case(api):
    body = {"model_id": "chat", "model": {"kind": "HF_BASE_MODEL", "base_model_details": {"parameter_count": "7"}}}
    created = api.call("POST", "/models", json=body)
    assert created.json()["baseModelDetails"]["parameterCount"] == "7"


def test_int64_is_read_from_number_and_string(api):
    api.create("chat")
    answer = api.call("POST", "/models/chat:getUploadEndpoint", json={"filename_to_size": {"a.json": "3", "b.json": 4}})
    assert sorted(answer.json()["filenameToSignedUrls"]) == ["a.json", "b.json"]
    assert answer.json()["filenameToUnsignedUris"] == {}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}, {"x-api-key": "k"}, {"Authorization": "Basic x"}])
def test_every_control_call_needs_a_key(emulator, headers):
    answer = httpx.get(f"{emulator.url}/v1/accounts/acme/models", headers=headers)
    assert error(answer)[:2] == (401, 16)


def test_only_the_given_keys_and_accounts_are_let_in_when_told_so(start):
    emulator, api = start(api_keys={"good"}, accounts=["acme"], key="good")
    assert api.create("chat").status_code == 200
    stranger, elsewhere = Api(emulator.url, key="bad"), Api(emulator.url, account="other", key="good")
    assert error(stranger.get("chat"))[:2] == (401, 16)
    assert error(elsewhere.get("chat"))[:2] == (403, 7)
    stranger.close()
    elsewhere.close()


def test_the_key_tells_its_account(start):
    emulator, api = start(accounts=["acme"])
    answer = api.http.get("/verifyApiKey")
    assert answer.headers["x-fireworks-account-id"] == "acme"
    accounts = api.http.get("/v1/accounts").json()
    assert [account["name"] for account in accounts["accounts"]] == ["accounts/acme"]
    assert api.call("GET").json()["state"] == "READY"
    assert not emulator.failures


def test_a_second_create_is_refused_as_existing(api):
    api.create("chat")
    status, code, message = error(api.create("chat"))
    assert (status, code) == (409, 6)
    assert "already exists" in message


@pytest.mark.parametrize("id_", ["", "Chat", "1chat", "-chat", "chat-", "ch_at", "a" * 64, "../x", "châ"])
def test_bad_ids_are_refused(api, id_):
    assert error(api.create(id_))[:2] == (400, 3)


def test_bad_enum_values_are_worded_as_observed(emulator, api):
    body = '{"modelId": "chat", "model": {"kind": "LORA_ADAPTER"}}'
    answer = api.call("POST", "/models", content=body)
    assert error(answer) == (400, 3, 'proto: (line 1:39): invalid value for enum field kind: "LORA_ADAPTER"')
    assert not emulator.failures


def test_unknown_fields_are_refused_and_recorded(emulator, api):
    answer = api.call("POST", "/models", content='{"modelId": "chat",\n "model": {"huggingFaceFiles": []}}')
    assert error(answer) == (400, 3, 'proto: (line 2:12): unknown field "huggingFaceFiles"')
    assert error(api.call("GET", "/models?pagesize=3"))[:2] == (400, 3)
    assert [failure.kind for failure in emulator.failures] == ["unknown_field", "unknown_field"]


def test_unknown_routes_are_refused_and_recorded(emulator, api):
    assert error(api.call("GET", "/datasets")) == (404, 5, "Not Found")
    assert error(api.call("PUT", "/models/chat"))[:2] == (501, 12)
    assert [failure.kind for failure in emulator.failures] == ["unknown_route", "unknown_route"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"modelId": 3}', b'{"modelId": "a", "modelId": "b"}', b"\xff", b"NaN"])
def test_malformed_bodies_are_refused(api, body):
    assert error(api.call("POST", "/models", content=body))[:2] == (400, 3)


def test_the_kind_defaults_to_an_addon(api):
    assert api.create("chat", {}).json()["kind"] == "HF_PEFT_ADDON"


def test_a_base_model_needs_its_details_and_an_addon_its_base(api):
    assert error(api.create("chat", {"kind": "HF_BASE_MODEL"}))[:2] == (400, 3)
    assert error(api.create("chat", {"kind": "HF_PEFT_ADDON"}))[:2] == (400, 3)
    missing = {"kind": "HF_PEFT_ADDON", "peftDetails": {"baseModel": "accounts/fireworks/models/nope"}}
    assert error(api.create("chat", missing))[:2] == (404, 5)


def test_long_texts_are_refused(api):
    assert error(api.create("chat", {**BASE, "displayName": "x" * 64}))[:2] == (400, 3)
    assert error(api.create("chat", {**BASE, "description": "x" * 1000}))[:2] == (400, 3)
    assert api.create("chat", {**BASE, "displayName": "x" * 63, "description": "x" * 999}).status_code == 200


def test_update_changes_metadata_and_silently_keeps_what_is_immutable(api):
    before = api.create("chat").json()
    changes = {
        "displayName": "Chat",
        "kind": "EMBEDDING_MODEL",
        "baseModelDetails": {"worldSize": 9},
        "state": "READY",
        "name": "accounts/x/models/y",
    }
    after = api.call("PATCH", "/models/chat", json=changes).json()
    assert after["displayName"] == "Chat"
    assert {key: after[key] for key in ("kind", "baseModelDetails", "state", "name")} == {
        key: before[key] for key in ("kind", "baseModelDetails", "state", "name")
    }


def test_tunability_follows_a_hugging_face_url_after_its_delay(start, files):
    now = [1_000_000.0]
    _emulator, api = start(tunability_seconds=1800, clock=lambda: now[0])
    api.ready("chat", files=files)
    api.call("PATCH", "/models/chat", json={"huggingFaceUrl": "https://huggingface.co/org/name"})
    now[0] += 1799
    assert api.get("chat").json()["supervisedLoraTunable"] is False
    now[0] += 1
    assert api.get("chat").json()["supervisedLoraTunable"] is True


def test_a_deleted_model_is_gone_with_its_files(api, files):
    api.ready("chat", files=files)
    assert api.call("DELETE", "/models/chat").json() == {}
    assert error(api.get("chat"))[:2] == (404, 5)
    api.create("chat")
    api.sign("chat", files)
    assert error(api.validate("chat"))[:2] == (400, 9)


def test_lists_page_through_everything(api):
    for number in range(5):
        api.create(f"model-{number}")
    names, token = [], ""
    while True:
        answer = api.call("GET", "/models", params={"pageSize": 2, "pageToken": token}).json()
        assert answer["totalSize"] == 5
        names += [model["name"].rpartition("/")[2] for model in answer["models"]]
        token = answer["nextPageToken"]
        if not token:
            break
    assert names == [f"model-{number}" for number in range(5)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ('kind="EMBEDDING_MODEL"', ["b"]),
        ("kind=HF_BASE_MODEL AND state=UPLOADING", ["a", "c"]),
        ('hugging_face_url="https://huggingface.co/org/one"', ["a"]),
        ('huggingFaceUrl="https://huggingface.co/org/*"', ["a", "c"]),
        ('NOT kind="HF_BASE_MODEL" OR display_name="See"', ["b", "c"]),
        ("base_model_details.world_size >= 2", ["c"]),
        ("public=false", ["a", "b", "c"]),
        ("display_name:se", ["c"]),
    ],
)
def test_filters(api, wanted, found):
    api.create("a", {**BASE, "huggingFaceUrl": "https://huggingface.co/org/one"})
    api.create("b", {"kind": "EMBEDDING_MODEL"})
    two = {**BASE, "baseModelDetails": {"worldSize": 2}, "displayName": "See"}
    api.create("c", {**two, "huggingFaceUrl": "https://huggingface.co/org/two"})
    answer = api.call("GET", "/models", params={"filter": wanted}).json()
    assert [model["name"][-1] for model in answer["models"]] == found


@pytest.mark.parametrize("query", [{"filter": "nope=1"}, {"filter": "kind="}, {"orderBy": "nope"}, {"pageToken": "x"}])
def test_lists_refuse_what_they_cannot_do(api, query):
    assert error(api.call("GET", "/models", params=query))[:2] == (400, 3)


def test_lists_can_be_ordered_and_masked(api):
    for id_, title in (("a", "2"), ("b", "3"), ("c", "1")):
        api.create(id_, {**BASE, "displayName": title})
    answer = api.call("GET", "/models", params={"order_by": "display_name desc", "readMask": "name"}).json()
    assert [model["name"][-1] for model in answer["models"]] == ["b", "a", "c"]
    assert {model["displayName"] for model in answer["models"]} == {""}


def test_the_public_catalogue_can_be_read_and_not_written(api):
    catalogue = Api(str(api.http.base_url), account="fireworks")
    found = catalogue.call(
        "GET", "/models", params={"filter": 'hugging_face_url="https://huggingface.co/Qwen/Qwen3-8B"'}
    )
    assert [model["name"] for model in found.json()["models"]] == ["accounts/fireworks/models/qwen3-8b"]
    assert found.json()["models"][0]["supportsLora"] is True
    assert error(catalogue.create("mine"))[:2] == (403, 7)
    assert error(catalogue.call("DELETE", "/models/qwen3-8b"))[:2] == (403, 7)
    catalogue.close()


def test_an_addon_takes_adapter_files_only(api):
    api.create("lora", ADDON)
    status, code, message = error(api.sign("lora", {**adapter_files(), "README.md": b"x"}))
    assert (status, code) == (400, 3)
    assert "unexpected file" in message


def test_an_addon_becomes_ready(api):
    model = api.ready("lora", ADDON, adapter_files())
    assert model["peftDetails"]["baseModelType"] == "qwen3"
    assert model["peftDetails"]["r"] == 8
    assert model["peftDetails"]["targetModules"] == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"r": 2}, "between 4 and 64"),
        ({"r": "8"}, "between 4 and 64"),
        ({"target_modules": "all-linear"}, "must be a list"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens"),
        ({"use_dora": True}, "use_dora"),
    ],
)
def test_adapters_that_fireworks_cannot_serve_are_refused(api, change, said):
    files = adapter_files()
    files["adapter_config.json"] = json.dumps({**json.loads(files["adapter_config.json"]), **change}).encode()
    api.create("lora", ADDON)
    api.upload("lora", files)
    status, code, message = error(api.validate("lora"))
    assert (status, code) == (400, 3)
    assert said in message


def broken(name, content):
    return lambda files: {**files, name: content}


def without(name):
    return lambda files: {key: value for key, value in files.items() if key != name}


CONFIG = json.loads(base_files()["config.json"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("config.json"), "config.json not found"),
        (broken("config.json", b"{"), "not valid JSON"),
        (broken("config.json", b"\xef\xbb\xbf" + json.dumps(CONFIG).encode()), "config.json is not valid JSON"),
        (broken("config.json", json.dumps(CONFIG).encode("utf-16")), "config.json is not valid JSON"),
        (broken("tokenizer.json", b"\xef\xbb\xbf{}"), "tokenizer.json is not valid JSON"),
        (broken("config.json", b'{"model_type": "llama"}'), "architectures"),
        (broken("config.json", json.dumps({**CONFIG, "quantization_config": {}}).encode()), "quantization_config"),
        (broken("config.json", json.dumps({**CONFIG, "auto_map": {"a": "b"}}).encode()), "trustRemoteCode"),
        (without("tokenizer.json"), "tokenizer not found"),
        (broken("tokenizer.json", b"nope"), "tokenizer.json is not valid JSON"),
        (without("model.safetensors"), "no weights found"),
        (broken("model.safetensors", base_files()["model.safetensors"][:-1]), "truncated or corrupt"),
        (broken("model.safetensors", b"GIT LFS pointer"), "not a valid safetensors file"),
        (broken("model.safetensors", safetensors({"a": ("BF16", [3], 4)})), "bad entry"),
        (broken("model.safetensors.index.json", b'{"weight_map": {"a": "gone.safetensors"}}'), "gone.safetensors"),
        (broken("model.safetensors.index.json", b'{"weight_map": {"a": "model.safetensors"}}'), "lists tensor 'a'"),
        (broken("extra.txt", b""), "extra.txt is empty"),
    ],
)
def test_validation_finds_what_is_wrong_with_a_base_model(api, files, change, said):
    api.create("chat")
    api.upload("chat", change(files))
    status, code, message = error(api.validate("chat"))
    assert (status, code) == (400, 3)
    assert said in message
    assert api.get("chat").json()["state"] == "UPLOADING"


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 2048),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2}}, 1024),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}}, 1024),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 256}}, 512),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 512),
        ({"rope_scaling": {"type": "linear", "factor": "4"}}, 512),
        ({"rope_scaling": None}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "gemma3_text", "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, 512),
    ],
)
def test_context_length_is_read_with_what_stretches_it(api, files, config, length):
    api.create("chat")
    api.upload("chat", {**files, "config.json": json.dumps({**CONFIG, **config}).encode()})
    assert api.validate("chat").status_code == 200
    assert api.get("chat").json()["contextLength"] == length


def test_modules_of_an_embedding_model_may_call_their_tensors_alike(api, files):
    api.create("embed", {**BASE, "kind": "EMBEDDING_MODEL"})
    dense = safetensors({"linear.weight": ("F32", [2, 2], 16)})
    index = json.dumps({"weight_map": {"linear.weight": "model.safetensors"}}).encode()
    folders = {"2_Dense/model.safetensors": dense, "3_Dense/model.safetensors": dense}
    api.upload("embed", {**files, **folders, "3_Dense/model.safetensors.index.json": index})
    assert api.validate("embed").status_code == 200
    assert api.get("embed").json()["baseModelDetails"]["parameterCount"] == str(32 + 4 + 4)


def test_one_tensor_in_two_files_of_a_folder_is_refused(api, files):
    api.create("chat")
    api.upload("chat", {**files, "model-2.safetensors": files["model.safetensors"]})
    status, code, message = error(api.validate("chat"))
    assert (status, code) == (400, 3)
    assert "in more than one safetensors file" in message


def test_validation_switches(api, files):
    api.create("chat")
    config = json.dumps({**CONFIG, "quantization_config": {}}).encode()
    api.upload("chat", {**without("tokenizer.json")(files), "config.json": config})
    assert api.validate("chat", configOnly=True).status_code == 400
    assert api.validate("chat", skipHfConfigValidation=True).status_code == 400
    assert api.validate("chat", skipHfConfigValidation=True, configOnly="true").status_code == 200


def test_files_promised_at_create_must_come(api, files):
    details = {"checkpointFormat": "HUGGINGFACE", "huggingfaceFiles": [*files, "generation_config.json"]}
    api.create("chat", {**BASE, "baseModelDetails": details})
    api.upload("chat", files)
    assert "generation_config.json" in error(api.validate("chat"))[2]


def test_tensors_missing_from_the_index_are_a_warning(api, files):
    files["model.safetensors.index.json"] = b'{"weight_map": {}}'
    api.create("chat")
    api.upload("chat", files)
    assert api.validate("chat").json() == {
        "warnings": ["model.safetensors.index.json does not list tensor model.embed_tokens.weight"]
    }


@pytest.mark.parametrize(("tied", "status"), [(True, 200), (None, 200), (False, 400)])
def test_tied_head_may_be_listed_and_absent(api, files, tied, status):
    """Paths with `./` are those of the files, as in any loader."""
    weight_map = {"model.embed_tokens.weight": "./model.safetensors", "lm_head.weight": "./model.safetensors"}
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    config = json.loads(files["config.json"]) | ({} if tied is None else {"tie_word_embeddings": tied})
    files["config.json"] = json.dumps(config).encode()
    api.create("chat")
    api.upload("chat", files)
    assert api.validate("chat").status_code == status


def test_two_modules_may_hold_tensors_of_one_name(api, files):
    api.create("chat")
    api.upload("chat", files | {"2_Dense/model.safetensors": files["model.safetensors"]})
    assert api.validate("chat").status_code == 200


def test_two_files_of_one_folder_may_not(api, files):
    api.create("chat")
    api.upload("chat", files | {"more.safetensors": files["model.safetensors"]})
    assert "more than one safetensors file" in error(api.validate("chat"))[2]


def test_a_config_can_be_checked_before_anything_is_created(api):
    def check(config):
        return api.http.post("/v1/validateModelConfig", json={"configJson": config})

    assert check(base_files()["config.json"].decode()).json() == {}
    assert error(check('{"quantization_config": {}}'))[:2] == (400, 3)
