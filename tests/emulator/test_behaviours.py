"""What is uncertain about Fireworks: every way of every fact over plain HTTP, and how ways are chosen."""

import contextlib
import json
import re

import httpx
import pytest
from emulator.raw_client import ADDON, BASE, OCTETS, Api, adapter_files, base_files, safetensors

from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.emulator.__main__ import main
from mlflow_fireworks.emulator.behaviours import Behaviours
from mlflow_fireworks.emulator.facts import FACTS, PROFILES

QWEN = "accounts/fireworks/models/qwen3-8b"
EMBEDDER = {"kind": "EMBEDDING_MODEL", "baseModelDetails": {"checkpointFormat": "HUGGINGFACE", "worldSize": 1}}
SHAPES = "accounts/fireworks/deploymentShapes"
PROD = "accounts/acme/deployments/prod"
CASES = {}


def way(fact, name):
    """Register the test of one way."""

    def register(case):
        CASES[fact, name] = case
        return case

    return register


def said(response):
    """Status, code and message of a refusal; the code is None where it is not the gateway's own."""
    with contextlib.suppress(ValueError):
        return response.status_code, response.json()["code"], response.json()["message"]
    return response.status_code, None, response.text


def uploaded(api, model=BASE, files=None):
    assert api.create("chat", model).status_code == 200
    api.upload("chat", files or base_files())


def validations(api, count):
    return [said(answer) if (answer := api.validate("chat")).status_code != 200 else 200 for _ in range(count)]


def state(api):
    return api.get("chat").json()["state"]


def deploy(api, model=QWEN, **body):
    return api.call("POST", "/deployments?deploymentId=prod", json={"baseModel": model, **body})


def ask(api, operation="chat/completions", **body):
    question = {"messages": [{"role": "user", "content": "hello"}], "input": "hello", **body}
    return api.http.post(f"/inference/v1/{operation}", json={"model": PROD, **question})


def ready_deployment(api):
    assert deploy(api, acceleratorType="NVIDIA_H100_80GB").status_code == 200
    body = api.call("GET", "/deployments/prod").json()
    assert body["state"] == "READY"
    return body


@way("validation", "complete")
def _(api, _clock):
    uploaded(api)
    assert validations(api, 1) == [200]


@way("validation", "not-found")
def _(api, _clock):
    uploaded(api)
    assert validations(api, 4) == [(400, 3, "config.json not found")] * 3 + [200]
    api.call("DELETE", "/models/chat")
    uploaded(api, ADDON, adapter_files())
    assert validations(api, 4) == [(400, 3, "adapter_config.json not found")] * 3 + [200]


@way("validation", "answer-lost")
def _(api, _clock):
    uploaded(api)
    assert [said(api.validate("chat"))[0]] == [504]
    assert state(api) == "READY"
    assert [api.validate("chat").status_code for _ in range(3)] == [504, 524, 200]


@way("validation", "precondition-412")
def _(api, _clock):
    api.create("chat")
    api.sign("chat", base_files())
    assert said(api.validate("chat"))[:2] == (412, 9)
    api.upload("chat", base_files())
    assert [answer if answer == 200 else answer[:2] for answer in validations(api, 4)] == [(412, 9)] * 3 + [200]


@way("unknown-fields", "refused")
def _(api, _clock):
    assert 'unknown field "flavour"' in said(api.create("chat", {**BASE, "flavour": 1}))[2]
    assert said(api.call("GET", "/models?flavour=1"))[:2] == (400, 3)


@way("unknown-fields", "ignored")
def _(api, _clock):
    assert api.create("chat", {**BASE, "flavour": 1}).status_code == 200
    assert api.call("GET", "/models?flavour=1").json()["totalSize"] == 1
    assert said(api.create("other", {**BASE, "kind": 1}))[:2] == (400, 3)  # what it knows it still checks


