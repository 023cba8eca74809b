"""What is asked of a model that is there already: changed and listed, or refused; told as Fireworks holds it then."""

import json
import shutil

import pytest
from emulator.raw_client import Api
from mlflow.deployments import get_deploy_client
from support.checkpoints import make_adapter, make_llama

from mlflow_fireworks.errors import InvalidConfigError

QUIET = {"progress": "none", "verify_hugging_face": False}
URL = "https://huggingface.co/acme/other"


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return str(make_llama(tmp_path_factory.mktemp("llama") / "model"))


@pytest.fixture
def client(fireworks, llama):
    client = get_deploy_client("fireworks")
    client.create_deployment("chat", llama, config={**QUIET, "hugging_face_url": "acme/llama"})
    return client


@pytest.fixture
def held(fireworks):
    """What Fireworks holds of the model."""
    api = Api(fireworks.url)
    yield lambda: api.get("chat").json()
    api.close()


def again(client, llama, verb, **options):
    if verb == "create":
        return client.create_deployment("chat", llama, config={**QUIET, **options})
    return client.update_deployment("chat", llama if verb == "update" else None, config={**QUIET, **options})


ASKED = {
    "url": ("hugging_face_url", "acme/other", "huggingFaceUrl", URL),
    "no url": ("hugging_face_url", "none", "huggingFaceUrl", ""),
    "public": ("public", "true", "public", True),
    "display_name": ("display_name", "Chat", "displayName", "Chat"),
    "github_url": ("github_url", "https://github.com/acme/chat", "githubUrl", "https://github.com/acme/chat"),
    "context_length": ("context_length", 128, "contextLength", 128),
    "supports_tools": ("supports_tools", True, "supportsTools", True),
    "supports_image_input": ("supports_image_input", True, "supportsImageInput", True),
}


@pytest.mark.parametrize(
    ("verb", "asked"), [*(("create", name) for name in ASKED), ("update", "public"), ("finish", "url")]
)
def test_what_is_asked_for_is_changed_and_listed(client, llama, held, verb, asked):
    option, value, field, expected = ASKED[asked]
    result = again(client, llama, verb, **{option: value})
    assert held()[field] == expected
    assert (result["action"], result["changed"]) == ("updated", [option])
    assert result["model"] == "accounts/acme/models/chat"
    if option in result:
        assert result[option] == (expected or None)
    repeated = again(client, llama, verb, **{option: value})
    assert (repeated["action"], repeated["changed"]) == ("unchanged", [])


def test_several_changes_are_one_call_and_the_description_keeps_its_stamp(client, llama, held, fireworks):
    result = again(client, llama, "create", public=True, description="Our bot.", display_name="Chat")
    assert sorted(result["changed"]) == ["description", "display_name", "public"]
    assert held()["description"].startswith("Our bot.\nFrom file:")
    assert client.get_deployment("chat")["managed"]
    assert len(fireworks.calls("update_model")) == 1


@pytest.mark.parametrize("verb", ["create", "update", "finish"])
def test_nothing_that_was_not_asked_for_is_changed(client, llama, fireworks, verb):
    assert again(client, llama, verb)["changed"] == []
    assert fireworks.calls("update_model") == []


def test_a_dry_run_says_what_would_change_and_changes_nothing(client, llama, held, fireworks):
    result = again(client, llama, "update", public=True, dry_run=True)
    assert result["changed"] == ["public"]
    assert held()["public"] is False
    assert fireworks.calls("update_model") == []


def test_what_fireworks_does_not_take_is_not_told_as_done(client, llama, held, fireworks, caplog):
    fireworks.fault("update_model", status=200, body=json.dumps({"name": "accounts/acme/models/chat"}))
    result = again(client, llama, "create", public=True, hugging_face_url="acme/other")
    assert (result["action"], result["changed"]) == ("unchanged", [])
    assert result["hugging_face_url"] == held()["huggingFaceUrl"] == "https://huggingface.co/acme/llama"
    assert "Fireworks did not change public, hugging_face_url of accounts/acme/models/chat" in caplog.text


def test_a_url_that_is_only_found_is_not_told_as_the_one_that_is_there(client, held, llama, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(llama, moved)
    (moved / "README.md").write_text("---\nbase_model: acme/found\n---\n")
    result = client.create_deployment("chat", str(moved), config=QUIET)
    assert result["hugging_face_url"] == held()["huggingFaceUrl"] == "https://huggingface.co/acme/llama"
    assert "hugging_face_evidence" not in result
    assert result["source"] == client.get_deployment("chat")["source"]


@pytest.mark.parametrize("verb", ["create", "update", "finish"])
def test_what_cannot_change_is_refused_before_anything_is(client, llama, fireworks, verb):
    with pytest.raises(InvalidConfigError, match=r"world_size=4: .*/chat was created with 1, which cannot be changed"):
        again(client, llama, verb, world_size=4, public=True)
    assert fireworks.calls("update_model") == []
    assert again(client, llama, verb, world_size=1)["changed"] == []


def test_an_adapter_does_not_go_over_to_another_base(client, fireworks, tmp_path):
    adapter = str(make_adapter(tmp_path / "lora"))
    options = {**QUIET, "base_model": "accounts/fireworks/models/llama-v3p1-8b-instruct"}
    client.create_deployment("lora", adapter, config=options)
    with pytest.raises(InvalidConfigError, match=r"base_model=.*qwen3-8b: .*/lora was created with .*llama-v3p1-8b"):
        client.create_deployment("lora", adapter, config={**QUIET, "base_model": "accounts/fireworks/models/qwen3-8b"})
    assert client.create_deployment("lora", adapter, config=options)["action"] == "unchanged"
