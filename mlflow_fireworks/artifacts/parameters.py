"""How many weights a model has: by the headers of its files, else by its index. Tied weights are counted once."""

import math
from collections.abc import Collection, Iterable, Mapping

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.documents import Document, child_of, number_of, text_of, with_language_model
from mlflow_fireworks.artifacts.safetensors import Header

_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8}
# Constants that models of some years ago saved among their weights (rotary frequencies, causal masks).
_BUFFERS = (".rotary_emb.inv_freq", ".attn.masked_bias", ".attn.bias")
_MASK_DIMENSIONS = 4
_INPUTS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight", "shared.weight")
_OUTPUTS = (
    *("lm_head.weight", "embed_out.weight", "output_layer.weight"),
    *("predictions.decoder.weight", "lm_head.decoder.weight", "vocab_projector.weight"),
)
_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")  # of `shared.weight`, in encoder-decoders
# transformers leaves `tie_word_embeddings` out of config.json where it is what the family has by default.
_TIED_BY_DEFAULT = {
    *("bart", "bert", "biogpt", "bloom", "camembert", "cohere", "cohere2", "ctrl", "deberta-v2", "distilbert"),
    *("electra", "ernie4_5", "ernie4_5_moe", "falcon", "falcon_mamba", "gemma", "gemma2", "gemma3", "gemma3_text"),
    *("gemma3n", "gemma3n_text", "gpt2", "gpt_bigcode", "gpt_neo", "jetmoe", "lfm2", "lfm2_moe", "longt5", "m2m_100"),
    *("mamba", "marian", "mbart", "minicpm3", "modernbert", "mpt", "mt5", "openai-gpt", "opt", "paligemma", "pegasus"),
    *("recurrent_gemma", "roberta", "smollm3", "starcoder2", "switch_transformers", "t5", "umt5", "xglm"),
    *("xlm-roberta", "zamba", "zamba2"),
}


def count_by_headers(headers: Iterable[Header], config: Document) -> int | None:
    """Weights are floating-point tensors; integers are positions and masks, packed weights are refused earlier."""
    shapes = {
        name: shape
        for header in headers
        for name, shape in header.shapes.items()
        if header.dtypes[name].startswith(("F", "BF")) and not _is_buffer(name, shape)
    }
    copies = _find_copies(shapes, is_tied=_is_tied(config))
    return sum(math.prod(shape) for name, shape in shapes.items() if name not in copies) or None


def count_by_index(checkpoint: Checkpoint, dtype: str | None) -> int | None:
    """By what an index says of all tensors together."""
    weights = checkpoint.weights.get("")
    if weights is None or weights.index is None:
        return None
    index, config = checkpoint.document(weights.index), checkpoint.document("config.json")
    metadata = child_of(index, "metadata")
    if count := number_of(metadata, "total_parameters"):
        return count
    total = total_bytes(metadata)
    if not total or dtype not in _BYTES:
        return None
    names = child_of(index, "weight_map")
    is_twice = _is_tied(config) and _ends_with(names, _INPUTS) and _ends_with(names, _OUTPUTS)
    return total // _BYTES[dtype] - (_count_embeddings(config) if is_twice else 0)


def total_bytes(metadata: Document) -> int | None:
    """`total_size` of an index: the bytes of all tensors; older tools wrote it as a float."""
    total = metadata.get("total_size")
    return int(total) if isinstance(total, int | float) and total > 0 else None


def _is_buffer(name: str, shape: tuple[int, ...]) -> bool:
    if name.endswith(".attn.bias"):
        return len(shape) == _MASK_DIMENSIONS
    return name.endswith(_BUFFERS)


def _is_tied(config: Document) -> bool:
    """Whether the output layer is the input layer; some tools save it a second time."""
    parts = list(with_language_model(config))
    stated = [value for part in parts if isinstance(value := part.get("tie_word_embeddings"), bool)]
    return any(stated) if stated else any(text_of(part, "model_type") in _TIED_BY_DEFAULT for part in parts)


def _find_copies(shapes: Mapping[str, tuple[int, ...]], *, is_tied: bool) -> set[str]:
    shared = {shape for name, shape in shapes.items() if name.endswith("shared.weight")}
    copies = {name for name, shape in shapes.items() if name.endswith(_COPIES) and shape in shared}
    inputs = {shape for name, shape in shapes.items() if name.endswith(_INPUTS)}
    if is_tied:
        copies |= {name for name, shape in shapes.items() if name.endswith(_OUTPUTS) and shape in inputs}
    return copies


def _ends_with(names: Collection[str], endings: tuple[str, ...]) -> bool:
    return any(name.endswith(endings) for name in names)


def _count_embeddings(config: Document) -> int:
    for part in with_language_model(config):
        words, width = number_of(part, "vocab_size"), number_of(part, "hidden_size", "n_embd", "d_model")
        if words and width:
            return words * width
    return 0
