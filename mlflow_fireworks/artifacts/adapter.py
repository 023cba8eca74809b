"""Fireworks' rules for LoRA adapters ("uploading custom models", LoRA addons; what production clients met)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow_fireworks.artifacts.documents import Document, text_of
from mlflow_fireworks.artifacts.repository import choose_base
from mlflow_fireworks.artifacts.safetensors import Header

_MIN_RANK, _MAX_RANK = 4, 64
_ALLOWED = {
    *("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj", "w1", "w2", "w3"),
    "block_sparse_moe.gate",
    "lm_head",
}
_LM_HEAD_FAMILIES = ("llama", "mistral", "qwen2", "qwen2_vl", "kimi")
# Options of PEFT that change what the weights mean, and the value that leaves them alone.
_DOUBTED_WHEN_SET = (
    "use_rslora",
    "use_dora",
    "use_qalora",
    "lora_bias",
    "fan_in_fan_out",
    "layer_replication",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
)
# Ways to begin that take their part out of the base model's weights (peft 0.21, `LoraLayer.update_layer`), so that the
# adapter fits only what is left of them; `eva`, `orthogonal`, `gaussian` and `mica` leave the base as it is.
_BASE_CHANGING = re.compile(r"pissa(_niter_\d+)?|olora|corda|loftq|lora_ga", re.IGNORECASE)
# Weights that LLaVA's and similar trainers save beside an adapter, because PEFT does not know of them.
_BESIDE_LORA = ("non_lora_trainables.bin", "non_lora_state_dict.bin", "mm_projector.bin")
_LORA_KEY = re.compile(r"\.([^.]+)\.lora_(?:embedding_)?[AB](?:\.|$)")


@dataclass(frozen=True)
class Adapter:
    """What Fireworks must be told about an adapter (`peftDetails`).

    Args:
        r: Its rank.
        target_modules: The layers it changes.
        base_repo: `org/name` of the model it was trained on, or None when only a local path is known.
        base_revision: The commit of that model, where it is known.
    """

    r: int
    target_modules: tuple[str, ...]
    base_repo: str | None
    base_revision: str | None = None


def read_adapter(config: Document, other_names: Iterable[str] = ()) -> Adapter:
    """Read `adapter_config.json`; `find_faults` tells whether what it says is usable.

    Args:
        config: The parsed file.
        other_names: Where else the base model may be named, best first, should the file hold only a local path.
    """
    r, modules = config.get("r"), config.get("target_modules")
    listed = modules if isinstance(modules, list) else []
    named = [text_of(config, "base_model_name_or_path") or "", *other_names]
    base = choose_base(named)
    return Adapter(
        r=r if isinstance(r, int) and not isinstance(r, bool) else 0,
        target_modules=tuple(sorted({_short_name(str(name)) for name in listed})),
        base_repo=base.name if base else None,
        base_revision=text_of(config, "revision") or (base.revision if base else None),
    )


def _short_name(module: str) -> str:
    """`model.layers.0.self_attn.q_proj` and `q_proj` name the same kind of layer."""
    if module.endswith("block_sparse_moe.gate"):
        return "block_sparse_moe.gate"
    return module.rpartition(".")[2]


def is_lora(config: Document) -> bool:
    """Whether an adapter is a LoRA; older ones do not say what they are.

    Args:
        config: The parsed `adapter_config.json`.
    """
    return text_of(config, "peft_type") in (None, "LORA")


def find_adapter_faults(config: Document, header: Header | None) -> list[str]:
    """What makes an adapter one that Fireworks cannot serve, by its documentation.

    Args:
        config: The parsed `adapter_config.json`.
        header: The header of its weights, if they are safetensors.

    Returns:
        One line for each fault, without the file's name.
    """
    if not is_lora(config):
        kind = text_of(config, "peft_type")
        return [f"is of type {kind}; Fireworks serves LoRA adapters only: merge it into its base and deploy that"]
    faults = []
    r = config.get("r")
    if not isinstance(r, int) or isinstance(r, bool) or not _MIN_RANK <= r <= _MAX_RANK:
        faults.append(
            f"has r={r}; Fireworks accepts ranks from {_MIN_RANK} to {_MAX_RANK}: retrain it with a rank in that range"
        )
    return faults + _check_modules(config.get("target_modules"), header)


def find_adapter_doubts(config: Document, family: str | None) -> list[str]:
    """What Fireworks is not known to apply: not in its lists, or said by others only.

    Its own training writes fused targets such as `experts`, which those lists do not have; of rank-stabilised LoRA it
    says nothing.

    Args:
        config: The parsed `adapter_config.json`.
        family: `model_type` of its base model, if known.

    Returns:
        One line for each, without the file's name.
    """
    doubts = [
        f"sets {option}, which Fireworks is not known to apply: retrain the adapter without it"
        for option in _DOUBTED_WHEN_SET
        if config.get(option)
    ]
    if config.get("bias") not in (None, "none", False):
        doubts.append(f"trains biases (bias={config['bias']}), which Fireworks is not known to apply: use bias=none")
    modules = config.get("target_modules")
    names = {_short_name(str(name)) for name in modules} if isinstance(modules, list) else set()
    if others := sorted(names - _ALLOWED):
        doubts.append(
            f"changes {', '.join(others)}; Fireworks documents LoRA for {', '.join(sorted(_ALLOWED))} only: retrain "
            "it without them"
        )
    if "lm_head" in names and family is not None and not family.startswith(_LM_HEAD_FAMILIES):
        doubts.append(f"adapts lm_head, which Fireworks supports for {', '.join(_LM_HEAD_FAMILIES)}, not for {family}")
    return doubts


def changes_its_base(config: Document) -> str | None:
    """The way in which an adapter began, where that changed the weights of its base model; else None."""
    way = text_of(config, "init_lora_weights") or ""
    return way if _BASE_CHANGING.fullmatch(way) else None


def find_lost_parts(config: Document, left_out: Iterable[str], converted: str | None) -> list[str]:
    """What an adapter needs beside its own two files, so that alone it would answer as it was not trained to.

    Args:
        config: The parsed `adapter_config.json`.
        left_out: Names of the files beside it.
        converted: A folder near it with the same adapter for the unchanged base model, as `checkpoint_path`.

    Returns:
        One line for each, without the file's name.
    """
    lost = []
    if way := changes_its_base(config):
        remedy = (
            f"use that one with -C checkpoint_path={converted}"
            if converted
            else ("convert it with save_pretrained(…, path_initial_model_for_weight_conversion=…)")
        )
        found = f"; {converted} holds the same adapter converted" if converted else ""
        lost.append(
            f"has init_lora_weights={way}, which changed the base model's weights, so it does not fit the original "
            f"one{found}: {remedy}"
        )
    if config.get("alora_invocation_tokens"):
        lost.append(
            "has alora_invocation_tokens: an activated LoRA changes only what follows these tokens, and Fireworks "
            "would apply it to everything: train a LoRA without them"
        )
    lost += [
        f"is only part of what was trained: {name} beside it holds other layers, which no adapter on Fireworks can "
        "have: merge both into the base model and deploy that"
        for name in left_out
        if name in _BESIDE_LORA
    ]
    return lost


def _check_modules(modules: object, header: Header | None) -> list[str]:
    if isinstance(modules, str):
        found = _modules_in(header)
        remedy = f"write the list {list(found)} there, those are in its weights" if found else "use a list instead"
        return [f'has target_modules "{modules}" and Fireworks needs a list of names: {remedy}']
    if not isinstance(modules, list) or not modules:
        return ["has no list target_modules, which Fireworks needs"]
    return []


def _modules_in(header: Header | None) -> tuple[str, ...]:
    keys = header.shapes if header else ()
    return tuple(sorted({match[1] for key in keys if (match := _LORA_KEY.search(key))}))


def find_adapter_warnings(config: Document, adapter: Adapter, family: str | None) -> list[str]:
    """What Fireworks takes but may apply in another way than it was trained."""
    warnings = [
        f"the adapter sets {option}; Fireworks reads one value for all layers, so its answers may differ"
        for option in ("rank_pattern", "alpha_pattern")
        if config.get(option)
    ]
    if "lm_head" in adapter.target_modules and family is None:
        warnings.append(f"the adapter adapts lm_head, which Fireworks supports only for {', '.join(_LM_HEAD_FAMILIES)}")
    if adapter.base_repo is None:
        named = text_of(config, "base_model_name_or_path")
        warnings.append(f"the only record of the adapter's base model is {named}; name it with -C base_model=")
    return warnings
