"""The part of a model's artifacts that one `MLmodel` file describes."""

from dataclasses import dataclass

from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.documents import Document, child_of
from mlflow_fireworks.artifacts.selection import is_junk
from mlflow_fireworks.artifacts.sources.source import Source


@dataclass(frozen=True)
class Tree:
    """One `MLmodel` and what lies below it; everything when there is none.

    Args:
        source: The model.
        root: The folder that holds the `MLmodel`, empty for the top.
        mlmodel: It, parsed.
    """

    source: Source
    root: str
    mlmodel: Document

    @property
    def flavors(self) -> Document:
        """What `MLmodel` says of each way to load the model."""
        return child_of(self.mlmodel, "flavors")

    def folder(self, path: str) -> dict[str, Stored]:
        """The files below a folder of this tree, by their names in it; without what training left there."""
        return {name: file for name, file in self.everything(path).items() if not is_junk(name)}

    def everything(self, path: str) -> dict[str, Stored]:
        """The same with what training left there."""
        prefix = f"{join(self.root, path)}/" if join(self.root, path) else ""
        source = self.source
        return {
            name.removeprefix(prefix): Stored(source.store, name, size, source.identity)
            for name, size in source.files.items()
            if name.startswith(prefix)
        }

    def links(self, path: str) -> tuple[str, ...]:
        """The unusable symbolic links below a folder of this tree."""
        prefix = join(self.root, path)
        names = (*self.source.outside_links, *self.source.broken_links)
        return tuple(name for name in names if not prefix or name.startswith(f"{prefix}/"))


def join(*parts: str) -> str:
    """A POSIX path of those parts that are not empty."""
    return "/".join(part for part in parts if part)


def to_posix(path: str) -> str:
    """A path as `MLmodel` has it; MLflow on Windows writes backslashes there."""
    return "/".join(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))
