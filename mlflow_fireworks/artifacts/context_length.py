"""The longest input of a model in tokens, from its configuration.

`config.json` states a length under many names, and rotary embeddings can stretch it. What the stated length means then
depends on the way of stretching (transformers, `modeling_rope_utils`; vLLM reads it alike):

- linear, dynamic: before stretching. Gemma 3 states it after.
- YaRN: factor times `original_max_position_embeddings`, or the stated length where there is no original one.
- llama3, longrope: after stretching.

RoBERTa's positions begin behind its padding token, so the first of them are never used.
"""

from dataclasses import dataclass

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.documents import Document, child_of, number_of, text_of, with_language_model
from mlflow_fireworks.config import Kind

_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "max_seq_length",
    "seq_length",
    "seq_len",
    "n_ctx",
    "model_max_length",
    "max_context_length",
    "context_length",
    "max_trained_positions",
)
_STATED_BEFORE = ("linear", "dynamic", "ntk")
_BEHIND_PADDING = {
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "data2vec-text", "longformer"),
    *("mpnet", "ibert", "xmod", "luke", "bridgetower", "esm", "layoutlmv3", "markuplm"),
}
_MOST = 2**31 - 1  # Fireworks' field is an int32
_MOST_STRETCHED = 10_000


@dataclass(frozen=True)
class ContextLength:
    """A length, and how it came about where that may surprise.

    Args:
        tokens: The longest input; None where the files do not tell.
        warning: Why it is not the stated one.
    """

    tokens: int | None
    warning: str | None = None


def find_context_length(checkpoint: Checkpoint) -> ContextLength:
    """Find the length of a base or embedding model.

    Args:
        checkpoint: Its small files, parsed.
    """
    tokenizer = _find_length(checkpoint.document("tokenizer_config.json"), "model_max_length")
    for part in with_language_model(checkpoint.document("config.json")):
        if stated := _find_length(part, *_KEYS):
            found = _stretch(part, stated - _count_unused(part), tokenizer)
            break
    else:
        found = ContextLength(None)
    if checkpoint.kind is Kind.EMBEDDING:
        return ContextLength(_find_sentence_length(checkpoint, found.tokens, tokenizer), None)
    return found


def _find_length(document: Document, *keys: str) -> int | None:
    """The first of these that is a length; a tokenizer without one has 10**30."""
    lengths = (number_of(document, key) for key in keys)
    return next((length for length in lengths if length and length <= _MOST), None)


def _count_unused(config: Document) -> int:
    """Positions at and before the padding token."""
    if text_of(config, "model_type") not in _BEHIND_PADDING:
        return 0
    padding = config.get("pad_token_id", 1)
    return padding + 1 if isinstance(padding, int) and padding >= 0 else 0


def _stretch(config: Document, stated: int, tokenizer: int | None) -> ContextLength:
    """The length after stretching; a tokenizer that names a length between the two is believed."""
    rope = _read_rope(config)
    way, factor = text_of(rope, "rope_type", "type"), rope.get("factor")
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 1 < factor < _MOST_STRETCHED:
        return ContextLength(stated)
    original = _find_length(rope, "original_max_position_embeddings")
    if way == "yarn":
        stretched = max(stated, int((original or stated) * factor))
    elif way in _STATED_BEFORE and not (text_of(config, "model_type") or "").startswith("gemma3"):
        stretched = int((original or stated) * factor)
        if original is None and tokenizer and stated <= tokenizer < stretched:
            stretched = tokenizer
    else:
        return ContextLength(stated)
    stretched = min(max(stretched, stated), _MOST)
    if stretched == stated:
        return ContextLength(stated)
    return ContextLength(
        stretched,
        f"config.json states {stated} tokens and extends them by a factor of {factor:g} ({way}), so the length "
        "is sent as with "
        f"-C context_length={stretched}; -C context_length={stated} keeps the stated length",
    )


def _read_rope(config: Document) -> Document:
    """Transformers 5 writes `rope_parameters`, and where layers differ, one for each sort of them."""
    rope = child_of(config, "rope_scaling") or child_of(config, "rope_parameters")
    return child_of(rope, "full_attention") or rope


def _find_sentence_length(checkpoint: Checkpoint, configured: int | None, tokenizer: int | None) -> int | None:
    """Sentence-transformers cuts its input at `max_seq_length`, since version 6 at the tokenizer's length."""
    for name in checkpoint.documents:
        length = number_of(checkpoint.documents[name], "max_seq_length")
        if length and name.startswith("sentence_") and "/" not in name:
            return length
    return min((length for length in (configured, tokenizer) if length), default=None)
