"""What names the Hugging Face repository that a model comes from.

Evidence is asked in this order, and the first that names a repository wins:

1.  `-C hugging_face_url=` (`none` forbids it)
2.  the model URI, when the model is deployed from `hf:/…` or a folder of the Hub's cache
3.  tags of the model version, the registered model, the run
4.  a folder of the Hub's cache (`models--org--name`) inside the artifacts
5.  `MLmodel`: the flavor's `source_model_name`, where a pyfunc's artifact was taken from; then its metadata
6.  the logged model's params and tags, the run's params
7.  `config.json`: `_name_or_path`
8.  `adapter_config.json`: `base_model_name_or_path`
9.  the model card: `base_model`
10. `tokenizer_config.json`: `name_or_path`

A quantised copy (`…-bnb-4bit`, `…-GPTQ`) is nothing that Fireworks tunes, so what it was made from is asked in its
place, behind all other evidence.

Tags below `fireworks.` are left out: this plugin writes its own findings there, which are no evidence for themselves.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.documents import Document, child_of, text_of, texts_of
from mlflow_fireworks.artifacts.layout import Layout
from mlflow_fireworks.artifacts.repository import Repository, find_original, is_cache_folder, read_repository
from mlflow_fireworks.artifacts.selection import ADAPTER_CONFIG
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.artifacts.tree import join, to_posix

_URI = "model URI"
_TAGS = ("model version tag", "registered model tag", "run tag")
# Names of tags and params that people give a repository under; compared without case and punctuation.
_KEYS = {
    *("huggingface", "huggingfaceid", "huggingfacemodel", "huggingfacemodelid", "huggingfacemodelname"),
    *("huggingfacerepo", "huggingfacerepoid", "huggingfaceurl", "hf", "hfid", "hfmodel", "hfmodelid", "hfmodelname"),
    *("hfrepo", "hfrepoid", "hfurl", "basemodel", "basemodelid", "basemodelname", "basemodelnameorpath"),
    *("sourcemodel", "sourcemodelname", "modelnameorpath", "modelid", "modelname", "pretrainedmodel"),
    *("pretrainedmodelname", "pretrainedmodelnameorpath", "nameorpath"),
}


@dataclass(frozen=True)
class Evidence:
    """One place that names a repository.

    Args:
        repository: What it names.
        origin: Which place, for a person.
        confidence: How much that place is worth.
        ancestor: It names what the model was made from; no contradiction to a name of the model itself.
        copy: The quantised copy that it names, where `repository` is what that was made from.
        is_guess: It counts only where the Hub knows it.
    """

    repository: Repository
    origin: str
    confidence: str
    ancestor: bool = False
    copy: str | None = None
    is_guess: bool = False


def collect_evidence(source: Source, layout: Layout, checkpoint: Checkpoint) -> list[Evidence]:
    """Everything but the option that names a repository, best first, as listed at the top of this module."""
    found = [
        _make_evidence(repository, origin, confidence, ancestor)
        for text, origin, confidence, ancestor in _list_names(source, layout, checkpoint)
        if (repository := read_repository(text)) is not None
    ]
    return sorted(found, key=lambda item: item.copy is not None)


def _make_evidence(repository: Repository, origin: str, confidence: str, ancestor: bool) -> Evidence:
    original = None if origin == _URI else find_original(repository)
    if original is None:
        return Evidence(repository, origin, confidence, ancestor)
    is_guess = not original.certain
    return Evidence(Repository(original.name, False), origin, "low", ancestor, repository.name, is_guess)


def _list_names(source: Source, layout: Layout, checkpoint: Checkpoint) -> Iterator[tuple[str, str, str, bool]]:
    if source.resolved.startswith("hf:") or "/models--" in source.resolved:
        yield source.resolved, _URI, "high", False
    for kind in _TAGS:
        yield from ((text, origin, "high", False) for text, origin in _read_hints(source, kind))
    if is_cache_folder(layout.location):
        yield layout.location, "a folder of the artifacts", "high", False
    yield from _list_mlmodel_names(layout)
    for kind in ("logged model param", "logged model tag", "run param"):
        yield from ((text, origin, "medium", False) for text, origin in _read_hints(source, kind))
    name = text_of(checkpoint.document("config.json"), "_name_or_path")
    yield name or "", "config.json _name_or_path", "medium", True
    name = text_of(checkpoint.document(ADAPTER_CONFIG), "base_model_name_or_path")
    yield name or "", f"{ADAPTER_CONFIG} base_model_name_or_path", "high", True
    for name in texts_of(checkpoint.card, "base_model")[:1]:
        yield name, "model card base_model", "medium", True
    name = text_of(checkpoint.document("tokenizer_config.json"), "name_or_path")
    yield name or "", "tokenizer_config.json name_or_path", "low", True


def _read_hints(source: Source, kind: str) -> Iterator[tuple[str, str]]:
    for hint in source.hints:
        if hint.origin == kind and _is_evidence(hint.key, hint.value):
            yield hint.value, f"{kind} {hint.key}"


def _is_evidence(key: str, value: str) -> bool:
    """Whether a tag or param may name a repository; `model_name=chat` is how people name their own models."""
    if key.startswith("fireworks.") or ("/" not in value and not re.search(r"hf|hugging", key, re.IGNORECASE)):
        return False
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    last = re.sub(r"[^a-z0-9]", "", re.split(r"[./]", key.lower())[-1])
    return plain in _KEYS or last in _KEYS


def _list_mlmodel_names(layout: Layout) -> Iterator[tuple[str, str, str, bool]]:
    flavors = child_of(layout.mlmodel, "flavors")
    for flavor in flavors:
        name = text_of(child_of(flavors, flavor), "source_model_name")
        yield name or "", "MLmodel source_model_name", "high", False
    for artifact in child_of(child_of(flavors, "python_function"), "artifacts").values():
        if isinstance(artifact, dict) and _holds(artifact, layout):
            yield text_of(artifact, "uri") or "", "MLmodel artifact uri", "high", False
    metadata = child_of(layout.mlmodel, "metadata")
    for key, value in metadata.items():
        if isinstance(value, str) and _is_evidence(key, value):
            yield value, f"MLmodel metadata {key}", "medium", False


def _holds(artifact: Document, layout: Layout) -> bool:
    """Whether the checkpoint is that artifact or lies in it; its path begins where the `MLmodel` is."""
    path = text_of(artifact, "path")
    return path is not None and f"{layout.location}/".startswith(f"{join(layout.root, to_posix(path))}/")


def find_base_names(layout: Layout, checkpoint: Checkpoint) -> list[str]:
    """Where else an adapter's base model may be named when `adapter_config.json` holds only a path, best first."""
    flavor: Document = child_of(child_of(layout.mlmodel, "flavors"), "transformers")
    names = [text_of(flavor, "source_model_name"), text_of(checkpoint.document("config.json"), "_name_or_path")]
    return [name for name in (*names, *texts_of(checkpoint.card, "base_model")[:1]) if name]
