"""The files of one checkpoint under their Fireworks names, and what its small files say.

Rules that names alone do not tell:

- An addon is `adapter_config.json` and its weights and nothing else: Fireworks refuses other files in it
  ("unexpected file").
- The chat template: Fireworks reads `chat_template` inside `tokenizer_config.json` (its docs know no other place),
  newer transformers write `chat_template.jinja`. A `tokenizer_config.json` with the template folded in is made and
  goes up; the `.jinja` file goes up as well, because transformers' processors read only that. Where both places
  hold a template the file wins, as it does in transformers.
- Older sentence-transformers keep the transformer in `0_Transformer/`. Fireworks looks for `config.json` at the
  top, so that folder is lifted there and a `modules.json` is made that says so.
"""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import yaml

from mlflow_fireworks.artifacts.content import Made, Part
from mlflow_fireworks.artifacts.documents import Document, Fault, child_of, parse_document, text_of, texts_of
from mlflow_fireworks.artifacts.layout import Layout
from mlflow_fireworks.artifacts.selection import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    DEFAULTS_FILE,
    Weights,
    choose_weights,
    is_index,
    is_needed,
    is_weights,
)
from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import CheckpointError
from mlflow_fireworks.names import enumerate_names

_TOKENIZER_CONFIG = "tokenizer_config.json"
_MODULES = "modules.json"
_READERS = 8
_EMBEDDING_TASKS = ("feature-extraction", "sentence-similarity")


@dataclass(frozen=True)
class Checkpoint:
    """What goes up.

    Args:
        kind: What it is to Fireworks.
        files: Every file, by its name on Fireworks.
        weights: The weights of each folder that has some, by folder with its slash (empty for the top).
        contents: The bytes of every file that is not weights.
        documents: The JSON files among them, parsed; for an adapter also its base's `config.json` if it was near.
        card: The front matter of the model card, which itself stays.
        problems: Files that cannot be parsed.
        notes: What was decided on the way.
    """

    kind: Kind
    files: Mapping[str, Part]
    weights: Mapping[str, Weights]
    contents: Mapping[str, bytes]
    documents: Mapping[str, Document]
    card: Document
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def document(self, name: str) -> Document:
        """A parsed JSON file; empty when there is none."""
        return self.documents.get(name, {})

    def weight_names(self) -> list[str]:
        """The names of all weights files."""
        return [folder + name for folder, weights in self.weights.items() for name in weights.files]


def make_checkpoint(layout: Layout, wanted: Kind | None, subject: str) -> Checkpoint:
    """Choose from a layout what goes up, and read the small files.

    Args:
        layout: The files that were found.
        wanted: The kind that the user asked for, or None.
        subject: What is deployed, for messages.

    Raises:
        CheckpointError: The files do not make a model of that kind.
    """
    files, modules, notes = _lift_transformer(dict(layout.files))
    folders = _module_folders(files, modules)
    contents = _read_all(files, [name for name in files if _is_small(name, folders)])
    documents, faults = _parse_all(contents)
    if fault := _check_modules(files, modules):
        faults[_MODULES] = fault
    kind = _choose_kind(files, documents.get("config.json", {}), wanted, layout.task, subject)
    weights = _choose_all_weights(files, documents, kind, folders)
    small = _choose_small(contents, kind, weights)
    if kind is not Kind.ADDON:
        if folded := _fold_chat_template(files, contents, documents):
            files[_TOKENIZER_CONFIG], documents[_TOKENIZER_CONFIG] = folded.part, folded.document
            contents[_TOKENIZER_CONFIG] = folded.part.data
            small = list(dict.fromkeys([*small, _TOKENIZER_CONFIG]))
            notes.append(folded.note)
        contents |= _read_all(files, code := _find_code(files, documents))
        small += code
        notes += [f"{enumerate_names(code)}: the checkpoint's own code; add -C trust_remote_code=true"] if code else []
    heavy = [folder + name for folder, group in weights.items() for name in group.files]
    notes += _list_left_out([name for name in files if name not in layout.borrowed], {*small, *heavy}, weights)
    return Checkpoint(
        kind,
        {name: files[name] for name in (*small, *heavy)},
        weights,
        {name: contents[name] for name in small},
        documents,
        _read_card(files),
        tuple(f"{files[name].origin} {fault.text}" for name, fault in faults.items() if name in small),
        (*layout.notes, *notes),
    )


