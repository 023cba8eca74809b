"""What the names and shapes of tensors tell when nothing is known of the architecture.

Rules that hold for every model of transformers, so a good one breaks none of them. Whether all tensors of an
architecture are there, `load_check` asks transformers.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping

from mlflow_fireworks.artifacts.adapter_tensors import find_adapter_tensor_faults
from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.documents import Document, Fault, child_of, number_of, with_language_model
from mlflow_fireworks.artifacts.index import find_copies
from mlflow_fireworks.artifacts.rivals import find_rival
from mlflow_fireworks.artifacts.safetensors import Header
from mlflow_fireworks.artifacts.selection import ADAPTER_CONFIG, Weights
from mlflow_fireworks.config import Kind
from mlflow_fireworks.names import enumerate_names

_SHOWN = 3
# Parts of a name that wrappers add: torch.compile, FSDP, activation checkpointing, Lightning.
_WRAPPER = re.compile(r"(?:^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
# What stands before every name when a wrapped model was saved: DataParallel and DeepSpeed, TRL, PEFT.
_PREFIXES = ("module.", "pretrained_model.", "base_model.model.")
# Where a decoder's tensors begin in transformers; below them a common prefix is one too many.
_DECODER_HEADS = ("lm_head.weight", "model.embed_tokens.weight")
# The language model of a multimodal family, saved alone.
_OUTER = ("language_model.", "thinker.", "text_model.")

_EMBEDDING = re.compile(r"(?:^|\.)(embed_tokens|wte|word_embeddings|embed_in|lm_head|embed_out)\.weight$")
_OF_OTHER_SENSES = re.compile(r"vision|visual|audio|image|speech|talker|codec|draft|mtp|layers\.")


def find_tensor_problems(checkpoint: Checkpoint, headers: Mapping[str, Header | Fault]) -> list[str]:
    """Find what is wrong with the tensors themselves.

    Args:
        checkpoint: What is to go up.
        headers: From `read_headers`.

    Returns:
        One line each: which file, what is wrong, what to do.
    """
    problems: list[str] = []
    for folder, weights in checkpoint.weights.items():
        read = {
            checkpoint.files[folder + name].origin: header
            for name in weights.files
            if name.endswith(".safetensors") and isinstance(header := headers.get(folder + name), Header)
        }
        problems += find_rival(checkpoint, folder, weights)
        problems += find_copies(checkpoint, folder, weights, headers)
        if len(read) == len(weights.files):
            problems += _check_content(read)
        names = {name for header in read.values() for name in header.shapes} | _listed(checkpoint, folder, weights)
        problems += _check_names(" and ".join(read) if len(read) == 1 else "the weights", names)
        if checkpoint.kind is Kind.ADDON:
            problems += _check_adapter(checkpoint, read)
        elif not folder:
            problems += _check_vocabulary(checkpoint.document("config.json"), read)
    return problems


def _listed(checkpoint: Checkpoint, folder: str, weights: Weights) -> set[str]:
    """Where no header could be read, the index still has the names."""
    return set(child_of(checkpoint.document(f"{folder}{weights.index}"), "weight_map")) if weights.index else set()


def _check_content(read: Mapping[str, Header]) -> Iterator[str]:
    shapes = {name: shape for header in read.values() for name, shape in header.shapes.items()}
    if not shapes:
        yield f"{enumerate_names(read, _SHOWN)} holds no tensors; save the model again with save_pretrained"
    empty = sorted(name for name, shape in shapes.items() if not math.prod(shape) and _is_weight(name))
    if empty:
        yield (
            f"{len(empty)} of {len(shapes)} tensors in {enumerate_names(read, _SHOWN)} are empty, e.g. {empty[0]} of "
            f"shape {list(shapes[empty[0]])}, as DeepSpeed ZeRO-3 saves parameters that were not gathered: run "
            "zero_to_fp32.py on its checkpoint, or set stage3_gather_16bit_weights_on_model_save and save again"
        )


def _is_weight(name: str) -> bool:
    return name.endswith((".weight", ".bias", ".lora_embedding_A", ".lora_embedding_B"))


def _check_names(where: str, names: set[str]) -> Iterator[str]:
    """Names that a wrapper changed: each loader would find nothing of what it looks for."""
    if wrapped := sorted(name for name in names if _WRAPPER.search(name)):
        part = _WRAPPER.search(wrapped[0])
        yield _describe_prefix(where, len(wrapped), len(names), f"contain {part[1] if part else ''}.", wrapped[0])
    elif prefix := _find_prefix(names):
        yield _describe_prefix(where, len(names), len(names), f"begin with {prefix}", min(names))


def _describe_prefix(where: str, some: int, total: int, what: str, example: str) -> str:
    return (
        f"{some} of {total} tensors in {where} {what}, which a wrapper added ({example}) and that no loader "
        "expects: save "
        "the model inside it, e.g. accelerator.unwrap_model(model).save_pretrained(…)"
    )


def _find_prefix(names: set[str]) -> str | None:
    """A first part that all names share and that does not belong to the model."""
    first = f"{min(names, default='').partition('.')[0]}."
    if not names or any(not name.startswith(first) for name in names):
        return None
    if any(name.startswith("base_model.model.") and ".lora_" in name for name in names):
        return None  # an adapter; `adapter_tensors` knows its names
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in names):
            return prefix
    return first if any(f"{first}{head}" in names for head in _DECODER_HEADS) and first not in _OUTER else None


def _check_vocabulary(config: Document, read: Mapping[str, Header]) -> Iterator[str]:
    """Fewer rows than tokens; more are usual, as padding. Of several languages or senses only the config knows more."""
    sizes = [number for part in with_language_model(config) if (number := number_of(part, "vocab_size"))]
    if not sizes or config.get("is_encoder_decoder"):
        return
    for origin, header in read.items():
        for name, shape in header.shapes.items():
            is_packed = not header.dtypes[name].startswith(("F", "BF"))
            if not _EMBEDDING.search(name) or _OF_OTHER_SENSES.search(name) or is_packed:
                continue
            if len(shape) == 2 and 0 < shape[0] < min(sizes):  # noqa: PLR2004 - a matrix
                yield (
                    f"{origin}: {name} has {shape[0]} rows, but config.json has vocab_size={min(sizes)}; save "
                    "both again "
                    "with save_pretrained, after resize_token_embeddings if tokens were added or removed"
                )


def _check_adapter(checkpoint: Checkpoint, read: Mapping[str, Header]) -> Iterable[str]:
    config = checkpoint.document(ADAPTER_CONFIG)
    return [
        f"{origin} {fault}" for origin, header in read.items() for fault in find_adapter_tensor_faults(config, header)
    ]
