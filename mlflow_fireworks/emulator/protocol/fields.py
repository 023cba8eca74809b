"""Protobuf JSON by table: strict parsing on the way in, complete objects on the way out.

Fireworks' REST API is grpc-gateway over protobuf. What a caller sees of that, and what is copied here:
camelCase and snake_case names are both read and camelCase is written; unset fields are written with their
zero value; int64 is written as a string and read as number or string; an unknown field or enum value is a
400 whose text starts with ``proto: (line 1:N):``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Literal

from mlflow_fireworks.emulator.protocol.wire import ApiError, Code, JsonObject, UnknownFieldError

Scalar = Literal["string", "bool", "int32", "int64", "double", "timestamp", "duration", "any"]

_LARGEST = sys.float_info.max
_INT_LIMIT = {"int32": 2**31, "int64": 2**63}
_ZERO: Mapping[str, Any] = {
    "string": "",
    "bool": False,
    "int32": 0,
    "int64": 0,
    "double": 0,
    "timestamp": None,
    "duration": None,
    "any": None,
}


@dataclass(frozen=True)
class Enum:
    """A protobuf enum; the first value is its zero value."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        type: A scalar's name, an `Enum`, or a `Message`.
        many: ``list`` for a repeated field, ``map`` for a map from string.
        output: Set by the server; ignored when a caller sends it.
        immutable: Can be set on create only; an update silently keeps the old value, as observed.
        filled: A sub-message that is written with zero values, not null, when unset (observed of
            ``peftDetails`` and ``status``).
        newer: In the newest public schema but not in the official SDK's types.
    """

    type: Scalar | Enum | Message
    many: Literal["", "list", "map"] = ""
    output: bool = False
    immutable: bool = False
    filled: bool = False
    newer: bool = False


@dataclass(frozen=True)
class Message:
    """A protobuf message: its fields by camelCase name."""

    name: str
    fields: Mapping[str, Field] = field(default_factory=dict)

    @cached_property
    def by_spelling(self) -> Mapping[str, str]:
        """CamelCase name for every accepted spelling."""
        spellings = {snake_case(name): name for name in self.fields}
        return {**spellings, **{name: name for name in self.fields}}


def snake_case(name: str) -> str:
    """The protobuf spelling of a camelCase name: ``huggingFaceUrl`` becomes ``hugging_face_url``."""
    return re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), name)


def parse_json(message: Message, raw: bytes, *, ignore_unknown: bool = False) -> JsonObject:
    """Read a request body strictly.

    Args:
        message: What the body must be.
        raw: The bytes received; empty counts as ``{}``, as in grpc-gateway.
        ignore_unknown: Leave out fields that the message does not have instead of refusing them.

    Returns:
        The fields that were set, by camelCase name, int64 as int.

    Raises:
        ApiError: INVALID_ARGUMENT for anything but a well-formed message.
    """
    if not raw.strip():
        return {}
    try:
        text = raw.decode()
        text.encode()
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(Code.INVALID_ARGUMENT, f"proto: syntax error: {error}") from error
    return _Parser(text, ignore_unknown=ignore_unknown).message(message, data)


def parse_query(message: Message, pairs: Iterable[tuple[str, str]], *, ignore_unknown: bool = False) -> JsonObject:
    """Read query parameters strictly, as `parse_json` reads a body.

    Raises:
        ApiError: INVALID_ARGUMENT for an unknown parameter or a value of the wrong type.
    """
    parser = _Parser("")
    parsed: JsonObject = {}
    for key, value in pairs:
        name = message.by_spelling.get(key)
        if name is None and ignore_unknown:
            continue
        if name is None:
            raise UnknownFieldError(f'unknown query parameter "{key}"')
        kind = message.fields[name].type
        booleans = {"true": True, "1": True, "false": False, "0": False}
        converted: Any = booleans.get(value.lower(), value) if kind == "bool" else value
        parsed[name] = parser.single(message.fields[name], name, converted)
    return parsed


def render(message: Message, body: JsonObject) -> JsonObject:
    """Complete a stored resource for the wire: every field present, int64 as strings."""
    return {name: _render_field(spec, body.get(name)) for name, spec in message.fields.items()}


def zero(spec: Field) -> Any:
    """What an unset field holds."""
    if spec.many:
        return [] if spec.many == "list" else {}
    if isinstance(spec.type, Enum):
        return spec.type.values[0]
    if isinstance(spec.type, Message):
        return {} if spec.filled else None
    return _ZERO[spec.type]


def merge(message: Message, stored: JsonObject, changes: JsonObject) -> JsonObject:
    """Apply a PATCH: output-only and immutable fields are silently kept."""
    changeable = {
        name: value
        for name, value in changes.items()
        if not (message.fields[name].output or message.fields[name].immutable)
    }
    return {**stored, **changeable}


def settable(message: Message, body: JsonObject) -> JsonObject:
    """What a create request may set: everything but the output-only fields, at every depth."""
    kept: JsonObject = {}
    for name, value in body.items():
        spec = message.fields[name]
        if spec.output:
            continue
        inner = isinstance(spec.type, Message) and not spec.many
        kept[name] = settable(spec.type, value) if inner and isinstance(spec.type, Message) else value
    return kept


def _render_field(spec: Field, value: Any) -> Any:
    if value is None:
        value = zero(spec)
    if spec.many == "list":
        return [_render_one(spec, item) for item in value]
    if spec.many == "map":
        return {key: _render_one(spec, item) for key, item in value.items()}
    return _render_one(spec, value)


def _render_one(spec: Field, value: Any) -> Any:
    if isinstance(spec.type, Message):
        return None if value is None else render(spec.type, value)
    return str(value) if spec.type == "int64" else value


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate field")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"invalid value {name}")


class _Parser:
    """Checks JSON values against the tables and words its refusals as protojson does."""

    def __init__(self, text: str, *, ignore_unknown: bool = False) -> None:
        self._text = text
        self._ignore_unknown = ignore_unknown

    def message(self, message: Message, data: Any) -> JsonObject:
        if not isinstance(data, dict):
            raise ApiError(Code.INVALID_ARGUMENT, f"proto: (line 1:1): unexpected token {_show(data)}")
        parsed: JsonObject = {}
        for key, value in data.items():
            name = message.by_spelling.get(key)
            if name is None and self._ignore_unknown:
                continue
            if name is None:
                raise UnknownFieldError(f"proto: ({self._position(key, name_of=True)}): unknown field {_show(key)}")
            if name in parsed:
                raise ApiError(
                    Code.INVALID_ARGUMENT,
                    f"proto: ({self._position(key, name_of=True)}): duplicate field {_show(key)}",
                )
            if value is not None:
                parsed[name] = self._field(message.fields[name], key, value)
        return parsed

    def _field(self, spec: Field, key: str, value: Any) -> Any:
        if spec.many == "list":
            if not isinstance(value, list):
                raise self._invalid("repeated", key, value)
            return [self.single(spec, key, item) for item in value]
        if spec.many == "map":
            if not isinstance(value, dict):
                raise self._invalid("map", key, value)
            for name in value:
                self._text_of(key, name)
            return {name: self.single(spec, key, item) for name, item in value.items()}
        return self.single(spec, key, value)

    def single(self, spec: Field, key: str, value: Any) -> Any:
        if isinstance(spec.type, Message):
            return self.message(spec.type, value)
        if isinstance(spec.type, Enum):
            return self._enum(spec.type, key, value)
        readers: Mapping[str, Callable[[str, Any], Any]] = {
            "string": self._text_of,
            "bool": self._bool,
            "int32": partial(self._integer, "int32"),
            "int64": partial(self._integer, "int64"),
            "double": self._double,
            "timestamp": partial(self._time, "timestamp"),
            "duration": partial(self._time, "duration"),
            "any": lambda _key, anything: anything,
        }
        return readers[spec.type](key, value)

    def _bool(self, key: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._invalid("bool", key, value)
        return value

    def _text_of(self, key: str, value: Any) -> str:
        if not isinstance(value, str) or any("\ud800" <= character <= "\udfff" for character in value):
            raise self._invalid("string", key, value)
        return value

    def _enum(self, enum: Enum, key: str, value: Any) -> str:
        if isinstance(value, str) and value in enum.values:
            return value
        raise self._invalid("enum", key, value)

    def _integer(self, kind: str, key: str, value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,19}", value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        limit = _INT_LIMIT[kind]
        if isinstance(value, bool) or not isinstance(value, int) or not -limit <= value < limit:
            raise self._invalid(kind, key, value)
        return value

    def _double(self, key: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not -_LARGEST <= value <= _LARGEST:
            raise self._invalid("double", key, value)
        return value

    def _time(self, kind: str, key: str, value: Any) -> str:
        if kind == "duration":
            if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,9})?s", value):
                return value
        elif isinstance(value, str) and re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", value
        ):
            try:
                datetime.strptime(value[:19] + "+0000", "%Y-%m-%dT%H:%M:%S%z")
            except ValueError as error:
                raise self._invalid(kind, key, value) from error
            return value
        raise self._invalid(f"google.protobuf.{kind.title()}", key, value)

    def _invalid(self, kind: str, key: str, value: Any) -> ApiError:
        position = self._position(key, name_of=False)
        return ApiError(
            Code.INVALID_ARGUMENT, f"proto: ({position}): invalid value for {kind} field {key}: {_show(value)}"
        )

    def _position(self, key: str, *, name_of: bool) -> str:
        """Line and column of the field's first mention; protojson points at the offending token."""
        match = re.search(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:\s*", self._text)
        at = (match.start() if name_of else match.end()) if match else 0
        return f"line {self._text.count(chr(10), 0, at) + 1}:{at - self._text.rfind(chr(10), 0, at)}"


def _show(value: Any) -> str:
    return json.dumps(value)[:200]
