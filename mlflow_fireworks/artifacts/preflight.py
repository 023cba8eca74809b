"""Every fault of a checkpoint that can be seen before a byte leaves, all at once.

Only small files and the headers of weights are read. Where reading a header would fetch the whole file
(`Store.beginnings_are_cheap` is false) and an index exists, sizes are compared with the index instead.
"""

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlflow_fireworks.artifacts.adapter import find_adapter_doubts, find_adapter_faults, find_lost_parts, is_lora
from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.documents import (
    LFS_POINTER,
    Fault,
    is_lfs_pointer,
    text_of,
    texts_of,
)
from mlflow_fireworks.artifacts.index import find_index_problems
from mlflow_fireworks.artifacts.plain_text import START_BYTES, find_stand_in
from mlflow_fireworks.artifacts.safetensors import Header, read_header
from mlflow_fireworks.artifacts.selection import ADAPTER_CONFIG, Weights, has_vocabulary, is_needed
from mlflow_fireworks.artifacts.sources.disk import measure_free_bytes
from mlflow_fireworks.artifacts.sources.scratch import temporary_folder
from mlflow_fireworks.artifacts.tensors import find_lacks, find_tensor_problems
from mlflow_fireworks.config import Kind
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.progress import format_bytes
from mlflow_fireworks.threads import inheriting

_SHOWN = 5
# The clients of MLflow's stores keep ten connections; an eleventh would be opened anew for each file. With 50 ms for an
# answer 1,000 shards take six seconds (measured), so all of them are looked into.
_READERS = 10
_MAX_NAME_BYTES = 255


def read_headers(checkpoint: Checkpoint) -> dict[str, Header | Fault]:
    """Read the header of every weights file where that costs little, or where nothing else tells its content."""
    names = []
    for folder, weights in checkpoint.weights.items():
        for name in weights.files:
            file = checkpoint.files[folder + name]
            if isinstance(file, Stored) and (weights.index is None or _has_cheap_head(file)):
                names.append((folder + name, file))
    with ThreadPoolExecutor(_READERS) as readers:
        heads = readers.map(inheriting(lambda pair: _read_head(pair[1])), names)
        return dict(zip((name for name, _ in names), heads, strict=True))


def _has_cheap_head(file: Stored) -> bool:
    return file.store.beginnings_are_cheap or file.store.path(file.path) is not None


def _read_head(file: Stored) -> Header | Fault:
    if file.size == 0:
        return Fault("is empty")
    if file.path.endswith(".safetensors"):
        header = read_header(lambda count: file.store.read_beginning(file.path, count), file.size)
    else:
        header = _read_pickle_head(file)
    if isinstance(header, Fault) and header != LFS_POINTER:
        stand_in = find_stand_in(file.store.read_beginning(file.path, min(file.size, START_BYTES)))
        return Fault(f"{header.text}: it {stand_in.text}") if stand_in else header
    return header


def _read_pickle_head(file: Stored) -> Header | Fault:
    """A `.bin` file tells nothing of its tensors without running it; only its first and last bytes are checked."""
    start = file.store.read_beginning(file.path, 64)
    if is_lfs_pointer(start):
        return LFS_POINTER
    if start.startswith(b"PK"):
        local = file.store.path(file.path)
        if local is not None and not zipfile.is_zipfile(local):
            return Fault("is truncated (the end of its zip archive is missing)")
    elif not start.startswith(b"\x80"):
        return Fault("is not a PyTorch weights file")
    return Header({}, {}, {}, file.size)


def find_problems(
    checkpoint: Checkpoint,
    headers: Mapping[str, Header | Fault],
    links: Iterable[str],
) -> list[str]:
    """Find every fault of the model itself but for those of its weights.

    Args:
        checkpoint: What is to go up.
        headers: From `read_headers`.
        links: Symbolic links that cannot be followed.

    Returns:
        One line each: which file, what is wrong, what to do.
    """
    problems = [*checkpoint.problems, *_check_names(checkpoint, links)]
    if checkpoint.kind is Kind.ADDON:
        problems += _check_adapter(checkpoint, headers)
    else:
        problems += _check_config(checkpoint)
        problems += _check_tokenizer(checkpoint)
    return list(dict.fromkeys(problems))


def find_weights_problems(checkpoint: Checkpoint, headers: Mapping[str, Header | Fault]) -> list[str]:
    """Find every fault of the weights: of the files, of their index, and of the tensors in them.

    Args:
        checkpoint: What is to go up.
        headers: From `read_headers`.

    Returns:
        As `find_problems`.
    """
    problems = [] if checkpoint.weights else ["there are no weights (*.safetensors or *.bin)"]
    for folder, weights in checkpoint.weights.items():
        problems += _check_weights(checkpoint, folder, weights, headers)
    problems += find_tensor_problems(checkpoint, headers)
    return list(dict.fromkeys(problems)) or find_lacks(checkpoint, headers)


