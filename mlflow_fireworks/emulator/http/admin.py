"""The admin plane under ``/_emulator/``: faults, records and reset over HTTP, apart from the emulated API."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from mlflow_fireworks.emulator.http.faults import Fault
from mlflow_fireworks.emulator.http.service import Service
from mlflow_fireworks.emulator.protocol import openapi
from mlflow_fireworks.emulator.protocol.wire import JsonObject, Response, json_response
from mlflow_fireworks.emulator.resources.transitions import Transition

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PREFIX = "/_emulator/"


def answer(service: Service, method: str, path: str, body: bytes) -> Response:
    """Answer one admin request.

    ``GET health`` and ``openapi.json``; ``POST reset``; ``GET requests`` and ``failures``; ``GET faults``,
    ``POST faults`` with one `Fault` as JSON (its attribute names), ``DELETE faults``; ``POST transitions`` with
    one `Transition`, ``DELETE transitions``; ``GET behaviours``, ``POST behaviours`` with a JSON object of ways by
    fact, or ``{"profile": "strict"}``.
    """
    call = _CALLS.get((method, path.removeprefix(PREFIX)))
    if call is None:
        return json_response(404, {"error": f"no admin call {method} {path}"})
    try:
        result = call(service, body)
    except (TypeError, ValueError, RecursionError) as error:
        return json_response(400, {"error": str(error)})
    return json_response(200, {} if result is None else result)


def _plain(items: Sequence[DataclassInstance]) -> list[JsonObject]:
    return [dataclasses.asdict(item) for item in items]


def _object(body: bytes) -> JsonObject:
    values = json.loads(body)
    if not isinstance(values, dict):
        raise TypeError("the body must be a JSON object")
    return values


def _behave(service: Service, body: bytes) -> JsonObject:
    values = _object(body)
    service.options.behaviours.choose(
        *(str(way) if fact == "profile" else f"{fact}={way}" for fact, way in values.items())
    )
    return dict(service.options.behaviours.ways())


_CALLS: Mapping[tuple[str, str], Callable[[Service, bytes], object]] = {
    ("GET", "health"): lambda _service, _body: {"status": "ok"},
    ("GET", "openapi.json"): lambda _service, _body: openapi.document(),
    ("GET", "requests"): lambda service, _body: _plain(service.record.requests()),
    ("GET", "failures"): lambda service, _body: _plain(service.record.failures()),
    ("GET", "faults"): lambda service, _body: _plain(service.faults.pending()),
    ("POST", "faults"): lambda service, body: service.faults.add(Fault(**_object(body))),
    ("DELETE", "faults"): lambda service, _body: service.faults.clear(),
    ("POST", "transitions"): lambda service, body: service.control_plane.transitions.set(Transition(**_object(body))),
    ("DELETE", "transitions"): lambda service, _body: service.control_plane.transitions.clear(),
    ("GET", "behaviours"): lambda service, _body: service.options.behaviours.ways(),
    ("POST", "behaviours"): _behave,
    ("POST", "reset"): lambda service, _body: service.reset(),
}
