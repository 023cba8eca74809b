"""Tensor names and shapes against the configuration, and adapter keys against their base."""

import json
import math

import pytest
from emulator.raw_client import ADDON, BASE, adapter_files, lora_tensors, safetensors

from mlflow_fireworks.emulator.validation.architectures import expected

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 32,
}


def checkpoint(config, change=None):
    tensors = {name: ("BF16", list(shape), 2 * math.prod(shape)) for name, shape in expected(config).items()}
    return {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors": safetensors((change or dict)(tensors)),
    }


def said(api, files, model=BASE, **query):
    api.create("chat", model)
    api.upload("chat", files)
    answer = api.validate("chat", **query).json()
    return answer.get("message", answer.get("warnings"))


@pytest.mark.parametrize(
    "config",
    [
        LLAMA,
        {**LLAMA, "tie_word_embeddings": True},
        {**LLAMA, "model_type": "qwen2"},
        {**LLAMA, "model_type": "qwen3", "head_dim": 4},
        {**LLAMA, "model_type": "mixtral", "num_local_experts": 2},
        {**LLAMA, "model_type": "qwen3_moe", "num_experts": 2, "moe_intermediate_size": 4},
        {**LLAMA, "attention_bias": True, "mlp_bias": True},
    ],
)
def test_complete_checkpoints_pass(api, config):
    assert said(api, checkpoint(config)) == []


def test_a_missing_tensor_is_named(api):
    files = checkpoint(LLAMA, lambda tensors: {k: v for k, v in tensors.items() if "layers.1.mlp.up" not in k})
    assert said(api, files) == "parameter model.layers.1.mlp.up_proj.weight of llama is missing"


def test_a_tensor_of_another_shape_is_named(api):
    files = checkpoint(LLAMA, lambda tensors: {**tensors, "lm_head.weight": ("BF16", [31, 8], 496)})
    assert said(api, files) == "parameter lm_head.weight has shape [31, 8], config.json makes it [32, 8]"


def test_a_tensor_that_nothing_reads_is_a_warning(api):
    files = checkpoint(LLAMA, lambda tensors: {**tensors, "value_head.weight": ("BF16", [1], 2)})
    assert said(api, files) == ["unexpected parameter value_head.weight"]


def test_config_only_skips_the_parameter_names(api):
    files = checkpoint(LLAMA, lambda tensors: {"x": ("BF16", [1], 2)})
    assert said(api, files, configOnly=True) == []


def test_embedding_models_need_no_head_and_no_prefix(api):
    files = checkpoint(
        LLAMA, lambda tensors: {k.removeprefix("model."): v for k, v in tensors.items() if k != "lm_head.weight"}
    )
    assert said(api, files, {"kind": "EMBEDDING_MODEL"}) == []


def addon(base):
    return {**ADDON, "peftDetails": {**ADDON["peftDetails"], "baseModel": base}}


def lora(*modules):
    return {**adapter_files(), "adapter_model.safetensors": safetensors(lora_tensors(*modules))}


@pytest.mark.parametrize(
    ("module", "fits"),
    [
        ("model.layers.0.self_attn.q_proj", True),
        ("model.layers.35.mlp.down_proj", True),
        ("model.layers.36.mlp.down_proj", False),
        ("model.vision_tower.blocks.0.qkv", False),
    ],
)
def test_adapter_keys_against_a_catalogue_model(api, module, fits):
    answer = said(api, lora(module), ADDON)
    assert answer == (
        []
        if fits
        else "LoRA validation failed: LoRA keys reference non-existent base model parameters: "
        f"{module} (from LoRA key: base_model.model.{module}.lora_A.weight)"
    )


def test_adapter_keys_against_an_uploaded_base(api):
    api.ready("base", BASE, checkpoint(LLAMA))
    model = addon("accounts/acme/models/base")
    api.ready("fits", model, lora("model.layers.1.self_attn.v_proj"))
    assert "model.layers.2.self_attn.v_proj" in said(api, lora("model.layers.2.self_attn.v_proj"), model)


@pytest.mark.parametrize("name", ["_orig_mod.h.0.weight", "h.0._fsdp_wrapped_module.weight", "module.h.0.weight"])
def test_names_that_a_wrapper_changed_are_refused_for_any_architecture(api, name):
    files = checkpoint(LLAMA, lambda _: {name: ("BF16", [2], 4)})
    files["config.json"] = json.dumps({**LLAMA, "model_type": "acme"}).encode()
    assert said(api, files) == f"unknown parameter {name}: the model was saved inside a wrapper"


@pytest.mark.parametrize("kind", ["llama", "acme"])
def test_a_weight_without_elements_is_refused_for_any_architecture(api, kind):
    files = checkpoint(LLAMA, lambda tensors: {name: ("BF16", [0], 0) for name in tensors})
    files["config.json"] = json.dumps({**LLAMA, "model_type": kind}).encode()
    assert said(api, files) == "parameter model.embed_tokens.weight has shape [0]: it holds nothing"


def test_a_buffer_may_be_empty(api):
    assert said(api, checkpoint(LLAMA, lambda tensors: {**tensors, "x.rotary_emb.inv_freq": ("F32", [0], 0)})) == []


@pytest.mark.parametrize(
    ("config", "counts_head"),
    [
        (LLAMA, True),
        ({**LLAMA, "tie_word_embeddings": True}, False),
        ({**LLAMA, "model_type": "gemma"}, False),
        ({**LLAMA, "model_type": "gemma", "tie_word_embeddings": False}, True),
    ],
)
def test_a_tied_head_is_counted_once(api, config, counts_head):
    files = checkpoint(LLAMA)
    files["config.json"] = json.dumps(config).encode()
    said(api, files)
    total = sum(map(math.prod, expected(LLAMA).values()))
    count = int(api.get("chat").json()["baseModelDetails"]["parameterCount"])
    assert count == total - (0 if counts_head else 32 * 8)


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("tensors", "config", "words"),
    [
        ({f"{Q}.lora_A.default.weight": [8, 4], f"{Q}.lora_B.default.weight": [4, 8]}, {}, "non-existent"),
        ({f"{Q}.lora_A.weight": [16, 4], f"{Q}.lora_B.weight": [4, 16]}, {}, "has rank 16, adapter_config.json says 8"),
        ({f"{Q}.lora_A.weight": [8, 4], f"{Q}.lora_B.weight": [4, 4]}, {}, "lora_B.weight has rank 4"),
        ({f"{Q}.lora_A.weight": [8, 4]}, {}, f"{Q}.lora_A.weight has no {Q}.lora_B.weight"),
        ({f"{Q}.lora_A.weight": [16, 4], f"{Q}.lora_B.weight": [4, 16]}, {"rank_pattern": {"q_proj": 16}}, None),
    ],
)
def test_the_halves_of_an_adapter_have_the_rank_of_its_configuration(api, tensors, config, words):
    files = adapter_files()
    files["adapter_config.json"] = json.dumps({**json.loads(files["adapter_config.json"]), **config}).encode()
    entries = {name: ("BF16", shape, 2 * math.prod(shape)) for name, shape in tensors.items()}
    answer = said(api, {**files, "adapter_model.safetensors": safetensors(entries)}, ADDON)
    assert answer == [] if words is None else words in answer


def test_an_adapter_without_tensors_is_refused(api):
    assert said(api, lora(), ADDON) == "adapter_model.safetensors holds no tensors"
