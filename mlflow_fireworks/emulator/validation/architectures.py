"""Which tensors a checkpoint of a common architecture holds, with which shapes; and which an adapter may touch.

Names and shapes are those of the model classes in the transformers library. An architecture that is not in the
table is not checked; neither is a configuration that leaves a needed number open or changes the layout.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_fireworks.emulator.protocol.wire import ApiError, Code, JsonObject
from mlflow_fireworks.emulator.validation.safetensors import Tensor

_MAX_LAYERS, _MAX_EXPERTS = 1000, 1024
_MATRIX = 2
_IGNORED = re.compile(r".*(rotary_emb\.inv_freq|\.masked_bias|attn\.bias)$")
_LORA_KEY = re.compile(r"base_model\.model\.(.+)\.lora_(embedding_)?([AB])(?(2)|\.weight)")
# What torch.compile, FSDP, activation checkpointing and DataParallel put into the names of a model that they wrap.
_WRAPPED = re.compile(r"(^|.*\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\..*|module\..*")
_LAYER_TARGETS = re.compile(
    r"(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.(\d+)\."
    r"(?:self_attn\.(?:q_proj|k_proj|v_proj|o_proj)"
    r"|mlp\.(?:up_proj|down_proj|gate_proj)"
    r"|mlp\.experts\.\d+\.(?:up_proj|down_proj|gate_proj)"
    r"|block_sparse_moe\.(?:gate|experts\.\d+\.w[123]))"
)

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class _Sizes:
    """The numbers of a decoder's configuration."""

    hidden: int
    layers: int
    vocabulary: int
    heads: int
    key_heads: int
    head: int
    inner: int

    @classmethod
    def of(cls, config: JsonObject) -> _Sizes | None:
        heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
        if type(heads) is not int or type(hidden) is not int or heads < 1:
            return None
        numbers: list[Any] = [
            hidden,
            config.get("num_hidden_layers"),
            config.get("vocab_size"),
            heads,
            config.get("num_key_value_heads") or heads,
            config.get("head_dim") or hidden // heads,
            config.get("moe_intermediate_size") or config.get("intermediate_size"),
        ]
        if any(type(number) is not int or number < 1 for number in numbers) or numbers[1] > _MAX_LAYERS:
            return None
        return cls(*numbers)


def expected(config: JsonObject) -> Shapes | None:
    """Every tensor that a checkpoint with this configuration must hold, or None when that is not known."""
    sizes = _Sizes.of(config)
    kind = config.get("model_type")
    if sizes is None or kind not in ("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe"):
        return None
    experts = config.get("num_local_experts") or config.get("num_experts")
    mixed = kind in ("mixtral", "qwen3_moe")
    uneven = config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1
    if mixed and (type(experts) is not int or not 1 <= experts <= _MAX_EXPERTS or uneven):
        return None
    found: Shapes = {
        "model.embed_tokens.weight": (sizes.vocabulary, sizes.hidden),
        "model.norm.weight": (sizes.hidden,),
    }
    if not config.get("tie_word_embeddings", False):
        found["lm_head.weight"] = (sizes.vocabulary, sizes.hidden)
    for index in range(sizes.layers):
        layer = f"model.layers.{index}."
        found.update({f"{layer}{name}": shape for name, shape in _attention(kind, config, sizes).items()})
        found.update({f"{layer}{name}": shape for name, shape in _feed_forward(kind, config, sizes, experts).items()})
    return found


def _attention(kind: str, config: JsonObject, sizes: _Sizes) -> Shapes:
    query, key = sizes.heads * sizes.head, sizes.key_heads * sizes.head
    rows = {"q_proj": query, "k_proj": key, "v_proj": key}
    found: Shapes = {f"self_attn.{name}.weight": (size, sizes.hidden) for name, size in rows.items()}
    found["self_attn.o_proj.weight"] = (sizes.hidden, query)
    found["input_layernorm.weight"] = found["post_attention_layernorm.weight"] = (sizes.hidden,)
    if kind == "qwen2" or config.get("attention_bias"):
        found.update({f"self_attn.{name}.bias": (size,) for name, size in rows.items()})
    if config.get("attention_bias"):
        found["self_attn.o_proj.bias"] = (sizes.hidden,)
    if kind in ("qwen3", "qwen3_moe"):
        found["self_attn.q_norm.weight"] = found["self_attn.k_norm.weight"] = (sizes.head,)
    return found


