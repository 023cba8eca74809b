"""Options by name: how their values are read, checked, listed for help, and written again.

Values arrive as text from the `mlflow` command and as Python objects from code; both go through the same validators.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.names import did_you_mean

_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "b": 1} | {
    unit: base**power
    for power, letter in enumerate("kmgt", start=1)
    for unit, base in ((f"{letter}b", 1000), (f"{letter}ib", 1024))
}


class Options(BaseModel):
    """Base of the tables of options: a field is an option, and its description the users' help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


OptionsT = TypeVar("OptionsT", bound=Options)


@dataclass(frozen=True)
class Word:
    """What the help calls values of a type.

    Args:
        text: One word.
    """

    text: str


def _read_bool(value: object) -> object:
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("needs true or false")


def _read_auto_bool(value: object) -> object:
    word = str(value).strip().lower()
    return word if word == "auto" else str(_read_bool(word)).lower()


def read_duration(value: object) -> object:
    """A duration such as `90s`, `30m`, `1h 30m` or a number, in seconds.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool):
        raise ValueError("needs a duration such as 90s, 30m or 2h")  # noqa: TRY004 - pydantic wants ValueError
    if isinstance(value, int | float):
        return value
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text := str(value).strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", text):
        raise ValueError("needs a duration such as 90s, 30m or 2h")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def read_bytes(value: object) -> object:
    """A size such as `500MB`, `16GiB` or a number, in bytes.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(value).strip().lower())
    size = int(float(match[1]) * _BYTES.get(match[2], 0)) if match else 0
    if isinstance(value, bool) or size < 1:
        raise ValueError("needs a size such as 500MB, 5GB or 16GiB")
    return size


Bool = Annotated[bool, BeforeValidator(_read_bool)]
AutoBool = Annotated[Literal["auto", "true", "false"], BeforeValidator(_read_auto_bool)]
Seconds = Annotated[float, BeforeValidator(read_duration), Field(gt=0), Word("duration")]
Bytes = Annotated[int, BeforeValidator(read_bytes), Word("size")]


def parse_options(options: Mapping[str, Any] | None, table: type[OptionsT]) -> OptionsT:
    """Check the options of one call.

    Args:
        options: What `-C` or a Python caller gave: text or Python values by name.
        table: The options there are, as its fields.

    Returns:
        All options, defaults filled in.

    Raises:
        InvalidConfigError: An unknown name (with the nearest known one) or a value that does not fit.
    """
    given: dict[str, Any] = {}
    for raw_key, value in (options or {}).items():
        key = str(raw_key).strip()
        if not key:
            raise InvalidConfigError(f"-C '{raw_key}={value}' has no option name; use -C name=value")
        if key not in table.model_fields:
            hint = did_you_mean(key, table.model_fields) or f"see: {Commands.help()}"
            raise InvalidConfigError(f"unknown option -C {key}; {hint}")
        if key in given:
            raise InvalidConfigError(f"option -C {key} was given twice")
        if value is not None:
            given[key] = value.strip() if isinstance(value, str) else value
    try:
        return table(**given)
    except ValidationError as error:
        faults = "; ".join(
            _describe(table, fault["loc"][0], given, fault["type"], fault["msg"]) for fault in error.errors()
        )
        raise InvalidConfigError(f"{faults}; see: {Commands.help()}") from None


def _describe(table: type[Options], key: object, given: Mapping[str, Any], kind: str, message: str) -> str:
    reason = message.removeprefix("Value error, ").replace("Input should", "must")
    if kind.startswith("int_"):
        reason = "must be a whole number"
    name = str(key)
    return f"-C {name}={given.get(name)}: {reason}" if table.model_fields[name].repr else f"-C {name}: {reason}"


def list_options(table: type[Options]) -> list[tuple[str, str, str, str]]:
    """Every option as (name, type, default, help), in the order of its table."""
    return [
        (
            name,
            kind := _type_word(field.annotation, field.metadata),
            _default_word(kind, field.default),
            field.description or "",
        )
        for name, field in table.model_fields.items()
    ]


def write_options(options: Options) -> dict[str, str]:
    """The options that were given, as they are written after `-C`; but for those that no message repeats."""
    shown = {name for name in options.model_fields_set if type(options).model_fields[name].repr}
    return {name: _write_value(value) for name, value in options if name in shown and value is not None}


def _write_value(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value) if isinstance(value, bool | Mapping) else str(value)


def _default_word(kind: str, default: Any) -> str:
    if default is None:
        return "—"
    if kind == "duration":
        return f"{default / 60:g}m" if default % 3600 else f"{default / 3600:g}h"
    return _write_value(default)


def _type_word(annotation: Any, metadata: list[Any]) -> str:
    if word := next((mark.text for mark in metadata if isinstance(mark, Word)), ""):
        return word
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if annotation in (bool, int, str):
        return {bool: "true|false", int: "integer", str: "text"}[annotation]
    if get_origin(annotation) is Annotated:
        return _type_word(inner[0], inner[1:])
    return _type_word(inner[0], []) if inner else str(annotation)
