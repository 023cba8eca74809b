"""What kind a model is, told from all that the files say; where they leave it open, the user is asked."""

import json

import numpy as np
import pytest
from support.checkpoints import (
    edit_json,
    llama_tensors,
    make_embedder,
    make_llama,
    make_tokenizer,
    make_transformers_model,
    save_weights,
)
from support.planning import plan

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import CheckpointError


def make_headless(folder, name, *, head=None, template=None, **config):
    """A checkpoint whose class is called `…Model`; `head` names a last layer, as some that generate have one."""
    make_llama(folder, architectures=[name], **{"tie_word_embeddings": True, **config})
    make_tokenizer(folder, chat_template=template)
    tensors = llama_tensors()
    output = tensors.pop("lm_head.weight")
    save_weights(folder, {**tensors, **({head: output} if head else {})})
    return folder


CHATGLM = {
    "model_type": "chatglm",
    "auto_map": {
        "AutoModel": "modeling_chatglm.ChatGLMForConditionalGeneration",
        "AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration",
    },
}
GENERATING = {
    "ChatGLM by its output layer": ("ChatGLMModel", {"head": "transformer.output_layer.weight", **CHATGLM}),
    "InternVL by its language model": (
        "InternVLChatModel",
        {"model_type": "internvl_chat", "llm_config": {"architectures": ["InternLM2ForCausalLM"]}},
    ),
    "InternVL by its auto_map": (
        "InternVLChatModel",
        {"auto_map": {"AutoModelForCausalLM": "modeling_internvl_chat.InternVLChatModel"}},
    ),
    "InternVL by its head": ("InternVLChatModel", {"head": "language_model.output.weight", "llm_config": {"a": 1}}),
    "Marian by its name": ("MarianMTModel", {"model_type": "marian", "is_encoder_decoder": True}),
    "Marian by its bias": ("MarianModel", {"head": "final_logits_bias", "is_encoder_decoder": True}),
    "GPT-NeoX by its head": ("GPTNeoXModel", {"head": "embed_out.weight"}),
    "Qwen saved under its inner name": ("Qwen3Model", {"head": "lm_head.weight"}),
    "multimodal, a level deeper": (
        "OmniModel",
        {"thinker_config": {"text_config": {"architectures": ["Qwen3ForCausalLM"], "a": 1}}},
    ),
}


@pytest.mark.parametrize(("name", "config"), GENERATING.values(), ids=GENERATING)
def test_model_that_generates_is_a_base_model_whatever_it_is_called(tmp_path, name, config):
    manifest = plan(make_headless(tmp_path / "m", name, **config), trust_remote_code="false")
    assert manifest.kind is Kind.BASE
    assert not any("does not generate" in warning for warning in manifest.warnings)


OPEN = {
    "a chat template": ("Qwen3Model", {"template": "{{ messages }}"}),
    "another class in its auto_map": ("ChatGLMModel", CHATGLM),
    "a decoder": ("T5Model", {"is_encoder_decoder": True}),
    "two models in one": ("CLIPModel", {"text_config": {"hidden_size": 8}, "vision_config": {"hidden_size": 8}}),
    "only its name": ("InternVLChatModel", {"model_type": "internvl_chat"}),
}


@pytest.mark.parametrize(("name", "config"), OPEN.values(), ids=OPEN)
def test_open_kind_is_asked_for(tmp_path, name, config):
    folder = make_headless(tmp_path / "m", name, **config)
    with pytest.raises(CheckpointError, match=rf"{name} may generate.*-C kind=base or -C kind=embedding"):
        plan(folder)
    for kind in ("base", "embedding"):
        assert plan(folder, kind=kind, trust_remote_code="false").kind.value.startswith(("HF_BASE", "EMBEDDING"))


EMBEDDING = {
    "a decoder without its head": ("Qwen3Model", {"model_type": "qwen3"}),
    "e5-mistral": ("MistralModel", {"model_type": "mistral"}),
    "an encoder with code of its own": (
        "NewModel",
        {"model_type": "new", "auto_map": {"AutoModel": "modeling.NewModel", "AutoModelForMaskedLM": "modeling.NewLM"}},
    ),
    "an encoder with a template": ("BertModel", {"model_type": "bert", "template": "{{ messages }}"}),
    "half of T5": ("T5EncoderModel", {"model_type": "t5", "is_encoder_decoder": True}),
}


