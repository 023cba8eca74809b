"""Which folder of a heap of files is the checkpoint, when nothing else says so."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.selection import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    TRAINING_CHECKPOINT,
    is_foreign_weights,
    is_index,
    is_weights,
)
from mlflow_fireworks.errors import CheckpointError
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.progress import format_bytes

SERVABLE = (
    "Fireworks serves Hugging Face checkpoints: config.json, tokenizer and *.safetensors (or .bin) weights, "
    "or adapter_config.json with adapter_model.safetensors"
)

# How trainers keep a model on many GPUs, and what makes one of it.
_OF_TRAINERS = {"FSDP": re.compile(r".*\.distcp"), "DeepSpeed": re.compile(r"zero_to_fp32\.py")}
_MERGES = {"FSDP": "accelerate merge-weights", "DeepSpeed": "its zero_to_fp32.py"}
# A commit's files in a cache of the Hub, below the folder `models--org--name` of their repository.
_SNAPSHOT = re.compile(r"(?P<repo>(?:.*/)?)snapshots/(?P<revision>[^/]+)/[^/]+")


@dataclass(frozen=True)
class Choice:
    """The folder that holds the checkpoint.

    Args:
        folder: Relative to where the search began; empty for that folder itself.
        notes: What was decided.
        warnings: What may surprise.
    """

    folder: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def choose_folder(
    files: Mapping[str, Stored], subject: str, root: str, training: Sequence[str] = (), links: Sequence[str] = ()
) -> Choice:
    """Choose the one folder that holds weights.

    Folders inside a chosen one are parts of it (`1_Pooling/`) or extras (`onnx/`, `original/`) and never
    candidates of their own, as in a repository of the Hub.

    Args:
        files: All files, training checkpoints and caches already left out.
        subject: What is searched, for messages, e.g. `models:/chat/3`.
        root: Where `files` begin in the artifacts, for messages.
        training: Folders of training checkpoints that were left out; where nothing else is there, a single one is
            taken and several are named.
        links: Symbolic links that cannot be followed; named when nothing else is there.

    Raises:
        CheckpointError: No folder holds weights that Fireworks takes, or several do.
    """
    folders = _group(files)
    found = sorted(folder for folder, names in folders.items() if _holds_checkpoint(names))
    outer = [folder for folder in found if not any(_is_inside(folder, other) for other in found)]
    stale = _list_stale_snapshots(files, outer)
    outer = [folder for folder in outer if folder not in stale]
    if not outer and len(training) == 1:
        return Choice(training[0], notes=(f"the only weights are those of the training run's {training[0]}/",))
    if not outer and training:
        shown = [_show(root, folder) for folder in training]
        raise CheckpointError(
            f"{subject} holds only checkpoints of a training run: {enumerate_names(shown)}; "
            f"choose with -C checkpoint_path={shown[-1]}"
        )
    if not outer and links:
        raise CheckpointError(
            f"{subject} holds no weights, but {len(links)} symbolic links that are broken or lead outside it "
            f"({enumerate_names(links, 3)}); copy the files themselves into it, e.g. with cp -L"
        )
    if not outer:
        raise CheckpointError(f"{subject} {_describe_nothing(folders)}. {SERVABLE}")
    if len(outer) > 1:
        listing = ", ".join(f"{_show(root, folder)} ({_describe(folder, files, folders)})" for folder in outer)
        first = _show(root, outer[0])
        raise CheckpointError(f"{subject} holds several checkpoints: {listing}; choose with -C checkpoint_path={first}")
    inner = [folder for folder in found if folder != outer[0] and not _is_module(folder, outer[0], folders)]
    warnings = tuple(
        f"weights in {_show(root, folder)} are not uploaded: they are inside the checkpoint {_show(root, outer[0])}; "
        f"-C checkpoint_path={_show(root, folder)} uploads them instead"
        for folder in inner
    )
    notes = (f"{_show(root, outer[0])} is the snapshot that refs/main names, so it is used",) if stale else ()
    return Choice(outer[0], notes, warnings)


def _list_stale_snapshots(files: Mapping[str, Stored], folders: Sequence[str]) -> set[str]:
    """Of several snapshots of one repository, those that `refs/main` does not name, where it names one of them."""
    snapshots: dict[str, dict[str, str]] = {}
    for folder in folders:
        if match := _SNAPSHOT.fullmatch(f"{folder}/-"):
            snapshots.setdefault(match["repo"], {})[match["revision"]] = folder
    stale: set[str] = set()
    for repo, revisions in snapshots.items():
        ref = files.get(f"{repo}refs/main")
        current = ref.read().decode("utf-8", "replace").strip() if ref and len(revisions) > 1 else None
        if current in revisions:
            stale |= {folder for revision, folder in revisions.items() if revision != current}
    return stale


def _group(files: Mapping[str, Stored]) -> dict[str, set[str]]:
    folders: dict[str, set[str]] = {}
    for path in files:
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, set()).add(name)
    return folders


def _holds_checkpoint(names: set[str]) -> bool:
    if "modules.json" in names or any(is_weights(name) or is_index(name) for name in names):
        return True
    return ADAPTER_CONFIG in names and not names.isdisjoint(ADAPTER_WEIGHTS)


def _is_inside(folder: str, other: str) -> bool:
    return folder != other and (not other or folder.startswith(f"{other}/"))


def _is_module(folder: str, outer: str, folders: Mapping[str, set[str]]) -> bool:
    return "modules.json" in folders[outer] and _is_inside(folder, outer)


def _describe(folder: str, files: Mapping[str, Stored], folders: Mapping[str, set[str]]) -> str:
    names = folders[folder]
    size = sum(file.size for path, file in files.items() if _is_inside(path, folder))
    kind = "embedding model" if "modules.json" in names else "adapter" if ADAPTER_CONFIG in names else "base model"
    return f"{kind}, {format_bytes(size)}"


def _show(root: str, folder: str) -> str:
    return "/".join(part for part in (root, folder) if part) or "."


def _describe_nothing(folders: Mapping[str, set[str]]) -> str:
    names = {name for group in folders.values() for name in group}
    foreign = sorted(name for name in names if is_foreign_weights(name))
    if "model_index.json" in names:
        return "is a diffusers pipeline, which cannot be uploaded to Fireworks"
    if trainer := next((trainer for trainer, name in _OF_TRAINERS.items() if any(map(name.fullmatch, names))), None):
        return (
            f"holds only {trainer}'s own checkpoint, one part for each GPU; run {_MERGES[trainer]} and log the result"
        )
    if foreign:
        return f"holds weights only as {enumerate_names(foreign, 3)}; convert them to safetensors with save_pretrained"
    if ADAPTER_CONFIG in names:
        return f"holds {ADAPTER_CONFIG} but not its weights"
    if "config.json" in names:
        where = sorted(folder for folder, group in folders.items() if "config.json" in group)
        return f"holds config.json (in {_show('', where[0])}) but no weights"
    return "holds no model weights"


def list_training_checkpoints(paths: Iterable[str]) -> tuple[str, ...]:
    """Folders such as `checkpoint-500` that hold weights, in the order of their steps."""
    found = set()
    for path in paths:
        # The last one: `checkpoint-500/artifacts/checkpoint-500` is how transformers' MLflowCallback logs it.
        *_, end = (0, *(match.end() for match in TRAINING_CHECKPOINT.finditer(path)))
        if end and (is_weights(path.rpartition("/")[2]) or path.endswith(ADAPTER_WEIGHTS)):
            found.add(path[:end])
    return tuple(sorted(found, key=lambda folder: (len(folder), folder)))