def _feed_forward(kind: str, config: JsonObject, sizes: _Sizes, experts: int | None) -> Shapes:
    wide, narrow = (sizes.inner, sizes.hidden), (sizes.hidden, sizes.inner)
    if experts and kind == "mixtral":
        found: Shapes = {"block_sparse_moe.gate.weight": (experts, sizes.hidden)}
        for index in range(experts):
            block = f"block_sparse_moe.experts.{index}."
            found.update({f"{block}w1.weight": wide, f"{block}w2.weight": narrow, f"{block}w3.weight": wide})
        return found
    dense: Shapes = {"gate_proj.weight": wide, "up_proj.weight": wide, "down_proj.weight": narrow}
    if experts and kind == "qwen3_moe":
        found = {"mlp.gate.weight": (experts, sizes.hidden)}
        for index in range(experts):
            found.update({f"mlp.experts.{index}.{name}": shape for name, shape in dense.items()})
        return found
    if config.get("mlp_bias"):
        dense.update(
            {"gate_proj.bias": (sizes.inner,), "up_proj.bias": (sizes.inner,), "down_proj.bias": (sizes.hidden,)}
        )
    return {f"mlp.{name}": shape for name, shape in dense.items()}


def check_tensors(config: JsonObject, tensors: Mapping[str, Tensor], *, headless: bool) -> list[str]:
    """Hold the tensors of a checkpoint against its configuration.

    Args:
        config: The parsed config.json.
        tensors: Every tensor of the safetensors files.
        headless: Whether a language-model head and the ``model.`` prefix may be missing, as in embedding models.

    Returns:
        Warnings about tensors that nothing will read.

    Raises:
        ApiError: INVALID_ARGUMENT for the first tensor that is missing or has another shape.
    """
    _check_any(tensors)
    wanted = expected(config)
    if wanted is None:
        return []
    if headless:
        wanted.pop("lm_head.weight", None)
        if not any(name.startswith("model.") for name in tensors):
            wanted = {name.removeprefix("model."): shape for name, shape in wanted.items()}
    for name, shape in wanted.items():
        if name not in tensors:
            raise ApiError(Code.INVALID_ARGUMENT, f"parameter {name} of {config['model_type']} is missing")
        if tensors[name].shape != shape:
            raise ApiError(
                Code.INVALID_ARGUMENT,
                f"parameter {name} has shape {list(tensors[name].shape)}, config.json makes it {list(shape)}",
            )
    extra = [name for name in sorted(set(tensors) - set(wanted)) if not _IGNORED.fullmatch(name)]
    return [f"unexpected parameter {name}" for name in extra if name != "lm_head.weight"]


def _check_any(tensors: Mapping[str, Tensor]) -> None:
    """What holds for every architecture: a weight has elements, and is called as in the model itself."""
    for name, tensor in tensors.items():
        if 0 in tensor.shape and name.endswith((".weight", ".bias")):
            raise ApiError(Code.INVALID_ARGUMENT, f"parameter {name} has shape {list(tensor.shape)}: it holds nothing")
        if _WRAPPED.fullmatch(name):
            raise ApiError(Code.INVALID_ARGUMENT, f"unknown parameter {name}: the model was saved inside a wrapper")


def check_lora(keys: Iterable[str], parameters: Mapping[str, Tensor] | None, layers: int) -> None:
    """Hold the keys of an adapter against its base model.

    Args:
        keys: Tensor names of the adapter.
        parameters: Tensors of the base model; None when only its architecture is known.
        layers: Number of layers of the base model; 0 when not known.

    Raises:
        ApiError: INVALID_ARGUMENT, in the wording that public clients quote.
    """
    for key in sorted(keys):
        match = _LORA_KEY.fullmatch(key)
        module = match[1] if match else key
        if match and parameters is not None and f"{module}.weight" in parameters:
            continue
        if match and parameters is None and _plausible(module, layers):
            continue
        raise ApiError(
            Code.INVALID_ARGUMENT,
            "LoRA validation failed: LoRA keys reference non-existent base model parameters: "
            f"{module} (from LoRA key: {key})",
        )


def check_ranks(lora: Mapping[str, Tensor], allowed: Collection[int]) -> None:
    """Hold the shapes of an adapter's tensors against the ranks in its configuration, and its halves together.

    Args:
        lora: Tensors of the adapter; those of fused experts, which have the rank once for each, are not looked at.
        allowed: ``r``, and the ranks of ``rank_pattern``.

    Raises:
        ApiError: INVALID_ARGUMENT for the first tensor of another rank, or without its other half.
    """
    for key, tensor in sorted(lora.items()):
        match = _LORA_KEY.fullmatch(key)
        if match is None or match[1].endswith(("experts", "base_layer")) or len(tensor.shape) != _MATRIX:
            continue
        start, end = match.span(3)
        other = f"{key[:start]}{'B' if match[3] == 'A' else 'A'}{key[end:]}"
        if other not in lora:
            raise ApiError(Code.INVALID_ARGUMENT, f"LoRA validation failed: {key} has no {other}")
        rank = tensor.shape[0 if match[3] == "A" else 1]
        if rank not in allowed:
            raise ApiError(
                Code.INVALID_ARGUMENT,
                f"LoRA validation failed: {key} has rank {rank}, adapter_config.json says {next(iter(allowed))}",
            )


def _plausible(module: str, layers: int) -> bool:
    if module == "lm_head":
        return True
    match = _LAYER_TARGETS.fullmatch(module)
    return match is not None and (not layers or int(match[1]) < layers)