@pytest.mark.parametrize(("name", "config"), EMBEDDING.values(), ids=EMBEDDING)
def test_model_without_a_head_is_an_embedding_model(tmp_path, name, config):
    manifest = plan(make_headless(tmp_path / "m", name, **config), trust_remote_code="false")
    assert manifest.kind is Kind.EMBEDDING


def test_head_is_found_in_an_index_without_reading_weights(tmp_path):
    folder = make_llama(tmp_path / "m", shards=2, architectures=["ChatGLMModel"])
    assert plan(folder).kind is Kind.BASE


def test_weights_that_cannot_be_looked_into_leave_it_open(tmp_path):
    folder = make_headless(tmp_path / "m", "SomeModel", model_type="some")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(CheckpointError, match="could not be read"):
        plan(folder)
    encoder = make_embedder(tmp_path / "n")
    (encoder / "modules.json").unlink()
    (encoder / "model.safetensors").unlink()
    (encoder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    assert plan(encoder).kind is Kind.EMBEDDING


@pytest.mark.parametrize("name", ["Qwen3ForCausalLM", "GPT2LMHeadModel", "Gemma3ForConditionalGeneration"])
def test_class_with_a_head_needs_no_other_evidence(tmp_path, name):
    assert plan(make_headless(tmp_path / "m", name)).kind is Kind.BASE


@pytest.mark.parametrize("name", ["BertForMaskedLM", "BertForSequenceClassification"])
def test_encoder_with_a_head_that_nobody_serves_is_asked_about(tmp_path, name):
    folder = make_embedder(tmp_path / "m")
    edit_json(folder / "config.json", architectures=[name])
    assert plan(folder).kind is Kind.EMBEDDING  # modules.json says what it is for
    (folder / "modules.json").unlink()
    with pytest.raises(CheckpointError, match=rf"{name} does not generate.*choose with -C kind=base or -C kind=embed"):
        plan(folder)
    assert plan(folder, kind="embedding").kind is Kind.EMBEDDING


@pytest.mark.parametrize("name", ["MiniCPMV", "Ovis2_5", "Phi4MMForCausalLM", "GPT2DoubleHeadsModel"])
def test_class_that_does_not_say_what_it_does_is_a_base_model_without_a_warning(tmp_path, name):
    manifest = plan(make_headless(tmp_path / "m", name))
    assert manifest.kind is Kind.BASE
    assert not any("does not generate" in warning for warning in manifest.warnings)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("text-generation", Kind.BASE),
        ("llm/v1/chat", Kind.BASE),
        ("translation_en_to_fr", Kind.BASE),
        ("feature-extraction", Kind.EMBEDDING),
        ("llm/v1/embeddings", Kind.EMBEDDING),
    ],
)
def test_task_that_mlflow_logged_decides_what_the_class_leaves_open(tmp_path, task, kind):
    folder = make_transformers_model(tmp_path / "m", architectures=["InternVLChatModel"])
    save_weights(folder / "model", {name: data for name, data in llama_tensors().items() if name != "lm_head.weight"})
    (folder / "MLmodel").write_text((folder / "MLmodel").read_text().replace("task: text-generation", f"task: {task}"))
    assert plan(folder).kind is kind


def test_encoder_that_is_sent_as_a_base_model_is_warned_about(tmp_path):
    folder = make_embedder(tmp_path / "m")
    (folder / "modules.json").unlink()
    assert any("does not generate" in warning for warning in plan(folder, kind="base").warnings)


def modules(folder, *added, settings=None):
    """Write `modules.json`: the transformer, then these as (folder, class)."""
    entries = [("", "sentence_transformers.models.Transformer"), *added]
    listed = [{"idx": n, "name": str(n), "path": path, "type": name} for n, (path, name) in enumerate(entries)]
    (folder / "modules.json").write_text(json.dumps(listed))
    edit_json(folder / "config_sentence_transformers.json", **(settings or {}))
    for path, _ in added:
        if path:
            (folder / path).mkdir(exist_ok=True)
            (folder / path / "config.json").write_text("{}")
    return folder


