"""From a model URI to a `Source`: resolved once, pinned, listed. Nothing big moves here."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_fireworks.artifacts.repository import read_repository
from mlflow_fireworks.artifacts.sources.artifact_repository import (
    fetch_from,
    find_local_folder,
    list_repository,
    open_from,
    open_repository,
)
from mlflow_fireworks.artifacts.sources.folder import FolderStore, list_folder
from mlflow_fireworks.artifacts.sources.hub_source import open_hub_source
from mlflow_fireworks.artifacts.sources.mlflow_models import Place, find_in_run, find_logged, find_registered_version
from mlflow_fireworks.artifacts.sources.mlmodel import MLMODEL, read_mlmodel
from mlflow_fireworks.artifacts.sources.relay import RelayStore
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.artifacts.sources.staging import Fetch, FetchedStore
from mlflow_fireworks.errors import FireworksError, InvalidConfigError, SourceError
from mlflow_fireworks.progress import Reporter, Silent, count_files
from mlflow_fireworks.redaction import brief, hide_credentials
from mlflow_fireworks.registry.advice import describe_remedy
from mlflow_fireworks.registry.lookup import read_model_uri
from mlflow_fireworks.registry.uri_types import (
    FolderUri,
    HubUri,
    LoggedModelUri,
    RegisteredUri,
    RunUri,
    StoreUri,
)

_HOSTS_OF_HUB = ("huggingface.co", "www.huggingface.co", "hf.co")


def open_source(
    uri: str,
    *,
    reporter: Reporter | None = None,
    workspace: Path | None = None,
    max_disk: int | None = None,
    relay: bool = True,
) -> Source:
    """Find the files of a model, wherever MLflow or the Hugging Face Hub keeps them.

    `models:/name/version`, `models:/name@alias`, `models:/name/latest`, `models:/m-<id>`, `runs:/<run>/path`,
    `file:` URIs and plain folders, any URI that MLflow has an artifact repository for (`s3:`, `gs:`,
    `mlflow-artifacts:`, …), and `hf:/org/name[@revision]`. Folders of this machine are used in place.

    Args:
        uri: The model URI.
        reporter: Is told what may surprise; nobody when None.
        workspace: Folder for files that must be fetched; the system's (TMPDIR) when None.
        max_disk: Most bytes of fetched files at any time; what is free when None.
        relay: Whether remote files are read in ranges while they are sent, where their store can do that.

    Returns:
        The source. Its store should be closed when the work is done.

    Raises:
        InvalidConfigError: The URI is malformed, or no store knows its scheme.
        SourceError: It leads to nothing that can be read.
    """
    named = read_model_uri(uri)
    reporter = reporter or Silent()
    if isinstance(named, HubUri):
        return open_hub_source(uri.strip(), reporter=reporter, workspace=workspace, max_disk=max_disk, relay=relay)
    if isinstance(named, FolderUri):
        root = Path(named.path).expanduser().absolute()
        return _open_folder(root, root, uri.strip(), None, reporter)
    if isinstance(named, StoreUri):
        _refuse_page(named)
    asked = str(named) if isinstance(named, StoreUri) else uri.strip()
    place = _find_place(named, reporter)
    folder = find_local_folder(place.repository)
    if folder is not None:
        root = folder.absolute()
        return _open_folder(root / place.folder, root, asked, place, reporter)
    make_fetched = partial(FetchedStore, reporter=reporter, workspace=workspace, max_disk=max_disk)
    return _open_remote(place, asked, reporter, make_fetched, relay=relay)


def _refuse_page(uri: StoreUri) -> None:
    is_of_hub = (urlsplit(uri.address).hostname or "") in _HOSTS_OF_HUB
    if is_of_hub and (page := read_repository(uri.address)):
        named = HubUri(page.name, page.revision) if page.revision else HubUri(page.name)
        raise InvalidConfigError(f"{uri} is a page of the Hugging Face Hub; write {named}")


def _find_place(uri: RegisteredUri | LoggedModelUri | RunUri | StoreUri, reporter: Reporter) -> Place:
    try:
        match uri:
            case RegisteredUri():
                return find_registered_version(uri, reporter)
            case LoggedModelUri():
                return find_logged(uri)
            case RunUri():
                return find_in_run(uri, reporter)
        return Place(resolved=str(uri), repository=open_repository(uri.address))
    except FireworksError:
        raise
    except Exception as error:  # noqa: BLE001 - e.g. a database driver is missing, or a URI MLflow does not know
        raise SourceError(f"MLflow cannot look up {uri}: {brief(error)}; {describe_remedy(error)}") from None


def _open_folder(folder: Path, root: Path, asked: str, place: Place | None, reporter: Reporter) -> Source:
    try:
        if not folder.is_dir():
            raise SourceError(f"{asked}: {_explain_missing(folder, root)}")
    except OSError as error:  # a parent that may not be entered, or a path that is too long
        raise SourceError(f"cannot look for the folder {folder}: {error.strerror}; check the path") from None
    listing = list_folder(folder)
    for name in listing.unreadable:
        reporter.warn(
            f"{folder / name} cannot be read and is not uploaded; if the model needs it, check its permissions"
        )
    if not listing.files:
        raise SourceError(f"{asked}: {folder} holds no files")
    store = FolderStore(folder)
    return Source(
        asked=asked,
        resolved=place.resolved if place else folder.as_uri(),
        identity=place.identity if place else None,
        files=listing.files,
        store=store,
        mlmodel=read_mlmodel(store, asked) if MLMODEL in listing.files else {},
        registered=place.registered if place else None,
        hints=place.hints if place else (),
        outside_links=tuple(listing.outside_links),
        broken_links=tuple(listing.broken_links),
    )


def _explain_missing(folder: Path, root: Path) -> str:
    if folder.exists():
        return f"{folder} is a file; name its folder"
    if folder != root and root.is_dir():
        there = sorted(path.name for path in root.iterdir())
        return f"there is no folder {folder.relative_to(root)} in {root}; it has: {', '.join(there[:8]) or 'nothing'}"
    return f"{root} does not exist on this machine; was it deleted, or created on another machine?"


def _open_remote(
    place: Place,
    asked: str,
    reporter: Reporter,
    make_fetched: Callable[[str, Mapping[str, int | None], Fetch], FetchedStore],
    *,
    relay: bool,
) -> Source:
    location = hide_credentials(place.repository.artifact_uri).rstrip("/")
    location = f"{location}/{place.folder}" if place.folder else location
    sizes = list_repository(place.repository, place.folder)
    if not sizes:
        raise SourceError(f"{asked}: there are no files in {location}; check the path (it must be a folder)")
    fetched = make_fetched(location, sizes, fetch_from(place.repository, place.folder))
    open_range = open_from(place.repository, place.folder)
    store = RelayStore(location, sizes, open_range, fetched, reporter=reporter, relay=relay)
    try:
        unknown = [name for name, size in sizes.items() if size is None]
        if unknown:
            reporter.warn(f"{location} does not report the size of {count_files(len(unknown))}; fetching to find out")
        files = {name: store.measure(name) for name in sizes}
        mlmodel = read_mlmodel(store, asked) if MLMODEL in files else {}
    except BaseException:
        store.close()
        raise
    return Source(
        asked=asked,
        resolved=place.resolved,
        identity=place.identity or location,
        files=files,
        store=store,
        mlmodel=mlmodel,
        registered=place.registered,
        hints=place.hints,
        location=location,
    )
