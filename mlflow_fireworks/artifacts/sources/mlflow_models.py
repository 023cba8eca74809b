"""MLflow's model registry, logged models and runs: which files a URI means, and what people noted about them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.store.artifact.utils.models import get_model_name_and_version
from mlflow.utils.uri import get_databricks_profile_uri_from_artifact_uri

from mlflow_fireworks.artifacts.sources.artifact_repository import list_repository, open_repository
from mlflow_fireworks.artifacts.sources.source import Hint, RegisteredVersion
from mlflow_fireworks.errors import InvalidConfigError, SourceError
from mlflow_fireworks.progress import Reporter
from mlflow_fireworks.redaction import brief, hide_credentials

T = TypeVar("T")

_MODEL_URI = re.compile(
    r"(?P<base>models:(?://[^/]+)?/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<suffix>[^/@]+))?)"
    r"(?:/(?P<folder>.+))?"
)
_NOT_THERE = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
"""MLflow says INVALID_PARAMETER_VALUE for an unknown alias, RESOURCE_DOES_NOT_EXIST for the rest (3.17)."""
_SHOWN = 5


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
    registered: RegisteredVersion | None = None
    hints: tuple[Hint, ...] = ()


def find_model(uri: str, reporter: Reporter) -> Place:
    """Resolve `models:/name/version`, `…@alias`, `…/latest`, `…/Stage` or `models:/m-<id>`, once.

    Args:
        uri: The URI; a folder inside the model may follow, as MLflow allows for registered versions.
        reporter: Is warned of what may surprise.

    Raises:
        InvalidConfigError: It is not a model URI.
        SourceError: There is no such model, version or alias, or the registry cannot be asked.
    """
    match = _MODEL_URI.fullmatch(uri.rstrip("/"))
    if match is None or ".." in (match["folder"] or "").split("/"):
        raise InvalidConfigError(
            f"'{uri}' is not a model URI; write models:/NAME/VERSION, models:/NAME@ALIAS or models:/m-ID"
        )
    client = MlflowClient(registry_uri=_profile_in(uri))
    folder = match["folder"] or ""
    if match["alias"] or match["suffix"]:
        return _find_version(client, match, folder, reporter)
    if not match["name"].startswith("m-"):
        raise InvalidConfigError(
            f"'{uri}' names no version; write models:/{match['name']}/VERSION or models:/{match['name']}@ALIAS"
            f"{_describe_known(client, match['name'])}"
        )
    try:
        logged = client.get_logged_model(match["name"])
    except MlflowException as error:
        raise SourceError(
            f"no logged model {match['name']} in {_where(mlflow.get_tracking_uri())}: {brief(error)}; "
            "is MLFLOW_TRACKING_URI set to the right server?"
        ) from None
    return _logged_place(client, logged, folder)


def _find_version(client: MlflowClient, match: re.Match[str], folder: str, reporter: Reporter) -> Place:
    name, alias, suffix = match["name"], match["alias"], match["suffix"]
    try:
        if alias:
            version = client.get_model_version_by_alias(name, alias)
        else:
            if not suffix.isdigit():  # `latest`, or a stage
                _, suffix = get_model_name_and_version(client, match["base"])
            version = client.get_model_version(name, suffix)
    except MlflowException as error:
        raise _not_found(client, match["base"], name, error) from None
    if version.status != "READY":
        raise SourceError(
            f"models:/{name}/{version.version} is {version.status} in the registry; "
            f"register it again or name another version{_describe_known(client, name)}"
        )
    pinned = re.sub(r"[@/][^@/]+$", f"/{version.version}", match["base"])
    below = _place_of(client, version, pinned, folder, reporter)
    model = _ask(lambda: client.get_registered_model(name))
    tags = (
        *_notes("model version tag", version.tags),
        *_notes("registered model tag", model.tags if model else {}),
    )
    return replace(
        below,
        resolved=_below(pinned, folder),
        registered=RegisteredVersion(name, str(version.version), alias),
        hints=(*tags, *below.hints),
    )


def _place_of(client: MlflowClient, version: ModelVersion, pinned: str, folder: str, reporter: Reporter) -> Place:
    repository = open_repository(pinned)
    if isinstance(repository, RunsArtifactRepository):  # `runs:/…` was registered as it stands
        return find_in_run(_below(repository.artifact_uri, folder), reporter)
    model_id = version.model_id or _model_id_in(version.source)
    logged = _ask(lambda: client.get_logged_model(model_id)) if model_id else None
    run_id = version.run_id or (logged.source_run_id if logged else None)
    run = _ask(lambda: client.get_run(run_id)) if run_id else None
    identity = _below(f"models:/{model_id}", folder) if model_id else None
    return Place(pinned, repository, folder, identity, hints=tuple(_hints(run, logged)))


def find_in_run(uri: str, reporter: Reporter) -> Place:
    """Resolve `runs:/<run id>/path`: a model logged by that run, else a folder of its artifacts.

    MLflow 3 keeps logged models outside of the run's own folder and lets `runs:/<run id>/<model name>` find them.

    Args:
        uri: The URI.
        reporter: Is warned when the path names both.

    Raises:
        InvalidConfigError: It is not a run URI.
        SourceError: There is no such run, or the tracking server cannot be asked.
    """
    try:
        run_id, path = RunsArtifactRepository.parse_runs_uri(uri)
    except MlflowException:
        run_id = None
    folder = (path or "").strip("/") if run_id else ""
    if run_id is None or ".." in folder.split("/"):
        raise InvalidConfigError(f"'{uri}' is not a run URI; write runs:/RUN_ID/PATH")
    client = MlflowClient(tracking_uri=_profile_in(uri))
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise SourceError(
            f"cannot read run {run_id} in {_where(mlflow.get_tracking_uri())}: {brief(error)}; "
            "is MLFLOW_TRACKING_URI set to the right server?"
        ) from None
    name, _, rest = folder.partition("/")
    repository = open_repository(run.info.artifact_uri)
    logged = _ask(lambda: _find_logged_by(client, run, name)) if name else None
    if logged is not None:
        if list_repository(repository, folder):
            reporter.warn(f"{uri} names a logged model and a folder of the run; taking models:/{logged.model_id}")
        return _logged_place(client, logged, rest, run)
    return Place(
        resolved=uri.rstrip("/"),
        repository=repository,
        folder=folder,
        hints=tuple(_hints(run, None)),
    )


def _logged_place(client: MlflowClient, logged: LoggedModel, folder: str, run: Run | None = None) -> Place:
    run_id = logged.source_run_id
    if run is None and run_id:
        run = _ask(lambda: client.get_run(run_id))
    pinned = f"models:/{logged.model_id}"
    return Place(
        resolved=_below(pinned, folder),
        repository=open_repository(pinned),
        folder=folder,
        identity=_below(pinned, folder),
        hints=tuple(_hints(run, logged)),
    )


def _find_logged_by(client: MlflowClient, run: Run, name: str) -> LoggedModel | None:
    token = None
    while True:
        # Filtering by run as well is not possible on Databricks (MLflow 3.17, `runs_artifact_repo.py`).
        page = client.search_logged_models(
            experiment_ids=[run.info.experiment_id], filter_string=f"name = '{name}'", page_token=token
        )
        for logged in page:
            if logged.source_run_id == run.info.run_id:
                return logged
        token = page.token
        if not token:
            return None


def _hints(run: Run | None, logged: LoggedModel | None) -> Iterator[Hint]:
    yield from _notes("run tag", run.data.tags if run else {})
    yield from _notes("logged model tag", (logged.tags or {}) if logged else {})
    yield from _notes("logged model param", (logged.params or {}) if logged else {})
    yield from _notes("run param", run.data.params if run else {})


def _notes(origin: str, pairs: Mapping[str, object]) -> Iterable[Hint]:
    """Hints from one place; `mlflow.*` tags are MLflow's own bookkeeping."""
    return [Hint(origin, key, str(value)) for key, value in pairs.items() if not key.startswith("mlflow.")]


