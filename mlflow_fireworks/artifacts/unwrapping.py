"""The base model beside a LoRA adapter, with the adapter taken out of its weights.

MLflow 3.17 saves that base as PEFT wrapped it (`mlflow.transformers.peft.get_peft_base_model`): a changed layer
`q_proj.weight` is stored as `q_proj.base_layer.weight` next to `q_proj.lora_A.default.weight`, a fully trained one as
`lm_head.original_module.weight` next to `lm_head.modules_to_save.default.weight`. No one can load that as the plain
model it is. Its tensors are untouched, so only headers are written anew; tensors are read through from the original
file, without those of the adapter.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.content import Part, Piece, Stored, make_json
from mlflow_fireworks.artifacts.documents import Document, Fault, child_of
from mlflow_fireworks.artifacts.excerpt import Excerpt
from mlflow_fireworks.artifacts.safetensors import Header, read_header, write_header

_OF_ADAPTER = re.compile(r"\.(lora_[^.]+|modules_to_save)\.")
_WRAPPER = re.compile(r"\.(base_layer|original_module)(?=\.)")


def unwrap(
    checkpoint: Checkpoint, headers: Mapping[str, Header | Fault]
) -> tuple[Checkpoint, Mapping[str, Header | Fault]]:
    """Take the adapter out of the weights of a base model that MLflow saved beside it.

    Only for such a base (`Layout.beside_adapter`): some models carry adapters as a part of themselves.

    Args:
        checkpoint: What is to go up.
        headers: The headers of its weights; files without a readable one stay as they are.

    Returns:
        The checkpoint and its headers as they will go up; where headers were not read and the index shows an
        adapter, with that as a problem.
    """
    indexes = [folder + weights.index for folder, weights in checkpoint.weights.items() if weights.index]
    files: dict[str, Part] = dict(checkpoint.files)
    changed = dict(headers)
    for name, header in headers.items():
        stored = files[name]
        if isinstance(header, Header) and isinstance(stored, Stored) and _is_wrapped(header.shapes):
            files[name], changed[name] = _unwrap_file(stored, header)
    if changed == dict(headers):
        named = [name for index in indexes for name in child_of(checkpoint.document(index), "weight_map")]
        problem = (
            "the weights contain a LoRA adapter, which can only be removed from local files; download the "
            "artifacts and deploy that folder"
        )
        problems = (*checkpoint.problems, problem) if _is_wrapped(named) and not headers else checkpoint.problems
        return replace(checkpoint, problems=problems), headers
    documents, contents = dict(checkpoint.documents), dict(checkpoint.contents)
    for index in indexes:
        documents[index] = _unwrap_index(checkpoint.document(index), changed)
        files[index] = made = make_json(documents[index], f"made from {files[index].origin}")
        contents[index] = made.data
    note = "the weights also held a LoRA adapter, as MLflow saves it together with its base; the adapter was removed"
    notes = (*checkpoint.notes, note)
    return replace(checkpoint, files=files, documents=documents, contents=contents, notes=notes), changed


def _is_wrapped(names: Iterable[str]) -> bool:
    return any(_WRAPPER.search(name) or _OF_ADAPTER.search(name) for name in names)


def _unwrap_file(stored: Stored, header: Header) -> tuple[Excerpt, Header | Fault]:
    kept = [name for name in header.places if not _OF_ADAPTER.search(name)]
    kept.sort(key=lambda name: header.places[name])
    start = write_header(header, {name: _WRAPPER.sub("", name) for name in kept})
    pieces = tuple(Piece(stored, *header.places[name]) for name in kept)
    unwrapped = Excerpt(start, pieces, stored.origin, f"{stored.identity}:unwrapped" if stored.identity else None)
    return unwrapped, read_header(lambda count: start[:count], unwrapped.size)


def _unwrap_index(index: Document, headers: Mapping[str, Header | Fault]) -> Document:
    read = [header for header in headers.values() if isinstance(header, Header)]
    total = sum(end - begin for header in read for begin, end in header.places.values())
    names = child_of(index, "weight_map").items()
    return {
        "metadata": {"total_size": total},
        "weight_map": {_WRAPPER.sub("", name): shard for name, shard in names if not _OF_ADAPTER.search(name)},
    }
