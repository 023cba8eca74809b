"""The small JSON files of a checkpoint: parsed once, read with types."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeAlias

Document: TypeAlias = Mapping[str, object]

# All of a small file is in memory at once, so there is a bound on what any can have. The largest that were found:
# 34 MB for a tokenizer.json (Gemma 3), 19 MB for a tekken.json, 9 MB for an index of 92,000 tensors (DeepSeek V3).
_MOST_BYTES_OF_DATA = 128 * 1024 * 1024
_MOST_BYTES = 8 * 1024 * 1024
_DATA = (
    "tokenizer*",
    "vocab*",
    "merges*",
    "*.model",
    "*.model.*",
    "*.tiktoken",
    "tekken.json",
    "bpe.codes",
    "*.index.json",
)
MOST_BYTES_TOGETHER = 512 * 1024 * 1024
MOST_BYTES_OF_CARD = 1024 * 1024
"""Of a model card only the front matter counts; with the results of all benchmarks of MTEB it has some 300 KB."""


def most_bytes(name: str) -> int:
    """How many bytes a small file of that name can have, at most.

    Args:
        name: Its name, with or without folders.
    """
    base = name.rpartition("/")[2]
    if base == "tokenizer_config.json" or not any(fnmatchcase(base, pattern) for pattern in _DATA):
        return _MOST_BYTES
    return _MOST_BYTES_OF_DATA


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
