"""Where the checkpoint lies in what MLflow stores, and what of it goes up."""

import json
import shutil

import pytest
from huggingface_hub import HfApi, constants
from support.checkpoints import (
    CHAT_TEMPLATE,
    edit_json,
    llama_tensors,
    make_adapter,
    make_embedder,
    make_llama,
    make_peft_model,
    make_pyfunc_model,
    make_reference_only_model,
    make_sentence_transformers_model,
    make_tokenizer,
    make_transformers_model,
    minilm_folder,
    read_json,
    save_weights,
    write_mlmodel,
)
from support.hub_server import HubServer
from support.planning import names, plan, read_file

from mlflow_fireworks.artifacts.sources.hub_source import open_hub_source
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import CheckpointError, SourceError
from mlflow_fireworks.progress import Silent

TOKENIZER = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
FLAT = ["config.json", "generation_config.json", *TOKENIZER]


def test_transformers_flavor_is_merged_flat(tmp_path):
    manifest = plan(make_transformers_model(tmp_path / "m"))
    assert (manifest.kind, manifest.flavor, manifest.location) == (Kind.BASE, "transformers", "model")
    assert names(manifest) == ["chat_template.jinja", *FLAT, "model.safetensors"]


def test_template_in_a_file_of_its_own_is_folded_into_the_tokenizer_config(tmp_path):
    folder = make_transformers_model(tmp_path / "m")
    manifest = plan(folder)
    settings = json.loads(read_file(manifest, "tokenizer_config.json"))
    original = read_json(folder / "components" / "tokenizer" / "tokenizer_config.json")
    assert settings == {**original, "chat_template": CHAT_TEMPLATE}
    assert manifest.facts.has_chat_template
    assert any("chat template" in note for note in manifest.notes)


def test_template_file_wins_over_another_template_as_in_transformers(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "chat_template.jinja").write_text("newer")
    manifest = plan(folder)
    assert json.loads(read_file(manifest, "tokenizer_config.json"))["chat_template"] == "newer"
    assert any("replacing the different one" in note for note in manifest.notes)


def test_template_of_an_older_processor_is_folded_in_too(tmp_path):
    folder = make_llama(tmp_path / "m")
    edit_json(folder / "tokenizer_config.json", chat_template=None)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "older"}))
    assert json.loads(read_file(plan(folder), "tokenizer_config.json"))["chat_template"] == "older"


