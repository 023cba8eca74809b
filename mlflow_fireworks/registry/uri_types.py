"""What a model URI can name, one type for each kind. `str()` of it is the URI; `model_uri` reads it."""

import re
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import TypeAlias
from urllib.parse import quote

from mlflow_fireworks.redaction import hide_credentials

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: C: is a Windows drive
_LEVELS = 3  # catalog.schema.name
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Workspace:
    """A Databricks workspace, as it stands in `models://PROFILE@databricks/…`.

    Source: MLflow 3.17, `get_databricks_profile_uri_from_artifact_uri`; for Unity Catalog
    `unity_catalog_models_artifact_repo.py`.

    Args:
        profile: A profile of `~/.databrickscfg`, or `scope:prefix` of the secrets that say where it is; "" for the one
            that the environment names.
        unity_catalog: Models are those of Unity Catalog, not of the workspace's own registry.
    """

    profile: str = ""
    unity_catalog: bool = False

    def __str__(self) -> str:
        """As in a URI: `PROFILE@databricks`."""
        host = "databricks-uc" if self.unity_catalog else "databricks"
        return f"{self.profile}@{host}" if self.profile else host

    @property
    def tracking_uri(self) -> str:
        """What MLflow calls its tracking server: `databricks://PROFILE`."""
        return f"databricks://{self.profile}" if self.profile else "databricks"

    @property
    def registry_uri(self) -> str:
        """What MLflow calls its registry: `databricks://PROFILE` or `databricks-uc://PROFILE`."""
        scheme = "databricks-uc" if self.unity_catalog else "databricks"
        return f"{scheme}://{self.profile}" if self.profile else scheme


@dataclass(frozen=True)
class RegisteredUri:
    """A registered model, and which version of it: just one of `version`, `alias` and `stage` is given.

    Args:
        name: The registered model; for Unity Catalog `catalog.schema.name`.
        version: Number of the version.
        alias: An alias.
        stage: `latest`, or a stage: the newest version that is in it.
        folder: POSIX path inside the version's artifacts, "" for all of them.
        workspace: Where it is registered; None for MLflow's current registry.
    """

    name: str
    version: str | None = None
    alias: str | None = None
    stage: str | None = None
    folder: str = ""
    workspace: Workspace | None = None

    def __str__(self) -> str:
        """`models:/chat@champion`."""
        pointer = f"@{self.alias}" if self.alias else f"/{self.version or self.stage}"
        return join_folder(begin("models", self.workspace) + self.name + pointer, self.folder)

    @property
    def title(self) -> str:
        """What to call a deployment of it."""
        return self.name

    @property
    def home(self) -> Workspace | None:
        """Whom to ask: a name of three levels is one of Unity Catalog's, also below `@databricks`.

        Only there a version can have aliases: MLflow's client refuses them for a workspace's own registry (3.17,
        `databricks_workspace_model_registry_rest_store.py`).
        """
        has_levels = self.name.count(".") == _LEVELS - 1
        if self.workspace is None or not has_levels or ":" in self.workspace.profile:
            return self.workspace
        return replace(self.workspace, unity_catalog=True)

    def at(self, version: str) -> "RegisteredUri":
        """The same, pinned to a version."""
        return replace(self, version=version, alias=None, stage=None)


@dataclass(frozen=True)
class LoggedModelUri:
    """A logged model of MLflow 3; it never changes.

    MLflow's own `models:` URIs name a folder of registered versions only; here one of a logged model can be named too.

    Args:
        model_id: `m-…`.
        folder: POSIX path inside its artifacts, "" for all of them.
        workspace: Where it was logged; None for MLflow's current server.
    """

    model_id: str
    folder: str = ""
    workspace: Workspace | None = None

    def __str__(self) -> str:
        """`models:/m-0123`."""
        return join_folder(begin("models", self.workspace) + self.model_id, self.folder)

    @property
    def title(self) -> str:
        """What to call a deployment of it, unless its own name is known."""
        return self.model_id


@dataclass(frozen=True)
class RunUri:
    """A model that a run logged, or a folder of the run's artifacts.

    Args:
        run_id: The run.
        path: POSIX path; "" for all of its artifacts.
        workspace: Where it ran; None for MLflow's current server.
    """

    run_id: str
    path: str = ""
    workspace: Workspace | None = None

    def __str__(self) -> str:
        """`runs:/0123/model`."""
        return join_folder(begin("runs", self.workspace) + self.run_id, self.path)

    @property
    def title(self) -> str:
        """What to call a deployment of it."""
        return (self.path or self.run_id).rpartition("/")[2]


@dataclass(frozen=True)
class HubUri:
    """A model repository on the Hugging Face Hub.

    Args:
        repo: `org/name`; the Hub's oldest models have no organisation (`gpt2`).
        revision: A branch, tag, commit or `refs/pr/N`; None for the default branch.
    """

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        """`hf:/org/name@main`; a percent sign in the revision is `%25`, since huggingface_hub decodes revisions."""
        return f"hf:/{self.repo}" + (f"@{self.revision.replace('%', '%25')}" if self.revision else "")

    @property
    def title(self) -> str:
        """What to call a deployment of it."""
        return self.repo.rpartition("/")[2]

    @property
    def commit(self) -> str | None:
        """The revision, when that is a full commit and can never mean anything else."""
        return self.revision if self.revision and _COMMIT.fullmatch(self.revision) else None

    def at(self, commit: str) -> "HubUri":
        """The same, pinned to a commit."""
        return replace(self, revision=commit)


@dataclass(frozen=True)
class FolderUri:
    """A folder of this machine.

    Args:
        path: As it was given; relative to the current folder, or beginning with `~`, or with a Windows drive.
    """

    path: str

    def __str__(self) -> str:
        """The path; as a `file:` URI where the path alone would be read as something else."""
        if self.path == self.path.strip() and not SCHEME.match(self.path):
            return self.path
        return ("file://" if self.path.startswith("/") else "file:") + quote(self.path)

    @property
    def title(self) -> str:
        """What to call a deployment of it."""
        is_windows = "\\" in self.path or PureWindowsPath(self.path).drive
        return (PureWindowsPath(self.path) if is_windows else PurePosixPath(self.path)).name


@dataclass(frozen=True)
class StoreUri:
    """A folder of an artifact store. Whether MLflow has a repository for its scheme is seen when it is opened.

    Args:
        address: The URI, which may hold credentials: it is for MLflow only. `str()` is for people.
    """

    address: str = field(repr=False)

    def __str__(self) -> str:
        """The URI without credentials."""
        return hide_credentials(self.address)

    @property
    def title(self) -> str:
        """What to call a deployment of it."""
        return re.split(r"[/:]", str(self).partition("#")[0].rstrip("/"))[-1]


ModelUri: TypeAlias = RegisteredUri | LoggedModelUri | RunUri | HubUri | FolderUri | StoreUri


def begin(scheme: str, workspace: Workspace | None) -> str:
    """The beginning of a `models:` or `runs:` URI, up to the name."""
    return f"{scheme}://{workspace}/" if workspace else f"{scheme}:/"


def join_folder(place: str, folder: str) -> str:
    """The URI or path of a folder inside a place; the place itself when the folder is ""."""
    return f"{place}/{folder}" if folder else place
