"""The files of a model that MLflow logged as a name only (`save_pretrained=False`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlflow_fireworks.artifacts.components import belongs_to_model, list_components, merge_components
from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.documents import Document, text_of
from mlflow_fireworks.artifacts.repository import read_repository
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.artifacts.tree import Tree
from mlflow_fireworks.errors import CheckpointError, FireworksError
from mlflow_fireworks.registry.uri_types import HubUri

OpenSource = Callable[[str], Source]


@dataclass(frozen=True)
class Referenced:
    """A checkpoint that comes from the Hub.

    Args:
        address: `hf:/org/name@commit`.
        files: Every file, by its name in a flat Hugging Face folder.
        notes: What was decided on the way.
    """

    address: str
    files: Mapping[str, Stored]
    notes: tuple[str, ...]


def open_reference(tree: Tree, flavor: Document, open_source: OpenSource) -> Referenced:
    """Open the repository that a model logged with `save_pretrained=False` names.

    Args:
        tree: The model's artifacts.
        flavor: What `MLmodel` says of its transformers flavor.
        open_source: Opens a `hf:/org/name@commit`.

    Raises:
        CheckpointError: It names none, or that cannot be opened.
    """
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
        named = f"only the name {name}, which is not a Hugging Face repository" if name else "no record of its origin"
        raise CheckpointError(f"{asked} holds no weights and {named}; {save}")
    if revision is None:
        raise CheckpointError(
            f"{asked} holds no weights and names {repository.name} without a commit, so what was logged is unknown; "
            f"deploy a commit you choose (-m hf:/{repository.name}@COMMIT), or {save}"
        )
    model = _open_repository(asked, repository.name, revision, open_source, save)
    components = {}
    for component in list_components(flavor):
        other = read_repository(text_of(flavor, f"{component}_name") or "")
        commit = text_of(flavor, f"{component}_revision")
        if other and commit and (other.name, commit) != (repository.name, revision):
            files = _open_repository(asked, other.name, commit, open_source, save).folder("")
            components[component] = {name: file for name, file in files.items() if not belongs_to_model(name)}
    files, notes = merge_components(model.folder(""), components)
    address = str(HubUri(repository.name, revision))
    note = f"the artifacts hold no weights (save_pretrained=False); they come from {address}"
    return Referenced(address, files, (note, *notes))


def _open_repository(asked: str, name: str, revision: str, open_source: OpenSource, save: str) -> Tree:
    try:
        return Tree(open_source(str(HubUri(name, revision))), "", {})
    except FireworksError as error:
        raise CheckpointError(
            f"{asked} was logged with save_pretrained=False, so its files must come from the Hugging Face Hub, "
            f"and that failed: {error.message}; or {save}"
        ) from error
