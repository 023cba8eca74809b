"""Plans a folder as the pipeline does, with stores that count what is read from them."""

import shutil
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi

from mlflow_fireworks.artifacts.manifest import Manifest, build_manifest
from mlflow_fireworks.artifacts.sources.folder import FolderStore, list_folder
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.config import parse_config
from mlflow_fireworks.progress import Silent


def plan(source: Path | Source, *, hub: HfApi | None = None, open_reference=open_source, **options) -> Manifest:
    """The manifest of a folder or a source."""
    resolved = source if isinstance(source, Source) else open_source(str(source))
    return build_manifest(resolved, parse_config(options), Silent(), hub=hub, open_reference=open_reference)


def names(manifest: Manifest) -> list[str]:
    return [file.name for file in manifest.files]


def read_file(manifest: Manifest, name: str) -> bytes:
    """The bytes that would go up under a name."""
    content = next(file.content for file in manifest.files if file.name == name)
    with content.staged() as open_file, open_file() as opened:
        return opened.read()


class CountingStore(FolderStore):
    """A local folder that counts the bytes read from weights, and the files that were opened in full."""

    def __init__(self, root):
        super().__init__(root)
        self.beginning_bytes = 0
        self.staged_names = []

    def read_beginning(self, name, size):
        start = super().read_beginning(name, size)
        self.beginning_bytes += len(start)
        return start

    @contextmanager
    def staged(self, name):
        self.staged_names.append(name)
        with super().staged(name) as path:
            yield path


class RemoteStore(CountingStore):
    """A store whose files are elsewhere, and whose `read_beginning` fetches the whole file."""

    beginnings_are_cheap = False

    def __init__(self, root, scratch):
        super().__init__(root)
        self._scratch = scratch
        self.fetched = []

    def path(self, name):
        return None

    def why_fetched(self, name):
        return "this store sends whole files only"

    def read_beginning(self, name, size):
        self.fetched.append(name)
        return super().read_beginning(name, size)

    def _read(self, name, size):
        with (self._root / name).open("rb") as file:
            return file.read(size)

    @contextmanager
    def staged(self, name):
        copy = self._scratch / name.replace("/", "_")
        shutil.copyfile(self._root / name, copy)
        yield copy


def source_of(folder: Path, store=None, *, identity: str | None = None, **fields) -> Source:
    """A source over a folder, as a registry or a remote store would give it."""
    listing = list_folder(folder)
    fields = {"files": listing.files, "mlmodel": open_source(str(folder)).mlmodel, **fields}
    return Source(
        asked="models:/chat@champion",
        resolved="models:/chat/3",
        identity=identity,
        store=store or FolderStore(folder),
        outside_links=tuple(listing.outside_links),
        broken_links=tuple(listing.broken_links),
        **fields,
    )
