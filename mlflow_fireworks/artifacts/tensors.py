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
from mlflow_fireworks.artifacts.missing_parts import find_missing_parts
from mlflow_fireworks.artifacts.rivals import find_rival
from mlflow_fireworks.artifacts.safetensors import Header
from mlflow_fireworks.artifacts.selection import ADAPTER_CONFIG, Weights
from mlflow_fireworks.config import Kind
from mlflow_fireworks.names import enumerate_names

_SHOWN = 3
# Parts of a name that wrappers add: torch.compile, FSDP, activation checkpointing, Lightning; parametrizations, which
# audio encoders have in their first convolution; FSDP's own form of a group of layers.
_WRAPPER = re.compile(
    r"(?:^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|_flat_param$"
    r"|(?<!conv\.)parametrizations)(?:\.|$)"
)
# What stands before every name when a wrapped model was saved: DataParallel and DeepSpeed, TRL, PEFT.
_PREFIXES = ("module.", "pretrained_model.", "base_model.model.")
# Where a decoder's tensors begin in transformers; below them a common prefix is one too many.
_DECODER_HEADS = ("lm_head.weight", "model.embed_tokens.weight", "transformer.wte.weight", "gpt_neox.embed_in.weight")
# The language model of a multimodal family, saved alone.
_OUTER = re.compile(r"(^|\.)(language_model|thinker|talker|text_model|llm)\.")
# A few tensors beside it (a value head, a step counter) belong to the wrapper as well.
_MOST_OUTSIDE = 5

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
        if read and len(read) == len(weights.files):
            problems += _check_content(read)
        names = _find_names(checkpoint, folder, weights, read.values())
        is_adapter = checkpoint.kind is Kind.ADDON  # `adapter_tensors` knows its names
        where = " and ".join(read) if len(read) == 1 else "the weights"
        problems += _check_names(where, names, is_adapter=is_adapter)
        if is_adapter:
            problems += _check_adapter(checkpoint, read)
        elif not folder:
            problems += _check_vocabulary(checkpoint.document("config.json"), read)
    return problems


def find_lacks(checkpoint: Checkpoint, headers: Mapping[str, Header | Fault]) -> list[str]:
    """Find what a whole model lacks; of one with other faults, each lack would be told once more.

    Args:
        checkpoint: What is to go up.
        headers: From `read_headers`.

    Returns:
        As `find_tensor_problems`.
    """
    weights = checkpoint.weights.get("")
    if weights is None or checkpoint.kind is Kind.ADDON:
        return []
    read = [header for name in weights.files if isinstance(header := headers.get(name), Header)]
    names = _find_names(checkpoint, "", weights, read)
    return list(find_missing_parts(checkpoint.document("config.json"), names))


def _find_names(checkpoint: Checkpoint, folder: str, weights: Weights, read: Iterable[Header]) -> set[str]:
    """Of all tensors; where no header could be read, the index still has the names."""
    listed = child_of(checkpoint.document(f"{folder}{weights.index}"), "weight_map") if weights.index else {}
    return {name for header in read for name in header.shapes} | set(listed)


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


def _check_names(where: str, names: set[str], *, is_adapter: bool) -> Iterator[str]:
    """Names that a wrapper changed: each loader would find nothing of what it looks for."""
    if wrapped := sorted(name for name in names if _WRAPPER.search(name)):
        part = _WRAPPER.search(wrapped[0])
        yield _describe_prefix(where, len(wrapped), len(names), f"contain {part[1] if part else ''}", wrapped[0])
    elif not is_adapter and (prefix := _find_prefix(names)):
        prefixed = sorted(name for name in names if name.startswith(prefix))
        yield _describe_prefix(where, len(prefixed), len(names), f"begin with {prefix}", prefixed[0])


def _describe_prefix(where: str, some: int, total: int, what: str, example: str) -> str:
    return (
        f"{some} of {total} tensors in {where} {what}, which a wrapper added ({example}) and that no loader "
        "expects: save "
        "the model inside it, e.g. accelerator.unwrap_model(model).save_pretrained(…)"
    )


def _find_prefix(names: set[str]) -> str | None:
    """A beginning that all names share, or nearly all, and that does not belong to the model."""
    if any(".lora_" in name for name in names):
        return None  # a LoRA that was not merged, which is told by itself
    for prefix in _PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return prefix
    for head in _DECODER_HEADS:
        for prefix in [name.removesuffix(head) for name in names if name.endswith(f".{head}")]:
            outside = sum(not name.startswith(prefix) for name in names)
            if outside <= min(_MOST_OUTSIDE, len(names) // 2) and not _OUTER.search(prefix):
                return prefix
    return None


def _check_vocabulary(config: Document, read: Mapping[str, Header]) -> Iterator[str]:
    """Fewer rows than tokens, or no rows at all; more are usual, as padding. Not of several languages or senses."""
    sizes = [number for part in with_language_model(config) if (number := number_of(part, "vocab_size"))]
    if not sizes or config.get("is_encoder_decoder"):
        return
    for origin, header in read.items():
        for name, shape in header.shapes.items():
            is_packed = not header.dtypes[name].startswith(("F", "BF"))
            if not _EMBEDDING.search(name) or _OF_OTHER_SENSES.search(name) or is_packed:
                continue
            if len(shape) == 1 and shape[0]:
                yield (
                    f"{origin}: {name} is flat ({shape[0]} numbers in a row), as FSDP keeps weights while it trains: "
                    "save the model with a full state dict (accelerator.get_state_dict)"
                )
            elif len(shape) == 2 and 0 < shape[0] < min(sizes):  # noqa: PLR2004 - a matrix
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
