"""The versions of a registered model, and the tags that say what became of them."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.entities.model_registry.model_version_search import ModelVersionSearch
from mlflow.exceptions import MlflowException

from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.printable import make_printable
from mlflow_fireworks.redaction import brief
from mlflow_fireworks.registry.advice import is_absent, unanswered
from mlflow_fireworks.registry.clients import is_made, open_client
from mlflow_fireworks.registry.model_uri import parse_model_uri
from mlflow_fireworks.registry.questions import read_pages
from mlflow_fireworks.registry.uri_types import RegisteredUri, Workspace

Tags = Mapping[str, str | None]
"""Names and values; one that is None is taken away."""
OFF_ENDPOINT: Tags = {"fireworks.endpoint": None, "fireworks.address": None}
TAKEN_OFF = "fireworks.taken_off"
"""What somebody did to it by hand, which nobody but a person undoes."""
NOT_TAKEN_OFF: Tags = {TAKEN_OFF: None}
DELETED: Tags = {**OFF_ENDPOINT, "fireworks.state": "DELETED"}


def quote(text: str) -> str:
    """For MLflow's filters, which know both quotes and no way to escape them (MLflow 3.17, `search_utils.py`)."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def find_registered(name: str) -> RegisteredModel | None:
    """The registered model of this name, None when there is none.

    Raises:
        MlflowException: The registry does not answer.
    """
    try:
        return open_client().get_registered_model(name)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def is_registered(name: str) -> bool:
    """Whether there is a registered model of this name.

    Raises:
        UnavailableError: The registry does not answer.
    """
    try:
        return find_registered(name) is not None
    except MlflowException as error:
        raise unanswered(f"the registry could not look up '{name}'", error) from None


def list_versions(name: str, workspace: Workspace | None = None) -> list[ModelVersion]:
    """All versions of a registered model, newest first; none when there is no such model. Their tags may be missing.

    Raises:
        UnavailableError: The registry does not answer.
    """
    if "'" in name and '"' in name:  # cannot be written into a filter; what stands before the first of them can
        beginning = min(name.partition("'")[0], name.partition('"')[0], key=len)
        return [found for found in search_versions(f"name LIKE '{beginning}%'", workspace) if found.name == name]
    return search_versions(f"name={quote(name)}", workspace)


def search_versions(wanted: str, workspace: Workspace | None = None) -> list[ModelVersion]:
    """All versions for which a filter holds, newest first.

    Args:
        wanted: As for `MlflowClient.search_model_versions`.
        workspace: Where they are registered; None for MLflow's current registry.

    Raises:
        UnavailableError: The registry does not answer.
    """
    client = open_client(workspace)
    try:
        found = read_pages(lambda token: client.search_model_versions(wanted, page_token=token))
        return sorted(found, key=lambda version: int(version.version), reverse=True)
    except MlflowException as error:
        raise unanswered(f"the registry did not list the versions with {wanted}", error) from None


def list_tagged_versions(name: str, workspace: Workspace | None = None) -> Iterator[ModelVersion]:
    """As `list_versions`, with tags, which Unity Catalog has for single versions only: so stop when it is found.

    Source: MLflow 3.17, `model_version_search.py`.
    """
    for version in list_versions(name, workspace):
        if not isinstance(version, ModelVersionSearch):
            yield version
            continue
        try:
            yield open_client(workspace).get_model_version(name, version.version)
        except MlflowException as error:
            if not is_absent(error):  # else it was deleted after it was listed
                uri = RegisteredUri(name, str(version.version), workspace=workspace)
                raise unanswered(f"the registry did not return the tags of {uri}", error) from None


def find_version(source: str) -> ModelVersion | None:
    """The registry's version that something on Fireworks was made from, with its tags and aliases.

    Args:
        source: A model URI as it is written there.

    Returns:
        None when the source names none, it is gone, or its registry is a local file that is not there.

    Raises:
        UnavailableError: The registry does not answer.
    """
    uri = _read_registered(source)
    if uri is None or uri.version is None or not is_made(uri.home):
        return None
    client = open_client(uri.home)
    try:
        return client.get_model_version(uri.name, uri.version)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise unanswered(f"the registry did not return {uri}", error) from None


