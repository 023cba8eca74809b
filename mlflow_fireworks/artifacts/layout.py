"""Where in a model's artifacts the checkpoint lies. MLflow never stores the flat folder that Fireworks needs.

======================  =====================================================================================
transformers            weights in `model/`, tokenizer and processors in `components/<name>/`; merged
… with PEFT             the adapter in `peft/`, its base beside it or only named
… save_pretrained=False nothing but a repository and a commit, which are fetched from the Hub
sentence_transformers   everything in `model.sentence_transformer/`, subfolders included
pyfunc                  a Hugging Face folder under `artifacts/<key>/`
plain files             a Hugging Face folder anywhere, from `log_artifacts` or the Hub
======================  =====================================================================================
(MLflow 3.17: `mlflow.transformers.model_io`, `.flavor_config`, `mlflow.sentence_transformers`.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mlflow_fireworks.artifacts.candidates import Choice, choose_folder, list_training_checkpoints
from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.documents import Document, child_of, text_of, texts_of
from mlflow_fireworks.artifacts.repository import read_repository
from mlflow_fireworks.artifacts.selection import ADAPTER_CONFIG, is_index, is_junk, is_needed, is_weights
from mlflow_fireworks.artifacts.sources.mlmodel import MLMODEL, read_mlmodel
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.config import Config, Kind
from mlflow_fireworks.errors import CheckpointError, FireworksError
from mlflow_fireworks.registry.uri_types import HubUri

OpenSource = Callable[[str], Source]
# A processor's folder repeats the tokenizer's files, so the tokenizer's own folder comes first.
_COMPONENTS = ("tokenizer", "processor", "image_processor", "feature_extractor")
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
    borrowed: frozenset[str] = frozenset()
    beside_adapter: bool = False
    links: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Tree:
    """The part of the artifacts that one `MLmodel` file describes; everything when there is none."""

    source: Source
    root: str
    mlmodel: Document

    @property
    def flavors(self) -> Document:
        return child_of(self.mlmodel, "flavors")

    def folder(self, path: str) -> dict[str, Stored]:
        """The files below a folder of this tree, by their names in it."""
        prefix = f"{_join(self.root, path)}/" if _join(self.root, path) else ""
        source = self.source
        return {
            name.removeprefix(prefix): Stored(source.store, name, size, source.identity)
            for name, size in source.files.items()
            if name.startswith(prefix) and not is_junk(name.removeprefix(prefix))
        }

    def links(self, path: str) -> tuple[str, ...]:
        """The unusable symbolic links below a folder of this tree."""
        prefix = _join(self.root, path)
        names = (*self.source.outside_links, *self.source.broken_links)
        return tuple(name for name in names if not prefix or name.startswith(f"{prefix}/"))


@dataclass(frozen=True)
class _Aim:
    """Where to look for the checkpoint.

    Args:
        tree: The part of the artifacts.
        folder: Below its root; "" for all of it.
        is_named: The user named a folder, and it is not just the root of a model.
    """

    tree: _Tree
    folder: str
    is_named: bool


def find_layout(source: Source, config: Config, open_source: OpenSource) -> Layout:
    """Find the checkpoint in the artifacts of a model.

    Args:
        source: The model.
        config: Its options; `checkpoint_path` and `kind` matter here.
        open_source: Opens a `hf:/org/name@commit` for models logged with `save_pretrained=False`.

    Returns:
        The files of one checkpoint.

    Raises:
        CheckpointError: There is none that Fireworks can serve, or several to choose from.
    """
    aim = _find_aim(source, config.checkpoint_path)
    tree, folder = aim.tree, aim.folder
    if (flavor := child_of(tree.flavors, "transformers")) and folder in ("", _model_folder(tree, flavor)):
        return _read_transformers(tree, flavor, open_source, adapter=not folder and config.kind in (None, Kind.ADDON))
    if "sentence_transformers" in tree.flavors and not folder:
        return _read_folder(tree, "sentence_transformers", _SENTENCE_TRANSFORMERS_FOLDER)
    if not aim.is_named:
        _refuse_other_flavors(tree)
    elif not tree.folder(folder):
        found = _join(tree.root, _choose_folder(tree, "").folder)
        raise CheckpointError(
            f"{source.resolved} has no files in checkpoint_path={config.checkpoint_path}; "
            f"its checkpoint is in '{found or '.'}'"
        )
    choice = _choose_folder(tree, folder)
    layout = _read_folder(tree, _flavor_word(tree), _join(folder, choice.folder))
    return replace(layout, warnings=choice.warnings)


def _choose_folder(tree: _Tree, path: str) -> Choice:
    where = _join(tree.root, path)
    training = list_training_checkpoints(tree.source.files) if not path else ()
    return choose_folder(tree.folder(path), tree.source.resolved, where, training, tree.links(path))


def _clean_path(path: str) -> str:
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        raise CheckpointError(f"checkpoint_path={path} must be a folder inside the artifacts, e.g. artifacts/model")
    return "/".join(parts)


def _find_aim(source: Source, path: str | None) -> _Aim:
    """The `MLmodel` nearest above the folder that the user names, and what is left of the way to it."""
    is_named, wanted = path is not None, _clean_path(path or "")
    whole = _Tree(source, "", source.mlmodel)
    if source.mlmodel and not wanted:
        return _Aim(whole, "", is_named)
    described = [name.removesuffix(MLMODEL).rstrip("/") for name in source.files if f"/{name}".endswith(f"/{MLMODEL}")]
    if wanted:
        above = [folder for folder in described if not folder or f"{wanted}/".startswith(f"{folder}/")]
        if not above:
            return _Aim(whole, wanted, is_named)
        root = max(above, key=len)
        folder = wanted.removeprefix(root).strip("/")
        return _Aim(_Tree(source, root, _read_mlmodel(source, root)), folder, is_named=bool(folder))
    if not is_named and len(described) == 1:
        return _Aim(_Tree(source, described[0], _read_mlmodel(source, described[0])), "", is_named)
    return _Aim(whole, "", is_named)


def _read_mlmodel(source: Source, folder: str) -> Document:
    return read_mlmodel(source.store, source.resolved, folder) if folder else source.mlmodel


def _flavor_word(tree: _Tree) -> str:
    if tree.source.resolved.startswith("hf:"):
        return "huggingface"
    if not tree.flavors:
        return "files"
    named = [name for name in tree.flavors if name != "python_function"]
    return named[0] if named else "pyfunc"


def _refuse_other_flavors(tree: _Tree) -> None:
    """A chain or a classifier may carry a checkpoint; serving that instead of the whole would be a surprise."""
    others = [name for name in tree.flavors if name not in ("python_function", "transformers", "sentence_transformers")]
    if others:
        raise CheckpointError(
            f"{tree.source.resolved} is a model of flavor {', '.join(others)}, which Fireworks cannot serve; it serves "
            "Hugging Face checkpoints (language and vision-language models, LoRA adapters, embedding models), logged "
            "with mlflow.transformers or mlflow.sentence_transformers, or as files. If the artifacts hold such a "
            "checkpoint, name its folder with -C checkpoint_path="
        )


def _read_folder(tree: _Tree, flavor: str, path: str) -> Layout:
    files = tree.folder(path)
    if not files:
        raise CheckpointError(f"{tree.source.resolved} has no files in {path}/, where its {flavor} model should be")
    return Layout(flavor, _join(tree.root, path), files, tree.mlmodel, links=tree.links(path))


def _model_folder(tree: _Tree, flavor: Document) -> str:
    # MLflow before 2.4.1 wrote `pipeline/` and no `model_binary`.
    return text_of(flavor, "model_binary") or ("model" if tree.folder("model") else "pipeline")


def _read_transformers(tree: _Tree, flavor: Document, open_source: OpenSource, *, adapter: bool) -> Layout:
    """The adapter in `peft/` if there is one and it may be taken; else the model, wherever its weights are."""
    folder = _model_folder(tree, flavor)
    task = text_of(flavor, "task")
    model = tree.folder(folder)
    peft_folder = text_of(flavor, "peft_adaptor") or "peft"
    peft = tree.folder(peft_folder)
    if adapter and ADAPTER_CONFIG in peft:
        note = f"the LoRA adapter in {_join(tree.root, peft_folder)}/ goes up as an addon, without its base model"
        if any(is_weights(name) for name in model):
            note += f" in {_join(tree.root, folder)}/; -C kind=base uploads that base model instead"
        layout = _read_folder(tree, "transformers", peft_folder)
        # The base's config tells the family that the adapter belongs to; it does not go up.
        base = {name: model[name] for name in ("config.json",) if name in model and name not in peft}
        return replace(layout, files={**base, **peft}, task=task, borrowed=frozenset(base), notes=(note,))
    if not any(is_weights(name) or is_index(name) for name in model):
        return _open_reference(tree, flavor, open_source)
    components = {name: tree.folder(f"components/{name}") for name in _component_names(flavor)}
    files, notes = merge_components(model, components)
    return Layout(
        "transformers",
        _join(tree.root, folder),
        files,
        tree.mlmodel,
        task,
        beside_adapter=ADAPTER_CONFIG in peft,
        links=(*tree.links(folder), *tree.links("components")),
        notes=notes,
    )


def _component_names(flavor: Document) -> list[str]:
    named = [*_COMPONENTS, *texts_of(flavor, "components")]
    return list(dict.fromkeys(named))


def merge_components(
    model: Mapping[str, Stored], components: Mapping[str, Mapping[str, Stored]]
) -> tuple[dict[str, Stored], tuple[str, ...]]:
    """Merge the folders of MLflow's transformers layout into one.

    Where several folders hold a file of one name: what describes the weights (`config.json`,
    `generation_config.json`, weights, code) is taken from the model's folder; everything else from the first
    component that has it (tokenizer before processors), because those are what MLflow itself loads.

    Args:
        model: Files of the model's folder.
        components: Files of each component's folder, first come first served.

    Returns:
        All files by name, and a note for each choice between different contents.
    """
    merged: dict[str, Stored] = {}
    losers: list[tuple[str, Stored]] = []
    for folder in (*components.values(), model):
        for name, file in folder.items():
            if name not in merged:
                merged[name] = file
            elif folder is model and _belongs_to_model(name):
                losers.append((name, merged[name]))
                merged[name] = file
            else:
                losers.append((name, file))
    notes = [
        f"{name}: taken from {merged[name].path}; {other.path} differs and stays"
        for name, other in losers
        if is_needed(name, embedding=False) and _differ(merged[name], other)
    ]
    return merged, tuple(notes)


def _belongs_to_model(name: str) -> bool:
    return name in ("config.json", "generation_config.json") or is_weights(name) or name.endswith(".py")


def _differ(one: Stored, other: Stored) -> bool:
    return one.size != other.size or one.read() != other.read()


def _open_reference(tree: _Tree, flavor: Document, open_source: OpenSource) -> Layout:
    """The repository that a model logged with `save_pretrained=False` names."""
    asked = tree.source.resolved
    name = text_of(flavor, "source_model_name")
    revision = text_of(flavor, "source_model_revision")
    repository = read_repository(name) if name else None
    save = "log it again with save_pretrained=True, or run mlflow.transformers.persist_pretrained_model on it"
    if local := text_of(flavor, "local_base_model_path"):
        raise CheckpointError(
            f"{asked} holds no weights of its base model, only the path {local} on the machine that logged it; "
            f"deploy that folder itself (-m {local}), or {save}"
        )
    if repository is None:
        named = f"only the name {name}, which is no Hugging Face repository" if name else "no name of its origin"
        raise CheckpointError(f"{asked} holds no weights and {named}; {save}")
    if revision is None:
        raise CheckpointError(
            f"{asked} holds no weights and names {repository.name} without a commit, so what was logged is unknown; "
            f"deploy a commit of your choice (-m hf:/{repository.name}@COMMIT), or {save}"
        )
    model = _open_repository(asked, repository.name, revision, open_source, save)
    components = {}
    for component in _component_names(flavor):
        other = read_repository(text_of(flavor, f"{component}_name") or "")
        commit = text_of(flavor, f"{component}_revision")
        if other and commit and (other.name, commit) != (repository.name, revision):
            files = _open_repository(asked, other.name, commit, open_source, save).folder("")
            components[component] = {name: file for name, file in files.items() if not _belongs_to_model(name)}
    files, notes = merge_components(model.folder(""), components)
    address = str(HubUri(repository.name, revision))
    note = f"the artifacts hold no weights (save_pretrained=False); they come from {address}"
    return Layout("transformers", address, files, tree.mlmodel, text_of(flavor, "task"), notes=(note, *notes))


def _open_repository(asked: str, name: str, revision: str, open_source: OpenSource, save: str) -> _Tree:
    try:
        return _Tree(open_source(str(HubUri(name, revision))), "", {})
    except FireworksError as error:
        raise CheckpointError(
            f"{asked} was logged with save_pretrained=False, so its files must come from the Hugging Face Hub, "
            f"and that failed: {error.message}; or {save}"
        ) from error


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)
