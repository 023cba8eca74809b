"""List calls: ``filter``, ``orderBy``, ``pageSize``, ``pageToken`` and ``readMask``.

The filter is the part of the grammar of google.aip.dev/160 that callers of Fireworks use: comparisons
(``= != < <= > >= :``) of possibly nested fields, joined with AND, OR, NOT and parentheses. A construct outside
of it is refused rather than ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from mlflow_fireworks.emulator.protocol.fields import Field, Message, zero
from mlflow_fireworks.emulator.protocol.wire import ApiError, Code, JsonObject

_DEFAULT_PAGE, _MAX_PAGE = 50, 200
_MAX_DEPTH = 50
_TOKEN = re.compile(r'\s*(?:(?P<op><=|>=|!=|=|<|>|:|\(|\))|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<word>[^\s()=<>!:"]+))')

Predicate = Callable[[JsonObject], bool]


def page(plural: str, message: Message, items: list[JsonObject], query: JsonObject, order: str = "name") -> JsonObject:
    """Answer a list call.

    Args:
        plural: Key of the list in the answer.
        message: The table of the listed resource.
        items: Everything that could be listed.
        query: The parsed query parameters.
        order: ``orderBy`` when the caller gives none.

    Raises:
        ApiError: INVALID_ARGUMENT for a filter, order, size or token that cannot be used.
    """
    matches = parse_filter(message, query.get("filter", ""))
    found = sort([item for item in items if matches(item)], message, query.get("orderBy", "") or order)
    size = min(query.get("pageSize", 0) or _DEFAULT_PAGE, _MAX_PAGE)
    token = query.get("pageToken", "") or "0"
    if size < 0:
        raise ApiError(Code.INVALID_ARGUMENT, "page_size must not be negative")
    if not re.fullmatch(r"[0-9]{1,9}", token):
        raise ApiError(Code.INVALID_ARGUMENT, "invalid page token")
    start = int(token)
    end = start + size
    mask = query.get("readMask", "")
    return {
        plural: [apply_mask(message, item, mask) for item in found[start:end]],
        "nextPageToken": str(end) if end < len(found) else "",
        "totalSize": len(found),
    }


def apply_mask(message: Message, item: JsonObject, mask: str) -> JsonObject:
    """Keep the fields named by a ``readMask``; empty or ``*`` keeps all. The others go out as unset."""
    paths = [path.strip() for path in mask.split(",") if path.strip()]
    if not paths or "*" in paths:
        return item
    names = [_resolve(message, path)[0][0] for path in paths]
    return {name: item[name] for name in names if name in item}


def sort(items: list[JsonObject], message: Message, order: str) -> list[JsonObject]:
    """Order by a comma-separated list of fields, each ascending or followed by ``desc``."""
    for part in reversed([part.split() for part in order.split(",") if part.strip()]):
        name, direction = part[0], " ".join(part[1:]).lower()
        if direction not in ("", "asc", "desc"):
            raise ApiError(Code.INVALID_ARGUMENT, f"invalid order_by {order!r}")
        key = partial(_sort_key, *_resolve(message, name))
        items = sorted(items, key=key, reverse=direction == "desc")
    return items


def parse_filter(message: Message, text: str) -> Predicate:
    """Compile a filter.

    Raises:
        ApiError: INVALID_ARGUMENT for a syntax error or an unknown field.
    """
    if not text.strip():
        return lambda _item: True
    tokens: list[tuple[str, str]] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if not match:
            raise ApiError(Code.INVALID_ARGUMENT, f"invalid filter {text!r}")
        tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
        position = match.end()
    return _FilterParser(message, text, tokens).parse()


class _FilterParser:
    def __init__(self, message: Message, text: str, tokens: list[tuple[str, str]]) -> None:
        self._message = message
        self._text = text
        self._tokens = tokens
        self._at = 0

    def parse(self) -> Predicate:
        predicate = self._any_of(0)
        if self._at != len(self._tokens):
            raise self._error()
        return predicate

    # AIP-160 binds OR tighter than AND: `a AND b OR c` means `a AND (b OR c)`.
    def _any_of(self, depth: int) -> Predicate:
        if depth > _MAX_DEPTH:
            raise self._error()
        terms = [self._one_of(depth)]
        while self._peek() not in ("", ")"):
            if self._peek() == "AND":
                self._at += 1
            terms.append(self._one_of(depth))
        return lambda item: all(term(item) for term in terms)

    def _one_of(self, depth: int) -> Predicate:
        terms = [self._term(depth)]
        while self._peek() == "OR":
            self._at += 1
            terms.append(self._term(depth))
        return lambda item: any(term(item) for term in terms)

    def _term(self, depth: int) -> Predicate:
        if self._peek() == "NOT":
            self._at += 1
            inner = self._term(depth + 1) if depth < _MAX_DEPTH else None
            if inner is None:
                raise self._error()
            return lambda item: not inner(item)
        if self._peek() == "(":
            self._at += 1
            inside = self._any_of(depth + 1)
            if self._next()[1] != ")":
                raise self._error()
            return inside
        return self._comparison()

    def _comparison(self) -> Predicate:
        kind, name = self._next()
        operator = self._next()
        value_kind, value = self._next()
        if kind != "word" or operator[0] != "op" or operator[1] in "()" or value_kind == "op":
            raise self._error()
        path, spec = _resolve(self._message, name)
        return lambda item: _compare(_value(item, path, spec), operator[1], value)

    def _peek(self) -> str:
        if self._at == len(self._tokens):
            return ""
        kind, text = self._tokens[self._at]
        return f'"{text}"' if kind == "quoted" else text

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise self._error()
        kind, text = self._tokens[self._at]
        self._at += 1
        return kind, re.sub(r"\\(.)", r"\1", text) if kind == "quoted" else text

    def _error(self) -> ApiError:
        return ApiError(Code.INVALID_ARGUMENT, f"invalid filter {self._text!r}")


def _resolve(message: Message, path: str) -> tuple[list[str], Field]:
    names: list[str] = []
    current: Message | None = message
    spec: Field | None = None
    for part in path.split("."):
        name = current.by_spelling.get(part) if current else None
        if current is None or name is None:
            raise ApiError(Code.INVALID_ARGUMENT, f"unknown field {path!r}")
        names.append(name)
        spec = current.fields[name]
        current = spec.type if isinstance(spec.type, Message) else None
    if spec is None:  # unreachable: splitting a string gives at least one part
        raise ApiError(Code.INVALID_ARGUMENT, f"unknown field {path!r}")
    return names, spec


def _value(item: JsonObject, path: list[str], spec: Field) -> Any:
    value: Any = item
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return zero(spec) if value is None else value


def _sort_key(path: list[str], spec: Field, item: JsonObject) -> tuple[int, Any]:
    value = _value(item, path, spec)
    if isinstance(value, (bool, int, float)):
        return 0, value
    return 1, _normal(str(value) if value is not None else "")


def _normal(text: str) -> str:
    """Timestamps compare as such whatever number of fraction digits they have."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", text)
    return f"{match[1]}.{(match[2] or ''):0<9}Z" if match else text


def _compare(value: Any, operator: str, wanted: str) -> bool:
    if isinstance(value, list):
        return any(_compare(item, "=" if operator == ":" else operator, wanted) for item in value)
    if isinstance(value, dict):
        return operator == ":" and (wanted == "*" or wanted in value)
    if operator == ":":
        return wanted == "*" or wanted.casefold() in str(value).casefold()
    left: Any = value
    right: Any = wanted
    if isinstance(value, bool):
        left, right = str(value).lower(), wanted.lower()
    elif isinstance(value, (int, float)):
        try:
            right = float(wanted)
        except ValueError as error:
            raise ApiError(Code.INVALID_ARGUMENT, f"invalid filter value {wanted!r}") from error
    else:
        left, right = _normal(str(value or "")), _normal(wanted)
    if operator in ("=", "!="):
        equal = _matches(right, left) if isinstance(right, str) else left == right
        return equal == (operator == "=")
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator])


def _matches(pattern: str, text: str) -> bool:
    """In AIP-160 a `*` inside a string value matches anything. Linear, unlike a regular expression."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    if not text.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - at >= len(rest[-1]) and text.endswith(rest[-1])
