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
    """Parse one JSON object out of a file, or refuse the file by name."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid(f"{name} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise invalid(f"{name} is not a JSON object")
    return data


def invalid(message: str) -> ApiError:
    """What a file is refused with."""
    return ApiError(Code.INVALID_ARGUMENT, message)
