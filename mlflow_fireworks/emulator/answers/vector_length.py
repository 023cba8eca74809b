"""How many numbers a vector of an uploaded model has, as sentence-transformers 2 to 6 write it down."""

from __future__ import annotations

import json
from collections.abc import Mapping


def is_settings(name: str) -> bool:
    """Whether a file says something of the length, by its name."""
    return name == "modules.json" or name.rpartition("/")[2] == "config.json"


def find_vector_length(files: Mapping[str, bytes], *, projects: bool) -> int | None:
    """The length; None where the files do not tell.

    Args:
        files: Contents of the files that `is_settings` picks, by name.
        projects: Whether projections (Dense) are applied.
    """
    length = _parse(files, "config.json").get("hidden_size")
    for module in _parse_list(files.get("modules.json", b"[]")):
        settings = _parse(files, f"{module.get('path')}/config.json")
        kind = str(module.get("type")).rpartition(".")[2]
        if kind == "Pooling":
            width = settings.get("embedding_dimension", settings.get("word_embedding_dimension", length))
            length = width * _count_modes(settings) if isinstance(width, int) else None
        elif kind == "Dense" and projects:
            length = settings.get("out_features", length)
    return length if isinstance(length, int) and length > 0 else None


def _count_modes(settings: Mapping[str, object]) -> int:
    modes = settings.get("pooling_mode")
    if isinstance(modes, list):
        return len(modes)
    return 1 if modes else max(1, sum(value is True for key, value in settings.items() if "pooling_mode_" in key))


def _parse(files: Mapping[str, bytes], name: str) -> dict[str, object]:
    try:
        content = json.loads(files.get(name, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _parse_list(data: bytes) -> list[dict[str, object]]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return []
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []
