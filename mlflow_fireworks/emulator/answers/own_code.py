"""Code that a checkpoint brings along, found before any loader sees the folder: models come from strangers.

Loaders disagree about what they run, and about what they ask first: sentence-transformers 4 and 5 import any class that
`modules.json` of a local folder names; transformers asks before it follows an `auto_map`. So each place that can name
code is looked at here, and what cannot be looked at counts as code (transformers 5.0 to 5.24, sentence-transformers 4.1
to 6.2 and peft 0.15 to 0.21 were read for these places). Weights are another matter: see `engines`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_OWN_CLASSES = "sentence_transformers."
# What each of these keys may hold without naming code: the beginning of a class inside the loader's own library.
_HOME_OF = {"activation_function": "torch.nn.", "tokenizer_class": _OWN_CLASSES, "parent_library": "transformers."}
_NAMES_CODE = ("auto_map", "custom_pipelines", "megatron_config", "trust_remote_code")
# Vocabularies and lists of tensors, which are large, and name none.
_DATA = ("tokenizer.json", "vocab*.json", "added_tokens.json", "*.index.json")
_MAX_BYTES = 8 * 1024 * 1024


def find_own_code(folder: Path) -> list[str]:
    """Everything in a checkpoint that would make a loader run code from it, or code that it chooses.

    Args:
        folder: Of the checkpoint, with those of its modules.

    Returns:
        One phrase each, which begins with the file's name: `modules.json names the class modeling.Mine`.
    """
    found: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        found += [f"{name} {phrase}" for phrase in _look_at(path, name)]
    return list(dict.fromkeys(found))


def _look_at(path: Path, name: str) -> Iterator[str]:
    if name.startswith("custom_generate/") and name.endswith(".py"):
        yield "replaces the way in which text is generated"
    is_template = path.suffix in (".jinja", ".jinja2")
    is_settings = path.suffix == ".json" and not any(fnmatch(path.name, pattern) for pattern in _DATA)
    if not is_template and not is_settings:
        return
    if path.stat().st_size > _MAX_BYTES:
        yield "is too large to be looked through"
        return
    try:
        text = path.read_text(encoding="utf-8")
        if is_template:
            yield from _look_at_template(text)
        else:
            yield from _look_at_settings(json.loads(text), path.name)
    except (ValueError, RecursionError):
        yield "cannot be looked through"


def _look_at_settings(content: object, name: str) -> Iterator[str]:
    if name == "modules.json":
        yield from _look_at_modules(content)
    for key, value in _walk(content):
        if key in _NAMES_CODE and value:
            yield f"has the key {key}" + (f" ({', '.join(texts)})" if (texts := list(_texts(value))[:3]) else "")
        elif key in _HOME_OF and "." in str(value) and not str(value).startswith(_HOME_OF[key]):
            yield f"names the {key} {value}"
        elif key == "types" and isinstance(value, dict):  # of sentence-transformers' Router and Asym
            yield from (_name_class(kind) for kind in value.values() if not _is_own(kind))
        elif key.endswith("_implementation") and any("/" in text for text in _texts(value)):
            yield f"fetches machine code as its {key}"
        elif key == "chat_template":
            for template in _texts(value):
                yield from _look_at_template(template)


def _look_at_modules(content: object) -> Iterator[str]:
    """{"idx", "name", "path", "type"} each; the folder that a path leads to is the checkpoint's own."""
    for entry in content if isinstance(content, list) else ():
        kind, path = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        if not _is_own(kind):
            yield _name_class(kind)
        if path is not None and (not isinstance(path, str) or path.startswith("/") or ".." in path or "\\" in path):
            yield f"leads to {path}, outside of the checkpoint"


def _is_own(kind: object) -> bool:
    return isinstance(kind, str) and kind.startswith(_OWN_CLASSES)


def _name_class(kind: object) -> str:
    return f"names the class {kind}, which is not one of sentence-transformers"


def _look_at_template(text: str) -> Iterator[str]:
    """Transformers renders templates in Jinja's sandbox; one that reaches for what that withholds is never rendered."""
    try:
        tree = _JINJA.parse(text)
    except jinja2.TemplateError:
        yield "holds a chat template that is not Jinja"
        return
    if reach := next(filter(None, map(_find_reach, _all_nodes(tree))), None):
        yield f"holds a chat template that reaches out of its sandbox ({reach})"


def _all_nodes(node: nodes.Node) -> Iterator[nodes.Node]:
    for child in node.iter_child_nodes():
        yield child
        yield from _all_nodes(child)


def _find_reach(node: nodes.Node) -> str | None:
    """Attributes that begin with an underscore, ways to reach them by their names, and other templates."""
    if isinstance(node, nodes.Include | nodes.Import | nodes.FromImport | nodes.Extends):
        return type(node).__name__.lower()
    if isinstance(node, nodes.Filter):
        return _find_reach_of_filter(node)
    name = ""
    if isinstance(node, nodes.Getattr):
        name = node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        name = str(node.arg.value)
    return name if name.startswith("_") or name == "format_map" else None


def _find_reach_of_filter(node: nodes.Filter) -> str | None:
    words = [str(word.value) for word in node.args if isinstance(word, nodes.Const)]
    if node.name == "attr" or (node.name == "map" and words[:1] == ["attr"]):
        return "attr"
    paths = words[:1] if node.name in ("selectattr", "rejectattr", "groupby") else []
    paths += [str(pair.value.value) for pair in node.kwargs if isinstance(pair.value, nodes.Const)]
    return next((path for path in paths if any(part.startswith("_") for part in path.split("."))), None)


class _Generation(Extension):
    """The tag `generation` of transformers, which marks what an assistant said and adds nothing."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja's own class has it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The block without its mark."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_JINJA = ImmutableSandboxedEnvironment(extensions=[_Generation, "jinja2.ext.loopcontrols"])


def _walk(content: object) -> Iterator[tuple[str, object]]:
    """Every key at any depth, with what it holds."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield key, value
            yield from _walk(value)
    elif isinstance(content, list):
        for value in content:
            yield from _walk(value)


def _texts(content: object) -> Iterator[str]:
    """Every text that a value holds, at any depth."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for value in content.values() if isinstance(content, dict) else content:
            yield from _texts(value)
