"""Adapters of other tools than PEFT, told by what they call their files."""

from collections.abc import Mapping

from mlflow_fireworks.artifacts.content import Part
from mlflow_fireworks.artifacts.documents import Fault, parse_document
from mlflow_fireworks.artifacts.selection import ADAPTER_CONFIG

_DIFFUSERS = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")
_MLX = ("adapters.safetensors", "adapters.npz")
_MLX_KEYS = ("lora_parameters", "fine_tune_type", "lora_layers")


def describe_foreign_adapter(files: Mapping[str, Part]) -> str | None:
    """Say whose adapter it is and what to do; completes a sentence that begins with the model.

    Args:
        files: Every file, by its name in the folder.

    Returns:
        None when it is no adapter of another tool.
    """
    if any(name in files for name in _DIFFUSERS) and "config.json" not in files:
        return (
            "holds a LoRA of diffusers (pytorch_lora_weights), for an image model; Fireworks takes LoRA "
            "adapters of language models only"
        )
    config = parse_document(files[ADAPTER_CONFIG].read()) if ADAPTER_CONFIG in files else {}
    is_mlx = not isinstance(config, Fault) and any(key in config for key in _MLX_KEYS) and "peft_type" not in config
    if is_mlx or (any(name in files for name in _MLX) and "config.json" not in files):
        return (
            "holds an adapter of MLX (adapters.safetensors), which names and orients its matrices differently from "
            "PEFT; merge it with mlx_lm.fuse --de-quantize and deploy the merged model"
        )
    return None
