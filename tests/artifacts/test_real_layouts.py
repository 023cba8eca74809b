"""Models logged by the real mlflow flavors; what would go up is loaded again and must answer the same."""

import importlib.util
import shutil
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from huggingface_hub import HfApi
from support.checkpoints import (
    CHAT_TEMPLATE,
    make_adapter,
    make_embedder,
    make_llama,
    minilm_folder,
    read_files,
    read_json,
)
from support.hub_server import SHA, HubServer

from mlflow_fireworks.artifacts.manifest import Manifest, build_manifest
from mlflow_fireworks.artifacts.sources.hub_source import open_hub_source
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.config import Kind, parse_config
from mlflow_fireworks.progress import Silent

if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

# The libraries that log these models warn about themselves.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

CHAT = [{"role": "user", "content": "hé"}]


@pytest.fixture(scope="module", autouse=True)
def tracking(tmp_path_factory):
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")
    mlflow.create_experiment("layouts", artifact_location=tmp_path_factory.mktemp("artifacts").as_uri())
    mlflow.set_experiment("layouts")


def load_llama(folder: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def log_pipeline(model, tokenizer, **options):
    components = {"model": model, "tokenizer": tokenizer}
    info = mlflow.transformers.log_model(
        components, name="chat", task="text-generation", pip_requirements=["torch"], **options
    )
    return info.model_uri


def plan(uri: str, **options) -> Manifest:
    return build_manifest(open_source(uri), parse_config(options), Silent())


def write_out(manifest: Manifest, folder: Path) -> Path:
    for file in manifest.files:
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with file.content.staged() as open_file, open_file() as content:
            target.write_bytes(content.read())
        assert target.stat().st_size == file.size
    return folder


def logits(model, tokenizer):
    import torch

    with torch.no_grad():
        return model(**tokenizer("hello there", return_tensors="pt")).logits


def assert_same_model(folder: Path, model, tokenizer):
    import torch

    loaded, loaded_tokenizer = load_llama(folder)
    assert torch.equal(logits(loaded, loaded_tokenizer), logits(model, tokenizer))
    text = tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert loaded_tokenizer.apply_chat_template(CHAT, tokenize=False) == text
    assert read_json(folder / "tokenizer_config.json")["chat_template"] == CHAT_TEMPLATE


def test_transformers_flavor_loads_flat(tmp_path):
    model, tokenizer = load_llama(make_llama(tmp_path / "llama"))
    manifest = plan(log_pipeline(model, tokenizer))
    assert (manifest.kind, manifest.flavor, manifest.location) == (Kind.BASE, "transformers", "model")
    assert manifest.facts.parameter_count == model.num_parameters()
    assert manifest.facts.dtype == "float16"
    assert manifest.lineage.url is None
    assert_same_model(write_out(manifest, tmp_path / "flat"), model, tokenizer)


def test_shards_of_the_transformers_flavor_load_flat(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HUGGINGFACE_MODEL_MAX_SHARD_SIZE", "10KB")
    model, tokenizer = load_llama(make_llama(tmp_path / "llama"))
    manifest = plan(log_pipeline(model, tokenizer))
    assert sum(file.name.endswith(".safetensors") for file in manifest.files) > 1
    assert manifest.facts.parameter_count == model.num_parameters()
    assert_same_model(write_out(manifest, tmp_path / "flat"), model, tokenizer)


def test_what_mlflow_applies_to_each_request_is_carried_or_told(tmp_path):
    model, tokenizer = load_llama(make_llama(tmp_path / "llama"))
    logged = {"temperature": 0.2, "max_new_tokens": 8, "num_beams": 2}
    manifest = plan(log_pipeline(model, tokenizer, prompt_template="Q: {prompt} A:", model_config=logged))
    flat = write_out(manifest, tmp_path / "flat")
    assert read_json(flat / "fireworks.json") == {"defaults": {"temperature": 0.2, "max_tokens": 8}}
    assert any("sets num_beams" in warning for warning in manifest.warnings)
    assert any("prompt_template" in warning for warning in manifest.warnings)


def make_peft(model, base: str):
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted


@contextmanager
def online(repo: str, folder: Path):
    """A Hub that holds this folder; MLflow asks it for the commit while it logs."""
    from huggingface_hub import hf_api

    with HubServer(repo, read_files(folder)).running() as hub, pytest.MonkeyPatch.context() as patch:
        hub.stand_in(patch)
        patch.setattr(hf_api.api, "endpoint", hub.url)
        yield hub.url


def test_peft_on_a_hub_model_goes_up_as_an_addon(tmp_path):
    model, tokenizer = load_llama(make_llama(tmp_path / "llama"))
    model.name_or_path = model.config._name_or_path = tokenizer.name_or_path = "acme/base"
    with online("acme/base", tmp_path / "llama"):
        uri = log_pipeline(make_peft(model, "acme/base"), tokenizer)
    addon = plan(uri)
    assert addon.kind is Kind.ADDON
    assert [file.name for file in addon.files] == ["adapter_config.json", "adapter_model.safetensors"]
    assert (addon.adapter.r, addon.adapter.target_modules) == (8, ("q_proj", "v_proj"))
    assert addon.adapter.base_repo == "acme/base"
    assert addon.lineage.base_url == "https://huggingface.co/acme/base"
    assert any("is uploaded as an addon" in note for note in addon.notes)


def test_adapter_that_transformers_added_itself_goes_up_alone(tmp_path, monkeypatch):
    from peft import LoraConfig
    from transformers.integrations import peft as integration

    # Transformers 5.24 asks for a peft that is not published yet.
    monkeypatch.setattr(integration, "MIN_PEFT_VERSION", "0.15.0", raising=False)
    model, tokenizer = load_llama(make_llama(tmp_path / "llama"))
    model.add_adapter(LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    manifest = plan(log_pipeline(model, tokenizer))
    assert manifest.kind is Kind.ADDON
    assert (manifest.flavor, manifest.location) == ("transformers", "model")
    assert [file.name for file in manifest.files] == ["adapter_config.json", "adapter_model.safetensors"]
    assert (manifest.adapter.r, manifest.adapter.target_modules) == (8, ("q_proj", "v_proj"))


@pytest.mark.parametrize("shard_size", ["1GB", "10KB"])
def test_peft_on_a_local_model_leaves_its_base_beside_it(tmp_path, monkeypatch, shard_size):
    """MLflow saves that base with the adapter inside its weights; it goes up as the plain model it was."""
    monkeypatch.setenv("MLFLOW_HUGGINGFACE_MODEL_MAX_SHARD_SIZE", shard_size)
    model, tokenizer = load_llama(make_llama(tmp_path / "llama"))
    expected = logits(model, tokenizer)
    uri = log_pipeline(make_peft(model, str(tmp_path / "llama")), tokenizer)
    addon = plan(uri)
    assert addon.kind is Kind.ADDON
    assert addon.adapter.base_repo is None
    assert any("base_model=" in warning for warning in addon.warnings)
    assert any("kind=base" in note for note in addon.notes)
    base = plan(uri, kind="base")
    assert (base.kind, base.facts.parameter_count) == (Kind.BASE, 13_488)
    assert (logits(*load_llama(write_out(base, tmp_path / "flat"))) == expected).all()


def test_reference_without_weights_is_fetched_from_the_hub(tmp_path):
    """`save_pretrained=False` leaves a repository and a commit; that commit goes up."""
    model, tokenizer = load_llama(make_llama(tmp_path / "llama", shards=2))
    model.name_or_path = model.config._name_or_path = tokenizer.name_or_path = "acme/chat"
    with online("acme/chat", tmp_path / "llama") as url:
        uri = log_pipeline(model, tokenizer, save_pretrained=False)

        def open_reference(reference):
            return open_hub_source(reference, reporter=Silent(), cache=tmp_path / "cache", endpoint=url)

        manifest = build_manifest(
            open_source(uri), parse_config({}), Silent(), hub=HfApi(url), open_reference=open_reference
        )
        flat = write_out(manifest, tmp_path / "flat")
    assert manifest.location == f"hf:/acme/chat@{SHA}"
    assert (manifest.lineage.url, manifest.lineage.verified) == ("https://huggingface.co/acme/chat", True)
    assert_same_model(flat, model, tokenizer)


@pytest.mark.parametrize("make", [make_embedder, lambda folder: shutil.copytree(minilm_folder(), folder)])
def test_sentence_transformers_flavor_gives_the_same_embeddings(tmp_path, make):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(make(tmp_path / "embedder")))
    info = mlflow.sentence_transformers.log_model(model, name="embed", pip_requirements=["torch"])
    manifest = plan(info.model_uri)
    assert (manifest.kind, manifest.flavor) == (Kind.EMBEDDING, "sentence_transformers")
    assert manifest.facts.context_length == model.max_seq_length
    assert {"modules.json", "config.json", "1_Pooling/config.json"} <= {file.name for file in manifest.files}
    loaded = SentenceTransformer(str(write_out(manifest, tmp_path / "flat")))
    assert (loaded.encode(["hello"]) == model.encode(["hello"])).all()


def test_feature_extraction_pipeline_is_an_embedding_model(tmp_path):
    from transformers import AutoModel, AutoTokenizer

    folder = make_embedder(tmp_path / "embedder")
    components = {"model": AutoModel.from_pretrained(folder), "tokenizer": AutoTokenizer.from_pretrained(folder)}
    info = mlflow.transformers.log_model(
        components, name="embed", task="feature-extraction", pip_requirements=["torch"]
    )
    assert plan(info.model_uri).kind is Kind.EMBEDDING


class _Chat(mlflow.pyfunc.ChatModel):
    def predict(self, context, messages, params):
        from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage

        return ChatCompletionResponse(choices=[ChatChoice(message=ChatMessage(role="assistant", content="hi"))])


class _Agent(mlflow.pyfunc.ResponsesAgent):
    def predict(self, request):
        from mlflow.types.responses import ResponsesAgentResponse

        return ResponsesAgentResponse(output=[self.create_text_output_item("hi", "1")])


class _Plain(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return model_input


@pytest.mark.parametrize("make_python_model", [_Plain, _Chat, _Agent])
def test_checkpoint_in_the_artifacts_of_a_pyfunc_loads_flat(tmp_path, make_python_model):
    folder = make_llama(tmp_path / "llama", shards=2)
    _save_pyfunc(f"{tmp_path}/model", make_python_model(), folder)
    manifest = plan(f"{tmp_path}/model")
    assert (manifest.kind, manifest.flavor, manifest.location) == (Kind.BASE, "pyfunc", "artifacts/llama")
    assert_same_model(write_out(manifest, tmp_path / "flat"), *load_llama(folder))


def _save_pyfunc(path, python_model, folder):
    mlflow.pyfunc.save_model(path, python_model=python_model, artifacts={"llama": str(folder)}, pip_requirements=[])


def test_adapter_in_the_artifacts_of_a_pyfunc_is_an_addon(tmp_path):
    folder = make_adapter(tmp_path / "adapter")
    _save_pyfunc(f"{tmp_path}/model", _Plain(), folder)
    assert plan(f"{tmp_path}/model").kind is Kind.ADDON
