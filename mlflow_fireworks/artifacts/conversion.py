"""The converted copy of an adapter that fits only a changed base model, when a trainer left one near it."""

from mlflow_fireworks.artifacts.adapter import changes_its_base
from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.documents import Fault, number_of, parse_document
from mlflow_fireworks.artifacts.selection import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from mlflow_fireworks.artifacts.sources.source import Source

_MOST_READ = 20


def find_converted(source: Source, checkpoint: Checkpoint) -> str | None:
    """Find a folder with the same adapter for the unchanged base model.

    PEFT writes both halves of the difference into the converted adapter, so its rank is twice that of the original;
    by that it is told from the folder with the adapter's beginning, whose config looks converted, too (peft 0.21,
    `save_pretrained` with `path_initial_model_for_weight_conversion`).

    Args:
        source: The model, in whose artifacts it may be.
        checkpoint: The adapter.

    Returns:
        The folder, as `checkpoint_path` names it; None where there is none or none is needed.
    """
    config = checkpoint.document(ADAPTER_CONFIG)
    if not changes_its_base(config):
        return None
    own = checkpoint.files[ADAPTER_CONFIG].origin
    others = sorted(path for path in source.files if path.endswith(f"/{ADAPTER_CONFIG}") and path != own)
    for path in others[:_MOST_READ]:
        folder = path.rpartition("/")[0]
        if not any(f"{folder}/{name}" in source.files for name in ADAPTER_WEIGHTS):
            continue
        other = parse_document(source.store.read(path))
        rank = number_of(config, "r")
        if not isinstance(other, Fault) and not changes_its_base(other) and rank and number_of(other, "r") == 2 * rank:
            return folder
    return None
