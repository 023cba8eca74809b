"""Where in a model's artifacts the checkpoint lies. MLflow never stores the flat folder that Fireworks needs.

======================  =====================================================================================
transformers            weights in `model/`, tokenizer and processors in `components/<name>/`; merged
… with PEFT             the adapter in `peft/`, its base beside it or only named; after `model.add_adapter` alone in
                        `model/`
… save_pretrained=False nothing but a repository and a commit, which are fetched from the Hub
sentence_transformers   everything in `model.sentence_transformer/`, subfolders included
pyfunc                  a Hugging Face folder under `artifacts/<key>/`
plain files             a Hugging Face folder anywhere, from `log_artifacts` or the Hub
======================  =====================================================================================
(MLflow 3.17: `mlflow.transformers.model_io`, `.flavor_config`, `mlflow.sentence_transformers`.)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlflow_fireworks.artifacts.candidates import Choice, choose_folder, list_training_checkpoints
from mlflow_fireworks.artifacts.components import list_components, merge_components
from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.documents import Document, child_of, text_of
from mlflow_fireworks.artifacts.neighbours import complete, exchange_tokenizer
from mlflow_fireworks.artifacts.reference import OpenSource, open_reference
from mlflow_fireworks.artifacts.selection import ADAPTER_CONFIG, ADAPTER_WEIGHTS, is_index, is_weights
from mlflow_fireworks.artifacts.sources.mlmodel import MLMODEL, read_mlmodel
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.artifacts.tree import Tree, join, to_posix
from mlflow_fireworks.config import Config, Kind
from mlflow_fireworks.errors import CheckpointError

_SENTENCE_TRANSFORMERS_FOLDER = "model.sentence_transformer"


@dataclass(frozen=True)
class Layout:
    """A checkpoint as it was found: all its files under flat names, before the choice of what goes up.

    Args:
        flavor: MLflow's word for how it was logged; `files` for plain folders, `huggingface` for the Hub.
        location: Its folder in the artifacts, empty for their root, or a `hf:/` address.
        files: Every file, by its name in a flat Hugging Face folder.
        mlmodel: The `MLmodel` file that belongs to it; empty when there is none.
        task: What MLflow logged it for (`text-generation`), if it said so.
        root: The folder that holds that `MLmodel`, empty for the top.
        borrowed: Names among `files` that belong to another model and are only read (an adapter's base).
        beside_adapter: It is the base model that MLflow saved beside a LoRA adapter.
        links: Symbolic links in it that lead out of the artifacts or to nothing.
        notes: What was decided on the way.
        warnings: What may surprise.
    """

    flavor: str
    location: str
    files: Mapping[str, Stored]
    mlmodel: Document
    task: str | None = None
    root: str = ""
    borrowed: frozenset[str] = frozenset()
    beside_adapter: bool = False
    links: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Aim:
    """Where to look for the checkpoint.

    Args:
        tree: The part of the artifacts.
        folder: Below its root; "" for all of it.
        is_named: The user named a folder, and it is not just the root of a model.
    """

    tree: Tree
    folder: str
    is_named: bool


def find_layout(source: Source, config: Config, open_source: OpenSource) -> Layout:
    """Find the checkpoint in the artifacts of a model.

    Args:
        source: The model.
        config: Its options; `checkpoint_path`, `tokenizer_path` and `kind` matter here.
        open_source: Opens a `hf:/org/name@commit` for models logged with `save_pretrained=False`.

    Returns:
        The files of one checkpoint.

    Raises:
        CheckpointError: There is none that Fireworks can serve, or several to choose from.
    """
    if config.tokenizer_path is None:
        return _find_checkpoint(source, config, open_source)
    folder = _clean_path("tokenizer_path", config.tokenizer_path)
    layout = _find_checkpoint(source, config, open_source, needs_tokenizer=False)
    note = f"the tokenizer is taken from {folder}/, as tokenizer_path says"
    files = exchange_tokenizer(Tree(source, "", source.mlmodel), folder, layout.files)
    return replace(layout, files=files, notes=(*layout.notes, note))


def _find_checkpoint(
    source: Source, config: Config, open_source: OpenSource, *, needs_tokenizer: bool = True
) -> Layout:
    aim = _find_aim(source, config.checkpoint_path)
    tree, folder = aim.tree, aim.folder
    if (flavor := child_of(tree.flavors, "transformers")) and folder in ("", _model_folder(tree, flavor)):
        return _read_transformers(tree, flavor, open_source, adapter=not folder and config.kind in (None, Kind.ADDON))
    if "sentence_transformers" in tree.flavors and not folder:
        return _read_folder(tree, "sentence_transformers", _SENTENCE_TRANSFORMERS_FOLDER)
    if not aim.is_named:
        _refuse_other_flavors(tree)
    elif not tree.folder(folder):
        found = join(tree.root, _choose_folder(tree, "").folder)
        raise CheckpointError(
            f"{source.resolved} has no files in checkpoint_path={config.checkpoint_path}; "
            f"its checkpoint is in '{found or '.'}'"
        )
    choice = _choose_folder(tree, folder)
    chosen = join(folder, choice.folder)
    layout = _read_folder(tree, _flavor_word(tree), chosen)
    files, notes = complete(tree, chosen, layout.files, needs_tokenizer=needs_tokenizer)
    return replace(layout, files=files, notes=(*choice.notes, *notes), warnings=choice.warnings)


def _choose_folder(tree: Tree, path: str) -> Choice:
    where = join(tree.root, path)
    training = list_training_checkpoints(tree.everything(path))
    return choose_folder(tree.folder(path), tree.source.resolved, where, training, tree.links(path))


def _clean_path(option: str, path: str) -> str:
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        raise CheckpointError(f"{option}={path} must be a folder inside the artifacts, e.g. artifacts/model")
    return "/".join(parts)


def _find_aim(source: Source, path: str | None) -> _Aim:
    """The `MLmodel` nearest above the folder that the user names, and what is left of the way to it."""
    is_named, wanted = path is not None, _clean_path("checkpoint_path", path or "")
    whole = Tree(source, "", source.mlmodel)
    if source.mlmodel and not wanted:
        return _Aim(whole, "", is_named)
    described = [name.removesuffix(MLMODEL).rstrip("/") for name in source.files if f"/{name}".endswith(f"/{MLMODEL}")]
    if wanted:
        above = [folder for folder in described if not folder or f"{wanted}/".startswith(f"{folder}/")]
        if not above:
            return _Aim(whole, wanted, is_named)
        root = max(above, key=len)
        folder = wanted.removeprefix(root).strip("/")
        return _Aim(Tree(source, root, _read_mlmodel(source, root)), folder, is_named=bool(folder))
    if not is_named and len(described) == 1:
        return _Aim(Tree(source, described[0], _read_mlmodel(source, described[0])), "", is_named)
    return _Aim(whole, "", is_named)


def _read_mlmodel(source: Source, folder: str) -> Document:
    return read_mlmodel(source.store, source.resolved, folder) if folder else source.mlmodel


def _flavor_word(tree: Tree) -> str:
    if tree.source.resolved.startswith("hf:"):
        return "huggingface"
    if not tree.flavors:
        return "files"
    named = [name for name in tree.flavors if name != "python_function"]
    return named[0] if named else "pyfunc"


def _refuse_other_flavors(tree: Tree) -> None:
    """A chain or a classifier may carry a checkpoint; serving that instead of the whole would be a surprise."""
    others = [name for name in tree.flavors if name not in ("python_function", "transformers", "sentence_transformers")]
    if others:
        raise CheckpointError(
            f"{tree.source.resolved} is a model of flavor {', '.join(others)}, which Fireworks cannot serve; it serves "
            "Hugging Face checkpoints (language and vision-language models, LoRA adapters, embedding models), logged "
            "with mlflow.transformers or mlflow.sentence_transformers, or as files. If the artifacts hold such a "
            "checkpoint, name its folder with -C checkpoint_path="
        )


def _read_folder(tree: Tree, flavor: str, path: str) -> Layout:
    files = tree.folder(path)
    if not files:
        raise CheckpointError(f"{tree.source.resolved} has no files in {path}/, where its {flavor} model should be")
    return Layout(flavor, join(tree.root, path), files, tree.mlmodel, links=tree.links(path), root=tree.root)


def _model_folder(tree: Tree, flavor: Document) -> str:
    # MLflow before 2.4.1 wrote `pipeline/` and no `model_binary`.
    return to_posix(text_of(flavor, "model_binary") or ("model" if tree.folder("model") else "pipeline"))


def _read_transformers(tree: Tree, flavor: Document, open_source: OpenSource, *, adapter: bool) -> Layout:
    """The adapter in `peft/` if there is one and it may be taken; else the model, wherever its weights are."""
    folder = _model_folder(tree, flavor)
    task = text_of(flavor, "task")
    model = tree.folder(folder)
    peft_folder = to_posix(text_of(flavor, "peft_adaptor") or "peft")
    peft = tree.folder(peft_folder)
    if adapter and ADAPTER_CONFIG in peft:
        note = f"the LoRA adapter in {join(tree.root, peft_folder)}/ is uploaded as an addon, without its base model"
        if any(is_weights(name) for name in model):
            note += f" in {join(tree.root, folder)}/; -C kind=base uploads that base model instead"
        layout = _read_folder(tree, "transformers", peft_folder)
        # The base's config tells the family that the adapter belongs to; it does not go up.
        base = {name: model[name] for name in ("config.json",) if name in model and name not in peft}
        return replace(layout, files={**base, **peft}, task=task, borrowed=frozenset(base), notes=(note,))
    if not any(is_weights(name) or is_index(name) for name in model):
        if ADAPTER_CONFIG in model and not model.keys().isdisjoint(ADAPTER_WEIGHTS):
            return _read_lone_adapter(tree, folder, task)
        found = open_reference(tree, flavor, open_source)
        return Layout("transformers", found.address, found.files, tree.mlmodel, task, notes=found.notes)
    components = {name: tree.folder(f"components/{name}") for name in list_components(flavor)}
    files, notes = merge_components(model, components)
    return Layout(
        "transformers",
        join(tree.root, folder),
        files,
        tree.mlmodel,
        task,
        root=tree.root,
        beside_adapter=ADAPTER_CONFIG in peft,
        links=(*tree.links(folder), *tree.links("components")),
        notes=notes,
    )


def _read_lone_adapter(tree: Tree, folder: str, task: str | None) -> Layout:
    """What `model.add_adapter` leads to: transformers then saves nothing but the adapter, where the model belongs."""
    note = f"{join(tree.root, folder)}/ holds only a LoRA adapter, which is uploaded as an addon"
    return replace(_read_folder(tree, "transformers", folder), task=task, notes=(note,))
