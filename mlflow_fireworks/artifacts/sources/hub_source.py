"""Models straight from the Hugging Face Hub, or from its cache on this machine when the Hub cannot be reached.

The user's cache is read, never filled: a file that is not cached is fetched into a temporary folder and removed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import (
    HfApi,
    constants,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, but not in __all__

from mlflow_fireworks.artifacts.sources.folder import FolderStore, list_folder
from mlflow_fireworks.artifacts.sources.ranges import Answer, read_pieces
from mlflow_fireworks.artifacts.sources.relay import RelayStore
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.artifacts.sources.staging import FetchedStore
from mlflow_fireworks.errors import InvalidConfigError, SourceError
from mlflow_fireworks.http import Retry, TransientError
from mlflow_fireworks.in_between import find_obstacle
from mlflow_fireworks.progress import Reporter
from mlflow_fireworks.redaction import brief
from mlflow_fireworks.registry.hub_versions import CERTIFICATES, NO_ANSWER, NoBar, download, open_stream
from mlflow_fireworks.registry.model_uri import parse_model_uri
from mlflow_fireworks.registry.uri_types import HubUri

_ANSWER_SECONDS = 10.0


def open_hub_source(
    uri: str,
    *,
    reporter: Reporter,
    workspace: Path | None = None,
    max_disk: int | None = None,
    relay: bool = True,
    cache: Path | None = None,
    endpoint: str | None = None,
) -> Source:
    """Resolve `hf:/org/name[@revision]` to a commit.

    Args:
        uri: The URI; the revision is a branch, a tag or a commit.
        reporter: Is told when the Hub cannot be reached and the cache is used.
        workspace: Folder for fetched files; the system's when None.
        max_disk: Most bytes of fetched files at any time; what is free when None.
        relay: Whether files are read in ranges while they are sent.
        cache: The Hub cache; huggingface_hub's own (HF_HUB_CACHE, HF_HOME) when None.
        endpoint: Address of the Hub; huggingface_hub's own (HF_ENDPOINT) when None.

    Raises:
        InvalidConfigError: It is not a Hub URI.
        SourceError: There is no such repo or revision, it may not be read, or the Hub cannot be reached and the
            cache does not have it.
    """
    asked = parse_model_uri(uri)
    if not isinstance(asked, HubUri):
        raise InvalidConfigError(f"'{asked}' is not a Hub URI; write hf:/ORG/NAME or hf:/ORG/NAME@REVISION")
    cache = cache or Path(constants.HF_HUB_CACHE)
    try:
        info = HfApi(endpoint=endpoint).model_info(
            asked.repo, revision=asked.revision, files_metadata=True, timeout=_ANSWER_SECONDS
        )
    except hub_errors.RevisionNotFoundError:
        raise SourceError(f"{asked.repo} has no revision '{asked.revision}' on the Hugging Face Hub") from None
    except hub_errors.RepositoryNotFoundError:
        raise SourceError(
            f"no repo {asked.repo} on the Hugging Face Hub, or none that you have "
            "access to; check its name, or log in with a token that may read it (HF_TOKEN, `hf auth login`)"
        ) from None
    except NO_ANSWER as error:
        why = "offline mode" if isinstance(error, hub_errors.OfflineModeIsEnabled) else brief(error)
        refused = isinstance(error, hub_errors.HfHubHTTPError) and error.response.status_code == HTTPStatus.FORBIDDEN
        next_step = find_obstacle(error, CERTIFICATES) or ("use a token that may read it" if refused else "connect")
        return _open_cached(uri, asked, cache, why, next_step=next_step, reporter=reporter)
    sizes = {file.rfilename: file.size for file in info.siblings or []}
    if info.sha is None or not sizes:
        raise SourceError(f"the Hugging Face Hub lists no files for {uri}")
    store = HubStore(
        info.id,
        info.sha,
        sizes,
        reporter=reporter,
        workspace=workspace,
        max_disk=max_disk,
        relay=relay,
        cache=cache,
        endpoint=endpoint,
    )
    return Source(
        asked=uri,
        resolved=str(HubUri(info.id, info.sha)),
        identity=f"hf:{info.id}@{info.sha}",
        files={name: store.measure(name) for name in sizes},
        store=store,
        mlmodel={},
    )


def _open_cached(uri: str, asked: HubUri, cache: Path, why: str, *, next_step: str, reporter: Reporter) -> Source:
    repo = asked.repo
    try:
        folder = Path(
            snapshot_download(repo, revision=asked.revision, cache_dir=cache, local_files_only=True, tqdm_class=NoBar)
        )
    except hub_errors.LocalEntryNotFoundError:
        raise SourceError(
            f"cannot read {str(asked).removeprefix('hf:/')} from the Hugging Face Hub ({why}), and the cache {cache} "
            f"has no complete copy of it; {next_step}, or fetch it first with `hf download {repo}`"
        ) from None
    reporter.note(
        f"cannot read {repo} from the Hugging Face Hub ({why}); using the copy cached on this machine: {folder.name}"
    )
    listing = list_folder(folder)
    return Source(
        asked=uri,
        resolved=str(asked.at(folder.name)),
        identity=f"hf:{repo}@{folder.name}",
        files=listing.files,
        store=FolderStore(folder),
        mlmodel={},
        outside_links=tuple(listing.outside_links),
        broken_links=tuple(listing.broken_links),
    )


class HubStore:
    """Files of one commit of a repo: from the cache where it has them, from the Hub else.

    Args:
        repo: `org/name`.
        commit: Full sha.
        sizes: Size in bytes of every file; None where the Hub does not tell.
        reporter: Is told about tries that failed.
        workspace: Folder for fetched files; the system's when None.
        max_disk: Most bytes of fetched files at any time; what is free when None.
        relay: Whether files are read in ranges while they are sent.
        cache: The Hub cache.
        endpoint: Address of the Hub; huggingface_hub's own when None.
        retry: How often a read or a fetch is tried.
    """

    def __init__(
        self,
        repo: str,
        commit: str,
        sizes: Mapping[str, int | None],
        *,
        reporter: Reporter,
        workspace: Path | None,
        cache: Path,
        endpoint: str | None,
        max_disk: int | None = None,
        relay: bool = True,
        retry: Retry | None = None,
    ) -> None:
        self._repo = repo
        self._commit = commit
        self._sizes = sizes
        self._cache = cache
        self._endpoint = endpoint
        origin = str(HubUri(repo, commit))
        fetched = FetchedStore(
            origin, sizes, self._fetch, reporter=reporter, workspace=workspace, max_disk=max_disk, retry=retry
        )
        self._remote = RelayStore(origin, sizes, self._open_range, fetched, reporter=reporter, relay=relay, retry=retry)

    @property
    def beginnings_are_cheap(self) -> bool:
        """Whether the Hub, or what stands in for it, gives the beginning of a file alone."""
        return self._remote.beginnings_are_cheap

    def path(self, name: str) -> Path | None:
        """Where the file lies in the cache, if it does and is complete."""
        cached = try_to_load_from_cache(self._repo, name, cache_dir=self._cache, revision=self._commit)
        if not isinstance(cached, str):
            return None
        path = Path(cached)
        return path if self._sizes[name] in (None, path.stat().st_size) else None

    def read_beginning(self, name: str, size: int) -> bytes:
        """The first `size` bytes.

        Raises:
            SourceError: The file cannot be read.
        """
        path = self.path(name)
        if path is not None:
            return FolderStore(path.parent).read_beginning(path.name, size)
        return self._remote.read_beginning(name, size)

    def read(self, name: str, most: int | None = None) -> bytes:
        """The whole file; its first `most + 1` bytes where it is larger.

        Raises:
            SourceError: The file cannot be read.
        """
        path = self.path(name)
        if path is not None:
            return FolderStore(path.parent).read(path.name, most)
        return self._remote.read(name, most)

    def measure(self, name: str) -> int:
        """The size of a file in bytes; looks at the file when the Hub did not tell."""
        path = self.path(name)
        return path.stat().st_size if path is not None else self._remote.measure(name)

    def relay(self, name: str) -> Callable[[int, int], BinaryIO] | None:
        """What opens a file of the Hub in ranges; None for those in the cache, and where it must be staged."""
        return self._remote.relay(name) if self.path(name) is None else None

    def why_fetched(self, name: str) -> str | None:
        """Why a file must be fetched before it can be sent; None when it need not."""
        return self._remote.why_fetched(name) if self.path(name) is None else None

    def version(self, name: str) -> str:  # noqa: ARG002 - the same for all
        """The commit."""
        return self._commit

    def staged(self, name: str) -> AbstractContextManager[Path]:
        """The file: the cached one in place, else a fetched copy that is removed afterwards.

        Raises:
            SourceError: The file cannot be fetched.
        """
        path = self.path(name)
        return FolderStore(path.parent).staged(path.name) if path is not None else self._remote.staged(name)

    def expect(self, uses: Mapping[str, int]) -> None:
        """Fetch ahead what must be fetched.

        Args:
            uses: How often each file will be staged, in the order in which that begins; empty to fetch nothing more.
        """
        self._remote.expect({name: count for name, count in uses.items() if self.path(name) is None})

    def close(self) -> None:
        """Remove everything that was fetched; the cache stays as it is."""
        self._remote.close()

    def _open_range(self, name: str, begin: int, end: int, version: str | None) -> Answer:  # noqa: ARG002 - a commit
        """The Hub answers with a redirect to where the file is stored, signed anew each time."""
        url = hf_hub_url(self._repo, name, revision=self._commit, endpoint=self._endpoint)
        headers = build_hf_headers(headers={"Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"})
        with ExitStack() as stack, self._translated(name):
            told, pieces = stack.enter_context(open_stream(url, headers, _ANSWER_SECONDS))
            return Answer(read_pieces(pieces), stack.pop_all().close, told, self._commit)
        raise AssertionError("it returns or raises")

    def _fetch(self, name: str, into: Path) -> Path:
        with self._translated(name):
            return download(self._repo, name, revision=self._commit, into=into, endpoint=self._endpoint)

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except hub_errors.LocalEntryNotFoundError as error:  # how huggingface_hub says that it got no answer
            raise TransientError(brief(error.__cause__ or error)) from None
        except hub_errors.GatedRepoError:
            raise SourceError(
                f"{self._repo} is gated on the Hugging Face Hub: accept its terms at "
                f"https://huggingface.co/{self._repo} and provide a token (HF_TOKEN, `hf auth login`)"
            ) from None
        except (hub_errors.RepositoryNotFoundError, hub_errors.EntryNotFoundError) as error:
            raise SourceError(f"cannot read {name} of {self._repo} on the Hugging Face Hub: {brief(error)}") from None
        except NO_ANSWER as error:
            raise TransientError(brief(error)) from None
