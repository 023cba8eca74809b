"""The weights of each folder of a checkpoint, and the names of their tensors."""

from collections.abc import Mapping, Sequence
from functools import partial

from mlflow_fireworks.artifacts.content import Part, Stored
from mlflow_fireworks.artifacts.documents import Document, child_of
from mlflow_fireworks.artifacts.safetensors import Header, read_header
from mlflow_fireworks.artifacts.selection import (
    ADAPTER_WEIGHTS,
    Weights,
    choose_weights,
    is_index,
    is_weights,
    lone_name,
)
from mlflow_fireworks.config import Kind


def name_lone_weights(files: dict[str, Part]) -> list[str]:
    """Give the only weights file the name that loaders look for where there is no index.

    Args:
        files: All files by name; changed.

    Returns:
        A note where something was renamed.
    """
    top = [name for name in files if "/" not in name]
    names = [name for name in top if is_weights(name)]
    if len(names) != 1 or any(map(is_index, top)):
        return []
    [name] = names
    single = lone_name(name)
    if name == single:
        return []
    files[single] = files.pop(name)
    return [f"{name} is uploaded as {single}, the name that loaders look for"]


def choose_all_weights(
    files: Mapping[str, Part], documents: Mapping[str, Document], kind: Kind, folders: Sequence[str]
) -> dict[str, Weights]:
    """The weights of the top and, for an embedding model, of its modules.

    Args:
        files: All files by name.
        documents: The JSON files among them, parsed; indexes are read from these.
        kind: What the checkpoint is.
        folders: Those of its modules, each with its slash.

    Returns:
        What goes up of each folder that has weights, by folder with its slash (empty for the top).
    """
    if kind is Kind.ADDON:
        return {"": Weights((next(name for name in ADAPTER_WEIGHTS if name in files),))}
    searched = ("", *(folders if kind is Kind.EMBEDDING else ()))
    chosen = {folder: _choose_weights_of(folder, files, documents) for folder in searched}
    return {folder: weights for folder, weights in chosen.items() if weights is not None}


def _choose_weights_of(folder: str, files: Mapping[str, Part], documents: Mapping[str, Document]) -> Weights | None:
    names = [path.removeprefix(folder) for path in files if path.startswith(folder)]
    own = [name for name in names if "/" not in name]
    shards = {
        name: frozenset(map(str, child_of(documents.get(folder + name, {}), "weight_map").values()))
        for name in own
        if is_index(name)
    }
    return choose_weights(own, shards)


def list_tensors(files: Mapping[str, Part], documents: Mapping[str, Document]) -> list[str] | None:
    """The names of the tensors at the top, by index or headers; None when those cannot be read."""
    weights = _choose_weights_of("", files, documents)
    if weights is None:
        return None
    if weights.index is not None:
        return list(child_of(documents.get(weights.index, {}), "weight_map")) or None
    names: list[str] = []
    for name in weights.files:
        part = files[name]
        if not isinstance(part, Stored) or not name.endswith(".safetensors"):
            return None
        header = read_header(partial(part.store.read_beginning, part.path), part.size)
        if not isinstance(header, Header):
            return None
        names += header.shapes
    return names
