"""MLflow's transformers layout in one folder: the model's own, and one for each tokenizer or processor."""

from collections.abc import Mapping

from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.documents import Document, texts_of
from mlflow_fireworks.artifacts.selection import is_needed, is_weights

# A processor's folder repeats the tokenizer's files, so the tokenizer's own folder comes first.
_COMPONENTS = ("tokenizer", "processor", "image_processor", "feature_extractor")


def list_components(flavor: Document) -> list[str]:
    """Their names, those first that matter most."""
    named = [*_COMPONENTS, *texts_of(flavor, "components")]
    return list(dict.fromkeys(named))


def merge_components(
    model: Mapping[str, Stored], components: Mapping[str, Mapping[str, Stored]]
) -> tuple[dict[str, Stored], tuple[str, ...]]:
    """Merge the folders of MLflow's transformers layout into one.

    Where several folders hold a file of one name: what describes the weights (`config.json`,
    `generation_config.json`, weights, code) is taken from the model's folder; everything else from the first
    component that has it (tokenizer before processors), because those are what MLflow itself loads.

    Args:
        model: Files of the model's folder.
        components: Files of each component's folder, first come first served.

    Returns:
        All files by name, and a note for each choice between different contents.
    """
    merged: dict[str, Stored] = {}
    losers: list[tuple[str, Stored]] = []
    for folder in (*components.values(), model):
        for name, file in folder.items():
            if name not in merged:
                merged[name] = file
            elif folder is model and belongs_to_model(name):
                losers.append((name, merged[name]))
                merged[name] = file
            else:
                losers.append((name, file))
    notes = [
        f"{name}: taken from {merged[name].path}; {other.path} differs and is not uploaded"
        for name, other in losers
        if is_needed(name, embedding=False) and _differ(merged[name], other)
    ]
    return merged, tuple(notes)


def belongs_to_model(name: str) -> bool:
    """Whether a file describes the weights, so that the model's own counts."""
    return name in ("config.json", "generation_config.json") or is_weights(name) or name.endswith(".py")


def _differ(one: Stored, other: Stored) -> bool:
    return one.size != other.size or one.read() != other.read()
