"""The grammar of model URIs: what a text names, as a type of its own, and each type as text again.

::

    models:/NAME/VERSION  models:/NAME@ALIAS  models:/NAME/latest  models:/NAME/STAGE     [/FOLDER]
    models:/m-ID                                                                          [/FOLDER]
    runs:/RUN_ID[/PATH]
    hf:/ORG/NAME[@REVISION]     also hf:NAME, hf://ORG/NAME
    a folder, or a file: URI
    any other URI, for which MLflow may have an artifact repository

After `models:` and `runs:` a Databricks workspace may stand: `models://PROFILE@databricks/NAME/VERSION`.

MLflow's own reading is kept (3.17: `store/artifact/utils/models.py`, `runs_artifact_repo.py`, `utils/uri.py`; all of it
was run): `latest` and stages in any case, names with blanks and with percent signs, which nothing decodes. Where MLflow
takes a URI for something that nobody can have meant (`models://chat/1` is the logged model `1` to it), or drops a part
of it without a word (all that follows a `?`), it is refused here. Nothing here asks a server.
"""

import re
from typing import NoReturn
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from huggingface_hub import errors as hub_errors
from huggingface_hub import utils as hub_utils
from mlflow.entities.model_registry.model_version_stages import ALL_STAGES

from mlflow_fireworks.errors import InvalidConfigError, NoVersionError
from mlflow_fireworks.registry.uri_types import (
    SCHEME,
    FolderUri,
    HubUri,
    LoggedModelUri,
    ModelUri,
    RegisteredUri,
    RunUri,
    StoreUri,
    Workspace,
    begin,
)