def _check_names(checkpoint: Checkpoint, links: Iterable[str]) -> Iterator[str]:
    for name, file in checkpoint.files.items():
        if not _is_safe(name):
            yield f"{name!r} is not a safe file name"
        if file.size == 0:
            yield f"{file.origin} is empty"
    origins = {file.origin for file in checkpoint.files.values()}
    shards = {name for weights in checkpoint.weights.values() for name in weights.shards}
    for link in links:
        name = link.rpartition("/")[2]
        if link in origins:
            yield f"{link} is a symbolic link that leads outside the folder; replace it with the file itself"
        elif name in shards or is_needed(name, embedding=False):
            yield f"{link} is a broken symbolic link; replace it with the file itself"


def _is_safe(name: str) -> bool:
    segments = name.split("/")
    return (
        all(segment not in ("", ".", "..") and segment == segment.strip() for segment in segments)
        and name.isprintable()
        and "\\" not in name
        and len(name.encode("utf-8", "replace")) <= _MAX_NAME_BYTES
    )


def _check_config(checkpoint: Checkpoint) -> Iterator[str]:
    if "config.json" not in checkpoint.files:
        yield "config.json is missing"
        return
    config = checkpoint.document("config.json")
    if "config.json" not in checkpoint.documents:
        return
    origin = checkpoint.files["config.json"].origin
    if not texts_of(config, "architectures"):
        yield f'{origin} has no architectures (e.g. ["LlamaForCausalLM"]; save the model again with save_pretrained'
    if not text_of(config, "model_type"):
        yield f'{origin} has no model_type, e.g. "llama"; save the model again with save_pretrained'


def _check_tokenizer(checkpoint: Checkpoint) -> Iterator[str]:
    if not has_vocabulary(name.rpartition("/")[2] for name in checkpoint.files):
        yield "the tokenizer is missing (tokenizer.json or tokenizer.model); save it next to the weights"


def _check_adapter(checkpoint: Checkpoint, headers: Mapping[str, Header | Fault]) -> Iterator[str]:
    if ADAPTER_CONFIG not in checkpoint.documents:
        return
    header = next((found for found in headers.values() if isinstance(found, Header) and found.shapes), None)
    origin = checkpoint.files[ADAPTER_CONFIG].origin
    for fault in find_adapter_faults(checkpoint.document(ADAPTER_CONFIG), header):
        yield f"{origin} {fault}"


def find_doubts(checkpoint: Checkpoint, converted: str | None) -> list[str]:
    """What about an adapter Fireworks is not known to apply; nothing for other models.

    Args:
        checkpoint: What is to go up.
        converted: From `find_converted`.
    """
    if checkpoint.kind is not Kind.ADDON or ADAPTER_CONFIG not in checkpoint.documents:
        return []
    family = text_of(checkpoint.document("config.json"), "model_type")
    origin = checkpoint.files[ADAPTER_CONFIG].origin
    config = checkpoint.document(ADAPTER_CONFIG)
    if not is_lora(config):
        return []  # which is refused by itself
    lost = find_lost_parts(config, checkpoint.left_out, converted)
    return [f"{origin} {doubt}" for doubt in (*find_adapter_doubts(config, family), *lost)]


def _check_weights(
    checkpoint: Checkpoint, folder: str, weights: Weights, headers: Mapping[str, Header | Fault]
) -> Iterator[str]:
    for name in weights.files:
        header = headers.get(folder + name)
        if isinstance(header, Fault):
            yield f"{checkpoint.files[folder + name].origin} {header.text}"
    if weights.lacks_index:
        yield (
            f"{enumerate_names(weights.files, _SHOWN)}: there are several weights files, and no index that says "
            "which tensors they hold; add model.safetensors.index.json, or save the model again with save_pretrained"
        )
    if weights.index is not None and folder + weights.index in checkpoint.documents:
        yield from find_index_problems(checkpoint, folder, weights, headers)


def find_lack_of_disk(
    checkpoint: Checkpoint,
    headers: Mapping[str, Header | Fault],
    scratch: Path | None = None,
    max_disk: int | None = None,
) -> Iterator[str]:
    """Files that cannot be relayed are fetched a few at a time, and removed once they are up; so the largest must fit.

    Args:
        checkpoint: What is to go up from this machine.
        headers: From `read_headers`.
        scratch: Folder into which files are fetched; the system's temporary folder by default.
        max_disk: Most bytes of fetched files at any time; what is free when None.

    Yields:
        At most one line: what is lacking, what to do.
    """
    fetched = [
        file.size
        for name, part in checkpoint.files.items()
        for file in part.sources
        if file.why_fetched and (name not in headers or file.store.beginnings_are_cheap)
    ]  # where beginnings are not cheap, reading one has fetched the file, and it is kept
    if not fetched:
        return
    scratch = scratch or temporary_folder()
    largest, free = max(fetched), measure_free_bytes(scratch)
    if max_disk is not None and largest > max_disk:
        allowed = format_bytes(max_disk)
        yield f"the largest file to fetch has {format_bytes(largest)} and -C max_disk= allows {allowed}; raise it"
    elif largest > free:
        yield (
            f"the largest file to fetch has {format_bytes(largest)} and {scratch} only {format_bytes(max(0, free))} "
            "free beyond a reserve; free up some space or set TMPDIR to another disk"
        )
