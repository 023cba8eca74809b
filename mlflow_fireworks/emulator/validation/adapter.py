"""What validation looks at in a LoRA adapter."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_fireworks.emulator.protocol.wire import JsonObject
from mlflow_fireworks.emulator.validation.architectures import check_ranks
from mlflow_fireworks.emulator.validation.files import UploadedFile, invalid, parse_object
from mlflow_fireworks.emulator.validation.safetensors import Tensor, read_tensors

ADAPTER_FILES = frozenset({"adapter_model.safetensors", "adapter_model.bin", "adapter_config.json"})
MIN_RANK, MAX_RANK = 4, 64

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
        raise invalid("adapter_config.json not found")
    if not any(name in files for name in ("adapter_model.safetensors", "adapter_model.bin")):
        raise invalid("adapter_model.safetensors not found")
    config = parse_object("adapter_config.json", files["adapter_config.json"].head)
    rank = config.get("r")
    if isinstance(rank, bool) or not isinstance(rank, int) or not MIN_RANK <= rank <= MAX_RANK:
        raise invalid(f"adapter_config.json: r must be an integer between {MIN_RANK} and {MAX_RANK}, found {rank!r}")
    targets = _check_targets(config, base_type)
    for key in ("use_dora", "use_rslora"):
        if config.get(key):
            raise invalid(f"adapter_config.json: {key} is not supported")
    if "adapter_model.safetensors" not in files:
        return rank, targets, {}
    tensors = read_tensors("adapter_model.safetensors", files["adapter_model.safetensors"])
    if not tensors:
        raise invalid("adapter_model.safetensors holds no tensors")
    pattern = config.get("rank_pattern")
    others = [value for value in pattern.values() if type(value) is int] if isinstance(pattern, dict) else []
    check_ranks(tensors, [rank, *others])
    return rank, targets, tensors


def _check_targets(config: JsonObject, base_type: str) -> list[str]:
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not targets or not all(isinstance(target, str) for target in targets):
        raise invalid("adapter_config.json: target_modules must be a list of module names")
    for target in targets:
        last = target.rsplit(".", 1)[-1]
        fits = target in _TARGETS or last in _TARGETS or target.endswith("block_sparse_moe.gate")
        if not fits and not (last == "lm_head" and base_type in _LM_HEAD_TYPES):
            raise invalid(f"adapter_config.json: target module {target!r} is not supported")
    return targets
