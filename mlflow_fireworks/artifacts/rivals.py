"""A lone weights file beside the complete shards of an index: the same model twice, or one of them is stale."""

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.content import Part
from mlflow_fireworks.artifacts.documents import Fault
from mlflow_fireworks.artifacts.safetensors import read_header
from mlflow_fireworks.artifacts.selection import Weights
from mlflow_fireworks.progress import format_bytes

_SAMPLE_BYTES = 4096


def find_rival(checkpoint: Checkpoint, folder: str, weights: Weights) -> Iterator[str]:
    """Find shards that lose to a lone file, as in all loaders, and may be the model that was meant.

    Args:
        checkpoint: What is to go up.
        folder: Which folder, with its slash.
        weights: Its weights.

    Yields:
        One line, unless both hold the same tensors (compared where they are on this machine).
    """
    if not weights.rivals:
        return
    lone = checkpoint.files[folder + weights.files[0]]
    if not _hold_the_same([lone], [checkpoint.left_out[folder + name] for name in weights.rivals]):
        yield (
            f"{lone.origin} ({format_bytes(lone.size)}) and the {len(weights.rivals)} shards of a complete index are "
            f"both present and seem to differ; loaders use {lone.origin}, which may be stale: delete "
            "whichever is not the model"
        )


def _hold_the_same(one: list[Part], other: list[Part]) -> bool:
    samples = _sample(one)
    return samples is not None and samples == _sample(other)


def _sample(parts: list[Part]) -> dict[str, tuple[object, ...]] | None:
    """Of each tensor its form, and its first and last bytes; None where the files cannot be read here."""
    samples: dict[str, tuple[object, ...]] = {}
    for part in parts:
        paths = [stored.store.path(stored.path) for stored in part.sources]
        path = paths[0] if len(paths) == 1 else None
        if path is None or path.suffix != ".safetensors":
            return None
        with path.open("rb") as file:
            header = read_header(partial(_read, file, 0), part.size)
            if isinstance(header, Fault):
                return None
            for name, (begin, end) in header.places.items():
                count = min(_SAMPLE_BYTES, end - begin)
                ends = _read(file, begin, count), _read(file, end - count, count)
                samples[name] = (header.dtypes[name], header.shapes[name], *map(hash, ends))
    return samples


def _read(file: BinaryIO, begin: int, count: int) -> bytes:
    file.seek(begin)
    return file.read(count)
