"""Names of Hugging Face repositories, told apart from local paths that look alike."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import utils as hub_utils
from huggingface_hub.errors import HFValidationError

from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.registry.model_uri import parse_model_uri
from mlflow_fireworks.registry.uri_types import HubUri

_URL = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<path>[^?#]+)", re.IGNORECASE)
# How huggingface_hub names a repository's folder in its cache; "/" is written "--".
_CACHE_FOLDER = re.compile(r"(?:^|[/\\])models--(?P<repo>[^/\\]+)(?:[/\\]snapshots[/\\](?P<revision>[0-9a-f]{40}))?")
_NOT_MODELS = {"datasets", "spaces", "docs", "papers", "blog", "collections", "api"}
# `from_pretrained("outputs/chat")` leaves `outputs/chat`: spelled like a repository, and no one's organisation.
_LOCAL_WORDS = {
    *("artifacts", "cache", "checkpoint", "checkpoints", "ckpt", "ckpts", "components", "data", "dist", "download"),
    *("downloads", "exp", "experiments", "export", "exports", "final", "home", "llm", "local", "logs", "merged"),
    *("mlartifacts", "mlruns", "mnt", "model", "models", "out", "output", "outputs", "peft", "pipeline", "result"),
    *("results", "runs", "save", "saved", "saved_model", "saved_models", "saves", "tmp", "train", "weights"),
}
# What is added to the name of a quantised copy: `-bnb-4bit`, `-GPTQ-Int4`, `-AWQ`, `-FP8-dynamic`, `-quantized.w4a16`.
_QUANTISED = re.compile(
    r"(-unsloth)?([-_](bnb|gptq|awq|gguf|mlx|exl[23]|hqq|aqlm|fp8|nvfp4|mxfp4|int[48]|w\d+a\d+|[2-8]-?bits?"
    r"|quantized(\.w\d+a\d+)?))+(-(dynamic|static|block))?$",
    re.IGNORECASE,
)
# Organisations that publish copies of other people's models and not the originals.
_COPIERS = {
    *(
        "thebloke",
        "neuralmagic",
        "redhatai",
        "hugging-quants",
        "mlx-community",
        "bartowski",
        "modelcloud",
        "casperhansen",
    ),
    *("lmstudio-community", "turboderp", "nvidia", "amd", "intel", "isotr0py", "techxgenus", "solidrust"),
}
_TRAINING_FOLDER = re.compile(r"(checkpoint|step|epoch|global_step)[-_]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Repository:
    """A model repository on the Hugging Face Hub.

    Args:
        name: `org/name`; the Hub's oldest models have no organisation (`gpt2`).
        certain: The text can only mean a repository (a URL, a Hub cache folder), not a local folder.
        revision: The commit, where the text gave one.
    """

    name: str
    certain: bool
    revision: str | None = None

    @property
    def url(self) -> str:
        """Its page, as Fireworks wants it in `huggingFaceUrl`."""
        return f"https://huggingface.co/{self.name}"


def read_repository(text: str) -> Repository | None:
    r"""What repository a text names.

    URLs, `hf:` addresses and folders of the Hub's cache always name one. A bare `org/name` does unless it is a
    folder here or is spelled like one (absolute, `./`, `C:\`, more than one slash, `outputs/chat`,
    `org/checkpoint-500`). A bare `name` is legal for the Hub's oldest models but is also how a folder beside the
    script is written, so it is never certain; the caller decides how good its evidence is.

    Args:
        text: Anything that somebody gave as a model's name or path.

    Returns:
        The repository, or None when the text names none.
    """
    text = text.strip()
    if match := _URL.match(text):
        return _read_page(match["path"])
    if named := _read_hub_uri(text):
        return Repository(named.repo, True, named.commit)
    if match := _CACHE_FOLDER.search(text):
        name = match["repo"].replace("--", "/")
        return Repository(name, True, match["revision"]) if _is_legal(name) else None
    if text.count("/") > 1 or text.startswith((".", "~", "/")) or not _is_legal(text) or _is_folder(text):
        return None
    first, *rest = text.split("/")
    if first.lower() in _LOCAL_WORDS or any(map(_TRAINING_FOLDER.fullmatch, [first, *rest])):
        return None
    return Repository(text, certain=False)


def is_cache_folder(path: str) -> bool:
    """Whether a path leads through a repository's folder in a cache of the Hub (`models--org--name`)."""
    return _CACHE_FOLDER.search(path) is not None


def find_original(copy: Repository) -> Repository | None:
    """What a quantised copy was made from, by its name.

    Args:
        copy: Any repository.

    Returns:
        None when it is no such copy. `certain` where the same organisation has the original as well, as `unsloth` and
        those have who quantise their own models.
    """
    if not _QUANTISED.search(copy.name):
        return None
    organisation = copy.name.partition("/")[0].lower()
    return Repository(_QUANTISED.sub("", copy.name), certain="/" in copy.name and organisation not in _COPIERS)


def choose_base(names: Iterable[str]) -> Repository | None:
    """The repository of an adapter's base model: the first that is spelled in full, else the first bare name.

    A bare name may be a folder on the machine that trained the adapter, and must not hide what the card says. Of a
    quantised copy, which is what QLoRA trains on, the original is meant where it is known.

    Args:
        names: What names it, best first.
    """
    found = [repository for name in names if (repository := read_repository(name))]
    full = [repository for repository in found if repository.certain or "/" in repository.name]
    chosen = next(iter(full or found), None)
    original = find_original(chosen) if chosen else None
    return original if original and original.certain else chosen


def _read_hub_uri(text: str) -> HubUri | None:
    try:
        named = parse_model_uri(text)
    except InvalidConfigError:
        return None
    return named if isinstance(named, HubUri) else None


def _read_page(path: str) -> Repository | None:
    path, _, revision = path.strip("/").partition("@")
    parts = path.split("/")
    if parts[0].lower() in _NOT_MODELS:
        return None
    if parts[0] == "models":
        parts = parts[1:]
    if len(parts) > 3 and parts[2] in ("tree", "blob", "resolve", "commit"):  # noqa: PLR2004 - org/name/tree/REV
        revision = revision or parts[3]
    is_canonical = len(parts) == 1 or parts[1] in ("tree", "blob", "resolve", "commit", "discussions")
    name = "/".join(parts[:1] if is_canonical else parts[:2])
    is_commit = bool(re.fullmatch(r"[0-9a-f]{40}", revision))
    return Repository(name, True, revision if is_commit else None) if _is_legal(name) else None


def _is_legal(name: str) -> bool:
    try:
        hub_utils.validate_repo_id(name)  # type: ignore[attr-defined]  # documented, not listed in __all__
    except HFValidationError:
        return False
    return bool(name)


def _is_folder(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # a name that the file system cannot hold
        return False
