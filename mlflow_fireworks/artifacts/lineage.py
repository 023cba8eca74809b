"""From which Hugging Face repository a model comes (`huggingFaceUrl`), and how good the evidence is.

What names a repository is collected by `evidence`; the first that holds wins. A repository that the Hub does not know
is left out, unless the user named it.

Fireworks uses the URL to find how to tune the model (its docs, fine-tuning: a training shape is resolved from it);
it never fetches weights from there. So the URL of the model that was tuned is the useful one, which is what most of
the evidence names.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from huggingface_hub import HfApi

from mlflow_fireworks.artifacts.evidence import Evidence
from mlflow_fireworks.artifacts.hub import HubAnswer, ask_hub
from mlflow_fireworks.artifacts.repository import Repository, read_repository
from mlflow_fireworks.config import Config
from mlflow_fireworks.errors import InvalidConfigError

_SECONDS_FOR_THE_HUB = 5.0


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
            f"-C hugging_face_url={option} is not a Hugging Face repository; "
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
                "is set); it is not used; set one with -C hugging_face_url="
            )
        elif item.is_guess and not answer.exists:
            notes.append(
                f"{item.origin} names {item.copy}, a quantised copy, and it is not known what it was made from; "
                "-C hugging_face_url= sets the original"
            )
        elif "/" not in name and not item.repository.certain and not answer.exists:
            notes.append(f"{item.origin} names {name}, which may be a local folder; it is not treated as a repository")
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
    if item.copy:
        notes.append(f"{item.origin} names {item.copy}, a quantised copy; {asked} is taken as the original")
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
                "the first is used; choose with -C hugging_face_url="
            )
    lineage = Lineage(repository.url, repository.name, item.origin, item.confidence, answer.exists)
    return Finding(lineage, tuple(notes), tuple(warnings))


def _find_others(evidence: list[Evidence], known: set[str]) -> Iterator[Evidence]:
    """Evidence of other repositories, each once; a bare name that may be a folder, or a copy, contradicts nothing."""
    for item in evidence:
        name = item.repository.name.lower()
        if name not in known and not item.copy and ("/" in name or item.repository.certain):
            known = {*known, name}
            yield item
