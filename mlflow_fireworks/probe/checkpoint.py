"""Checkpoints of a few KB, complete in every file, written by hand: nothing of torch is needed to ask a question."""

import json
import struct
from collections.abc import Mapping
from math import prod
from typing import Any

_HIDDEN, _LAYERS = 16, 1
_SPECIAL = ("<unk>", "<s>", "</s>")
_BYTES = {"BF16": 2, "F32": 4, "F8_E4M3": 1}
_BLOCK = 128
# One of each dtype; zeros would make a norm, and every answer, degenerate.
_ONE = {"BF16": b"\x80\x3f", "F32": b"\x00\x00\x80\x3f", "F8_E4M3": b"\x38"}

Files = Mapping[str, bytes]
"""Contents by file name."""


def make_llama() -> dict[str, bytes]:
    """A Llama of one layer with a tokenizer of all bytes: config, generation config, tokenizer, BF16 weights."""
    return {
        "config.json": _json(_config()),
        "generation_config.json": _json({"bos_token_id": 1, "eos_token_id": 2, "temperature": 0.7}),
        "model.safetensors": _safetensors({name: ("BF16", shape) for name, shape in _shapes().items()}),
        "tokenizer.json": _json(_tokenizer()),
        "tokenizer_config.json": _json(
            {
                "bos_token": "<s>",
                "chat_template": "{% for message in messages %}{{ message['content'] }}</s>{% endfor %}",
                "eos_token": "</s>",
                "model_max_length": 256,
                "tokenizer_class": "PreTrainedTokenizerFast",
                "unk_token": "<unk>",
            }
        ),
    }


def make_quantized_llama() -> dict[str, bytes]:
    """The same with FP8 weights in blocks, as DeepSeek and Fireworks' own `fireworks-prequant` write them."""
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name, shape in _shapes().items():
        if "_proj" not in name:
            tensors[name] = ("BF16", shape)
            continue
        tensors[name] = ("F8_E4M3", shape)
        tensors[f"{name}_scale_inv"] = ("F32", tuple(-(-length // _BLOCK) for length in shape))
    quantization = {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [_BLOCK, _BLOCK],
    }
    config = _json({**_config(), "quantization_config": quantization})
    return {**make_llama(), "config.json": config, "model.safetensors": _safetensors(tensors)}


def make_adapter(base: str) -> dict[str, bytes]:
    """A LoRA adapter with a `fireworks.json`; its weights fit no base model.

    Args:
        base: What it names as its base.
    """
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    config = {
        "base_model_name_or_path": base,
        "bias": "none",
        "lora_alpha": 16,
        "peft_type": "LORA",
        "r": 8,
        "target_modules": ["q_proj"],
        "task_type": "CAUSAL_LM",
    }
    return {
        "adapter_config.json": _json(config),
        "adapter_model.safetensors": _safetensors(
            {
                f"{module}.lora_A.weight": ("F32", (8, _HIDDEN)),
                f"{module}.lora_B.weight": ("F32", (_HIDDEN, 8)),
            }
        ),
        "fireworks.json": _json({"defaults": {"temperature": 0.5}}),
    }


def _config() -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": _HIDDEN,
        "intermediate_size": 2 * _HIDDEN,
        "max_position_embeddings": 256,
        "model_type": "llama",
        "num_attention_heads": 2,
        "num_hidden_layers": _LAYERS,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "vocab_size": len(_vocabulary()),
    }


def _shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of a Llama, under the names that transformers gives them."""
    words = len(_vocabulary())
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (words, _HIDDEN)}
    for number in range(_LAYERS):
        layer = f"model.layers.{number}"
        shapes |= {f"{layer}.self_attn.{part}_proj.weight": (_HIDDEN, _HIDDEN) for part in "qkvo"}
        shapes |= {f"{layer}.mlp.{part}_proj.weight": (2 * _HIDDEN, _HIDDEN) for part in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (_HIDDEN, 2 * _HIDDEN)
        shapes |= {f"{layer}.{part}_layernorm.weight": (_HIDDEN,) for part in ("input", "post_attention")}
    return shapes | {"model.norm.weight": (_HIDDEN,), "lm_head.weight": (words, _HIDDEN)}


def _vocabulary() -> dict[str, int]:
    """Special tokens, and a character for each byte, as GPT-2's byte-level alphabet names them."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = [chr(byte) for byte in sorted(printable)] + [chr(256 + number) for number in range(len(others))]
    return {token: number for number, token in enumerate([*_SPECIAL, *alphabet])}


def _tokenizer() -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    by_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": token, **flags, "special": True} for number, token in enumerate(_SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": by_bytes,
        "post_processor": None,
        "decoder": by_bytes,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": _vocabulary(),
            "merges": [],
        },
    }


def _safetensors(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """A file of the format: the length of the header, the header, and the bytes of the tensors one after another."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    content = bytearray()
    for name, (dtype, shape) in sorted(tensors.items()):
        start = len(content)
        content += _ONE[dtype] * prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + prod(shape) * _BYTES[dtype]]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(content)


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()