def _read_modules(files: Mapping[str, Part]) -> list[Document]:
    """The entries of `modules.json`: {"idx", "name", "path", "type"} each."""
    if _MODULES not in files:
        return []
    try:
        content = json.loads(files[_MODULES].read())
    except ValueError:
        return []
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []


def _check_modules(files: Mapping[str, Part], modules: list[Document]) -> Fault | None:
    """Without the settings of its pooling a model gives other vectors, and no error."""
    if _MODULES not in files:
        return None
    if not modules:
        return Fault("is not a list of modules")
    for module in modules:
        path = text_of(module, "path")
        if path and str(module.get("type")).endswith(("Pooling", "Dense")) and f"{path}/config.json" not in files:
            return Fault(f"names {path}/, and {path}/config.json is missing")
    return None


def _lift_transformer(files: dict[str, Part]) -> tuple[dict[str, Part], list[Document], list[str]]:
    modules = _read_modules(files)
    low = next((text_of(module, "path") for module in modules if str(module.get("type")).endswith("Transformer")), None)
    if not low or "config.json" in files or f"{low}/config.json" not in files:
        return files, modules, []
    lifted = {name.removeprefix(f"{low}/"): part for name, part in files.items()}
    modules = [{**module, "path": ""} if module.get("path") == low else module for module in modules]
    lifted[_MODULES] = Made(json.dumps(modules, indent=2).encode(), f"made from {files[_MODULES].origin}")
    return lifted, modules, [f"{low}/ was lifted to the top, where Fireworks looks, and {_MODULES} made to say so"]


def _module_folders(files: Iterable[str], modules: list[Document]) -> list[str]:
    """The folders of sentence-transformers' modules and those inside them, each with its slash."""
    paths = [f"{path}/" for module in modules if (path := text_of(module, "path"))]
    below = {name[: name.rindex("/") + 1] for name in files if "/" in name}
    return sorted(folder for folder in below if folder.startswith(tuple(paths)))


def _is_small(path: str, folders: list[str]) -> bool:
    folder, name = path[: path.rfind("/") + 1], path[path.rfind("/") + 1 :]
    if folder and folder not in folders:
        return False
    known = is_needed(name, embedding=True) or is_index(name) or name == ADAPTER_CONFIG
    return known or (bool(folder) and name.endswith(".json"))


def _read_all(files: Mapping[str, Part], names: Iterable[str]) -> dict[str, bytes]:
    wanted = sorted(names)
    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(wanted, readers.map(lambda name: files[name].read(), wanted), strict=True))


def _parse_all(contents: Mapping[str, bytes]) -> tuple[dict[str, Document], dict[str, Fault]]:
    documents: dict[str, Document] = {}
    faults: dict[str, Fault] = {}
    for name, data in contents.items():
        if not name.endswith(".json") or name == _MODULES:
            continue
        content = parse_document(data)
        if isinstance(content, Fault):
            faults[name] = content
        else:
            documents[name] = content
    return documents, faults


def _choose_kind(
    files: Mapping[str, Part], config: Document, wanted: Kind | None, task: str | None, subject: str
) -> Kind:
    is_adapter = ADAPTER_CONFIG in files and any(name in files for name in ADAPTER_WEIGHTS)
    is_whole = _MODULES in files or any(is_weights(name) or is_index(name) for name in files if "/" not in name)
    if wanted is Kind.ADDON and not is_adapter:
        raise CheckpointError(f"{subject} holds no LoRA adapter ({ADAPTER_CONFIG} and its weights); leave out -C kind=")
    if wanted in (Kind.BASE, Kind.EMBEDDING) and not is_whole:
        raise CheckpointError(f"{subject} holds only a LoRA adapter, not a whole model; leave out -C kind=")
    if wanted is not None:
        return wanted
    if is_adapter and is_whole:
        raise CheckpointError(f"{subject} holds a whole model and an adapter; choose with -C kind=base or -C kind=lora")
    if is_adapter:
        return Kind.ADDON
    heads = texts_of(config, "architectures")
    # `BertModel` or `Qwen3Model` has no head to generate with; `GPT2LMHeadModel` does.
    is_headless = bool(heads) and all(name.endswith("Model") and "Head" not in name for name in heads)
    return Kind.EMBEDDING if _MODULES in files or task in _EMBEDDING_TASKS or is_headless else Kind.BASE


