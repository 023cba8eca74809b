"""The small JSON files of a checkpoint: parsed once, read with types."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Document: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class Fault:
    """Why a file cannot be used; completes a sentence that begins with the file's name.

    Args:
        text: For a person, e.g. `is not valid JSON (line 3: ...)`.
    """

    text: str


def parse_document(data: bytes) -> Document | Fault:
    """Parse a file that must hold one JSON object."""
    if is_lfs_pointer(data):
        return LFS_POINTER
    try:
        content = json.loads(data)
    except UnicodeDecodeError:
        return Fault("is not valid JSON (not UTF-8 text)")
    except json.JSONDecodeError as error:
        return Fault(f"is not valid JSON (line {error.lineno}: {error.msg})")
    except RecursionError:
        return Fault("is not valid JSON (nested too deeply)")
    return content if isinstance(content, dict) else Fault("is not a JSON object")


LFS_POINTER = Fault("is a Git LFS pointer, not the file itself; run `git lfs pull` and log the model again")


def is_lfs_pointer(data: bytes) -> bool:
    """Whether a file holds only Git LFS's note of where the real one is, as a clone without LFS leaves it."""
    return data.startswith(b"version https://git-lfs.github.com/")


def text_of(document: Document, *keys: str) -> str | None:
    """The first of these keys that holds text."""
    for key in keys:
        value = document.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return None


def number_of(document: Document, *keys: str) -> int | None:
    """The first of these keys that holds a positive whole number."""
    for key in keys:
        value = document.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def child_of(document: Document, key: str) -> Document:
    """The object under a key; empty when there is none."""
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def texts_of(document: Document, key: str) -> tuple[str, ...]:
    """The texts under a key that holds one text or a list of them."""
    value = document.get(key)
    found = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(item for item in found if isinstance(item, str))


def with_language_model(config: Document) -> Iterator[Document]:
    """A `config.json` and, for multimodal models, the part of it that describes the language model."""
    yield config
    for key in ("text_config", "llm_config", "language_config", "thinker_config"):
        if nested := child_of(config, key):
            yield from with_language_model(nested)