def test_tokenizer_config_with_the_same_template_goes_up_untouched(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    assert read_file(plan(folder), "tokenizer_config.json") == (folder / "tokenizer_config.json").read_bytes()


def test_tokenizer_component_wins_over_a_stale_one_beside_the_weights(tmp_path):
    """`log_model("path/of/checkpoint")` leaves tokenizer files in both places."""
    folder = make_transformers_model(tmp_path / "m")
    make_tokenizer(folder / "model", chat_template="stale")
    edit_json(folder / "components" / "tokenizer" / "special_tokens_map.json", pad_token="<s>")
    manifest = plan(folder)
    assert json.loads(read_file(manifest, "tokenizer_config.json"))["chat_template"] == CHAT_TEMPLATE
    assert json.loads(read_file(manifest, "special_tokens_map.json"))["pad_token"] == "<s>"
    conflicts = [note for note in manifest.notes if "differs and is not uploaded" in note]
    assert [note.partition(":")[0] for note in conflicts] == ["special_tokens_map.json", "tokenizer_config.json"]


def test_model_config_wins_over_a_components_config(tmp_path):
    folder = make_transformers_model(tmp_path / "m")
    (folder / "components" / "tokenizer" / "config.json").write_text('{"model_type": "other"}')
    manifest = plan(folder)
    assert manifest.facts.model_type == "llama"
    assert any(note.startswith("config.json: taken from model/config.json") for note in manifest.notes)


def test_processors_of_a_vision_model_are_merged_in(tmp_path):
    folder = make_transformers_model(tmp_path / "m", vision_config={"hidden_size": 8})
    processor = make_tokenizer(folder / "components" / "processor")
    (processor / "preprocessor_config.json").write_text('{"image_processor_type": "X"}')
    manifest = plan(folder)
    assert "preprocessor_config.json" in names(manifest)
    assert manifest.facts.supports_image_input
    assert not any("images" in warning for warning in manifest.warnings)


def test_folder_of_mlflow_before_2_4_is_found(tmp_path):
    folder = make_transformers_model(tmp_path / "m")
    (folder / "model").rename(folder / "pipeline")
    mlmodel = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(mlmodel.replace("    model_binary: model\n", ""))
    assert plan(folder).location == "pipeline"


def test_peft_goes_up_as_an_addon_and_says_so(tmp_path):
    manifest = plan(make_peft_model(tmp_path / "m"))
    assert (manifest.kind, manifest.location) == (Kind.ADDON, "peft")
    assert names(manifest) == ["adapter_config.json", "adapter_model.safetensors"]
    assert any("is uploaded as an addon" in note and "kind=base" in note for note in manifest.notes)


def test_base_beside_an_adapter_goes_up_when_asked_for(tmp_path):
    manifest = plan(make_peft_model(tmp_path / "m"), kind="base")
    assert (manifest.kind, manifest.location, manifest.adapter) == (Kind.BASE, "model", None)
    assert "adapter_config.json" not in names(manifest)


def test_folder_of_the_base_can_be_asked_for(tmp_path):
    folder = make_peft_model(tmp_path / "m")
    assert plan(folder, checkpoint_path="model").kind is Kind.BASE
    assert plan(folder, checkpoint_path="peft").kind is Kind.ADDON


def test_base_that_peft_only_names_is_fetched_when_asked_for(tmp_path):
    folder = make_adapter(make_reference_only_model(tmp_path / "m") / "peft").parent
    hub = make_llama(tmp_path / "hub")
    assert plan(folder).kind is Kind.ADDON
    assert plan(folder, kind="base", open_reference=lambda _: open_source(str(hub))).kind is Kind.BASE


def test_base_that_is_only_a_path_elsewhere_is_refused(tmp_path):
    folder = make_peft_model(tmp_path / "m")
    shutil.rmtree(folder / "model")
    mlmodel = (folder / "MLmodel").read_text()
    mlmodel = mlmodel.replace("model_binary: model", "local_base_model_path: /data/base")
    (folder / "MLmodel").write_text(mlmodel)
    assert plan(folder).kind is Kind.ADDON
    with pytest.raises(CheckpointError, match="-m /data/base"):
        plan(folder, kind="base")


def test_adapter_in_a_plain_folder_leaves_its_tokenizer_and_card_behind(tmp_path):
    folder = make_adapter(make_tokenizer(tmp_path / "m"))
    manifest = plan(folder)
    assert names(manifest) == ["adapter_config.json", "adapter_model.safetensors"]
    assert any("not uploaded: README.md" in note for note in manifest.notes)


def test_adapter_in_the_old_format_goes_up(tmp_path):
    folder = make_adapter(tmp_path / "m")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(b"\x80\x02}q\x00.")
    assert names(plan(folder)) == ["adapter_config.json", "adapter_model.bin"]


def test_model_and_adapter_in_one_folder_need_a_choice(tmp_path):
    folder = make_adapter(make_llama(tmp_path / "m"))
    with pytest.raises(CheckpointError, match="kind=base or -C kind=lora"):
        plan(folder)
    assert plan(folder, kind="lora").kind is Kind.ADDON
    assert "adapter_config.json" not in names(plan(folder, kind="base"))


def test_reference_without_weights_is_opened_at_its_commit(tmp_path):
    hub = make_llama(tmp_path / "hub")
    opened = []

    def open_reference(uri):
        opened.append(uri)
        return open_source(str(hub))

    manifest = plan(make_reference_only_model(tmp_path / "m"), open_reference=open_reference)
    assert opened == [f"hf:/acme/chat@{'a' * 40}"]
    assert manifest.location == opened[0]
    assert names(manifest) == [*FLAT, "model.safetensors"]
    assert any("save_pretrained=False" in note for note in manifest.notes)


def test_tokenizer_of_another_repository_replaces_the_models_own(tmp_path):
    folder = make_reference_only_model(tmp_path / "m")
    mlmodel = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(mlmodel.replace("tokenizer_name: acme/chat", "tokenizer_name: acme/words"))
    repos = {"acme/chat": make_llama(tmp_path / "chat"), "acme/words": make_llama(tmp_path / "words", seed=7)}
    edit_json(repos["acme/words"] / "tokenizer_config.json", chat_template="words")

    def open_reference(uri):
        return open_source(str(repos[uri.removeprefix("hf:/").partition("@")[0]]))

    manifest = plan(folder, open_reference=open_reference)
    assert json.loads(read_file(manifest, "tokenizer_config.json"))["chat_template"] == "words"
    assert read_file(manifest, "model.safetensors") == (repos["acme/chat"] / "model.safetensors").read_bytes()


def test_reference_that_cannot_be_fetched_says_why_and_what_to_do(tmp_path):
    def unreachable(uri):
        raise SourceError("the Hugging Face Hub cannot be reached (no route)")

    with pytest.raises(CheckpointError, match=r"no route.*save_pretrained=True"):
        plan(make_reference_only_model(tmp_path / "m"), open_reference=unreachable)


@pytest.mark.parametrize(
    ("repo", "revision", "said"),
    [
        ("acme/chat", None, "names acme/chat without a commit"),
        ("/home/me/chat", "a" * 40, "/home/me/chat, which is not a Hugging Face repository"),
    ],
)
def test_reference_that_names_no_commit_of_a_repository_is_refused(tmp_path, repo, revision, said):
    with pytest.raises(CheckpointError, match=said):
        plan(make_reference_only_model(tmp_path / "m", repo=repo, revision=revision))


def test_sentence_transformers_flavor_keeps_its_subfolders(tmp_path):
    manifest = plan(make_sentence_transformers_model(tmp_path / "m"))
    assert (manifest.kind, manifest.flavor) == (Kind.EMBEDDING, "sentence_transformers")
    assert manifest.location == "model.sentence_transformer"
    assert {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json"} <= set(names(manifest))


def test_weights_of_a_sentence_transformers_module_go_up_in_their_folder(tmp_path):
    folder = make_embedder(tmp_path / "m")
    save_weights(folder / "2_Dense", {"linear.weight": llama_tensors()["model.norm.weight"]})
    (folder / "2_Dense" / "config.json").write_text("{}")
    modules = json.loads((folder / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (folder / "modules.json").write_text(json.dumps([*modules, dense]))
    manifest = plan(folder)
    assert {"2_Dense/config.json", "2_Dense/model.safetensors"} <= set(names(manifest))
    assert manifest.facts.parameter_count == plan(make_embedder(tmp_path / "n")).facts.parameter_count + 16


def test_transformer_in_a_subfolder_is_lifted_to_the_top(tmp_path):
    folder = make_embedder(tmp_path / "m")
    low = folder / "0_Transformer"
    low.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(low / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    manifest = plan(folder)
    assert names(manifest) == names(plan(make_embedder(tmp_path / "n")))
    assert [module["path"] for module in json.loads(read_file(manifest, "modules.json"))] == ["", "1_Pooling"]
    assert any("moved to the top" in note for note in manifest.notes)


def test_real_minilm_is_an_embedding_model():
    manifest = plan(minilm_folder())
    assert manifest.kind is Kind.EMBEDDING
    assert manifest.facts.parameter_count == 22_713_216
    assert manifest.facts.context_length == 256
    assert manifest.facts.dtype == "float32"
    assert {"vocab.txt", "1_Pooling/config.json"} <= set(names(manifest))
    assert {"README.md", "data_config.json", ".gitattributes"}.isdisjoint(names(manifest))


def test_headless_model_is_an_embedding_model(tmp_path):
    folder = make_embedder(tmp_path / "m")
    (folder / "modules.json").unlink()
    assert plan(folder).kind is Kind.EMBEDDING
    assert plan(folder, kind="base").kind is Kind.BASE


def test_checkpoint_in_the_artifacts_of_a_pyfunc_is_found(tmp_path):
    manifest = plan(make_pyfunc_model(tmp_path / "m"))
    assert (manifest.kind, manifest.flavor, manifest.location) == (Kind.BASE, "pyfunc", "artifacts/checkpoint")
    assert names(manifest) == [*FLAT, "model.safetensors"]


def test_several_checkpoints_need_a_choice(tmp_path):
    folder = make_pyfunc_model(tmp_path / "m", ["large", "small"])
    with pytest.raises(CheckpointError, match=r"artifacts/large \(base model, .*checkpoint_path=artifacts/large"):
        plan(folder)
    assert plan(folder, checkpoint_path="./artifacts/small/").location == "artifacts/small"


@pytest.mark.parametrize("path", ["..", "/etc", "a/../../b"])
def test_checkpoint_path_outside_of_the_artifacts_is_refused(tmp_path, path):
    with pytest.raises(CheckpointError, match="inside the artifacts"):
        plan(make_llama(tmp_path / "m"), checkpoint_path=path)


def test_wrong_checkpoint_path_names_the_right_one(tmp_path):
    with pytest.raises(CheckpointError, match="its checkpoint is in 'artifacts/checkpoint'"):
        plan(make_pyfunc_model(tmp_path / "m"), checkpoint_path="checkpoint")


def test_root_may_be_asked_for(tmp_path):
    assert "tokenizer.json" in names(plan(make_transformers_model(tmp_path / "m"), checkpoint_path="."))
    assert plan(make_llama(tmp_path / "n"), checkpoint_path="./").location == ""


@pytest.mark.parametrize("path", [None, "chat", "chat/model"])
def test_model_in_a_subfolder_of_a_run_is_merged_too(tmp_path, path):
    make_transformers_model(tmp_path / "run" / "chat")
    manifest = plan(tmp_path / "run", checkpoint_path=path)
    assert manifest.location == "chat/model"
    assert "tokenizer.json" in names(manifest)
    assert manifest.lineage.repo == "meta-llama/Llama-3.1-8B"


def test_weights_inside_the_checkpoint_stay_and_are_named(tmp_path):
    folder = make_llama(tmp_path / "m")
    make_llama(folder / "draft")
    manifest = plan(folder)
    assert names(manifest) == [*FLAT, "model.safetensors"]
    assert any("draft" in warning for warning in manifest.warnings)
    assert plan(folder, checkpoint_path="draft").location == "draft"


def test_only_training_checkpoints_need_a_choice(tmp_path):
    for step in (900, 1000):
        make_llama(tmp_path / f"checkpoint-{step}")
    with pytest.raises(CheckpointError, match="checkpoint_path=checkpoint-1000"):
        plan(tmp_path)
    assert plan(tmp_path, checkpoint_path="checkpoint-900").location == "checkpoint-900"


@pytest.mark.parametrize(
    ("flavor", "said"),
    [("sklearn", "flavor sklearn"), ("xgboost", "flavor xgboost"), ("onnx", "flavor onnx"), ("langchain", "langchain")],
)
def test_other_flavors_are_refused_with_what_can_be_served(tmp_path, flavor, said):
    folder = write_mlmodel(tmp_path / "m", {flavor: {"data": "x"}, "python_function": {"loader_module": "x"}})
    make_llama(folder / "inner")
    with pytest.raises(CheckpointError, match=f"{said}.*Hugging Face checkpoints"):
        plan(folder)
    assert plan(folder, checkpoint_path="inner").kind is Kind.BASE


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model.gguf": b"GGUF", "config.json": b"{}"}, "only as model.gguf"),
        ({"model.pkl": b"x"}, "no model weights"),
        ({"config.json": b"{}"}, "but no weights"),
        ({"adapter_config.json": b"{}"}, "not its weights"),
        ({"model_index.json": b"{}", "vae/x.pt": b"x"}, "diffusers"),
        ({"sub/checkpoint-5/trainer_state.json": b"{}"}, "no model weights"),
    ],
)
def test_folder_without_servable_weights_says_what_is_there(tmp_path, files, said):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{said}.*Fireworks serves"):
        plan(tmp_path)


def test_copied_links_without_their_files_are_named(tmp_path):
    """`cp -a` of a Hub cache snapshot copies links into a folder that is not there."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").symlink_to("../../blobs/abc")
    with pytest.raises(CheckpointError, match=r"model\.safetensors.*cp -L"):
        plan(tmp_path)


def test_pyfunc_without_a_checkpoint_is_refused(tmp_path):
    folder = make_pyfunc_model(tmp_path / "m", [])
    with pytest.raises(CheckpointError, match="no model weights"):
        plan(folder)


def test_what_fireworks_does_not_need_stays(tmp_path):
    folder = make_llama(tmp_path / "m", shards=2)
    junk = [
        "README.md",
        "LICENSE",
        "optimizer.pt",
        "scheduler.pt",
        "scaler.pt",
        "rng_state_0.pth",
        "trainer_state.json",
    ]
    junk += ["training_args.bin", "global_step5/x.pt", ".cache/huggingface/a.metadata", ".git/config", "model.onnx"]
    junk += ["__pycache__/a.pyc", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "model.gguf", "a.lock"]
    junk += [
        "original/consolidated.00.pth",
        "openvino/openvino_model.bin",
        "consolidated.safetensors",
        "all_results.json",
    ]
    for name in junk:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    make_llama(folder / "checkpoint-10")
    manifest = plan(folder)
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert sorted(names(manifest)) == sorted([*FLAT, *shards, "model.safetensors.index.json"])
    assert any("other weights files, not uploaded: " in note and "pytorch_model.bin" in note for note in manifest.notes)


def test_bin_weights_go_up_when_there_is_nothing_better(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    (folder / "training_args.bin").write_bytes(b"x")
    assert names(plan(folder)) == [*FLAT, "pytorch_model.bin"]


def test_undivided_file_wins_over_an_index_as_in_transformers(tmp_path):
    folder = make_llama(tmp_path / "m", shards=2)
    save_weights(folder, llama_tensors())
    assert names(plan(folder)) == [*FLAT, "model.safetensors"]


def test_small_files_go_first_and_weights_largest_first(tmp_path):
    manifest = plan(make_llama(tmp_path / "m", shards=3))
    weights = [file for file in manifest.files if file.name.endswith(".safetensors")]
    assert list(manifest.files[-3:]) == weights
    assert [file.size for file in weights] == sorted((file.size for file in weights), reverse=True)
    assert manifest.total_size == sum(file.size for file in manifest.files)


def test_kind_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no LoRA adapter"):
        plan(make_llama(tmp_path / "base"), kind="lora")
    with pytest.raises(CheckpointError, match="only a LoRA adapter"):
        plan(make_adapter(tmp_path / "adapter"), kind="base")
    assert plan(tmp_path / "base", kind="embedding").kind is Kind.EMBEDDING


def test_hub_cache_snapshot_of_links_is_read_in_place(tmp_path):
    repo = tmp_path / "models--acme--chat"
    snapshot = repo / "snapshots" / ("d" * 40)
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for number, path in enumerate(sorted(make_llama(tmp_path / "m").iterdir())):
        shutil.move(path, repo / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    manifest = plan(snapshot)
    assert names(manifest) == [*FLAT, "model.safetensors"]
    assert manifest.lineage.repo == "acme/chat"


def test_repository_of_the_hub_is_planned_from_its_headers(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.MonkeyPatch.context() as patch, HubServer("acme/chat", files).running() as hub:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        source = open_hub_source("hf:/acme/chat", reporter=Silent(), cache=tmp_path / "cache", endpoint=hub.url)
        manifest = plan(source, hub=HfApi(hub.url))
        source.store.close()
    assert manifest.facts.parameter_count == 13_488
    assert (manifest.flavor, manifest.lineage.repo, manifest.lineage.verified) == ("huggingface", "acme/chat", True)
    shards = [asked for method, path, asked in hub.requests if path.endswith(".safetensors") and method == "GET"]
    assert all(asked is not None and asked.startswith("bytes=") for asked in shards)