def _ask(question: Callable[[], T]) -> T | None:
    """The answer, or None: what is only a hint may be gone, e.g. a deleted run."""
    try:
        return question()
    except MlflowException:
        return None


def _not_found(client: MlflowClient, uri: str, name: str, error: MlflowException) -> SourceError:
    registry = _where(mlflow.get_registry_uri())
    if error.error_code not in _NOT_THERE and not str(error).startswith("No versions of model"):
        return SourceError(
            f"cannot resolve {uri} in the registry {registry}: {brief(error)}; is MLFLOW_TRACKING_URI right?"
        )
    if _ask(lambda: client.get_registered_model(name)) is None:
        return SourceError(
            f"no registered model '{name}' in the registry {registry}; "
            "is MLFLOW_TRACKING_URI (or MLFLOW_REGISTRY_URI) set to the right server?"
        )
    return SourceError(f"{uri} does not exist in the registry {registry}{_describe_known(client, name)}")


def _describe_known(client: MlflowClient, name: str) -> str:
    model = _ask(lambda: client.get_registered_model(name))
    if model is None:
        return ""
    aliases = [f"{alias} → {version}" for alias, version in sorted(model.aliases.items())]
    versions = _ask(lambda: client.search_model_versions(f"name='{name}'", max_results=1000))
    numbers = sorted((int(version.version) for version in versions or ()), reverse=True)
    parts = []
    if aliases:
        parts.append(f"aliases: {_shorten(aliases)}")
    parts.append(f"versions: {_shorten([str(number) for number in numbers])}" if numbers else "it has no versions")
    return "; " + "; ".join(parts)


def _shorten(words: list[str]) -> str:
    return ", ".join(words[:_SHOWN]) + (", …" if len(words) > _SHOWN else "")


def _model_id_in(uri: str | None) -> str | None:
    match = re.match(r"models:/(m-[^/@]+)", uri or "")
    return match[1] if match else None


def _profile_in(uri: str) -> str | None:
    """The Databricks profile of `models://profile@databricks/…`; None stands for MLflow's current server."""
    profile: str | None = get_databricks_profile_uri_from_artifact_uri(uri)
    return profile


def _below(uri: str, folder: str) -> str:
    return f"{uri}/{folder}" if folder else uri


def _where(uri: str) -> str:
    return hide_credentials(uri)
