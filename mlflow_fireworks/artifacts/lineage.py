"""From which Hugging Face repository a model comes (`huggingFaceUrl`), and how good the evidence is.

Evidence is asked in this order, and the first that names a repository wins:

1.  `-C hugging_face_url=` (`none` forbids it)
2.  the model URI, when the model is deployed from `hf:/…` or a folder of the Hub's cache
3.  tags of the model version, the registered model, the run
4.  `MLmodel`: the flavor's `source_model_name`, where a pyfunc's artifact was taken from; then its metadata
5.  the logged model's params and tags, the run's params
6.  `config.json`: `_name_or_path`
7.  `adapter_config.json`: `base_model_name_or_path`
8.  the model card: `base_model`
9.  `tokenizer_config.json`: `name_or_path`

Fireworks uses the URL to find how to tune the model (its docs, fine-tuning: a training shape is resolved from it);
it never fetches weights from there. So the URL of the model that was tuned is the useful one, which is what most of
this evidence names.

Tags below `fireworks.` are left out: this plugin writes its own findings there, which are no evidence for themselves.
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from huggingface_hub import HfApi

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.documents import Document, child_of, text_of, texts_of
from mlflow_fireworks.artifacts.hub import HubAnswer, ask_hub
from mlflow_fireworks.artifacts.layout import Layout
from mlflow_fireworks.artifacts.repository import Repository, read_repository
from mlflow_fireworks.artifacts.selection import ADAPTER_CONFIG
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.config import Config
from mlflow_fireworks.errors import InvalidConfigError

_SECONDS_FOR_THE_HUB = 5.0
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
class Lineage:
    """Where a model comes from.

    Args:
        url: `https://huggingface.co/ORG/NAME`, or None when it is unknown or not wanted.
        repo: `ORG/NAME`.
        evidence: What named it, e.g. `MLmodel source_model_name`.
        confidence: `explicit`, `high`, `medium`, `low` or `none`.
        verified: Whether the Hub knows it; None when the Hub was not or could not be asked.
        base_url: Of an adapter: the page of the model it was trained on.
    """

    url: str | None = None
    repo: str | None = None
    evidence: str = ""
    confidence: str = "none"
    verified: bool | None = None
    base_url: str | None = None


@dataclass(frozen=True)
class Evidence:
    """One place that names a repository.

    Args:
        repository: What it names.
        origin: Which place, for a person.
        confidence: How much that place is worth.
        ancestor: It names what the model was made from; no contradiction to a name of the model itself.
    """

    repository: Repository
    origin: str
    confidence: str
    ancestor: bool = False


@dataclass(frozen=True)
class Finding:
    """A lineage, and what a person should know about it."""

    lineage: Lineage
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_explicit(option: str | None) -> Repository | None:
    """Read `-C hugging_face_url=`.

    Returns:
        The repository; None when the option was not given or is `none`.

    Raises:
        InvalidConfigError: It names no repository.
    """
    if option is None or option.lower() == "none":
        return None
    # What the user names is a repository even where a folder here has the same name.
    is_bare = option.count("/") <= 1 and not option.startswith((".", "/", "~"))
    repository = read_repository(f"https://huggingface.co/{option}" if is_bare else option)
    if repository is None:
        raise InvalidConfigError(
            f"-C hugging_face_url={option} is no Hugging Face repository; "
            "write https://huggingface.co/ORG/NAME, or none"
        )
    return replace(repository, certain=True)


def to_url(option: str | None) -> str | None:
    """The URL that `-C hugging_face_url=` means; None when it was not given or is `none`.

    Raises:
        InvalidConfigError: It names no repository.
    """
    repository = read_explicit(option)
    return repository.url if repository else None


def collect_evidence(source: Source, layout: Layout, checkpoint: Checkpoint) -> list[Evidence]:
    """Everything but the option that names a repository, best first, as listed at the top of this module."""
    return [
        Evidence(repository, origin, confidence, ancestor)
        for text, origin, confidence, ancestor in _list_names(source, layout, checkpoint)
        if (repository := read_repository(text)) is not None
    ]


def _list_names(source: Source, layout: Layout, checkpoint: Checkpoint) -> Iterator[tuple[str, str, str, bool]]:
    if source.resolved.startswith("hf:") or "/models--" in source.resolved:
        yield source.resolved, "model URI", "high", False
    for kind in _TAGS:
        yield from ((text, origin, "high", False) for text, origin in _read_hints(source, kind))
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
        if isinstance(artifact, dict) and layout.location.startswith(str(artifact.get("path"))):
            yield text_of(artifact, "uri") or "", "MLmodel artifact uri", "high", False
    metadata = child_of(layout.mlmodel, "metadata")
    for key, value in metadata.items():
        if isinstance(value, str) and _is_evidence(key, value):
            yield value, f"MLmodel metadata {key}", "medium", False


def find_lineage(
    evidence: list[Evidence], config: Config, api: HfApi, *, seconds: float = _SECONDS_FOR_THE_HUB
) -> Finding:
    """Decide on the repository, and ask the Hub about it where that is allowed.

    A repository that the Hub does not know is not used, unless the user named it. A name without an organisation
    could as well be a folder, so it counts only where the Hub knows it. An unreachable Hub changes nothing but is
    told; all questions together take at most `seconds`.

    Args:
        evidence: From `collect_evidence`.
        config: `hugging_face_url` and `verify_hugging_face` matter here.
        api: The Hub's client.
        seconds: Longest wait for the Hub.

    Raises:
        InvalidConfigError: `hugging_face_url` names no repository.
    """
    if config.hugging_face_url is not None and config.hugging_face_url.lower() == "none":
        return Finding(Lineage(evidence="-C hugging_face_url=none"))
    if explicit := read_explicit(config.hugging_face_url):
        evidence = [Evidence(explicit, "-C hugging_face_url", "explicit"), *evidence]
    ask = _make_question(config, api, seconds)
    notes: list[str] = []
    warnings: list[str] = []
    rejected: set[str] = set()
    for item in evidence:
        name = item.repository.name
        if name in rejected:
            continue
        answer = ask(name)
        if answer.exists is False and item.confidence != "explicit":
            warnings.append(
                f"{item.origin} names {name}, which the Hugging Face Hub does not know (or it is private and no token "
                "is set); it is not used, -C hugging_face_url= sets one"
            )
        elif "/" not in name and not item.repository.certain and not answer.exists:
            notes.append(f"{item.origin} names {name}, which may be a local folder; it is not taken for a repository")
        else:
            finding = _conclude(item, answer, [other for other in evidence if other.repository.name not in rejected])
            return replace(finding, notes=(*notes, *finding.notes), warnings=(*warnings, *finding.warnings))
        rejected.add(name)
    return Finding(Lineage(), tuple(notes), tuple(warnings))


def _make_question(config: Config, api: HfApi, seconds: float) -> Callable[[str], HubAnswer]:
    """A function that asks the Hub, until it once gave no answer or the time for all questions is over."""
    deadline = time.monotonic() + seconds
    silent: list[HubAnswer] = []
    if not config.verify_hugging_face:
        silent.append(HubAnswer(None, reason="-C verify_hugging_face=false"))

    def ask(name: str) -> HubAnswer:
        if silent:
            return silent[0]
        answer = ask_hub(name, api, deadline - time.monotonic())
        if answer.exists is None:
            silent.append(answer)
        return answer

    return ask


def _conclude(item: Evidence, answer: HubAnswer, evidence: list[Evidence]) -> Finding:
    asked = item.repository.name
    repository = Repository(answer.name, certain=True) if answer.name else item.repository
    notes, warnings = [], []
    if repository.name != asked:
        notes.append(f"{asked} is now called {repository.name} on the Hugging Face Hub")
    if answer.exists is None:
        notes.append(f"{asked} was not verified on the Hugging Face Hub ({answer.reason})")
    if answer.exists is False:
        warnings.append(f"{asked} is not known to the Hugging Face Hub (or it is private and no token is set)")
    for other in _find_others(evidence, {asked.lower(), repository.name.lower()}):
        name = other.repository.name
        if other.ancestor and item.origin == "model URI":
            notes.append(
                f"{other.origin} says it was made from {name}; if Fireworks should tune it like that model, "
                f"use -C hugging_face_url={name}"
            )
        elif item.confidence != "explicit":
            warnings.append(
                f"the origin is unclear: {item.origin} says {repository.name}, {other.origin} says {name}; "
                "the first is used, -C hugging_face_url= decides"
            )
    lineage = Lineage(repository.url, repository.name, item.origin, item.confidence, answer.exists)
    return Finding(lineage, tuple(notes), tuple(warnings))


def _find_others(evidence: list[Evidence], known: set[str]) -> Iterator[Evidence]:
    """Evidence of other repositories, each once; a bare name that may be a folder contradicts nothing."""
    for item in evidence:
        name = item.repository.name.lower()
        if name not in known and ("/" in name or item.repository.certain):
            known = {*known, name}
            yield item


def find_base_names(layout: Layout, checkpoint: Checkpoint) -> list[str]:
    """Where else an adapter's base model may be named when `adapter_config.json` holds only a path, best first."""
    flavor: Document = child_of(child_of(layout.mlmodel, "flavors"), "transformers")
    names = [text_of(flavor, "source_model_name"), text_of(checkpoint.document("config.json"), "_name_or_path")]
    return [name for name in (*names, *texts_of(checkpoint.card, "base_model")[:1]) if name]