def find_aliased(source: str) -> dict[str, ModelVersion]:
    """The versions that aliases of a registered model show, by the model URI of each alias.

    Args:
        source: A model URI of any of its versions, as it is written on Fireworks.

    Raises:
        UnavailableError: The registry does not answer.
    """
    uri = _read_registered(source)
    if uri is None or not is_made(uri.home):
        return {}
    client = open_client(uri.home)
    try:
        aliases = client.get_registered_model(uri.name).aliases
        versions = {number: client.get_model_version(uri.name, number) for number in {*aliases.values()}}
    except MlflowException as error:
        if is_absent(error):
            return {}
        raise unanswered(f"the registry did not return the aliases of '{uri.name}'", error) from None
    return {str(replace(uri, version=None, alias=alias)): versions[number] for alias, number in sorted(aliases.items())}


def write_outcome(registered: RegisteredUri | None, tags: Tags) -> str | None:
    """Put tags on a registered version, to say what became of it.

    Args:
        registered: The version, by its number; None does nothing.
        tags: The tags.

    Returns:
        None when all tags are written, else one line for a warning: a model that is READY remains so when the
        registry does not take a tag.
    """
    if registered is None:
        return None
    try:
        client = open_client(registered.workspace, patient=True)
        _tag(client, client.get_model_version(registered.name, str(registered.version)), tags)
    except Exception as error:  # noqa: BLE001 - whatever a registry raises, the deployment stands
        return f"the registry did not accept the tags for {registered}: {brief(error)}"
    return None


def retag_versions(
    name: str, marks: Mapping[str, str], tags: Tags, but: str | None = None, workspace: Workspace | None = None
) -> str | None:
    """Put tags on every version of a model that carries certain others, since they are not true of it any more.

    Args:
        name: The registered model.
        marks: The tags that it has to carry.
        tags: The tags.
        but: The version that is left alone.
        workspace: Where it is registered; None for MLflow's current registry.

    Returns:
        As `write_outcome`.
    """
    try:
        client = open_client(workspace, patient=True)
        for version in list_tagged_versions(name, workspace):
            if str(version.version) != but and marks.items() <= version.tags.items():
                _tag(client, version, tags)
    except Exception as error:  # noqa: BLE001 - as above
        return f"the registry did not accept the tags for the versions of '{name}': {brief(error)}"
    return None


def correct_versions(sources: Iterable[str], marks: Mapping[str, Collection[str]], tags: Tags) -> list[str]:
    """Put tags on the versions that something on Fireworks was made from, since what they say is not true any more.

    A registry whose local file is not there is left alone: MLflow would make it.

    Args:
        sources: Model URIs as they are written on Fireworks; those of other places than a registry do not count.
        marks: Tags that a version has to carry, with the values that each may have.
        tags: The tags.

    Returns:
        One line for a warning for each registry or model that could not be asked.
    """
    warnings = []
    for name, workspace in dict.fromkeys(_registered_in(sources)):
        if not is_made(workspace):
            continue
        try:
            client = open_client(workspace)
            for version in list_tagged_versions(name, workspace):
                if all(version.tags.get(key) in values for key, values in marks.items()):
                    _tag(client, version, tags)
        except Exception as error:  # noqa: BLE001 - whatever a registry raises, what was done on Fireworks is done
            warnings.append(f"the tags of the versions of '{name}' were not corrected in the registry: {brief(error)}")
    return warnings


def _registered_in(sources: Iterable[str]) -> Iterator[tuple[str, Workspace | None]]:
    for uri in filter(None, map(_read_registered, sources)):
        yield uri.name, uri.home


def _read_registered(source: str) -> RegisteredUri | None:
    try:
        uri = parse_model_uri(source)
    except FireworksError:  # it was written down shortened
        return None
    return uri if isinstance(uri, RegisteredUri) else None


def _tag(client: MlflowClient, version: ModelVersion, tags: Tags) -> None:
    for key, value in tags.items():
        if value is not None:
            client.set_model_version_tag(version.name, version.version, key, make_printable(value))
        elif key in version.tags:
            client.delete_model_version_tag(version.name, version.version, key)
