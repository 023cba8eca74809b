"""What a checkpoint lacks and a folder near it has: its configuration, or its tokenizer.

A pyfunc may log weights and tokenizer as two artifacts; DeepSpeed's `zero_to_fp32.py` writes the shards into a folder
that is called `pytorch_model.bin`, below the configuration; a trainer without the tokenizer saves `checkpoint-500`
beside it. Where exactly one folder has what is missing, that is what is meant.
"""

from collections.abc import Callable, Mapping

from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.documents import Fault, parse_document, text_of
from mlflow_fireworks.artifacts.selection import (
    DEFAULTS_FILE,
    has_vocabulary,
    is_foreign_weights,
    is_index,
    is_needed,
    is_weights,
)
from mlflow_fireworks.artifacts.tree import Tree, join
from mlflow_fireworks.errors import CheckpointError
from mlflow_fireworks.names import enumerate_names

_CONFIG = "config.json"
_TOKENIZER = "tokenizer"
_OF_MODEL = (_CONFIG, "generation_config.json", DEFAULTS_FILE)
# They come with a processor's tokenizer, but belong to the model where that has its own.
_OF_PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


def complete(
    tree: Tree, folder: str, files: Mapping[str, Stored], *, needs_tokenizer: bool = True
) -> tuple[Mapping[str, Stored], list[str]]:
    """Add the configuration or the tokenizer that a checkpoint lacks, where one folder near it has that.

    Args:
        tree: Where to look.
        folder: The checkpoint's folder in it.
        files: The checkpoint's files by name.
        needs_tokenizer: Whether it lacks a tokenizer when it has none; not where the user names one.

    Returns:
        Its files with those that were found beside it, and what was taken from where.

    Raises:
        CheckpointError: Several folders at one distance have it.
    """
    own = [name for name in files if "/" not in name]
    if "modules.json" in own or not any(is_weights(name) or is_index(name) for name in own):
        return files, []
    near = _list_folders(tree, folder)
    added: dict[str, Stored] = {}
    notes: list[str] = []
    found = None if _CONFIG in own else _choose(tree, folder, near, _CONFIG, _describes_model)
    if found is not None:
        taken = {name: file for name, file in near[found].items() if name in _OF_MODEL or name.endswith(".py")}
        added |= taken
        notes.append(f"{_CONFIG} is taken from {_show(tree, found)}, as there is none next to the weights")
    has_tokenizer = not needs_tokenizer or has_vocabulary(own)
    found = None if has_tokenizer else _choose(tree, folder, near, _TOKENIZER, has_vocabulary)
    if found is not None:
        added = {**{name: file for name, file in near[found].items() if _is_of_tokenizer(name)}, **added}
        notes.append(f"the tokenizer is taken from {_show(tree, found)}, as there is none next to the weights")
    return {**added, **files}, notes


def exchange_tokenizer(tree: Tree, folder: str, files: Mapping[str, Stored]) -> dict[str, Stored]:
    """Put the tokenizer of a folder that the user names in the place of a checkpoint's own.

    Args:
        tree: Where the folder is.
        folder: Its path from the top of the artifacts.
        files: The checkpoint's files by name.

    Raises:
        CheckpointError: The folder holds no tokenizer.
    """
    found = {name: file for name, file in tree.folder(folder).items() if "/" not in name}
    if not has_vocabulary(found):
        raise CheckpointError(
            f"{tree.source.resolved} has no tokenizer (tokenizer.json or tokenizer.model) in tokenizer_path={folder}"
        )
    kept = {name: file for name, file in files.items() if name in _OF_PROCESSORS or not _is_of_tokenizer(name)}
    taken = {name: file for name, file in found.items() if _is_of_tokenizer(name)}
    return {**taken, **kept}


def _is_of_tokenizer(name: str) -> bool:
    return "/" not in name and is_needed(name, embedding=False) and name not in _OF_MODEL


def _list_folders(tree: Tree, folder: str) -> dict[str, dict[str, Stored]]:
    """The files of each folder but the checkpoint's own and those of other checkpoints, by folder and name."""
    folders: dict[str, dict[str, Stored]] = {}
    for path, file in tree.folder("").items():
        where, _, name = path.rpartition("/")
        folders.setdefault(where, {})[name] = file
    return {
        where: files for where, files in folders.items() if where != folder and not any(map(_is_of_a_checkpoint, files))
    }


def _is_of_a_checkpoint(name: str) -> bool:
    return is_weights(name) or is_index(name) or is_foreign_weights(name)


def _describes_model(files: Mapping[str, Stored]) -> bool:
    if _CONFIG not in files:
        return False
    config = parse_document(files[_CONFIG].read())
    return not isinstance(config, Fault) and text_of(config, "model_type") is not None


def _choose(
    tree: Tree,
    folder: str,
    near: Mapping[str, Mapping[str, Stored]],
    what: str,
    has_it: Callable[[Mapping[str, Stored]], bool],
) -> str | None:
    """The nearest folder that has it: inside the checkpoint, above it, beside it, anywhere else."""
    holders = [where for where in sorted(near) if has_it(near[where])]
    if not holders:
        return None
    nearest = min(_distance(where, folder) for where in holders)
    chosen = [where for where in holders if _distance(where, folder) == nearest]
    if len(chosen) > 1:
        remedy = "log the model again with the right files next to the weights"
        if what == _TOKENIZER:
            remedy = f"choose with -C tokenizer_path={join(tree.root, chosen[0]) or '.'}"
        raise CheckpointError(
            f"{tree.source.resolved}: the checkpoint in {_show(tree, folder)} has no {what}, and several folders have "
            f"one: {enumerate_names(_show(tree, where) for where in chosen)}; {remedy}"
        )
    return chosen[0]


def _distance(where: str, folder: str) -> int:
    parent = folder.rpartition("/")[0]
    if not folder or where.startswith(f"{folder}/"):
        return 0
    if where == parent:
        return 1
    return 2 if where.rpartition("/")[0] == parent else 3


def _show(tree: Tree, folder: str) -> str:
    return f"{join(tree.root, folder)}/" if join(tree.root, folder) else "the top of the artifacts"
