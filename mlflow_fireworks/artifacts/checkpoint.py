"""The files of one checkpoint under their Fireworks names, and what its small files say.

Two rules that names alone do not tell: an addon is `adapter_config.json` and its weights and nothing else, as Fireworks
refuses other files in it ("unexpected file"); and text goes up in plain UTF-8. The rest has rooms of its own: the chat
template, sentence-transformers' modules, code of the checkpoint's own, the kind.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlflow_fireworks.artifacts.chat_template import TOKENIZER_CONFIG, fold_template, has_template, list_other_templates
from mlflow_fireworks.artifacts.content import Made, Part, make_json
from mlflow_fireworks.artifacts.documents import Document, texts_of
from mlflow_fireworks.artifacts.foreign_adapters import describe_foreign_adapter
from mlflow_fireworks.artifacts.kinds import Open, infer_kind
from mlflow_fireworks.artifacts.layout import Layout
from mlflow_fireworks.artifacts.logged_defaults import carry_defaults
from mlflow_fireworks.artifacts.own_code import (
    drop_references,
    find_code_faults,
    find_code_problems,
    find_references,
    is_known,
)
from mlflow_fireworks.artifacts.plain_text import find_stand_in
from mlflow_fireworks.artifacts.selection import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    DEFAULTS_FILE,
    Weights,
    is_index,
    is_needed,
    is_weights,
)
from mlflow_fireworks.artifacts.sentence_modules import (
    MODULES,
    SETTINGS,
    find_misfit,
    find_module_fault,
    lift_transformer,
    list_module_folders,
)
from mlflow_fireworks.artifacts.small_files import parse_all, read_all, read_card, write_plainly
from mlflow_fireworks.artifacts.weight_map import clean_paths
from mlflow_fireworks.artifacts.weights import choose_all_weights, list_tensors, name_lone_weights
from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import CheckpointError
from mlflow_fireworks.names import enumerate_names


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
        problems: Why it cannot go up.
        notes: What was decided on the way.
        warnings: What may surprise.
        left_out: Every file of the folder that stays, by its name.
    """

    kind: Kind
    files: Mapping[str, Part]
    weights: Mapping[str, Weights]
    contents: Mapping[str, bytes]
    documents: Mapping[str, Document]
    card: Document
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    left_out: Mapping[str, Part] = field(default_factory=dict)

    def document(self, name: str) -> Document:
        """A parsed JSON file; empty when there is none."""
        return self.documents.get(name, {})

    def weight_names(self) -> list[str]:
        """The names of all weights files."""
        return [folder + name for folder, weights in self.weights.items() for name in weights.files]


@dataclass
class _Draft:
    """A checkpoint in the making.

    Args:
        files: Every file that was found or made, by name.
        contents: The bytes of the small ones.
        documents: Those of them that are JSON, parsed.
        small: Names of those that go up.
        problems: Why it cannot go up.
        notes: What was decided on the way.
        warnings: What may surprise.
    """

    files: dict[str, Part]
    contents: dict[str, bytes]
    documents: dict[str, Document]
    small: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def put(self, name: str, made: Made) -> None:
        """Let a JSON file that was made go up under a name, in place of the one found there."""
        self.files[name], self.contents[name], self.documents[name] = made, made.data, json.loads(made.data)
        self.small = list(dict.fromkeys([*self.small, name]))


