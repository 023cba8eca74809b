"""A landed file as validation sees it: its length and its first bytes, or the JSON in it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mlflow_fireworks.emulator.protocol.wire import ApiError, Code, JsonObject


@dataclass(frozen=True)
class UploadedFile:
    """A landed file: its length, and as many of its first bytes as were kept."""

    size: int
    head: bytes


def parse_object(name: str, text: str | bytes) -> JsonObject:
    """Parse one JSON object out of a file, or refuse the file by name.

    Only plain UTF-8 is taken, as by the libraries that load a model: ``json.loads`` alone would also guess UTF-16 and
    overlook a byte-order mark in bytes.
    """
    try:
        data = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise invalid(f"{name} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise invalid(f"{name} is not a JSON object")
    return data


def invalid(message: str) -> ApiError:
    """What a file is refused with."""
    return ApiError(Code.INVALID_ARGUMENT, message)
