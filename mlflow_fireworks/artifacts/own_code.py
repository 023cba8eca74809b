"""Code of a checkpoint's own: Python files that its configuration says it is made by.

`auto_map` in a JSON file gives `module.Class`, or `org/name--module.Class` for code in another repository; a custom
module of sentence-transformers is named in `modules.json`. Loaders look for `module.py` beside the configuration and
run it only where they are allowed to (`trust_remote_code`); without that they use a class of their own, if they have
one. Fireworks has the same switch (`trustRemoteCode` of validateUpload), so the user has to decide, unless it is one of
the families that began as code in a repository and that transformers knows by now: without the switch that is used.
"""

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlflow_fireworks.artifacts.documents import Document, child_of, text_of
from mlflow_fireworks.artifacts.sentence_modules import MODULES, is_own_class
from mlflow_fireworks.names import enumerate_names

_KEY = "auto_map"
# Of those whose public repositories, and fine-tunes of them, still name code: transformers 4.57 and 5 have a class.
_KNOWN = frozenset(
    """
    bamba cohere cohere2 dbrx deepseek_v2 deepseek_v3 ernie4_5 ernie4_5_moe exaone4 falcon falcon_h1 falcon_mamba
    gemma gemma2 gemma3 gemma3_text glm glm4 glm4_moe gpt_bigcode gpt_neox gpt_oss granite granitemoe
    hunyuan_v1_dense jamba lfm2 llama llama4 minimax mistral mixtral mpt nemotron olmo olmo2 olmoe persimmon phi
    phi3 phi4_multimodal phimoe qwen2 qwen2_5_vl qwen2_moe qwen2_vl qwen3 qwen3_moe qwen3_next qwen3_vl seed_oss
    smollm3 stablelm starcoder2 zamba zamba2
    """.split()  # noqa: SIM905 - sixty lines of one word each say no more
)


@dataclass(frozen=True)
class Reference:
    """One place that names code.

    Args:
        document: Name of the file that names it.
        file: Name of the Python file.
        repo: The other repository that has it, or None when it should lie beside the document.
    """

    document: str
    file: str
    repo: str | None


def find_references(documents: Mapping[str, Document], modules: Sequence[Document]) -> list[Reference]:
    """Every Python file that is named, each once for the first file that names it.

    Args:
        documents: The parsed JSON files that go up.
        modules: The entries of `modules.json`, where that goes up.
    """
    named = [
        (name, text) for name in sorted(documents) for text in _list_texts(child_of(documents[name], _KEY).values())
    ]
    named += [(MODULES, text_of(module, "type") or "") for module in modules if is_own_class(module)]
    found: dict[tuple[str | None, str], Reference] = {}
    for document, text in named:
        repo, _, path = text.rpartition("--")
        module = path.rpartition(".")[0]
        if module:
            reference = Reference(document, f"{module.replace('.', '/')}.py", repo or None)
            found.setdefault((reference.repo, reference.file), reference)
    return list(found.values())


def _list_texts(values: Collection[object]) -> Iterator[str]:
    """`auto_map` gives a tokenizer's classes as a pair, slow and fast, either of which may be null."""
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield item


def find_code_problems(
    references: Sequence[Reference], files: Collection[str], config: Document, *, trust: bool | None
) -> list[str]:
    """Why a model with code of its own cannot go up.

    Args:
        references: From `find_references`.
        files: Names of all files that were found.
        config: The parsed `config.json`.
        trust: Whether the user trusts the code; None when nothing was said.

    Returns:
        One line each: what is wrong, what to do.
    """
    if trust is None and is_known(config) and not any(reference.document == MODULES for reference in references):
        return []
    problems = [problem for reference in references if (problem := _find_fault(reference, files))]
    if problems or trust:
        without = _describe_way_without(references, config)
        return [f"{problem}{without}" for problem in problems]
    where = enumerate_names(sorted({reference.document for reference in references}))
    code = enumerate_names([reference.file for reference in references])
    remedy = f"let Fireworks trust it with -C trust_remote_code=true{_describe_way_without(references, config)}"
    return [f"{where} ({_KEY}) needs the checkpoint's own code, {code}: {remedy}"]


def find_code_faults(references: Sequence[Reference], code: Mapping[str, bytes]) -> list[str]:
    """Find the modules that the code imports and that are not there. It is parsed, never run.

    Args:
        references: From `find_references`.
        code: The Python files that go up, by name; transformers takes those beside the configuration only.

    Returns:
        One line each: which file, what is wrong, what to do.
    """
    problems: list[str] = []
    seen: set[str] = set()
    waiting = [reference.file for reference in references]
    while waiting:
        name = waiting.pop()
        modules = [] if name in seen else sorted(_list_imports(code.get(name, b"")))
        seen.add(name)
        for module in modules:
            file = f"{module.replace('.', '/')}.py"
            waiting.append(file)
            if file not in code:
                problems.append(f"{name} imports .{module}, and {file} is not beside it; log the model again with it")
    return problems


def _list_imports(code: bytes) -> set[str]:
    """The modules beside a file that it needs (`from .layers import X`, `from . import layers`).

    None where it cannot be parsed, as a newer Python may read what this one does not.
    """
    try:
        nodes = list(ast.walk(ast.parse(code)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    near = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level]
    return {name for node in near for name in ([node.module] if node.module else [alias.name for alias in node.names])}


def is_known(config: Document) -> bool:
    """Whether transformers has a class for a model, with or without code of its own.

    Args:
        config: The parsed `config.json`.
    """
    return text_of(config, "model_type") in _KNOWN


def _find_fault(reference: Reference, files: Collection[str]) -> str | None:
    last = reference.file.rpartition("/")[2]
    if reference.repo:
        return (
            f"{reference.document} loads {reference.file} from the repository {reference.repo} ({_KEY}), which "
            f"Fireworks is not known to fetch even with -C trust_remote_code=true: put {last} next "
            f"to {reference.document} and name it without {reference.repo}--"
        )
    if reference.file in files:
        return None
    elsewhere = sorted(name for name in files if name.rpartition("/")[2] == last)
    where = f"which is in {elsewhere[0]}; move it" if elsewhere else "which is missing; log the model again with it"
    return (
        f"{reference.document} names {reference.file} ({_KEY}), {where} next to {reference.document} for "
        "-C trust_remote_code=true"
    )


def _describe_way_without(references: Sequence[Reference], config: Document) -> str:
    if any(reference.document == MODULES for reference in references):
        return ""
    family = text_of(config, "model_type") or "it"
    return f", or, if transformers supports {family} without it, omit the code with -C trust_remote_code=false"


def drop_references(document: Document) -> Document:
    """A document that names no code."""
    return {key: value for key, value in document.items() if key != _KEY}
