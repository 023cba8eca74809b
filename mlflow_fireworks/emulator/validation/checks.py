"""What ``validateUpload`` looks at: configuration, tokenizer, index, safetensors headers, adapters. Pure functions.

The findings of the live service are known from its documentation and from error texts that users have quoted;
where a text is not known, the wording is the emulator's own. Nothing here needs more of a file than its head.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow_fireworks.emulator.protocol.wire import ApiError, Code, JsonObject

ADAPTER_FILES = frozenset({"adapter_model.safetensors", "adapter_model.bin", "adapter_config.json", "fireworks.json"})
MIN_RANK, MAX_RANK = 4, 64

_MAX_HEADER_BYTES = 100_000_000
_MAX_DIMENSIONS = 16
_DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_PRECISION_OF = {
    "BF16": "BF16", "bfloat16": "BF16", "F16": "FP16", "float16": "FP16", "F32": "FP16", "float32": "FP16",
    "F8_E4M3": "FP8", "F8_E5M2": "FP8",
}  # fmt: skip
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len", "n_ctx")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "tiktoken.model",
)
_TARGETS = frozenset(
    {
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "up_proj",
        "w1",
        "down_proj",
        "w2",
        "gate_proj",
        "w3",
        "block_sparse_moe.gate",
    }
)
_LM_HEAD_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen2_vl", "qwen2_5_vl", "kimi_k2", "kimi_k25"})


@dataclass(frozen=True)
class UploadedFile:
    """A landed file: its length, and as many of its first bytes as were kept."""

    size: int
    head: bytes


@dataclass(frozen=True)
class Tensor:
    """One entry of a safetensors header."""

    dtype: str
    shape: tuple[int, ...]


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
    """The switches of the validateUpload call."""

    hf_config: bool = False
    config_only: bool = False
    trust_remote_code: bool = False


def check_config(text: str | bytes, *, trust_remote_code: bool = False) -> JsonObject:
    """Parse a config.json as Fireworks' pre-flight and validation do.

    Raises:
        ApiError: INVALID_ARGUMENT with the first thing wrong.
    """
    config = parse_object("config.json", text)
    architectures = config.get("architectures")
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise _invalid("config.json has no model_type")
    if not isinstance(architectures, list) or not architectures or not all(isinstance(a, str) for a in architectures):
        raise _invalid("config.json has no architectures")
    if config.get("quantization_config") is not None:
        raise _invalid(
            "config.json has a quantization_config: quantized checkpoints are not supported, "
            "upload FP16 or BF16 weights and quantize with prepare"
        )
    if config.get("auto_map") and not trust_remote_code:
        raise _invalid("config.json needs remote code (auto_map): pass trustRemoteCode to allow it")
    return config


def check_base_model(files: Mapping[str, UploadedFile], skips: Skips) -> Detected:
    """Check a base or embedding model whose registered files have all landed.

    Raises:
        ApiError: INVALID_ARGUMENT with the first thing wrong.
    """
    if "config.json" not in files:
        raise _invalid("config.json not found")
    raw = files["config.json"].head
    if skips.hf_config:
        config = parse_object("config.json", raw)
    else:
        config = check_config(raw, trust_remote_code=skips.trust_remote_code)
    tensors = _check_weights(files)
    warnings = _check_index(files, tensors)
    if not skips.config_only:
        _check_tokenizer(files)
    return Detected(
        model_type=config["model_type"] if isinstance(config.get("model_type"), str) else "",
        context_length=_context_length(config),
        parameter_count=sum(math.prod(tensor.shape) for tensor in tensors.values()),
        precision=_precision(config, tensors),
        config=config,
        tensors=tensors,
        sampling=_sampling(files),
        warnings=tuple(warnings),
    )


def check_adapter(files: Mapping[str, UploadedFile], base_type: str) -> tuple[int, list[str], dict[str, Tensor]]:
    """Check a LoRA adapter whose registered files have all landed.

    Args:
        files: The landed files.
        base_type: ``modelType`` of the base model; decides whether ``lm_head`` may be a target.

    Returns:
        The adapter's rank, its target modules, and its tensors (none for a ``.bin``).

    Raises:
        ApiError: INVALID_ARGUMENT with the first thing wrong.
    """
    if "adapter_config.json" not in files:
        raise _invalid("adapter_config.json not found")
    if not any(name in files for name in ("adapter_model.safetensors", "adapter_model.bin")):
        raise _invalid("adapter_model.safetensors not found")
    config = parse_object("adapter_config.json", files["adapter_config.json"].head)
    rank = config.get("r")
    if isinstance(rank, bool) or not isinstance(rank, int) or not MIN_RANK <= rank <= MAX_RANK:
        raise _invalid(f"adapter_config.json: r must be an integer between {MIN_RANK} and {MAX_RANK}, found {rank!r}")
    targets = _check_targets(config, base_type)
    for key in ("use_dora", "use_rslora"):
        if config.get(key):
            raise _invalid(f"adapter_config.json: {key} is not supported")
    if "adapter_model.safetensors" not in files:
        return rank, targets, {}
    tensors = read_tensors("adapter_model.safetensors", files["adapter_model.safetensors"])
    if not tensors:
        raise _invalid("adapter_model.safetensors holds no tensors")
    return rank, targets, tensors


def _check_targets(config: JsonObject, base_type: str) -> list[str]:
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not targets or not all(isinstance(target, str) for target in targets):
        raise _invalid("adapter_config.json: target_modules must be a list of module names")
    for target in targets:
        last = target.rsplit(".", 1)[-1]
        fits = target in _TARGETS or last in _TARGETS or target.endswith("block_sparse_moe.gate")
        if not fits and not (last == "lm_head" and base_type in _LM_HEAD_TYPES):
            raise _invalid(f"adapter_config.json: target module {target!r} is not supported")
    return targets


def read_tensors(name: str, file: UploadedFile) -> dict[str, Tensor]:
    """Parse a safetensors header and hold it against the file's length.

    Raises:
        ApiError: INVALID_ARGUMENT when it is no safetensors file, or shorter or longer than its header says.
    """
    length = int.from_bytes(file.head[:8], "little")
    if file.size < 10 or not 2 <= length <= min(_MAX_HEADER_BYTES, file.size - 8) or len(file.head) < 8 + length:  # noqa: PLR2004  # 8 bytes of length, at least "{}"
        raise _invalid(f"{name} is not a valid safetensors file: its header does not fit into {file.size} bytes")
    header = parse_object(name, file.head[8 : 8 + length])
    spans: list[tuple[int, int]] = []
    tensors: dict[str, Tensor] = {}
    for key, value in header.items():
        if key != "__metadata__":
            tensors[key], span = _tensor(name, key, value)
            spans.append(span)
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise _invalid(f"{name} is not a valid safetensors file: its tensors overlap or leave gaps")
        end = stop
    if 8 + length + end != file.size:
        raise _invalid(
            f"{name} is {file.size} bytes long but its header describes {8 + length + end}: truncated or corrupt"
        )
    return tensors


def _tensor(file: str, key: str, value: Any) -> tuple[Tensor, tuple[int, int]]:
    try:
        dtype, shape, (start, stop) = value["dtype"], value["shape"], value["data_offsets"]
        numbers = [*shape, start, stop]
        sane = len(shape) <= _MAX_DIMENSIONS and all(type(n) is int and 0 <= n < 2**63 for n in numbers)
        if sane and (stop - start) * 8 == math.prod(shape) * _DTYPE_BITS[dtype]:
            return Tensor(dtype, tuple(shape)), (start, stop)
    except (KeyError, TypeError, ValueError):
        pass
    raise _invalid(f"{file} is not a valid safetensors file: tensor {key!r} has a bad entry")


def _check_weights(files: Mapping[str, UploadedFile]) -> dict[str, Tensor]:
    safetensors = sorted(name for name in files if name.endswith(".safetensors"))
    if not safetensors and not any(name.endswith(".bin") for name in files):
        raise _invalid("no weights found: expected *.safetensors or *.bin")
    tensors: dict[str, Tensor] = {}
    for name in safetensors:
        for key, tensor in read_tensors(name, files[name]).items():
            if key in tensors:
                raise _invalid(f"tensor {key!r} is in more than one safetensors file")
            tensors[key] = tensor
    shards = [name for name in files if "-of-" in name and name.endswith((".safetensors", ".bin"))]
    if len(shards) > 1 and not any(name.endswith(".index.json") for name in files):
        raise _invalid("weights are sharded but no *.index.json was found")
    return tensors


def _check_index(files: Mapping[str, UploadedFile], tensors: Mapping[str, Tensor]) -> list[str]:
    warnings = []
    for name in sorted(files):
        if not name.endswith(".index.json"):
            continue
        folder = name.rpartition("/")[0]
        weight_map = parse_object(name, files[name].head).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
            raise _invalid(f"{name} has no weight_map")
        for shard in sorted(set(weight_map.values())):
            if (f"{folder}/{shard}" if folder else shard) not in files:
                raise _invalid(f"{name} refers to {shard}, which was not uploaded")
        if not name.endswith(".safetensors.index.json"):
            continue
        missing = sorted(set(weight_map) - set(tensors))
        if missing:
            raise _invalid(f"{name} lists tensor {missing[0]!r}, which no safetensors file holds")
        warnings += [f"{name} does not list tensor {key}" for key in sorted(set(tensors) - set(weight_map))]
    return warnings


def _check_tokenizer(files: Mapping[str, UploadedFile]) -> None:
    present = [name for name in files if name.rsplit("/", 1)[-1] in _TOKENIZER_FILES]
    if not present:
        raise _invalid("tokenizer not found: expected tokenizer.json, tokenizer.model or tokenizer_config.json")
    for name in present:
        if name.endswith(".json"):
            parse_object(name, files[name].head)


def _context_length(config: JsonObject) -> int:
    text_config = config.get("text_config")
    for source in (config, text_config if isinstance(text_config, dict) else {}):
        for key in _CONTEXT_KEYS:
            if type(source.get(key)) is int and 0 < source[key] < 2**31:
                return int(source[key])
    return 0


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


def parse_object(name: str, text: str | bytes) -> JsonObject:
    """Parse one JSON object out of a file, or refuse the file by name."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"{name} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise _invalid(f"{name} is not a JSON object")
    return data


def _invalid(message: str) -> ApiError:
    return ApiError(Code.INVALID_ARGUMENT, message)