def _choose_all_weights(
    files: Mapping[str, Part], documents: Mapping[str, Document], kind: Kind, folders: list[str]
) -> dict[str, Weights]:
    if kind is Kind.ADDON:
        return {"": Weights((next(name for name in ADAPTER_WEIGHTS if name in files),))}
    chosen: dict[str, Weights] = {}
    for folder in ("", *(folders if kind is Kind.EMBEDDING else ())):
        names = [name for path in files if (name := path.removeprefix(folder)) and folder + name == path]
        shards = {
            name: frozenset(map(str, child_of(documents.get(folder + name, {}), "weight_map").values()))
            for name in names
            if is_index(name)
        }
        weights = choose_weights([name for name in names if "/" not in name], shards)
        if weights is not None:
            chosen[folder] = weights
    return chosen


def _choose_small(contents: Iterable[str], kind: Kind, weights: Mapping[str, Weights]) -> list[str]:
    if kind is Kind.ADDON:
        return [name for name in (ADAPTER_CONFIG, DEFAULTS_FILE) if name in contents]
    indexes = {folder + group.index for folder, group in weights.items() if group.index}
    if kind is Kind.EMBEDDING:
        kept = [name for name in contents if name != ADAPTER_CONFIG]
    else:
        kept = [name for name in contents if "/" not in name and is_needed(name, embedding=False)]
    return sorted({name for name in kept if not is_index(name)} | indexes)


def _find_code(files: Iterable[str], documents: Mapping[str, Document]) -> list[str]:
    """Python files at the top, when a config says that the model, tokenizer or processor is made by them."""
    if not any("auto_map" in document for document in documents.values()):
        return []
    return sorted(name for name in files if name.endswith(".py") and "/" not in name)


@dataclass(frozen=True)
class _Folded:
    """A `tokenizer_config.json` that was made with the chat template in it.

    Args:
        part: The file.
        document: It, parsed.
        note: What was decided, for a person.
    """

    part: Made
    document: Document
    note: str


def _fold_chat_template(
    files: Mapping[str, Part], contents: Mapping[str, bytes], documents: Mapping[str, Document]
) -> _Folded | None:
    """The tokenizer's settings with the chat template in them; None when they are right as they are."""
    settings = documents.get(_TOKENIZER_CONFIG, {})
    if "chat_template.jinja" in contents:
        origin, template = "chat_template.jinja", contents["chat_template.jinja"].decode("utf-8", "replace")
    elif template := text_of(documents.get("chat_template.json", {}), "chat_template") or "":
        origin = "chat_template.json"
    if not template or settings.get("chat_template") == template or (_TOKENIZER_CONFIG in files and not settings):
        return None
    document = {**settings, "chat_template": template}
    replaced = ", in place of the different one it held" if "chat_template" in settings else ""
    return _Folded(
        Made(json.dumps(document, indent=2).encode(), f"made with {files[origin].origin}"),
        document,
        f"{_TOKENIZER_CONFIG}: the chat template of {files[origin].origin} goes up inside it{replaced}",
    )


def _list_left_out(files: Iterable[str], chosen: set[str], weights: Mapping[str, Weights]) -> list[str]:
    twins = {folder + name for folder, group in weights.items() for name in group.unused}
    rest = sorted(set(files) - chosen - twins)
    notes = [f"other weights stay: {enumerate_names(sorted(twins))}"] if twins else []
    return notes + ([f"not needed by Fireworks and left out: {enumerate_names(rest)}"] if rest else [])


def _read_card(files: Mapping[str, Part]) -> Document:
    """The YAML between two lines of dashes at the top of `README.md`."""
    if "README.md" not in files:
        return {}
    text = files["README.md"].read().decode("utf-8", "replace").lstrip("\ufeff")
    if not text.startswith("---"):
        return {}
    try:
        content = yaml.safe_load(text[3:].partition("\n---")[0])
    except (yaml.YAMLError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