POOLING = ("1_Pooling", "sentence_transformers.models.Pooling")
MISFITS = {
    "cross-encoder of version 6": ([], {"model_type": "CrossEncoder"}, "cross-encoder.*CrossEncoder"),
    "sparse encoder": ([POOLING], {"model_type": "SparseEncoder"}, "sparse encoder"),
    "multi-vector encoder": ([POOLING], {"model_type": "MultiVectorEncoder"}, "multi-vector encoder"),
    "PyLate by its whole": ([], {"model_type": "ColBERT"}, "multi-vector encoder"),
    "PyLate by its modules": ([("1_Dense", "pylate.models.Dense.Dense")], {}, "multi-vector encoder.*Dense"),
    "MaxSim": ([], {"similarity_fn_name": "MaxSim"}, "MaxSim"),
    "SPLADE by its pooling": (
        [("1_SpladePooling", "sentence_transformers.sparse_encoder.models.SpladePooling")],
        {},
        "sparse encoder.*SpladePooling",
    ),
    "logit score": ([("1_L", "sentence_transformers.cross_encoder.modules.logit_score.LogitScore")], {}, "LogitScore"),
    "Router": ([("", "sentence_transformers.models.Router")], {}, "router.*Router"),
    "Router of version 6": ([("", "sentence_transformers.base.modules.router.Router")], {}, "router.*Router"),
    "Asym": ([("1_Asym", "sentence_transformers.models.Asym")], {}, "router.*Asym"),
    "static": ([("", "sentence_transformers.models.StaticEmbedding")], {}, "StaticEmbedding"),
    "words": ([("0_WordEmbeddings", "sentence_transformers.models.WordEmbeddings")], {}, "WordEmbeddings"),
    "CLIP": ([("0_CLIPModel", "sentence_transformers.models.CLIPModel")], {}, "CLIPModel"),
    "LSTM": ([("1_LSTM", "sentence_transformers.models.LSTM")], {}, "LSTM"),
}


@pytest.mark.parametrize(("added", "settings", "said"), MISFITS.values(), ids=MISFITS)
@pytest.mark.parametrize("options", [{}, {"kind": "embedding"}])
def test_other_sorts_of_encoders_are_refused_by_their_names(tmp_path, added, settings, said, options):
    folder = modules(make_embedder(tmp_path / "m"), *added, settings=settings)
    with pytest.raises(CheckpointError, match=f"is a.*{said}.*dense embedding models"):
        plan(folder, **options)


def test_static_embedding_without_a_config_is_refused_by_its_name(tmp_path):
    folder = make_tokenizer(tmp_path / "m", chat_template=None)
    save_weights(folder, {"embedding.weight": np.zeros((259, 8), np.float32)})
    path = "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding"
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": path}]))
    with pytest.raises(CheckpointError, match="StaticEmbedding"):
        plan(folder)


def test_reranker_that_is_a_language_model_can_go_up_as_one(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "config_sentence_transformers.json").write_text("{}")
    modules(folder, settings={"model_type": "CrossEncoder"})
    with pytest.raises(CheckpointError, match="-C kind=base sends the language model"):
        plan(folder)
    manifest = plan(folder, kind="base")
    assert manifest.kind is Kind.BASE
    assert "modules.json" not in [file.name for file in manifest.files]


@pytest.mark.parametrize(
    ("added", "settings"),
    [
        ([POOLING], {"model_type": "SentenceTransformer"}),
        ([POOLING], {"model_type": "MyEncoder"}),
        ([POOLING, ("2_Normalize", "sentence_transformers.models.Normalize")], {"similarity_fn_name": "cosine"}),
        ([("1_Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling")], {}),
        (
            [
                ("1_P", "sentence_transformers.models.Pooling"),
                ("2_N", "sentence_transformers.base.modules.normalize.Normalize"),
            ],
            {},
        ),
    ],
)
def test_dense_embedding_models_go_up(tmp_path, added, settings):
    assert plan(modules(make_embedder(tmp_path / "m"), *added, settings=settings)).kind is Kind.EMBEDDING


@pytest.mark.parametrize(
    "kind", ["sentence_transformers.models.Dense", "sentence_transformers.base.modules.dense.Dense"]
)
def test_projection_without_its_weights_is_a_fault(tmp_path, kind):
    folder = modules(make_embedder(tmp_path / "m"), POOLING, ("2_Dense", kind))
    with pytest.raises(Exception, match="2_Dense/ \\(Dense\\), and its weights are missing"):
        plan(folder)
    save_weights(folder / "2_Dense", {"linear.weight": np.zeros((8, 16), np.float32)})
    assert plan(folder).kind is Kind.EMBEDDING
