"""MLflow's model registry, logged models and runs: which files a URI means, and what people noted about them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

from mlflow_fireworks.artifacts.sources.artifact_repository import list_repository, open_repository
from mlflow_fireworks.artifacts.sources.source import Hint
from mlflow_fireworks.errors import InvalidConfigError, SourceError
from mlflow_fireworks.progress import Reporter
from mlflow_fireworks.redaction import brief, hide_credentials
from mlflow_fireworks.registry.advice import describe_remedy
from mlflow_fireworks.registry.clients import find_registry, open_client
from mlflow_fireworks.registry.lookup import ask, describe_known, find_version, is_gone
from mlflow_fireworks.registry.mlflow_versions import has_logged_models, require_logged_models
from mlflow_fireworks.registry.model_uri import parse_model_uri
from mlflow_fireworks.registry.questions import read_pages
from mlflow_fireworks.registry.uri_types import LoggedModelUri, RegisteredUri, RunUri, Workspace
from mlflow_fireworks.registry.versions import quote

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel  # MLflow 2 has none


@dataclass(frozen=True)
class Place:
    """Where the files of a model are.

    Args:
        resolved: The URI that pins it.
        repository: The artifact repository that holds them.
        folder: POSIX path inside the repository, "" for all of it.
        identity: Names the content for ever, when MLflow can: `models:/m-…` of a logged model.
        registered: The registry's version, when it is one.
        hints: Tags and parameters on the way to it.
    """

    resolved: str
    repository: ArtifactRepository
    folder: str = ""
    identity: str | None = None
    registered: RegisteredUri | None = None
    hints: tuple[Hint, ...] = ()


def find_registered_version(uri: RegisteredUri, reporter: Reporter) -> Place:
    """Resolve `models:/name/version`, `…@alias`, `…/latest` or `…/Stage`, once.

    Args:
        uri: The URI; a folder inside the model may follow, as MLflow allows.
        reporter: Is warned of what may surprise.

    Raises:
        SourceError: There is no such model, version or alias, or the registry cannot be asked.
    """
    client = open_client(uri.home)
    try:
        version = find_version(client, uri)
    except MlflowException as error:
        raise _not_found(client, uri, error) from None
    registered = RegisteredUri(uri.name, str(version.version), workspace=uri.home)
    if version.status != "READY":
        is_coming = version.status == "PENDING_REGISTRATION"
        remedy = "wait until it is READY, then run the same command again" if is_coming else "register it again"
        raise SourceError(
            f"{registered} is {version.status} in the registry; {remedy}, or name another version"
            + describe_known(uri.name, uri.home)
        )
    below = _place_of(client, version, registered, uri.folder, reporter)
    model = ask(lambda: client.get_registered_model(uri.name))
    tags = (
        *_notes("model version tag", version.tags),
        *_notes("registered model tag", model.tags if model else {}),
    )
    return replace(
        below,
        resolved=str(uri.at(str(version.version))),
        registered=registered,
        hints=(*tags, *below.hints),
    )


def _place_of(
    client: MlflowClient, version: ModelVersion, registered: RegisteredUri, folder: str, reporter: Reporter
) -> Place:
    pinned = str(registered)
    repository = open_repository(pinned, registered.workspace)
    if isinstance(repository, RunsArtifactRepository):  # `runs:/…` was registered as it stands
        source = parse_model_uri(repository.artifact_uri)
        if isinstance(source, RunUri):
            workspace = replace(registered.workspace, unity_catalog=False) if registered.workspace else None
            path = "/".join(part for part in (source.path, folder) if part)
            return find_in_run(RunUri(source.run_id, path, source.workspace or workspace), reporter)
    model_id = getattr(version, "model_id", None) or _model_id_in(version.source)  # MLflow 2 has only the source
    logged = ask(lambda: client.get_logged_model(model_id)) if model_id and has_logged_models() else None
    run_id = version.run_id or (logged.source_run_id if logged else None)
    run = ask(lambda: client.get_run(run_id)) if run_id else None
    identity = str(LoggedModelUri(model_id, folder, registered.workspace)) if model_id else None
    return Place(pinned, repository, folder, identity, hints=tuple(_hints(run, logged)))


def find_logged(uri: LoggedModelUri) -> Place:
    """Resolve `models:/m-<id>`.

    Args:
        uri: The URI.

    Raises:
        SourceError: There is no such logged model, the tracking server cannot be asked, or MLflow is too old.
    """
    require_logged_models(uri)
    client = open_client(uri.workspace)
    try:
        logged = client.get_logged_model(uri.model_id)
    except MlflowException as error:
        raise SourceError(
            f"no logged model {uri.model_id} in {_tracking_server(uri.workspace)}: {brief(error)}; "
            + describe_remedy(error)
        ) from None
    return _logged_place(client, logged, uri)


def find_in_run(uri: RunUri, reporter: Reporter) -> Place:
    """Resolve `runs:/<run id>/path`: a model logged by that run, else a folder of its artifacts.

    MLflow 3 keeps logged models outside of the run's own folder and lets `runs:/<run id>/<model name>` find them.

    Args:
        uri: The URI.
        reporter: Is warned when the path names both.

    Raises:
        SourceError: There is no such run, or the tracking server cannot be asked.
    """
    client = open_client(uri.workspace)
    try:
        run = client.get_run(uri.run_id)
    except MlflowException as error:
        raise SourceError(
            f"cannot read run {uri.run_id} in {_tracking_server(uri.workspace)}: {brief(error)}; "
            + describe_remedy(error)
        ) from None
    name, _, rest = uri.path.partition("/")
    repository = _open_artifacts(run.info.artifact_uri, uri.workspace)
    logged = ask(lambda: _find_logged_by(client, run, name)) if name and has_logged_models() else None
    if logged is not None:
        found = LoggedModelUri(logged.model_id, rest, uri.workspace)
        if list_repository(repository, uri.path):
            reporter.warn(f"{uri} names a logged model and a folder of the run; taking {replace(found, folder='')}")
        return _logged_place(client, logged, found, run)
    return Place(
        resolved=str(uri),
        repository=repository,
        folder=uri.path,
        hints=tuple(_hints(run, None)),
    )


def _logged_place(client: MlflowClient, logged: "LoggedModel", uri: LoggedModelUri, run: Run | None = None) -> Place:
    run_id = logged.source_run_id
    if run is None and run_id:
        run = ask(lambda: client.get_run(run_id))
    return Place(
        resolved=str(uri),
        repository=_open_artifacts(logged.artifact_location, uri.workspace),
        folder=uri.folder,
        identity=str(uri),
        hints=tuple(_hints(run, logged)),
    )


def _open_artifacts(location: str, workspace: Workspace | None) -> ArtifactRepository:
    """The repository at a place that the tracking server named; `dbfs:/…` is that of the server's own workspace."""
    if workspace is None:
        return open_repository(location)
    uri = add_databricks_profile_info_to_artifact_uri(location, workspace.tracking_uri)
    return open_repository(uri, workspace)