def make_checkpoint(layout: Layout, wanted: Kind | None, subject: str, *, trust: bool | None = None) -> Checkpoint:
    """Choose from a layout what goes up, and read the small files.

    Args:
        layout: The files that were found.
        wanted: The kind that the user asked for, or None.
        subject: What is deployed, for messages.
        trust: Whether the user trusts code of the checkpoint's own; None when nothing was said.

    Raises:
        CheckpointError: The files do not make a model of that kind.
    """
    files, modules, notes = lift_transformer(dict(layout.files))
    folders = list_module_folders(files, modules)
    contents = read_all(files, [name for name in files if _is_small(name, folders)])
    notes += write_plainly(files, contents)
    documents, faults = parse_all(contents)
    for name in filter(is_index, list(documents)):
        if cleaned := clean_paths(documents[name]):
            files[name] = made = make_json(cleaned, f"made from {files[name].origin}")
            contents[name], documents[name] = made.data, cleaned
    if fault := find_module_fault(files, modules):
        faults.setdefault(MODULES, fault)
    kind = _choose_kind(files, documents, wanted, layout.task, subject)
    if kind is Kind.EMBEDDING and (misfit := find_misfit(modules, documents.get(SETTINGS, {}))):
        raise CheckpointError(_describe_misfit(subject, misfit, documents.get("config.json", {})))
    notes += name_lone_weights(files) if kind is not Kind.ADDON else []
    weights = choose_all_weights(files, documents, kind, folders)
    draft = _Draft(files, contents, documents, _choose_small(contents, kind, weights), notes=notes)
    if kind is not Kind.ADDON:
        _put_template(draft)
        _decide_on_code(draft, modules if kind is Kind.EMBEDDING else [], trust=trust)
    _put_defaults(draft, layout.mlmodel, kind)
    draft.problems += [f"{files[name].origin} {fault.text}" for name, fault in faults.items() if name in draft.small]
    heavy = [folder + name for folder, group in weights.items() for name in group.files]
    found = [name for name in files if name not in layout.borrowed]
    draft.notes += _list_left_out(found, {*draft.small, *heavy}, weights)
    return Checkpoint(
        kind,
        {name: files[name] for name in (*draft.small, *heavy)},
        weights,
        {name: contents[name] for name in draft.small},
        documents,
        read_card(files),
        tuple(draft.problems),
        (*layout.notes, *draft.notes),
        tuple(draft.warnings),
        {name: part for name, part in files.items() if name not in {*draft.small, *heavy, *layout.borrowed}},
    )


def _is_small(path: str, folders: list[str]) -> bool:
    folder, name = path[: path.rfind("/") + 1], path[path.rfind("/") + 1 :]
    if folder and folder not in folders:
        return False
    known = is_needed(name, embedding=True) or is_index(name) or name == ADAPTER_CONFIG
    return known or (bool(folder) and name.endswith(".json"))


def _choose_kind(
    files: Mapping[str, Part], documents: Mapping[str, Document], wanted: Kind | None, task: str | None, subject: str
) -> Kind:
    if foreign := describe_foreign_adapter(files):
        raise CheckpointError(f"{subject} {foreign}")
    is_adapter = ADAPTER_CONFIG in files and any(name in files for name in ADAPTER_WEIGHTS)
    is_whole = MODULES in files or any(is_weights(name) or is_index(name) for name in files if "/" not in name)
    if wanted is Kind.ADDON and not is_adapter:
        raise CheckpointError(f"{subject} holds no LoRA adapter ({ADAPTER_CONFIG} and its weights); omit -C kind=")
    if wanted in (Kind.BASE, Kind.EMBEDDING) and not is_whole:
        raise CheckpointError(f"{subject} holds only a LoRA adapter, not a whole model; omit -C kind=")
    if wanted is not None:
        return wanted
    if is_adapter and is_whole:
        raise CheckpointError(f"{subject} holds a whole model and an adapter; choose with -C kind=base or -C kind=lora")
    if is_adapter:
        return Kind.ADDON
    if MODULES in files:
        return Kind.EMBEDDING
    config = documents.get("config.json", {})
    kind = infer_kind(
        config,
        task,
        has_template="chat_template.jinja" in files or any(map(has_template, documents.values())),
        list_tensors=lambda: list_tensors(files, documents),
    )
    if isinstance(kind, Open):
        raise CheckpointError(
            f"{subject}: {kind.why}; Fireworks never changes a model's kind, so choose with -C kind=base or "
            "-C kind=embedding"
        )
    return kind


