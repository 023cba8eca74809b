"""The small files of a checkpoint: read at once, written plainly, parsed."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import yaml

from mlflow_fireworks.artifacts.content import Made, Part
from mlflow_fireworks.artifacts.documents import (
    MOST_BYTES_OF_CARD,
    MOST_BYTES_TOGETHER,
    Document,
    Fault,
    most_bytes,
    parse_document,
)
from mlflow_fireworks.artifacts.plain_text import find_stand_in, find_text_fault, rewrite_plainly
from mlflow_fireworks.artifacts.sentence_modules import MODULES
from mlflow_fireworks.errors import CheckpointError
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.progress import format_bytes
from mlflow_fireworks.threads import inheriting

TOKENIZER = "tokenizer.json"
"""All of a fast tokenizer; that it has a `model` is what the tokenizers library asks for."""
_READERS = 8


def read_all(files: Mapping[str, Part], names: Iterable[str]) -> dict[str, bytes]:
    """The bytes of these files, by name.

    Raises:
        CheckpointError: One of them, or all together, are larger than those of any model.
    """
    wanted = sorted(names)
    sizes = [files[name].size for name in wanted if files[name].size <= most_bytes(name)]
    if sum(sizes) > MOST_BYTES_TOGETHER:
        raise CheckpointError(
            f"configs, tokenizers and indexes add up to {format_bytes(sum(sizes))}, too much for a model (at most "
            f"{format_bytes(MOST_BYTES_TOGETHER)}); remove what does not belong to it"
        )
    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(wanted, readers.map(inheriting(lambda name: files[name].read()), wanted), strict=True))


def write_plainly(files: dict[str, Part], contents: dict[str, bytes]) -> list[str]:
    """Put plain UTF-8 in the place of text with a byte-order mark or in UTF-16.

    Args:
        files: All files by name; changed.
        contents: The bytes of the small ones; changed.

    Returns:
        A note where something was changed.
    """
    changed = {name: text for name, data in contents.items() if (text := rewrite_plainly(name, data)) is not None}
    for name, text in changed.items():
        files[name] = Made(text, f"made from {files[name].origin}, in plain UTF-8")
        contents[name] = text
    if not changed:
        return []
    return [f"{enumerate_names(sorted(changed))}: uploaded as plain UTF-8, instead of UTF-16 or with a byte-order mark"]


def parse_all(contents: Mapping[str, bytes]) -> tuple[dict[str, Document], dict[str, Fault]]:
    """The JSON objects among these files, and what is wrong with others, each by name."""
    documents: dict[str, Document] = {}
    faults: dict[str, Fault] = {}
    for name, data in contents.items():
        content: Document | Fault | None = find_stand_in(data) or find_text_fault(name, data)
        if content is None and name.endswith(".json") and name != MODULES:
            content = parse_document(data)
        if name == TOKENIZER and isinstance(content, dict) and not isinstance(content.get("model"), dict):
            content = Fault("holds no tokenizer (no model in it); save the tokenizer again with save_pretrained")
        if isinstance(content, Fault):
            faults[name] = content
        elif content is not None:
            documents[name] = content
    return documents, faults


def read_card(files: Mapping[str, Part]) -> Document:
    """The YAML between two lines of dashes at the top of `README.md`."""
    if "README.md" not in files:
        return {}
    [card] = files["README.md"].sources or (None,)
    if card is None or (card.size > MOST_BYTES_OF_CARD and not card.store.beginnings_are_cheap):
        return {}
    text = card.store.read_beginning(card.path, MOST_BYTES_OF_CARD).decode("utf-8", "replace").lstrip("\ufeff")
    if not text.startswith("---"):
        return {}
    try:
        content = yaml.safe_load(text[3:].partition("\n---")[0])
    except (yaml.YAMLError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
