"""A large safetensors file goes up as several, made on the fly: one file is one stream, and streams add up.

Transformers writes shards of up to 50 GB since version 5 (of 5 GB before), so most checkpoints are one to three
files, and of the eight streams that an upload may use five would stand idle. A shard is a new header and one
contiguous range of the original, so nothing is read but the header, nothing is written to disk, and every tensor
keeps its bytes. In the same way many files become few: how many Fireworks takes is not documented, and with some 37 it
was seen to refuse ("etcdserver: request is too large") and to accept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.content import Part, Piece, Stored, make_json
from mlflow_fireworks.artifacts.documents import Document, Fault, child_of
from mlflow_fireworks.artifacts.excerpt import Excerpt
from mlflow_fireworks.artifacts.safetensors import Header, width_of, write_header
from mlflow_fireworks.artifacts.selection import Weights
from mlflow_fireworks.config import Kind
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.progress import format_bytes

T = TypeVar("T")

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# For `auto`. About 32 shards keep 8 workers (and 16, and 32) evenly busy to the end; below 128 MiB the time that
# a request takes begins to count; 5 GB is what the Hub's own tools make at most, unless that makes more than 32.
# A checkpoint of several files up to that size was made with parallel transfers in mind and keeps its names.
_LONE_BYTES = 1024**3
_LARGE_BYTES = 5 * 10**9
MOST_SHARDS = 32
_SMALLEST_BYTES = 128 * 1024**2


@dataclass(frozen=True)
class _Shard:
    part: Part
    tensors: tuple[str, ...]


def divide_weights(
    checkpoint: Checkpoint,
    headers: Mapping[str, Header | Fault],
    shard_size: int | Literal["auto", "off"],
    parameters: int | None,
) -> Checkpoint:
    """Divide the large safetensors files of a model; other checkpoints are returned as they are.

    The result depends on the headers and `shard_size` alone, so it is the same on every machine; but many files stay
    many where each must be fetched before it is sent, since a shard of several would need them all on the disk.

    Args:
        checkpoint: What is to go up. Only the top folder is divided: sentence-transformers reads the weights of its
            other modules without an index.
        headers: The headers of its weights; without all of them nothing is divided.
        shard_size: About how many bytes a shard has, `auto` or `off`. A larger tensor is a shard of its own.
        parameters: Number of parameters, for the index; None where unknown.

    Returns:
        The checkpoint with shards, named as transformers names them, in place of all its weights files.
    """
    weights = checkpoint.weights.get("")
    read = _pick_headers(weights, headers)
    if checkpoint.kind is Kind.ADDON or weights is None or shard_size == "off" or not read:
        return checkpoint
    parts = {name: checkpoint.files[name] for name in read}
    least, size = _choose_sizes(shard_size, [header.size for header in read.values()])
    large = [name for name, header in read.items() if header.size > least]
    shards = [
        shard
        for name, header in read.items()
        for shard in _divide(parts[name], header, size if name in large else header.size)
    ]
    if shard_size == "auto" and len(shards) > MOST_SHARDS and _can_be_merged(parts, read):
        shards = _merge(parts, read)
    elif len(shards) == len(read):
        return checkpoint
    names = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    made = dict(zip(names, shards, strict=True))
    metadata = child_of(checkpoint.document(weights.index or ""), "metadata")
    index = _make_index(made, read, {**metadata, **({"total_parameters": parameters} if parameters else {})})
    sizes = ", ".join(f"{parts[name].origin} ({format_bytes(read[name].size)})" for name in large)
    whole = sizes or f"{len(read)} files ({format_bytes(sum(header.size for header in read.values()))})"
    note = (
        f"{whole}: the weights are uploaded as {len(names)} shards made on the fly; -C shard_size=off uploads "
        "them unchanged"
    )
    return _replace_weights(checkpoint, weights, {name: shard.part for name, shard in made.items()}, index, note)


def find_many_shards(checkpoint: Checkpoint) -> Iterator[str]:
    """A warning about more weights files than are known to be taken, where they could not be merged.

    Args:
        checkpoint: As it goes up.

    Yields:
        At most one line.
    """
    count = len(checkpoint.weight_names())
    if count > MOST_SHARDS:
        yield (
            f"the weights are {count} files, and Fireworks was seen to refuse 37; if it does, save them again with "
            "fewer, larger shards (max_shard_size=)"
        )


def _pick_headers(weights: Weights | None, headers: Mapping[str, Header | Fault]) -> dict[str, Header]:
    """The headers of all files; empty when one is missing or the files are not what transformers would read."""
    if weights is None or (weights.index is None and weights.files != (_SINGLE,)):
        return {}
    found = {name: headers.get(name) for name in weights.files}
    read = {name: header for name, header in found.items() if isinstance(header, Header) and header.shapes}
    return read if len(read) == len(found) else {}


def _choose_sizes(shard_size: int | str, sizes: list[int]) -> tuple[int, int]:
    """Above how many bytes a file is divided, and into shards of how many."""
    if isinstance(shard_size, int):
        return shard_size, shard_size
    least = _LONE_BYTES if len(sizes) == 1 else _LARGE_BYTES
    return least, min(max(sum(sizes) // MOST_SHARDS, _SMALLEST_BYTES), _LARGE_BYTES)


def _divide(part: Part, header: Header, size: int) -> list[_Shard]:
    groups = _group_tensors(header, size)
    if len(groups) == 1 or not isinstance(part, Stored | Excerpt):
        return [_Shard(part, tuple(header.places))]
    shards = []
    for group in groups:
        begin, end = header.places[group[0]][0], header.places[group[-1]][1]
        start = write_header(header, {name: name for name in group})
        shards.append(_Shard(Excerpt(start, part.cut(begin, end), part.origin), group))
    return shards


def _can_be_merged(parts: Mapping[str, Part], headers: Mapping[str, Header]) -> bool:
    """Whether several files can be read at once, and each tensor is in one of them only."""
    tensors = [tensor for header in headers.values() for tensor in header.places]
    return len(set(tensors)) == len(tensors) and all(
        isinstance(part, Stored | Excerpt) and (len(parts) == 1 or not any(file.why_fetched for file in part.sources))
        for part in parts.values()
    )


def _merge(parts: Mapping[str, Part], headers: Mapping[str, Header]) -> list[_Shard]:
    """All tensors in their order, in as many shards as there may be, each of about the same size."""
    joint = _join_headers(headers)
    homes = {tensor: parts[name] for name, header in headers.items() for tensor in header.places}
    total = sum(end - begin for begin, end in joint.places.values())
    groups: dict[int, list[str]] = {}
    position = 0
    for tensor, (begin, end) in joint.places.items():
        middle = position + (end - begin) / 2
        groups.setdefault(min(int(middle * MOST_SHARDS / max(total, 1)), MOST_SHARDS - 1), []).append(tensor)
        position += end - begin
    return [_join(tuple(_align(joint, group)), joint, homes) for group in groups.values()]


def _join_headers(headers: Mapping[str, Header]) -> Header:
    """All tensors of some files, those of each in the order in which they lie in it; places count within each file."""
    ordered = [(header, tensor) for header in headers.values() for tensor in _in_order(header)]
    return Header(
        shapes={tensor: header.shapes[tensor] for header, tensor in ordered},
        dtypes={tensor: header.dtypes[tensor] for header, tensor in ordered},
        places={tensor: header.places[tensor] for header, tensor in ordered},
        size=sum(header.size for header in headers.values()),
        metadata=next(iter(headers.values())).metadata,
    )


def _align(header: Header, tensors: list[str]) -> list[str]:
    """Wide elements first where one would otherwise not begin at a multiple of its width."""
    position = 0
    for tensor in tensors:
        begin, end = header.places[tensor]
        if position % width_of(header.dtypes[tensor]):
            return sorted(tensors, key=lambda tensor: -width_of(header.dtypes[tensor]))
        position += end - begin
    return tensors


def _join(tensors: tuple[str, ...], header: Header, homes: Mapping[str, Part]) -> _Shard:
    pieces: list[Piece] = []
    for tensor in tensors:
        home = homes[tensor]
        for piece in home.cut(*header.places[tensor]) if isinstance(home, Stored | Excerpt) else ():
            if pieces and (pieces[-1].file, pieces[-1].end) == (piece.file, piece.begin):
                piece = Piece(piece.file, pieces.pop().begin, piece.end)  # noqa: PLW2901 - one range with the last one
            pieces.append(piece)
    start = write_header(header, {tensor: tensor for tensor in tensors})
    origins = dict.fromkeys(homes[tensor].origin for tensor in tensors)
    return _Shard(Excerpt(start, tuple(pieces), enumerate_names(origins, 2)), tensors)


def _group_tensors(header: Header, size: int) -> list[tuple[str, ...]]:
    """Neighbouring tensors, at most `size` bytes together where one alone is not larger.

    A group also ends where a tensor would lose the alignment that it has in the original, which happens only in
    files that are not sorted by the width of their elements, as safetensors sorts them.
    """
    ordered = _in_order(header)
    first = start = header.places[ordered[0]][0]
    groups: list[list[str]] = [[]]
    for name in ordered:
        begin, end = header.places[name]
        width = width_of(header.dtypes[name])
        is_shifted = (begin - start) % width != 0 and (begin - first) % width == 0
        if start < begin < end and (end - start > size or is_shifted):
            groups.append([])
            start = begin
        groups[-1].append(name)
    return [tuple(group) for group in groups]


def _in_order(header: Header) -> list[str]:
    return sorted(header.places, key=lambda name: (header.places[name], name))


def _make_index(parts: Mapping[str, _Shard], headers: Mapping[str, Header], metadata: Mapping[str, object]) -> Document:
    total = sum(end - begin for header in headers.values() for begin, end in header.places.values())
    weight_map = {tensor: name for name, shard in parts.items() for tensor in shard.tensors}
    return {"metadata": {**metadata, "total_size": total}, "weight_map": dict(sorted(weight_map.items()))}


def _replace_weights(
    checkpoint: Checkpoint, weights: Weights, parts: Mapping[str, Part], index: Document, note: str
) -> Checkpoint:
    old = {*weights.files, weights.index}
    made = make_json(index, "made from the headers of the weights")
    return replace(
        checkpoint,
        files={**_without(checkpoint.files, old), _INDEX: made, **parts},
        weights={**checkpoint.weights, "": replace(weights, files=tuple(parts), index=_INDEX, shards=frozenset(parts))},
        contents={**_without(checkpoint.contents, old), _INDEX: made.data},
        documents={**_without(checkpoint.documents, old), _INDEX: index},
        notes=(*checkpoint.notes, note),
    )


def _without(mapping: Mapping[str, T], names: set[str | None]) -> dict[str, T]:
    return {name: value for name, value in mapping.items() if name not in names}