def _describe_misfit(subject: str, misfit: str, config: Document) -> str:
    advice = f"{subject} is {misfit}; Fireworks serves dense embedding models"
    if any("CausalLM" in name for name in texts_of(config, "architectures")):
        advice += "; -C kind=base sends the language model in it, without the modules of sentence-transformers"
    return advice


def _choose_small(contents: Iterable[str], kind: Kind, weights: Mapping[str, Weights]) -> list[str]:
    if kind is Kind.ADDON:
        return [name for name in (ADAPTER_CONFIG, DEFAULTS_FILE) if name in contents]
    indexes = {folder + group.index for folder, group in weights.items() if group.index}
    if kind is Kind.EMBEDDING:
        kept = [name for name in contents if name != ADAPTER_CONFIG]
    else:
        kept = [name for name in contents if "/" not in name and is_needed(name, embedding=False)]
    return sorted({name for name in kept if not is_index(name)} | indexes)


def _put_template(draft: _Draft) -> None:
    if folded := fold_template(draft.files, draft.contents, draft.documents):
        made, note = folded
        draft.put(TOKENIZER_CONFIG, made)
        draft.notes.append(note)
    if others := list_other_templates(draft.files):
        draft.warnings.append(
            f"{enumerate_names(others)}: Fireworks has one chat template for each model, so these are not uploaded"
        )


def _decide_on_code(draft: _Draft, modules: Sequence[Document], *, trust: bool | None) -> None:
    """Let the code go up that the configuration names and the user trusts, or leave both out."""
    documents = {name: draft.documents[name] for name in draft.small if name in draft.documents}
    references = find_references(documents, modules)
    if not references:
        return
    named = {reference.document for reference in references}
    if trust is False and MODULES not in named:
        for name in sorted(named):
            draft.put(name, make_json(drop_references(documents[name]), f"made from {draft.files[name].origin}"))
        draft.notes.append(
            f"{enumerate_names(sorted(named))}: uploaded without auto_map, because of trust_remote_code=false"
        )
        return
    config = draft.documents.get("config.json", {})
    draft.problems += find_code_problems(references, draft.files, config, trust=trust)
    code = sorted(name for name in draft.files if name.endswith(".py") and "/" not in name)
    draft.contents |= read_all(draft.files, code)
    stand_ins = {name: fault for name in code if (fault := find_stand_in(draft.contents[name]))}
    draft.problems += [f"{draft.files[name].origin} {fault.text}" for name, fault in stand_ins.items()]
    if trust and not stand_ins:
        draft.problems += find_code_faults(references, {name: draft.contents[name] for name in code})
    draft.small += code
    if trust is None and not draft.problems and is_known(config):
        draft.notes.append(
            f"{enumerate_names(sorted(named))} names code (auto_map), which is not used for a {config['model_type']} "
            "model unless -C trust_remote_code=true says so"
        )
    elif code:
        draft.notes.append(
            f"{enumerate_names(code)}: the checkpoint's own code, which trust_remote_code lets Fireworks run"
        )
    if MODULES in named:
        draft.warnings.append(
            f"{MODULES} names the checkpoint's own modules, which Fireworks is not known to run; compare the "
            "vectors it returns"
        )


def _put_defaults(draft: _Draft, mlmodel: Document, kind: Kind) -> None:
    """Not into an adapter: whether Fireworks takes a third file there is not known for its REST API."""
    carried = carry_defaults(mlmodel, may_add=kind is Kind.BASE and DEFAULTS_FILE not in draft.files)
    if carried.made is not None:
        draft.put(DEFAULTS_FILE, carried.made)
    draft.notes += carried.notes
    draft.warnings += carried.warnings


def _list_left_out(files: Iterable[str], chosen: set[str], weights: Mapping[str, Weights]) -> list[str]:
    twins = {folder + name for folder, group in weights.items() for name in group.unused}
    rest = sorted(set(files) - chosen - twins)
    notes = [f"other weights files, not uploaded: {enumerate_names(sorted(twins))}"] if twins else []
    return notes + ([f"not needed by Fireworks, not uploaded: {enumerate_names(rest)}"] if rest else [])