def _find_logged_by(client: MlflowClient, run: Run, name: str) -> "LoggedModel | None":
    # Filtering by run as well is not possible on Databricks (MLflow 3.17, `runs_artifact_repo.py`).
    found = read_pages(
        lambda token: client.search_logged_models(
            experiment_ids=[run.info.experiment_id], filter_string=f"name = {quote(name)}", page_token=token
        )
    )
    return next((logged for logged in found if logged.source_run_id == run.info.run_id), None)


def _hints(run: Run | None, logged: "LoggedModel | None") -> Iterator[Hint]:
    yield from _notes("run tag", run.data.tags if run else {})
    yield from _notes("logged model tag", (logged.tags or {}) if logged else {})
    yield from _notes("logged model param", (logged.params or {}) if logged else {})
    yield from _notes("run param", run.data.params if run else {})


def _notes(origin: str, pairs: Mapping[str, object]) -> Iterable[Hint]:
    """Hints from one place; `mlflow.*` tags are MLflow's own bookkeeping."""
    return [Hint(origin, key, str(value)) for key, value in pairs.items() if not key.startswith("mlflow.")]


def _not_found(client: MlflowClient, uri: RegisteredUri, error: MlflowException) -> SourceError:
    registry = hide_credentials(find_registry(uri.home))
    asked = replace(uri, folder="")
    if not is_gone(error):
        return SourceError(
            f"cannot resolve {asked} in the registry {registry}: {brief(error)}; {describe_remedy(error)}"
        )
    if ask(lambda: client.get_registered_model(uri.name)) is None:
        return SourceError(
            f"no registered model '{uri.name}' in the registry {registry}; "
            "is MLFLOW_TRACKING_URI (or MLFLOW_REGISTRY_URI) set to the right server?"
        )
    return SourceError(f"{asked} does not exist in the registry {registry}{describe_known(uri.name, uri.home)}")


def _model_id_in(source: str | None) -> str | None:
    """The logged model that a version was registered from."""
    try:
        uri = parse_model_uri(source or "")
    except InvalidConfigError:
        return None
    return uri.model_id if isinstance(uri, LoggedModelUri) else None


def _tracking_server(workspace: Workspace | None) -> str:
    return hide_credentials(workspace.tracking_uri if workspace else mlflow.get_tracking_uri())
