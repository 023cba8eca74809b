"""What a checkpoint is, from its configuration and the headers of its weights alone."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlflow_fireworks.artifacts.chat_template import TOKENIZER_CONFIG, has_template
from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.documents import (
    Document,
    child_of,
    number_of,
    text_of,
    texts_of,
    with_language_model,
)
from mlflow_fireworks.artifacts.safetensors import Header
from mlflow_fireworks.config import Kind

# safetensors' words in those of `config.json`.
_DTYPES = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I8": "int8",
    "U8": "uint8",
    "I32": "int32",
}
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8}
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "seq_length",
    "n_ctx",
)
_EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
# Constants that models of some years ago saved among their weights (rotary frequencies, causal masks).
_BUFFERS = (".rotary_emb.inv_freq", ".attn.masked_bias", ".attn.bias")
_MASK_DIMENSIONS = 4


@dataclass(frozen=True)
class Facts:
    """What is known about a model; None where the files do not tell.

    Args:
        architectures: Class names of `config.json`.
        model_type: Its `model_type`, e.g. `llama`.
        parameter_count: Number of weights; of an adapter, its own.
        dtype: What most weights are stored as, e.g. `bfloat16`.
        context_length: The longest input in tokens.
        moe: Whether it is a mixture of experts.
        has_chat_template: Whether its tokenizer knows how to write a chat.
        supports_image_input: Whether it takes images.
    """

    architectures: tuple[str, ...] = ()
    model_type: str | None = None
    parameter_count: int | None = None
    dtype: str | None = None
    context_length: int | None = None
    moe: bool | None = None
    has_chat_template: bool | None = None
    supports_image_input: bool | None = None


def find_facts(checkpoint: Checkpoint, headers: Mapping[str, Header]) -> Facts:
    """Gather the facts.

    Args:
        checkpoint: Its small files, parsed.
        headers: The safetensors headers that could be read, by name.
    """
    config = checkpoint.document("config.json")
    all_read = bool(headers) and set(headers) == set(checkpoint.weight_names())
    if checkpoint.kind is Kind.ADDON:
        return Facts(parameter_count=_count(headers.values(), config), dtype=_common_dtype(headers.values()))
    dtype = _common_dtype(headers.values()) or _declared_dtype(config)
    return Facts(
        architectures=texts_of(config, "architectures"),
        model_type=text_of(config, "model_type"),
        parameter_count=_count(headers.values(), config) if all_read else _count_by_index(checkpoint, dtype),
        dtype=dtype,
        context_length=_find_context_length(checkpoint),
        moe=any((number_of(part, *_EXPERT_KEYS) or 0) > 1 for part in with_language_model(config)),
        has_chat_template=has_template(checkpoint.document(TOKENIZER_CONFIG)),
        supports_image_input=_takes_images(checkpoint),
    )


def _count(headers: Iterable[Header], config: Document) -> int | None:
    """Weights are floating-point tensors; integers are positions and masks, packed weights are refused earlier."""
    shapes = {
        name: shape
        for header in headers
        for name, shape in header.shapes.items()
        if header.dtypes[name].startswith(("F", "BF")) and not _is_buffer(name, shape)
    }
    tied = config.get("tie_word_embeddings") is True
    inputs = [shape for name, shape in shapes.items() if name.endswith(("embed_tokens.weight", "wte.weight"))]
    count = sum(map(math.prod, shapes.values()))
    # A tied output layer is the input layer; some tools save it a second time.
    if tied and (output := shapes.get("lm_head.weight")) in inputs and output is not None:
        count -= math.prod(output)
    return count or None


def _is_buffer(name: str, shape: tuple[int, ...]) -> bool:
    if name.endswith(".attn.bias"):
        return len(shape) == _MASK_DIMENSIONS
    return name.endswith(_BUFFERS)


def _count_by_index(checkpoint: Checkpoint, dtype: str | None) -> int | None:
    weights = checkpoint.weights.get("")
    if weights is None or weights.index is None:
        return None
    metadata = child_of(checkpoint.document(weights.index), "metadata")
    if count := number_of(metadata, "total_parameters"):
        return count
    total = total_bytes(metadata)
    return total // _BYTES[dtype] if total and dtype in _BYTES else None


def total_bytes(metadata: Document) -> int | None:
    """`total_size` of an index: the bytes of all tensors; older tools wrote it as a float."""
    total = metadata.get("total_size")
    return int(total) if isinstance(total, int | float) and total > 0 else None


def _common_dtype(headers: Iterable[Header]) -> str | None:
    elements: Counter[str] = Counter()
    for header in headers:
        elements += header.elements()
    if not elements:
        return None
    stored = elements.most_common(1)[0][0]
    return _DTYPES.get(stored, stored.lower())


def _declared_dtype(config: Document) -> str | None:
    """Transformers 5 writes `dtype`, older ones `torch_dtype`, some with `torch.` in front."""
    for part in with_language_model(config):
        if declared := text_of(part, "dtype", "torch_dtype"):
            return declared.removeprefix("torch.")
    return None


def _find_context_length(checkpoint: Checkpoint) -> int | None:
    configured = [
        length
        for part in with_language_model(checkpoint.document("config.json"))
        if (length := number_of(part, *_CONTEXT_KEYS))
    ]
    if checkpoint.kind is Kind.EMBEDDING:
        return _find_sentence_length(checkpoint, configured)
    return configured[0] if configured else None


def _find_sentence_length(checkpoint: Checkpoint, configured: list[int]) -> int | None:
    """Sentence-transformers cuts its input at `max_seq_length`, since version 6 at the tokenizer's length."""
    for name in checkpoint.documents:
        length = number_of(checkpoint.documents[name], "max_seq_length")
        if length and name.startswith("sentence_") and "/" not in name:
            return length
    tokenizer = number_of(checkpoint.document("tokenizer_config.json"), "model_max_length")
    lengths = [*configured[:1], *([tokenizer] if tokenizer else [])]
    return min(lengths, default=None)


def describe_rope(checkpoint: Checkpoint) -> str | None:
    """A note when `config.json` stretches its positions by YaRN, which leaves the stated length unstretched."""
    for part in with_language_model(checkpoint.document("config.json")):
        rope = child_of(part, "rope_scaling") or child_of(part, "rope_parameters")
        kind, factor = text_of(rope, "rope_type", "type"), rope.get("factor")
        length, original = number_of(part, *_CONTEXT_KEYS), number_of(rope, "original_max_position_embeddings")
        if kind == "yarn" and isinstance(factor, int | float) and length and length == original:
            return (
                f"config.json states {length} tokens before YaRN scaling by {factor:g}; "
                f"-C context_length={int(length * factor)} would use the stretched length"
            )
    return None


def _takes_images(checkpoint: Checkpoint) -> bool:
    config = checkpoint.document("config.json")
    if child_of(config, "vision_config") or any(key in config for key in ("image_token_id", "image_token_index")):
        return True
    if "image_processor" in checkpoint.document("processor_config.json"):
        return True
    return "image_processor_type" in checkpoint.document("preprocessor_config.json")
