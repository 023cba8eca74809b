"""How many numbers a vector of an embedding model has, from the settings of its modules.

The layouts are those of sentence-transformers 2 to 6: a pooling's modes are switches in the older ones and names in 6,
and its width has another key there. What this page does not know leaves the length unknown, never guessed.
"""

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.documents import Document, number_of, text_of
from mlflow_fireworks.artifacts.sentence_modules import MODULES, class_of, is_own_class, parse_modules
from mlflow_fireworks.config import Kind

_KEEP_LENGTH = ("Transformer", "WeightedLayerPooling", "LayerNorm", "Normalize", "Dropout")
_VECTOR = "sentence_embedding"


def find_vector_length(checkpoint: Checkpoint) -> int | None:
    """Find the length of an embedding model's vectors; None where the files do not tell, and for other models.

    Args:
        checkpoint: Its small files, parsed.
    """
    if checkpoint.kind is not Kind.EMBEDDING:
        return None
    config = checkpoint.document("config.json")
    width = number_of(config, "hidden_size")
    if MODULES not in checkpoint.contents:
        is_plain = not config.get("auto_map") and number_of(config, "projection_dim") is None
        return width if is_plain else None
    length = None
    for module in parse_modules(checkpoint.contents[MODULES]):
        settings, kind = checkpoint.document(f"{text_of(module, 'path')}/config.json"), class_of(module)
        if kind == "Pooling" and not is_own_class(module):
            length = _length_of_pooling(settings, width)
        elif kind == "Dense" and not is_own_class(module):
            names = [settings.get(key) or _VECTOR for key in ("module_input_name", "module_output_name")]
            length = number_of(settings, "out_features") if names == [_VECTOR, _VECTOR] else None
        elif kind not in _KEEP_LENGTH or is_own_class(module):
            return None
    return length


def _length_of_pooling(settings: Document, width: int | None) -> int | None:
    """The transformer's width for each mode; None where the file contradicts the transformer's or has two readings."""
    stated = number_of(settings, "embedding_dimension", "word_embedding_dimension")
    if stated is None or (width and width != stated):
        return None
    modes = settings.get("pooling_mode")
    if isinstance(modes, list):
        return stated * len(modes) or None
    switches = {key: value for key, value in settings.items() if key.startswith("pooling_mode_")}
    chosen = sum(bool(value) for value in switches.values())
    if modes or not chosen:
        return stated
    # The mean is on unless it is switched off, up to version 5; in 6 only if no other one is on.
    return stated * chosen if "pooling_mode_mean_tokens" in switches else None
