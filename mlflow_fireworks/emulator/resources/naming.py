"""What resources are called: their ids, and the texts that people give them."""

from __future__ import annotations

import random
import re
import string

from mlflow_fireworks.emulator.protocol.fields import snake_case
from mlflow_fireworks.emulator.protocol.wire import ApiError, Code, JsonObject

_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_MOST_CHARACTERS = {"displayName": 63, "description": 999}


def check_id(kind: str, id_: str) -> None:
    """Refuse an id that breaks the rule of all resources (docs, "concepts").

    Raises:
        ApiError: INVALID_ARGUMENT.
    """
    if not _ID.fullmatch(id_):
        raise ApiError(
            Code.INVALID_ARGUMENT,
            f'invalid {kind} ID "{id_[:100]}": must be 1 to 63 lower-case letters, digits and hyphens, '
            "start with a letter and not end with a hyphen",
        )


def random_id(ids: random.Random) -> str:
    """Eight characters, as the server gives to what comes without an id."""
    return "".join(ids.choices(string.ascii_lowercase + string.digits, k=8))


def check_texts(sent: JsonObject) -> None:
    """Refuse a display name or a description that is too long.

    Raises:
        ApiError: INVALID_ARGUMENT.
    """
    for name, limit in _MOST_CHARACTERS.items():
        if len(sent.get(name, "")) > limit:
            raise ApiError(Code.INVALID_ARGUMENT, f"{snake_case(name)} must be fewer than {limit + 1} characters")