POOLED = {**base_files(), "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}'}


@way("names", "kept")
def _(api, _clock):
    uploaded(api, files=POOLED)
    assert validations(api, 1) == [200]
    assert "1_Pooling/config.json" in api.call("GET", "/models/chat:getDownloadEndpoint").json()["filenameToSignedUrls"]


@way("names", "flattened")
def _(api, _clock):
    uploaded(api, files=POOLED)
    assert validations(api, 1) == [(400, 3, "config.json has no model_type")]
    first = {"1_Pooling/config.json": POOLED["1_Pooling/config.json"], **base_files()}
    api.upload("chat", first)  # now config.json itself is the last
    assert validations(api, 1) == [200]
    names = api.call("GET", "/models/chat:getDownloadEndpoint").json()["filenameToSignedUrls"]
    assert sorted(names) == sorted(base_files())


def sign_twice(api):
    api.create("chat")
    assert api.sign("chat", base_files()).status_code == 200
    return api.sign("chat", base_files())


@way("second-signing", "accepted")
def _(api, _clock):
    assert sign_twice(api).status_code == 200


@way("second-signing", "refused-409")
def _(api, _clock):
    assert said(sign_twice(api))[:2] == (409, 6)


@way("second-signing", "refused-405")
def _(api, _clock):
    assert said(sign_twice(api))[0] == 405


@way("second-signing", "refused-400")
def _(api, _clock):
    api.create("chat")
    urls = api.sign("chat", base_files()).json()["filenameToSignedUrls"]
    assert said(api.sign("chat", base_files()))[:2] == (400, 9)
    assert [api.put(urls[name], content).status_code for name, content in base_files().items()] == [200] * 3
    assert validations(api, 1) == [200]


@way("landed-files", "kept")
def _(api, _clock):
    uploaded(api)
    api.sign("chat", base_files())
    assert validations(api, 1) == [200]


@way("landed-files", "forgotten")
def _(api, _clock):
    uploaded(api)
    api.sign("chat", base_files())
    assert "3 of 3 missing" in validations(api, 1)[0][2]


def lives(api, clock, seconds):
    """Whether a URL can be used after that time, and still a second later."""
    api.create("chat")
    urls = api.sign("chat", base_files()).json()["filenameToSignedUrls"]
    clock[0] += seconds - 1
    before = api.put(urls["config.json"], base_files()["config.json"])
    clock[0] += 1
    return before.status_code, api.put(urls["tokenizer.json"], base_files()["tokenizer.json"]).text.count(
        "ExpiredToken"
    )


@way("url-life", "60m")
def _(api, clock):
    assert lives(api, clock, 3600) == (200, 1)


@way("url-life", "15m")
def _(api, clock):
    assert lives(api, clock, 900) == (200, 1)


@way("routing", "at-once")
def _(api, _clock):
    assert ready_deployment(api)["replicaStats"]["readyReplicaCount"] == 1
    assert ask(api).status_code == 200


@way("routing", "503-first")
def _(api, _clock):
    stats = [ready_deployment(api)["replicaStats"]]
    assert api.call("GET", "/deployments").json()["deployments"][0]["replicaStats"]["readyReplicaCount"] == 0
    stats += [api.call("GET", "/deployments/prod").json()["replicaStats"] for _ in range(3)]
    assert [item["readyReplicaCount"] for item in stats] == [0, 0, 0, 1]
    assert api.call("GET", "/deployments").json()["deployments"][0]["replicaStats"]["readyReplicaCount"] == 1
    assert [item["initializingReplicaCount"] for item in stats] == [1, 1, 1, 0]
    assert [said(ask(api)) for _ in range(3)] == [(503, None, "fault filter abort")] * 3
    assert ask(api).status_code == 200


@way("routing", "404-first")
def _(api, _clock):
    assert ready_deployment(api)["replicaStats"]["readyReplicaCount"] == 1
    answers = [ask(api) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [404, 404, 404, 200]
    assert answers[0].json()["error"]["code"] == "NOT_FOUND"


OTHER_SHAPE = f"{SHAPES}/gpt-oss-20b-fast"


ROUTER = "accounts/acme/routers/front"


def ask_router(api, *targets):
    """Point the router there, if targets are named; then three questions."""
    body = {"deployments": [f"accounts/acme/deployments/{target}" for target in targets]}
    if targets:
        made = api.call("GET", "/routers/front").status_code == 200
        call = ("PATCH", "/routers/front") if made else ("POST", "/routers?routerId=front")
        assert api.call(*call, json=body).status_code == 200
    return [ask(api, model=ROUTER) for _ in "abc"]


def two_deployments(api):
    for name in ("prod", "prod-2"):
        body = {"baseModel": QWEN, "acceleratorType": "NVIDIA_H100_80GB", "minReplicaCount": 1}
        assert api.call("POST", f"/deployments?deploymentId={name}", json=body).status_code == 200
        assert api.call("GET", f"/deployments/{name}").json()["state"] == "READY"


def places(answers):
    return [
        re.search(r"deployments/([a-z0-9-]+) was reached", answer.text)[1] if answer.status_code == 200 else 404
        for answer in answers
    ]


@way("routers", "offered")
def _(api, _clock):
    assert api.call("GET", "/routers").json()["routers"] == []
    assert said(api.call("GET", "/routers/front"))[2] == 'router "accounts/acme/routers/front" not found'


@way("routers", "absent-404")
def _(api, _clock):
    assert said(api.call("GET", "/routers")) == (404, 5, "Not Found")
    assert said(api.call("POST", "/routers", json={})) == (404, 5, "Not Found")


@way("routers", "absent-501")
def _(api, _clock):
    assert {said(api.call(method, "/routers/x"))[:2] for method in ("GET", "PATCH", "DELETE")} == {(501, 12)}


@way("router-changes", "at-once")
def _(api, _clock):
    two_deployments(api)
    assert places(ask_router(api, "prod")) == ["prod"] * 3
    assert places(ask_router(api, "prod-2")) == ["prod-2"] * 3


@way("router-changes", "slow")
def _(api, _clock):
    two_deployments(api)
    assert places(ask_router(api, "prod")) == [404] * 3
    assert places(ask_router(api)) == ["prod"] * 3
    assert places(ask_router(api, "prod-2")) == ["prod"] * 3
    assert places(ask_router(api)) == ["prod-2"] * 3


def fall_asleep(api, clock):
    ready_deployment(api)
    ask_router(api, "prod")
    clock[0] += 4000
    return ask_router(api)


@way("router-sleep", "ends")
def _(api, clock):
    first, second, _ = fall_asleep(api, clock)
    assert (first.status_code, first.json()["error"]["code"]) == (503, "DEPLOYMENT_SCALING_UP")
    assert second.status_code == 200


@way("router-sleep", "lasts")
def _(api, clock):
    assert {(answer.status_code, answer.text) for answer in fall_asleep(api, clock)} == {(503, "no healthy upstream")}
    assert ask(api).status_code == 503
    assert places(ask_router(api)) == ["prod"] * 3  # its own address has woken it


@way("auto-routers", "hidden")
def _(api, _clock):
    ready_deployment(api)
    assert api.call("GET", "/routers").json()["totalSize"] == 0


@way("auto-routers", "listed")
def _(api, _clock):
    ready_deployment(api)
    (router,) = api.call("GET", "/routers").json()["routers"]
    assert (router["name"], router["autoGenerated"]) == ("accounts/acme/routers/prod", True)
    assert router["deployments"] == [PROD]
    assert said(api.call("PATCH", "/routers/prod", json={"deployments": [PROD]}))[:2] == (400, 9)
    assert said(api.call("DELETE", "/routers/prod"))[:2] == (400, 9)
    assert said(api.call("POST", "/routers?routerId=prod", json={"deployments": [PROD]}))[:2] == (409, 6)
    assert ask(api, model="accounts/acme/routers/prod").status_code == 200
    api.call("DELETE", "/deployments/prod?hard=true&ignoreChecks=true")
    assert api.call("GET", "/routers").json()["routers"] == []


@way("answering-deployment", "told")
def _(api, _clock):
    ready_deployment(api)
    assert ask(api).headers["fireworks-deployment"] == PROD
    assert ask_router(api, "prod")[0].headers["fireworks-deployment"] == PROD
    assert ask(api, "embeddings").headers["fireworks-deployment"] == PROD


@way("answering-deployment", "untold")
def _(api, _clock):
    ready_deployment(api)
    assert "fireworks-deployment" not in ask(api).headers


@way("shapes", "kept")
def _(api, _clock):
    assert "not validated for model" in said(deploy(api, deploymentShape=OTHER_SHAPE))[2]
    assert deploy(api, deploymentShape=f"{SHAPES}/qwen3-8b-fast").status_code == 200


@way("shapes", "dropped")
def _(api, _clock):
    refused = deploy(api, deploymentShape=OTHER_SHAPE, enableAddons=True)
    assert said(refused) == (400, 3, "addons are not supported for this model")
    made = deploy(api, deploymentShape=OTHER_SHAPE)
    assert (made.status_code, made.json()["deploymentShape"]) == (200, "")
    api.call("DELETE", "/deployments/prod?hard=true")
    fits = deploy(api, deploymentShape=f"{SHAPES}/qwen3-8b-fast")
    assert fits.json()["deploymentShape"] == f"{SHAPES}/qwen3-8b-fast/versions/v1"


def exceed_quota(api):
    return said(deploy(api, acceleratorType="NVIDIA_H100_80GB", acceleratorCount=9))


@way("quota-status", "429")
def _(api, _clock):
    status, code, message = exceed_quota(api)
    assert (status, code) == (429, 8)
    assert "in use: 0, quota: 8, requesting: 9" in message


@way("quota-status", "403")
def _(api, _clock):
    status, code, message = exceed_quota(api)
    assert (status, code) == (403, 7)
    assert "in use: 0, quota: 8, requesting: 9" in message


def states(api):
    uploaded(api)
    assert validations(api, 1) == [200]
    return [state(api) for _ in range(4)]


@way("states", "plain")
def _(api, _clock):
    assert states(api) == ["READY"] * 4


@way("states", "preparing")
def _(api, _clock):
    assert states(api) == ["PREPARING"] * 3 + ["READY"]
    api.call("POST", "/models/chat:prepare", json={"precision": "FP8"})
    seen = [api.get("chat").json() for _ in range(4)]
    assert [model["state"] for model in seen] == ["PREPARING"] * 3 + ["READY"]
    assert ["FP8" in model["supportedPrecisions"] for model in seen] == [False] * 3 + [True]


@way("states", "failed")
def _(api, _clock):
    assert states(api) == ["FAILED"] * 4
    assert api.get("chat").json()["status"] == {"code": "INTERNAL", "message": "model preparation failed"}


def sign_adapter(api):
    api.create("chat", ADDON)
    return api.sign("chat", {**adapter_files(), "fireworks.json": b"{}"})


@way("adapter-files", "strict")
def _(api, _clock):
    assert said(sign_adapter(api)) == (400, 3, 'unexpected file "fireworks.json"')


@way("adapter-files", "fireworks-json")
def _(api, _clock):
    assert sign_adapter(api).status_code == 200
    assert "unexpected file" in said(api.sign("chat", {**adapter_files(), "README.md": b"x"}))[2]
    api.upload("chat", {**adapter_files(), "fireworks.json": b"{}"})
    assert validations(api, 1) == [200]


QUANTIZED = {
    **base_files(),
    "config.json": json.dumps(
        {**json.loads(base_files()["config.json"]), "quantization_config": {"quant_method": "fp8"}}
    ).encode(),
    "model.safetensors": safetensors({"a": ("F8_E4M3", [8, 4], 32), "a_scale_inv": ("F32", [1], 4)}),
}


def check_config(api):
    return api.http.post("/v1/validateModelConfig", json={"configJson": QUANTIZED["config.json"].decode()})


@way("quantized", "refused")
def _(api, _clock):
    uploaded(api, files=QUANTIZED)
    assert "quantized checkpoints are not supported" in validations(api, 1)[0][2]
    assert said(check_config(api))[:2] == (400, 3)


@way("quantized", "accepted")
def _(api, _clock):
    uploaded(api, files=QUANTIZED)
    assert validations(api, 1) == [200]
    assert api.get("chat").json()["supportedPrecisions"] == ["FP8"]
    assert check_config(api).status_code == 200


def many(count):
    return {f"part-{number}": b"x" for number in range(count)}


@way("many-files", "accepted")
def _(api, _clock):
    api.create("chat")
    assert api.sign("chat", many(100)).status_code == 200


@way("many-files", "refused")
def _(api, _clock):
    details = {"checkpointFormat": "HUGGINGFACE", "huggingfaceFiles": list(many(38))}
    too_large = (400, 3, "etcdserver: request is too large")
    assert said(api.create("chat", {**BASE, "baseModelDetails": details})) == too_large
    api.create("chat")
    assert said(api.sign("chat", many(38))) == too_large
    assert api.sign("chat", many(37)).status_code == 200


def begins_with(api, beginning):
    return api.call("GET", "/models", params={"filter": f'name="accounts/acme/models/{beginning}*"'})


def found(answer):
    return [item["name"].rpartition("/")[2] for item in answer.json()["models"]]


@way("name-filters", "heeded")
def _(api, _clock):
    for name in ("chat", "chat-r2", "other"):
        api.create(name)
    assert found(begins_with(api, "chat")) == ["chat", "chat-r2"]


@way("name-filters", "literal")
def _(api, _clock):
    api.create("chat")
    assert found(begins_with(api, "chat")) == []
    assert found(api.call("GET", "/models", params={"filter": 'name="accounts/acme/models/chat"'})) == ["chat"]


@way("name-filters", "ignored")
def _(api, _clock):
    for name in ("chat", "other"):
        api.create(name)
    assert found(begins_with(api, "chat")) == ["chat", "other"]


@way("name-filters", "refused")
def _(api, _clock):
    assert said(begins_with(api, "chat"))[:2] == (400, 3)
    assert api.call("GET", "/models", params={"filter": "kind=HF_BASE_MODEL"}).status_code == 200


def embed(api, *texts):
    return [item["embedding"] for item in ask(api, "embeddings", input=list(texts)).json()["data"]]


UNFIT = ({"deploymentShape": f"{SHAPES}/qwen3-8b-minimal"}, {"acceleratorType": "NVIDIA_H100_80GB"})


@way("embeddings", "guarded")
def _(api, _clock):
    api.ready("chat", EMBEDDER)
    model = "accounts/acme/models/chat"
    assert {said(deploy(api, model, **hardware))[:2] for hardware in UNFIT} == {(400, 3)}
    assert deploy(api, model, deploymentShape=f"{SHAPES}/qwen3-embedding-0p6b-minimal").status_code == 200
    api.call("GET", "/deployments/prod")
    one, two = embed(api, "one", "two")
    assert one != two


@way("embeddings", "silent")
def _(api, _clock):
    api.ready("chat", EMBEDDER)
    model = "accounts/acme/models/chat"
    assert deploy(api, model, acceleratorType="NVIDIA_H100_80GB").status_code == 200
    api.call("GET", "/deployments/prod")
    one, two = embed(api, "one", "two")
    assert one == two
    api.call("DELETE", "/deployments/prod?hard=true&ignoreChecks=true")
    assert deploy(api, model, deploymentShape="default").status_code == 200
    api.call("GET", "/deployments/prod")
    one, two = embed(api, "one", "two")
    assert one != two


def projected(api):
    """The length of a vector of a model that makes 8 numbers of 4."""
    settings = {
        "modules.json": [
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": 4},
        "2_Dense/config.json": {"in_features": 4, "out_features": 8},
    }
    api.ready("chat", EMBEDDER, base_files() | {name: json.dumps(text).encode() for name, text in settings.items()})
    assert deploy(api, "accounts/acme/models/chat", deploymentShape="default").status_code == 200
    api.call("GET", "/deployments/prod")
    [vector] = embed(api, "one")
    return len(vector)


@way("projections", "applied")
def _(api, _clock):
    assert projected(api) == 8


@way("projections", "left-out")
def _(api, _clock):
    assert projected(api) == 4


@way("account", "active")
def _(api, _clock):
    assert api.call("GET").json()["suspendState"] == "UNSUSPENDED"


@way("account", "suspended")
def _(api, _clock):
    assert api.call("GET").json()["suspendState"] == "FAILED_PAYMENTS"
    assert said(api.create("chat")) == (412, 9, "account acme is suspended")
    assert said(deploy(api, acceleratorType="NVIDIA_H100_80GB"))[0] == 412
    assert api.call("GET", "/models").status_code == 200


@way("account", "zero-data-retention")
def _(api, _clock):
    refusal = said(api.create("chat"))
    assert refusal[:2] == (403, 7)
    assert "Zero Data Retention" in refusal[2]
    source = {"awsS3Source": {"s3Bucket": "b"}}
    assert said(api.call("POST", "/models/chat:import", json=source))[:2] == (403, 7)
    assert deploy(api, acceleratorType="NVIDIA_H100_80GB").status_code == 200  # a public model


@way("account", "other-region")
def _(api, _clock):
    assert api.http.get("/verifyApiKey").status_code == 200
    assert said(api.call("GET", "/models"))[:2] == (403, 7)
    assert said(api.create("chat"))[2] == "account acme has US data residency; use us.api.fireworks.ai instead"


@way("bare-model", "refused")
def _(api, _clock):
    ready_deployment(api)
    assert ask(api, model=QWEN).status_code == 404


@way("bare-model", "routed")
def _(api, _clock):
    ready_deployment(api)
    assert ask(api, model=QWEN).status_code == 200


def put_chunked(api):
    api.create("chat")
    url = api.sign("chat", {"config.json": b"{}"}).json()["filenameToSignedUrls"]["config.json"]
    headers = {"Content-Type": OCTETS, "x-goog-content-length-range": "2,2"}
    return api.storage.put(url, content=iter([b"{}"]), headers=headers).status_code


@way("chunked-uploads", "dropped")
def _(api, _clock):
    assert put_chunked(api) == 200
    assert "1 of 1 missing" in validations(api, 1)[0][2]


@way("chunked-uploads", "stored")
def _(api, _clock):
    assert put_chunked(api) == 200
    assert "no model_type" in validations(api, 1)[0][2]


@pytest.fixture(scope="module")
def clock():
    return [1_000_000.0]


@pytest.fixture(scope="module")
def server(clock):
    with Emulator(clock=lambda: clock[0]) as emulator:
        yield emulator


@pytest.fixture
def told(server):
    """A server that can be told how to behave, and a client of it."""
    server.reset()
    api = Api(server.url)
    yield server, api
    api.close()


@pytest.mark.parametrize(("fact", "name"), CASES, ids="=".join)
def test_every_way_of_every_fact(told, clock, fact, name):
    emulator, api = told
    emulator.behave(f"{fact}={name}")
    CASES[fact, name](api, clock)


def test_no_way_is_without_a_test():
    assert list(CASES) == [(fact.name, name) for fact in FACTS for name in fact.ways]


def test_the_default_is_the_first_way_of_each_fact():
    assert Behaviours().ways() == {fact.name: next(iter(fact.ways)) for fact in FACTS}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_several_choices_and_later_words_win(profile):
    behaviours = Behaviours([profile, "url-life=60m", "names=kept"])
    assert behaviours.ways() == {
        **Behaviours().ways(),
        **dict(word.split("=") for word in PROFILES[profile]),
        "url-life": "60m",
        "names": "kept",
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("quota=403", "unknown fact 'quota'; did you mean quota-status"),
        ("quota-status=401", "unknown way of quota-status '401'; did you mean 403"),
        ("strikt", "unknown behaviour 'strikt'; did you mean strict"),
        ("names=flattened:3", "names=flattened is not temporary and takes no length"),
        ("routing=404-first:soon", "unknown behaviour"),
        ("=", "unknown behaviour"),
    ],
)
def test_what_does_not_exist_is_refused_and_changes_nothing(told, word, message):
    emulator, api = told
    with pytest.raises(ValueError, match=message):
        emulator.behave("names=flattened", word)
    with pytest.raises(ValueError, match=message):
        Emulator(behaviours=[word])
    assert api.http.get("/_emulator/behaviours").json()["names"] == "kept"


@pytest.mark.parametrize(("length", "polls"), [(":1", 1), (":5", 5), (":0", 0), ("", 3)])
def test_a_passing_way_lasts_as_many_polls_as_told(told, length, polls):
    emulator, api = told
    emulator.behave(f"validation=not-found{length}")
    uploaded(api)
    answers = [api.validate("chat").status_code for _ in range(polls + 1)]
    assert answers == [400] * polls + [200]


@pytest.mark.parametrize(
    ("word", "before", "after"), [("routing=404-first:180s", 404, 200), ("routing=503-first:180s", 503, 200)]
)
def test_a_passing_way_can_last_for_some_time(told, clock, word, before, after):
    emulator, api = told
    emulator.behave(word)
    ready_deployment(api)
    clock[0] += 179
    assert [ask(api).status_code for _ in range(5)] == [before] * 5
    clock[0] += 1
    assert ask(api).status_code == after
    assert api.call("GET", "/deployments/prod").json()["replicaStats"]["readyReplicaCount"] == 1


def test_preparing_can_last_for_some_time(told, clock):
    emulator, api = told
    emulator.behave("states=preparing:60s")
    uploaded(api)
    api.validate("chat")
    assert [state(api) for _ in range(5)] == ["PREPARING"] * 5
    clock[0] += 60
    assert state(api) == "READY"


def test_ways_are_chosen_at_start_and_reset_returns_to_them(start):
    emulator, api = start(behaviours={"quota-status": "403"})
    emulator.behave("quota-status=429", "names=flattened")
    assert exceed_quota(api)[0] == 429
    emulator.reset()
    assert exceed_quota(api)[0] == 403
    assert api.http.get("/_emulator/behaviours").json()["names"] == "kept"


def test_another_process_chooses_over_http(told):
    _emulator, api = told

    def post(body):
        return api.http.post("/_emulator/behaviours", json=body)

    assert post({"profile": "strict", "names": "kept"}).json()["second-signing"] == "refused-409"
    assert post({}).json()["names"] == "kept"
    refused = post({"names": "flat"})
    assert (refused.status_code, "did you mean flattened" in refused.json()["error"]) == (400, True)


def test_the_command_lists_and_refuses(capsys):
    assert main(["--behaviour", "nmaes=kept"]) == 2
    assert "did you mean names" in capsys.readouterr().err
    assert main(["--help"]) == 0
    help_text = capsys.readouterr().out
    assert [fact.name for fact in FACTS if f"{fact.name}:" not in help_text] == []
    assert "  flattened: it is stored as config.json" in help_text


def test_a_soft_delete_can_be_undone_after_a_bad_start(told):
    emulator, api = told
    emulator.behave("routing=503-first")
    ready_deployment(api)
    assert ask(api).status_code == 503
    api.call("DELETE", "/deployments/prod?ignoreChecks=true")
    assert api.call("GET", "/deployments/prod").json()["state"] == "DELETED"
    emulator.behave("routing=at-once")
    assert api.call("POST", "/deployments/prod:undelete", json={}).json()["state"] == "CREATING"
    assert api.call("GET", "/deployments/prod").json()["replicaStats"]["readyReplicaCount"] == 1
    assert ask(api).status_code == 200


def test_a_suspended_account_may_look_and_delete(told):
    """What costs money can be stopped."""
    emulator, api = told
    ready_deployment(api)
    emulator.behave("account=suspended")
    assert ask(api).status_code == 412
    assert api.call("DELETE", "/deployments/prod?ignoreChecks=true").status_code == 200
    assert httpx.get(f"{emulator.url}/verifyApiKey", headers={"Authorization": "Bearer k"}).status_code == 200


def test_a_newly_loaded_adapter_is_not_routed_at_first_either(told):
    emulator, api = told
    emulator.behave("routing=404-first:2")
    deploy(api, acceleratorType="NVIDIA_H100_80GB", enableAddons=True)
    api.call("GET", "/deployments/prod")
    assert [ask(api).status_code for _ in range(3)] == [404, 404, 200]
    api.ready("lora", ADDON, adapter_files())
    loaded = {"model": "accounts/acme/models/lora", "deployment": PROD}
    assert api.call("POST", "/deployedModels", json=loaded).status_code == 200
    answers = [ask(api, model=f"{loaded['model']}#{PROD}").status_code for _ in range(3)]
    assert answers == [404, 404, 200]
    assert ask(api).status_code == 200
