"""The index that divides tensors among files: what it promises, held against what is there."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.documents import Document, Fault, child_of, with_language_model
from mlflow_fireworks.artifacts.parameters import total_bytes
from mlflow_fireworks.artifacts.safetensors import Header
from mlflow_fireworks.artifacts.selection import Weights
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.progress import format_bytes

_SHOWN = 5
# Layers that share the input embedding's weights where `tie_word_embeddings` is true, in transformers' models. Hugging
# Face's converter to safetensors leaves their copies out of the files and lists them in the index all the same.
_TIED = re.compile(
    r"(^|\.)(lm_head|embed_out|proj_out|(encoder|decoder)\.embed_tokens|(cls\.)?predictions\.decoder|lm_head\.decoder)"
    r"\.(weight|bias)$"
)


def find_index_problems(
    checkpoint: Checkpoint, folder: str, weights: Weights, headers: Mapping[str, Header | Fault]
) -> Iterator[str]:
    """Find what an index names and nothing holds, or more than one file holds.

    Args:
        checkpoint: What is to go up.
        folder: Where the index is, with its slash.
        weights: The weights of that folder, with an index.
        headers: From `read_headers`.

    Yields:
        One line each: which file, what is wrong, what to do.
    """
    index = folder + str(weights.index)
    document, origin = checkpoint.document(index), checkpoint.files[index].origin
    tensors: dict[str, list[str]] = defaultdict(list)
    for tensor, shard in child_of(document, "weight_map").items():
        tensors[str(shard)].append(tensor)
    if not tensors:
        yield f"{origin} has no weight_map; save the model again with save_pretrained"
        return
    if missing := sorted(set(tensors) - set(weights.files)):
        named = enumerate_names(missing, _SHOWN)
        yield f"{len(missing)} of the {len(tensors)} files that {origin} names are missing: {named}"
    is_tied = _ties_embeddings(checkpoint.document("config.json"))
    for shard in weights.files:
        header = headers.get(folder + shard)
        if isinstance(header, Header) and header.shapes:
            absent = [name for name in tensors[shard] if name not in header.shapes]
            if absent := [name for name in absent if not (is_tied and _TIED.search(name))]:
                path = checkpoint.files[folder + shard].origin
                yield f"{path} lacks {len(absent)} tensors that the index puts there: {enumerate_names(absent, _SHOWN)}"
    if not missing and not any(folder + shard in headers for shard in weights.files if shard.endswith(".safetensors")):
        yield from _check_total(checkpoint, folder, weights, document)


def _ties_embeddings(config: Document) -> bool:
    """Whether `config.json` leaves open that they are tied: of most families that is what no word on it means."""
    return not any(part.get("tie_word_embeddings") is False for part in with_language_model(config))


def _check_total(checkpoint: Checkpoint, folder: str, weights: Weights, index: Document) -> Iterator[str]:
    expected = total_bytes(child_of(index, "metadata")) or 0
    listed = sum(checkpoint.files[folder + name].size for name in weights.files)
    if listed < expected:
        yield (
            f"the weights are {format_bytes(listed)} together but {weights.index} says {format_bytes(expected)}: "
            "at least one file is truncated"
        )


def find_copies(
    checkpoint: Checkpoint, folder: str, weights: Weights, headers: Mapping[str, Header | Fault]
) -> Iterator[str]:
    """Find tensors that several files of one folder hold; each loader takes another copy, whatever the index says.

    Args:
        checkpoint: What is to go up.
        folder: Which folder, with its slash.
        weights: Its weights.
        headers: From `read_headers`.

    Yields:
        At most one line.
    """
    holders: dict[str, list[str]] = defaultdict(list)
    for name in weights.files:
        header = headers.get(folder + name)
        for tensor in header.shapes if isinstance(header, Header) else ():
            holders[tensor].append(checkpoint.files[folder + name].origin)
    copies = {tensor: files for tensor, files in holders.items() if len(files) > 1}
    if copies:
        first = next(iter(copies))
        yield (
            f"{len(copies)} tensors are in more than one file, e.g. {first} in {' and '.join(copies[first])}, and "
            "which copy is loaded depends on the loader; save the model again with save_pretrained into an empty folder"
        )
