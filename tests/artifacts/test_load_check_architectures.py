"""The check against an architecture says what transformers itself reports, for many of them."""

import importlib.util
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import edit_json, make_tokenizer, read_json
from support.planning import plan

from mlflow_fireworks.artifacts.meta_model import judge
from mlflow_fireworks.artifacts.safetensors import Header, read_header

if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
ENCODER_DECODER = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64,
                   "decoder_ffn_dim": 64, "encoder_attention_heads": 4, "decoder_attention_heads": 4}  # fmt: skip
MLA = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
       "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}  # fmt: skip
VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
          "image_size": 16, "patch_size": 8}  # fmt: skip
# Class, model_type, what its config needs beside TEXT.
ARCHITECTURES = [
    ("LlamaForCausalLM", "llama", {}),
    ("LlamaForCausalLM", "llama", {"tie_word_embeddings": True}),
    ("MistralForCausalLM", "mistral", {}),
    ("Qwen2ForCausalLM", "qwen2", {"tie_word_embeddings": True}),
    ("Qwen3ForCausalLM", "qwen3", {"head_dim": 8}),
    ("GemmaForCausalLM", "gemma", {"head_dim": 8}),
    ("Gemma2ForCausalLM", "gemma2", {"head_dim": 8}),
    ("Gemma3ForCausalLM", "gemma3_text", {"head_dim": 8}),
    ("PhiForCausalLM", "phi", {}),
    ("Phi3ForCausalLM", "phi3", {}),
    ("OlmoForCausalLM", "olmo", {}),
    ("Olmo2ForCausalLM", "olmo2", {}),
    ("StableLmForCausalLM", "stablelm", {}),
    ("CohereForCausalLM", "cohere", {}),
    ("GraniteForCausalLM", "granite", {}),
    ("Starcoder2ForCausalLM", "starcoder2", {}),
    ("NemotronForCausalLM", "nemotron", {}),
    ("GlmForCausalLM", "glm", {"head_dim": 8}),
    ("GPT2LMHeadModel", "gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
    ("GPTNeoXForCausalLM", "gpt_neox", {}),
    ("GPTJForCausalLM", "gptj", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4}),
    ("GPTBigCodeForCausalLM", "gpt_bigcode", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
    ("OPTForCausalLM", "opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    ("BloomForCausalLM", "bloom", {"n_layer": 2, "n_head": 4}),
    ("FalconForCausalLM", "falcon", {}),
    ("MptForCausalLM", "mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2}),
    ("MixtralForCausalLM", "mixtral", EXPERTS),
    ("Qwen2MoeForCausalLM", "qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 32}),
    ("Qwen3MoeForCausalLM", "qwen3_moe", {**EXPERTS, "head_dim": 8}),
    ("DeepseekV3ForCausalLM", "deepseek_v3", {**EXPERTS, **MLA}),
    ("GptOssForCausalLM", "gpt_oss", {**EXPERTS, "head_dim": 8}),
    ("MambaForCausalLM", "mamba", {"state_size": 4}),
    ("BertModel", "bert", {}),
    ("BertForMaskedLM", "bert", {}),
    ("RobertaForMaskedLM", "roberta", {}),
    ("XLMRobertaModel", "xlm-roberta", {}),
    ("DistilBertModel", "distilbert", {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4}),
    ("ElectraForPreTraining", "electra", {"embedding_size": 32}),
    ("AlbertForMaskedLM", "albert", {"embedding_size": 16}),
    ("MPNetModel", "mpnet", {}),
    ("DebertaV2ForMaskedLM", "deberta-v2", {}),
    ("ModernBertModel", "modernbert", {}),
    ("T5ForConditionalGeneration", "t5", {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}),
    ("BartForConditionalGeneration", "bart", ENCODER_DECODER),
    ("WhisperForConditionalGeneration", "whisper", {**ENCODER_DECODER, "decoder_start_token_id": 1}),
    ("LlamaForSequenceClassification", "llama", {"num_labels": 3}),
    (
        "LlavaForConditionalGeneration",
        "llava",
        {
            "text_config": {**TEXT, "model_type": "llama"},
            "vision_config": {**VISION, "model_type": "clip_vision_model"},
        },
    ),
    (
        "Gemma3ForConditionalGeneration",
        "gemma3",
        {
            "text_config": {**TEXT, "head_dim": 8, "model_type": "gemma3_text"},
            "vision_config": {**VISION, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 4,
        },
    ),
    (
        "Qwen2VLForConditionalGeneration",
        "qwen2_vl",
        {
            "text_config": {**TEXT, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
            "vision_config": {"embed_dim": 32, "hidden_size": 32, "depth": 1, "num_heads": 4, "patch_size": 8},
        },
    ),
]


def save_tiny(folder: Path, name: str, model_type: str, settings: dict) -> Path:
    import torch
    import transformers

    shared = {} if "text_config" in settings else TEXT
    config = transformers.AutoConfig.for_model(model_type, **{**shared, **settings})
    torch.manual_seed(0)
    getattr(transformers, name)(config).save_pretrained(folder)
    return make_tokenizer(folder)


def read_headers(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    data = (folder / "model.safetensors").read_bytes()
    header = read_header(lambda count: data[:count], len(data))
    assert isinstance(header, Header)
    return {name: (header.dtypes[name], shape) for name, shape in header.shapes.items()}


def ask(folder: Path, scratch: Path, *, headless: bool = False) -> dict:
    question = {"config": read_json(folder / "config.json"), "tensors": read_headers(folder), "headless": headless}
    answer = judge({**question, "adapter": None}, scratch)
    assert "unknown" not in answer, answer
    return answer


def load(folder: Path, name: str) -> dict[str, set]:
    """The verdict of transformers on the files themselves."""
    import transformers

    model_class = getattr(transformers, name)
    _, info = model_class.from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True)
    return info


def rewrite(folder: Path, target: Path, change) -> Path:
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file(change(load_file(folder / "model.safetensors")), target / "model.safetensors", metadata={"format": "pt"})
    return target


def without(name):
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def renamed(name):
    return lambda tensors: {(f"{key}_old" if key == name else key): tensor for key, tensor in tensors.items()}


def reshaped(name):
    return lambda tensors: {
        key: tensor[: len(tensor) // 2].copy() if key == name else tensor for key, tensor in tensors.items()
    }


@pytest.mark.parametrize(
    ("name", "model_type", "settings"),
    ARCHITECTURES,
    ids=[f"{row[0]}-{number}" for number, row in enumerate(ARCHITECTURES)],
)
def test_verdict_is_that_of_transformers(tmp_path, name, model_type, settings):
    folder = save_tiny(tmp_path / "good", name, model_type, settings)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    good = ask(folder, scratch)
    assert (good["missing"], good["mismatched"], good["broken"]) == ([], [], [])
    assert good["unexpected"] == []
    assert load(folder, name)["missing_keys"] == set()
    assert plan(folder, verify="headers", kind="base").files  # the general rules find nothing to complain of either

    tensors = read_headers(folder)
    matrices = sorted(key for key, (_, shape) in tensors.items() if len(shape) == 2 and "expert" not in key)
    victim = matrices[len(matrices) // 2]
    for kind, change in (("lost", without(victim)), ("renamed", renamed(victim)), ("reshaped", reshaped(victim))):
        bad = rewrite(folder, tmp_path / kind, change)
        answer = ask(bad, scratch)
        info = load(bad, name)
        assert set(answer["missing"]) == set(info["missing_keys"]), kind
        assert set(answer["unexpected"]) == set(info["unexpected_keys"]), kind
        mismatched = {(key, tuple(found), tuple(wanted)) for key, found, wanted in info["mismatched_keys"]}
        assert {(key, tuple(found), tuple(wanted)) for key, found, wanted in answer["mismatched"]} == mismatched, kind
        assert answer["missing"] or answer["mismatched"], kind


def test_experts_that_cannot_be_put_together_are_named(tmp_path):
    folder = save_tiny(tmp_path / "good", "MixtralForCausalLM", "mixtral", EXPERTS)
    (tmp_path / "scratch").mkdir()
    victim = next(key for key in read_headers(folder) if "experts.1.w1" in key)
    answer = ask(rewrite(folder, tmp_path / "bad", reshaped(victim)), tmp_path / "scratch")
    assert any("experts" in name for name in answer["broken"]), answer


def test_layers_beyond_the_config_are_unexpected(tmp_path):
    folder = save_tiny(tmp_path / "good", "LlamaForCausalLM", "llama", {})
    (tmp_path / "scratch").mkdir()
    edit_json(folder / "config.json", num_hidden_layers=1)
    answer = ask(folder, tmp_path / "scratch")
    assert answer["missing"] == []
    assert len(answer["unexpected"]) == 9


def test_embedding_model_is_loaded_without_its_head(tmp_path):
    folder = save_tiny(tmp_path / "good", "BertForMaskedLM", "bert", {})
    (tmp_path / "scratch").mkdir()
    answer = ask(folder, tmp_path / "scratch", headless=True)
    assert answer["model"] == "BertModel"
    assert all("pooler." in name for name in answer["missing"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["AcmeForCausalLM"]}, "has no AcmeForCausalLM"),
        ({"architectures": ["BertModel"]}, "BertModel is not a class for model_type llama"),
        ({"model_type": "acme"}, "acme"),
        ({"architectures": ["os.system"]}, "has no os.system"),
    ],
)
def test_what_transformers_does_not_know_is_no_verdict(tmp_path, changes, said):
    folder = save_tiny(tmp_path / "good", "LlamaForCausalLM", "llama", {})
    (tmp_path / "scratch").mkdir()
    edit_json(folder / "config.json", **changes)
    question = {"config": read_json(folder / "config.json"), "tensors": read_headers(folder), "headless": False}
    assert said in judge({**question, "adapter": None}, tmp_path / "scratch")["unknown"]
