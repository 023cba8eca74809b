"""An OpenAPI 3.1 description of what the emulator serves, generated from the route table.

It describes the emulator, not Fireworks: its use is to let generated clients and fuzzers at the server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mlflow_fireworks.emulator.protocol.fields import Enum, Field, Message
from mlflow_fireworks.emulator.protocol.routes import ROUTES, Route
from mlflow_fireworks.emulator.protocol.wire import HTTP_STATUS, JsonObject

_SCALARS: Mapping[str, JsonObject] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    "int64": {"type": ["string", "integer"], "format": "int64"},
    "double": {"type": "number"},
    "timestamp": {"type": ["string", "null"], "format": "date-time"},
    "duration": {"type": ["string", "null"], "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"},
    "any": {},
}
_ERROR: JsonObject = {
    "type": "object",
    "required": ["code", "details", "message"],
    "properties": {"code": {"type": "integer"}, "details": {"type": "array"}, "message": {"type": "string"}},
    "additionalProperties": False,
}


def document() -> JsonObject:
    """The complete description; the server it applies to is the one that serves it."""
    schemas: JsonObject = {"Error": _ERROR}
    paths: JsonObject = {}
    for route in ROUTES:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Local Fireworks", "version": "1"},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, schemas: JsonObject) -> JsonObject:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", route.pattern)
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "schema": _schema(spec, schemas, sent=True)}
        for name, spec in route.query.fields.items()
    ]
    refusal = {"description": "refused", "content": _content({"$ref": "#/components/schemas/Error"})}
    responses: JsonObject = {str(status): refusal for status in sorted(set(HTTP_STATUS.values())) if status < 500}  # noqa: PLR2004  # a 5xx is a defect, not an answer
    responses["200"] = {"description": "done", "content": _content(_message(route.answer, schemas, sent=False))}
    operation: JsonObject = {
        "operationId": route.operation,
        "parameters": parameters,
        "responses": responses,
    }
    if route.body is not None:
        operation["requestBody"] = {"content": _content(_message(route.body, schemas, sent=True))}
    return operation


def _content(schema: JsonObject) -> JsonObject:
    return {"application/json": {"schema": schema}}


def _message(message: Message, schemas: JsonObject, *, sent: bool) -> JsonObject:
    """A reference to a message; what is sent may leave fields out, what is answered has them all."""
    name = f"{message.name}{'' if sent else '.answer'}"
    if name not in schemas:
        schemas[name] = {}  # stands for itself while its fields are described
        properties = {key: _schema(spec, schemas, sent=sent) for key, spec in message.fields.items()}
        schemas[name] = {"type": "object", "properties": properties, "additionalProperties": False}
        if not sent:
            schemas[name]["required"] = sorted(properties)
    return {"$ref": f"#/components/schemas/{name}"}


def _schema(spec: Field, schemas: JsonObject, *, sent: bool) -> JsonObject:
    one: JsonObject
    if isinstance(spec.type, Message):
        one = _message(spec.type, schemas, sent=sent)
        if not (spec.many or spec.filled):
            one = {"anyOf": [one, {"type": "null"}]}
    elif isinstance(spec.type, Enum):
        one = {"type": "string", "enum": list(spec.type.values)}
    else:
        one = dict(_SCALARS[spec.type])
    if spec.many == "list":
        return {"type": "array", "items": one}
    if spec.many == "map":
        return {"type": "object", "additionalProperties": one}
    return one