LATEST = "latest"
_STAGES = {stage.lower(): stage for stage in (*ALL_STAGES, LATEST)}
_SLASHES_AT_END = re.compile(r"(?<=[^/:])/+$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NO_REVISION = re.compile(r"[\s~^:?*\[\\\x00-\x1f\x7f]|\.\.|//|^/|@\{")  # from git's `check-ref-format`
_OTHERS_ON_HUB = ("datasets", "spaces", "kernels", "buckets")
_FORMS = {
    "model": "models:/NAME/VERSION, models:/NAME@ALIAS or models:/m-ID",
    "run": "runs:/RUN_ID/PATH",
    "Hub": "hf:/ORG/NAME or hf:/ORG/NAME@REVISION",
    "folder": "a path, or file:///PATH",
}


def parse_model_uri(text: str) -> ModelUri:
    """Read a model URI.

    Args:
        text: The URI; slashes at its end mean nothing, nor do blanks around it, unless they could belong to the name of
            a folder.

    Returns:
        What it names.

    Raises:
        NoVersionError: It names a registered model without a version.
        InvalidConfigError: It is empty or malformed.
    """
    asked = text.strip()
    if not asked:
        raise InvalidConfigError("the model URI is empty; write e.g. models:/NAME/VERSION or models:/NAME@ALIAS")
    if _CONTROL.search(asked):
        raise InvalidConfigError(f"the model URI {asked!a} contains a line break or a control character")
    found = SCHEME.match(asked)
    scheme = found[1].lower() if found else ""
    if text.lstrip().rstrip("\r\n") != asked and scheme not in ("models", "runs", "hf"):
        raise InvalidConfigError(f"'{asked}' ends with a space, which could mean a different folder; remove the space")
    if not found:
        return FolderUri(_SLASHES_AT_END.sub("", asked))
    rest = asked[found.end() :]
    match scheme:
        case "models":
            return _parse_models(asked, rest)
        case "runs":
            return _parse_run(asked, rest)
        case "hf":
            return _parse_hub(asked, rest)
        case "file":
            return _parse_file(asked)
    return StoreUri(_SLASHES_AT_END.sub("", asked))


def version_in(text: str) -> str | None:
    """The number of the registry's version that a model URI names; None when it names something else."""
    try:
        uri = parse_model_uri(text)
    except InvalidConfigError:
        return None
    return uri.version if isinstance(uri, RegisteredUri) else None


def _parse_models(uri: str, rest: str) -> RegisteredUri | LoggedModelUri:
    first, parts, workspace = _split("model", uri, rest)
    if "@" in first:
        return _parse_alias(uri, first, parts, workspace)
    if first.startswith("m-") and len(first) > len("m-") and not (parts and _read_version(parts[0])):
        return LoggedModelUri(first, _read_folder("model", uri, parts), workspace)
    if not parts:
        start = begin("models", workspace) + first
        raise NoVersionError(
            f"'{uri}' names no version; write {start}/VERSION or {start}@ALIAS",
            RegisteredUri(first, workspace=workspace),
        )
    pointer, folder = parts[0], _read_folder("model", uri, parts[1:])
    if version := _read_version(pointer):
        number, stage = version
        return RegisteredUri(first, number, stage=stage, folder=folder, workspace=workspace)
    if "@" in pointer:
        _refuse("model", uri, "a version and an alias cannot be combined")
    if not pointer.strip():
        _refuse("model", uri, "a part of it is empty")
    alias = pointer if re.fullmatch(r"[\w-]+", pointer) else "ALIAS"
    raise NoVersionError(
        f"'{uri}' names no version: '{pointer}' is not a number, latest or a stage; for an "
        f"alias write {RegisteredUri(first, alias=alias, workspace=workspace)}",
        RegisteredUri(first, workspace=workspace),
    )


def _parse_alias(uri: str, first: str, parts: list[str], workspace: Workspace | None) -> RegisteredUri:
    name, _, alias = first.partition("@")
    if "@" in alias:
        _refuse("model", uri, "it has more than one @")
    if not name.strip():
        _refuse("model", uri, "its name is empty")
    if not alias or re.search(r"\s", alias):
        _refuse("model", uri, "its alias is empty or contains a space")
    if parts and _read_version(parts[0]):
        _refuse(
            "model",
            uri,
            f"an alias and a version cannot be combined (-C checkpoint_path= takes a folder called '{parts[0]}')",
        )
    return RegisteredUri(name, alias=alias, folder=_read_folder("model", uri, parts), workspace=workspace)


def _read_version(part: str) -> tuple[str, None] | tuple[None, str] | None:
    """What a part of a URI says as a version: its number, or else `latest` or a stage."""
    if part.isascii() and part.isdigit():
        return part.lstrip("0") or "0", None
    stage = _STAGES.get(part.lower())
    return (None, stage) if stage else None


def _parse_run(uri: str, rest: str) -> RunUri:
    run_id, parts, workspace = _split("run", uri, rest)
    if "#" in rest:
        _refuse("run", uri, "MLflow ignores everything after a #")
    if workspace and workspace.unity_catalog:
        _refuse("run", uri, "runs are kept by the workspace, so write @databricks")
    return RunUri(run_id, _read_folder("run", uri, parts), workspace)


def _split(kind: str, uri: str, rest: str) -> tuple[str, list[str], Workspace | None]:
    """The first part of a path, those after it, and the workspace before it."""
    scheme = uri.partition(":")[0].lower()
    if "?" in rest:
        _refuse(kind, uri, "MLflow ignores everything after a ?")
    workspace = None
    if rest.startswith("//"):
        authority, _, path = rest[2:].partition("/")
        path = path.strip("/")
        workspace = _read_workspace(kind, uri, authority, path)
    elif rest.startswith("/"):
        path = rest[1:].rstrip("/")
    else:
        _refuse(kind, uri, f"{scheme}: must be followed by a /")
    first, *parts = path.split("/")
    if not first.strip():
        _refuse(kind, uri, "it names nothing")
    if first in (".", ".."):
        _refuse(kind, uri, f"'{first}' cannot be a name")
    return first, parts, workspace


def _read_workspace(kind: str, uri: str, authority: str, path: str) -> Workspace:
    profile, _, host = authority.rpartition("@")
    if host.lower() not in ("databricks", "databricks-uc"):
        # What follows a : may be a password, and nobody knows where it ends.
        meant = "" if ":" in authority else "/".join(part for part in (authority, path) if part)
        form = begin(uri.partition(":")[0].lower(), None) + meant if meant else None
        _refuse(kind, uri, "only a Databricks workspace can follow //", form)
    workspace = Workspace(profile, host.lower() == "databricks-uc")
    scope, colon, prefix = profile.partition(":")
    if profile and (not scope or re.search(r"\s", profile) or (colon and (not prefix or ":" in prefix))):
        _refuse(kind, uri, "a workspace is PROFILE@databricks or SCOPE:PREFIX@databricks")
    if colon and workspace.unity_catalog:
        _refuse(kind, uri, "MLflow reads Unity Catalog with a profile only, not with SCOPE:PREFIX")
    return workspace


def _read_folder(kind: str, uri: str, parts: list[str]) -> str:
    """A folder's path; an empty part would make it an absolute one."""
    for part in parts:
        plain = part
        while (decoded := unquote(plain)) != plain:  # MLflow's server decodes as long as there is something to decode
            plain = decoded
        if ".." in re.split(r"[/\\]", plain):
            _refuse(kind, uri, "a folder cannot contain ..")
    return "/".join(part for part in parts if part not in ("", "."))


def _parse_hub(uri: str, rest: str) -> HubUri:
    repo, at, revision = re.sub(r"^/{1,2}", "", rest).rstrip("/").partition("@")
    parts = repo.split("/")
    if parts[0] in _OTHERS_ON_HUB and len(parts) > 1:
        _refuse("Hub", uri, f"it names one of the Hub's {parts[0]}, not a model")
    if parts[0] == "models":  # as huggingface_hub 2.4 writes the URIs of models itself
        parts = parts[1:]
    if len(parts) not in (1, 2):
        _refuse("Hub", uri, "a repo has a name, or an owner and a name")
    try:
        hub_utils.validate_repo_id("/".join(parts))  # type: ignore[attr-defined]  # documented, not listed in __all__
    except hub_errors.HFValidationError:
        _refuse("Hub", uri, "its repo name is not allowed on the Hub")
    # huggingface_hub decodes revisions, so that one with slashes can be written `feature%2Fx` (2.4, `_hf_uris.py`).
    revision = unquote(revision)
    if at and (not revision or _NO_REVISION.search(revision) or revision.endswith(("/", "."))):
        _refuse("Hub", uri, f"'{revision}' cannot be a branch, tag or commit")
    return HubUri("/".join(parts), revision or None)


def _parse_file(uri: str) -> FolderUri:
    parts = urlsplit(uri)
    if parts.query or parts.fragment or uri.endswith(("?", "#")):
        _refuse("folder", uri, "write ? as %3F and # as %23")
    if parts.netloc.lower() not in ("", "localhost"):
        _refuse("folder", uri, f"'{parts.hostname}' is another machine")
    path = url2pathname(parts.path)
    if not path or _CONTROL.search(path):
        _refuse("folder", uri, "it names no folder")
    return FolderUri(_SLASHES_AT_END.sub("", path))


def _refuse(kind: str, uri: str, why: str, form: str | None = None) -> NoReturn:
    raise InvalidConfigError(f"'{uri}' is not a {kind} URI: {why}; write {form or _FORMS[kind]}")
