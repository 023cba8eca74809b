"""What validation looks at in a base model: configuration, tokenizer, index, safetensors headers.

The findings of the live service are known from its documentation and from error texts that users have quoted;
where a text is not known, the wording is the emulator's own. Nothing here needs more of a file than its head.
"""

from __future__ import annotations

import math
import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow_fireworks.emulator.protocol.wire import JsonObject
from mlflow_fireworks.emulator.validation.files import UploadedFile, invalid, parse_object
from mlflow_fireworks.emulator.validation.safetensors import Tensor, read_tensors

_PRECISION_OF = {
    "BF16": "BF16", "bfloat16": "BF16", "F16": "FP16", "float16": "FP16", "F32": "FP16", "float32": "FP16",
    "F8_E4M3": "FP8", "F8_E5M2": "FP8",
}  # fmt: skip
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len", "n_ctx")
_MAX_FACTOR = 1000
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "tiktoken.model",
)
_TIED_HEADS = ("lm_head.weight", "embed_out.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
# Families whose config.json need not say that head and embedding share their weights (transformers' defaults).
_TIED_FAMILIES = (
    *("bloom", "cohere", "cohere2", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt2", "mpt", "opt"),
    "starcoder2",
)


@dataclass(frozen=True)
class Detected:
    """What validation learns from the files and writes into the model."""

    model_type: str = ""
    context_length: int = 0
    parameter_count: int = 0
    precision: str = ""
    config: JsonObject = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    sampling: JsonObject | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skips:
    """The switches of the validateUpload call, and whether quantized checkpoints are taken."""

    hf_config: bool = False
    config_only: bool = False
    trust_remote_code: bool = False
    quantized: bool = False


def check_config(text: str | bytes, *, trust_remote_code: bool = False, quantized: bool = False) -> JsonObject:
    """Parse a config.json as Fireworks' pre-flight and validation do.

    Args:
        text: Its content.
        trust_remote_code: Whether it may name code of its own.
        quantized: Whether it may have a quantization_config.

    Raises:
        ApiError: INVALID_ARGUMENT with the first thing wrong.
    """
    config = parse_object("config.json", text)
    architectures = config.get("architectures")
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise invalid("config.json has no model_type")
    if not isinstance(architectures, list) or not architectures or not all(isinstance(a, str) for a in architectures):
        raise invalid("config.json has no architectures")
    if config.get("quantization_config") is not None and not quantized:
        raise invalid(
            "config.json has a quantization_config: quantized checkpoints are not supported, "
            "upload FP16 or BF16 weights and quantize with prepare"
        )
    if config.get("auto_map") and not trust_remote_code:
        raise invalid("config.json needs remote code (auto_map): pass trustRemoteCode to allow it")
    return config


def check_base_model(files: Mapping[str, UploadedFile], skips: Skips) -> Detected:
    """Check a base or embedding model whose registered files have all landed.

    Raises:
        ApiError: INVALID_ARGUMENT with the first thing wrong.
    """
    if "config.json" not in files:
        raise invalid("config.json not found")
    raw = files["config.json"].head
    if skips.hf_config:
        config = parse_object("config.json", raw)
    else:
        config = check_config(raw, trust_remote_code=skips.trust_remote_code, quantized=skips.quantized)
    folders = _check_weights(files)
    warnings = _check_index(files, folders, tied=config.get("tie_word_embeddings") is not False)
    if not skips.config_only:
        _check_tokenizer(files)
    return Detected(
        model_type=config["model_type"] if isinstance(config.get("model_type"), str) else "",
        context_length=_context_length(config),
        parameter_count=sum(_count(config, tensors) for tensors in folders.values()),
        precision=_precision(config, folders[""]),
        config=config,
        tensors=folders[""],
        sampling=_sampling(files),
        warnings=tuple(warnings),
    )


def _count(config: JsonObject, tensors: Mapping[str, Tensor]) -> int:
    """The number of parameters; a head that was saved beside the embedding whose weights it shares adds none."""
    shared = {tensor.shape for name, tensor in tensors.items() if name.endswith(_EMBEDDINGS)}
    if not config.get("tie_word_embeddings", config.get("model_type") in _TIED_FAMILIES):
        shared = set()
    return sum(
        math.prod(tensor.shape)
        for name, tensor in tensors.items()
        if not (name.endswith(_TIED_HEADS) and tensor.shape in shared)
    )


def _check_weights(files: Mapping[str, UploadedFile]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each folder; modules of an embedding model call theirs alike (``linear.weight``)."""
    safetensors = sorted(name for name in files if name.endswith(".safetensors"))
    if not safetensors and not any(name.endswith(".bin") for name in files):
        raise invalid("no weights found: expected *.safetensors or *.bin")
    folders: dict[str, dict[str, Tensor]] = {"": {}}
    for name in safetensors:
        tensors = folders.setdefault(name.rpartition("/")[0], {})
        for key, tensor in read_tensors(name, files[name]).items():
            if key in tensors:
                raise invalid(f"tensor {key!r} is in more than one safetensors file")
            tensors[key] = tensor
    shards = [name for name in files if "-of-" in name and name.endswith((".safetensors", ".bin"))]
    if len(shards) > 1 and not any(name.endswith(".index.json") for name in files):
        raise invalid("weights are sharded but no *.index.json was found")
    return folders


def _check_index(
    files: Mapping[str, UploadedFile], folders: Mapping[str, Mapping[str, Tensor]], *, tied: bool
) -> list[str]:
    warnings = []
    for name in sorted(files):
        if not name.endswith(".index.json"):
            continue
        folder = name.rpartition("/")[0]
        weight_map = parse_object(name, files[name].head).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
            raise invalid(f"{name} has no weight_map")
        for shard in sorted(set(weight_map.values())):
            if posixpath.normpath(posixpath.join(folder, shard)) not in files:
                raise invalid(f"{name} refers to {shard}, which was not uploaded")
        if not name.endswith(".safetensors.index.json"):
            continue
        tensors = folders.get(folder, {})
        missing = sorted(set(weight_map) - set(tensors))
        if tied:  # converters list the head that shares the embedding's weights and is saved once
            missing = [key for key in missing if not key.endswith(_TIED_HEADS)]
        if missing:
            raise invalid(f"{name} lists tensor {missing[0]!r}, which no safetensors file holds")
        warnings += [f"{name} does not list tensor {key}" for key in sorted(set(tensors) - set(weight_map))]
    return warnings


def _check_tokenizer(files: Mapping[str, UploadedFile]) -> None:
    present = [name for name in files if name.rsplit("/", 1)[-1] in _TOKENIZER_FILES]
    if not present:
        raise invalid("tokenizer not found: expected tokenizer.json, tokenizer.model or tokenizer_config.json")
    for name in present:
        if name.endswith(".json"):
            parse_object(name, files[name].head)


def _context_length(config: JsonObject) -> int:
    text_config = config.get("text_config")
    for source in (config, text_config if isinstance(text_config, dict) else {}):
        for key in _CONTEXT_KEYS:
            if type(source.get(key)) is int and 0 < source[key] < 2**31:
                return _usable_length(source, int(source[key]))
    return 0


def _usable_length(config: JsonObject, stated: int) -> int:
    """The stated length without RoBERTa's positions for padding, or as rotary embeddings stretch it."""
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        return stated - 2
    rope = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(rope, dict) or str(config.get("model_type")).startswith("gemma3"):
        return stated
    kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
    if (
        kind not in ("linear", "dynamic", "yarn")
        or not isinstance(factor, (int, float))
        or not 1 < factor < _MAX_FACTOR
    ):
        return stated
    original = rope.get("original_max_position_embeddings")
    stretched = int((original if type(original) is int and 0 < original < 2**31 else stated) * factor)
    return min(max(stated, stretched), 2**31 - 1)


def _precision(config: JsonObject, tensors: Mapping[str, Tensor]) -> str:
    weight: Counter[str] = Counter()
    for tensor in tensors.values():
        weight[tensor.dtype] += math.prod(tensor.shape)
    found = [dtype for dtype, _count in weight.most_common(1)]
    found += [str(config[key]) for key in ("dtype", "torch_dtype") if key in config]
    return next((_PRECISION_OF[dtype] for dtype in found if dtype in _PRECISION_OF), "")


def _sampling(files: Mapping[str, UploadedFile]) -> JsonObject:
    """Defaults of generation_config.json; fireworks.json overrides it when present."""
    sampling: JsonObject = {}
    for name, section in (("generation_config.json", None), ("fireworks.json", "defaults")):
        if name in files:
            content = parse_object(name, files[name].head)
            values = content.get(section) if section else content
            for key in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty"):
                value = values.get(key) if isinstance(values, dict) else None
                if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
                    sampling[key] = float(value)
    return sampling
