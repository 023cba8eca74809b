"""The paths in an index of weights."""

import posixpath

from mlflow_fireworks.artifacts.documents import Document, child_of


def clean_paths(index: Document) -> Document | None:
    """Write an index without the `./` that some tools put before its paths.

    Loaders join such a path to the folder, so it is right; Fireworks may compare it with the names of the files.

    Args:
        index: The parsed index.

    Returns:
        What goes up in its place; None when it is right as it is.
    """
    weight_map = child_of(index, "weight_map")
    cleaned = {tensor: _clean(shard) for tensor, shard in weight_map.items()}
    return None if cleaned == weight_map else {**index, "weight_map": cleaned}


def _clean(shard: object) -> object:
    return posixpath.normpath(shard) if isinstance(shard, str) and "./" in shard and ".." not in shard else shard
