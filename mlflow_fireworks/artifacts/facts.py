"""What a checkpoint is, from its configuration and the headers of its weights alone."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlflow_fireworks.artifacts.chat_template import TOKENIZER_CONFIG, has_template
from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.context_length import find_context_length
from mlflow_fireworks.artifacts.documents import (
    Document,
    child_of,
    number_of,
    text_of,
    texts_of,
    with_language_model,
)
from mlflow_fireworks.artifacts.parameters import count_by_headers, count_by_index
from mlflow_fireworks.artifacts.safetensors import Header
from mlflow_fireworks.artifacts.vector_length import find_vector_length
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
_EXPERT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


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
        vector_length: Of an embedding model, how many numbers a vector has.
    """

    architectures: tuple[str, ...] = ()
    model_type: str | None = None
    parameter_count: int | None = None
    dtype: str | None = None
    context_length: int | None = None
    moe: bool | None = None
    has_chat_template: bool | None = None
    supports_image_input: bool | None = None
    vector_length: int | None = None


def find_facts(checkpoint: Checkpoint, headers: Mapping[str, Header]) -> Facts:
    """Gather the facts.

    Args:
        checkpoint: Its small files, parsed.
        headers: The safetensors headers that could be read, by name.
    """
    config = checkpoint.document("config.json")
    all_read = bool(headers) and set(headers) == set(checkpoint.weight_names())
    if checkpoint.kind is Kind.ADDON:
        return Facts(parameter_count=count_by_headers(headers.values(), config), dtype=_common_dtype(headers.values()))
    dtype = _common_dtype(headers.values()) or _declared_dtype(config)
    return Facts(
        architectures=texts_of(config, "architectures"),
        model_type=text_of(config, "model_type"),
        parameter_count=count_by_headers(headers.values(), config) if all_read else count_by_index(checkpoint, dtype),
        dtype=dtype,
        context_length=find_context_length(checkpoint).tokens,
        moe=any((number_of(part, *_EXPERT_KEYS) or 0) > 1 for part in with_language_model(config)),
        has_chat_template=has_template(checkpoint.document(TOKENIZER_CONFIG)),
        supports_image_input=_takes_images(checkpoint),
        vector_length=find_vector_length(checkpoint),
    )


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


def _takes_images(checkpoint: Checkpoint) -> bool:
    config = checkpoint.document("config.json")
    if child_of(config, "vision_config") or any(key in config for key in ("image_token_id", "image_token_index")):
        return True
    if "image_processor" in checkpoint.document("processor_config.json"):
        return True
    return "image_processor_type" in checkpoint.document("preprocessor_config.json")
