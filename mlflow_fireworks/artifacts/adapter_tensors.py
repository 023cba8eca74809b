"""The tensors of a LoRA adapter, held against `adapter_config.json`: what PEFT would not find, it leaves out silently.

PEFT saves `base_model.model.MODULE.lora_A.weight` (rank by width) and `….lora_B.weight` (width by rank) for each
changed linear layer, `….lora_embedding_A` and `…_B` for embeddings (peft 0.21, `get_peft_model_state_dict`).
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlflow_fireworks.artifacts.adapter import is_lora
from mlflow_fireworks.artifacts.documents import Document, child_of, number_of, texts_of
from mlflow_fireworks.artifacts.safetensors import Header
from mlflow_fireworks.names import enumerate_names

_SHOWN = 3
_PREFIX = "base_model.model."
_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<side>[AB])(?:\.(?P<rest>.+))?$")
_LAYER = re.compile(r"(?:^|\.)(?P<pattern>[^.]+)\.(?P<number>\d+)\.")
# Options of PEFT that put other tensors beside these, or other shapes into them; the config's own rules judge them.
_OTHER_FORMS = ("target_parameters", "trainable_token_indices", "layer_replication")


@dataclass(frozen=True)
class _Half:
    """One matrix of a changed layer."""

    name: str
    module: str
    side: str
    adapter: str | None
    rank: int | None


def find_adapter_tensor_faults(config: Document, header: Header) -> list[str]:
    """Find what in an adapter's weights does not belong to what its config describes.

    Args:
        config: The parsed `adapter_config.json`.
        header: The header of its weights.

    Returns:
        One line for each kind of fault, without the file's name.
    """
    if not is_lora(config) or not header.shapes:
        return []
    names = sorted(header.shapes)
    halves = [half for name in names if (half := _read_half(name, header.shapes[name]))]
    if not halves:
        return [f"holds no LoRA tensors (….lora_A.weight), but for example {names[0]}; save the adapter with PEFT"]
    if naming := list(_check_naming(names, halves)):
        return naming  # the rest would only repeat it
    return [
        *_check_pairs(halves),
        *_check_ranks(config, halves),
        *_check_targets(config, halves),
        *_check_whole_layers(config, names),
    ]


def _read_half(name: str, shape: tuple[int, ...]) -> _Half | None:
    match = _KEY.match(name)
    if match is None or (match["rest"] or "").endswith("bias"):
        return None
    module = re.sub(rf"^({re.escape(_PREFIX)})+", "", match["module"])
    adapter = (match["rest"] or "").removesuffix("weight").removesuffix(".")
    axis = 0 if match["side"] == "A" else 1
    rank = shape[axis] if len(shape) > axis else None
    return _Half(name, module, match["side"], adapter or None, rank)


def _check_naming(names: list[str], halves: list[_Half]) -> Iterator[str]:
    def describe(found: list[str], what: str) -> str:
        return (
            f"has {len(found)} of {len(names)} tensors {what}, e.g. {found[0]}, which PEFT would ignore; save the "
            "adapter with PeftModel.save_pretrained"
        )

    if bare := [name for name in names if not name.startswith(_PREFIX)]:
        yield describe(bare, f"without {_PREFIX} in front")
    if doubled := [name for name in names if name.startswith(_PREFIX * 2)]:
        yield describe(doubled, f"with {_PREFIX} twice")
    if named := [half for half in halves if half.adapter]:
        yield describe([half.name for half in named], f"with an adapter's name ({named[0].adapter}) in them")


def _check_pairs(halves: list[_Half]) -> Iterator[str]:
    sides: dict[str, set[str]] = defaultdict(set)
    for half in halves:
        sides[half.module].add(half.side)
    for side, other in ("AB", "BA"):
        if alone := sorted(module for module, found in sides.items() if found == {side}):
            yield (
                f"has lora_{side} without lora_{other} for {len(alone)} layers: {enumerate_names(alone, _SHOWN)}; it "
                "is incomplete; save the adapter again"
            )


def _check_ranks(config: Document, halves: list[_Half]) -> Iterator[str]:
    r = number_of(config, "r")
    if r is None or any(config.get(option) for option in _OTHER_FORMS):
        return
    pattern = child_of(config, "rank_pattern")
    # Fused experts have the rank once for each expert.
    wrong = [
        half
        for half in halves
        if half.rank and half.rank not in _allowed_ranks(half.module, r, pattern) and not _is_fused(half)
    ]
    if wrong:
        shown = [f"{half.module} has {half.rank}" for half in wrong]
        yield (
            f"has {len(wrong)} tensors whose rank is not that of adapter_config.json (r={r}): "
            f"{enumerate_names(shown, _SHOWN)}; the two files come from different training runs, or r was edited"
        )


def _allowed_ranks(module: str, r: int, pattern: Mapping[str, object]) -> set[object]:
    """PEFT takes the keys of `rank_pattern` as regular expressions; those of a stranger are not run here."""
    for key, rank in pattern.items():
        if _ends_with(module, key.lstrip("^")):
            return {rank}
    return {r, *(rank for key, rank in pattern.items() if not re.fullmatch(r"\^?[\w.]+", key))}


def _is_fused(half: _Half) -> bool:
    return half.module.endswith("experts") or ".base_layer" in half.module


def _check_targets(config: Document, halves: list[_Half]) -> Iterator[str]:
    """`target_modules` as a list of endings; a text in its place is refused elsewhere, so it is not matched here."""
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not targets or any(config.get(option) for option in _OTHER_FORMS):
        return
    excluded = config.get("exclude_modules")
    modules = sorted({half.module for half in halves})
    outside = [
        module
        for module in modules
        if not any(_ends_with(module, str(target)) for target in targets)
        or (isinstance(excluded, list) and any(_ends_with(module, str(name)) for name in excluded))
        or not _is_in_layers(config, module)
    ]
    if outside:
        yield (
            f"changes {len(outside)} of {len(modules)} layers that adapter_config.json does not name (target_modules="
            f"{','.join(map(str, targets[:8]))}): {enumerate_names(outside, _SHOWN)}; PEFT would ignore them"
        )


def _ends_with(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")


def _is_in_layers(config: Document, module: str) -> bool:
    layers = config.get("layers_to_transform")
    allowed = [layers] if isinstance(layers, int) and not isinstance(layers, bool) else layers
    if not isinstance(allowed, list) or not allowed:
        return True
    patterns = texts_of(config, "layers_pattern")
    numbers = [match["number"] for match in _LAYER.finditer(module) if not patterns or match["pattern"] in patterns]
    return not numbers or int(numbers[0]) in allowed


def _check_whole_layers(config: Document, names: list[str]) -> Iterator[str]:
    saved = (
        *texts_of(config, "modules_to_save"),
        *(("token_adapter",) if config.get("trainable_token_indices") else ()),
    )
    biases = config.get("bias") not in (None, "none", False) or config.get("lora_bias")
    whole = [
        name
        for name in names
        if ".lora_" not in name
        and not any(f".{part}." in name for part in saved)
        and not (biases and name.endswith(".bias"))
    ]
    if whole:
        shown = enumerate_names([name.removeprefix(_PREFIX) for name in whole], _SHOWN)
        yield (
            f"holds {len(whole)} whole layers beside the LoRA ({shown}), which Fireworks does not accept in an "
            "adapter: "
            "if they were not trained, save it with save_embedding_layers=False; else merge it into its base and "
            "deploy that"
        )
