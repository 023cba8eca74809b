"""The architecture tables against checkpoints that transformers and peft really write."""

import pytest
from emulator.raw_client import ADDON, BASE

# peft and transformers warn each other of renamed attributes.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 64,
}


def saved(model, folder):
    model.save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".safetensors")}
    return {**files, "tokenizer.json": b"{}"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Llama", {}),
        ("Llama", {"tie_word_embeddings": True}),
        ("Llama", {"attention_bias": True, "mlp_bias": True}),
        ("Mistral", {}),
        ("Qwen2", {}),
        ("Qwen3", {"head_dim": 8}),
        ("Mixtral", {"num_local_experts": 2}),
        ("Qwen3Moe", {"num_experts": 2, "moe_intermediate_size": 8, "num_experts_per_tok": 1, "head_dim": 8}),
    ],
)
def test_real_checkpoints_become_ready_without_a_warning(api, tmp_path, name, options):
    import torch
    import transformers

    config = getattr(transformers, f"{name}Config")(**SMALL, **options)
    model = getattr(transformers, f"{name}ForCausalLM")(config).to(torch.bfloat16)
    api.create("chat", BASE)
    api.upload("chat", saved(model, tmp_path))
    assert api.validate("chat").json() == {"warnings": []}
    details = api.get("chat").json()["baseModelDetails"]
    assert details["parameterCount"] == str(model.num_parameters())
    assert details["defaultPrecision"] == "BF16"


def test_a_real_adapter_fits_its_real_base(api, tmp_path):
    import peft
    import transformers

    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMALL))
    base = tmp_path / "base"
    api.ready("base", BASE, saved(model, base))
    adapter = tmp_path / "adapter"
    config = peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj", "down_proj"])
    files = saved(peft.get_peft_model(model, config), adapter)
    del files["tokenizer.json"]
    details = {**ADDON["peftDetails"], "baseModel": "accounts/acme/models/base"}
    ready = api.ready("lora", {**ADDON, "peftDetails": details}, files)
    assert sorted(ready["peftDetails"]["targetModules"]) == ["down_proj", "q_proj", "v_proj"]
