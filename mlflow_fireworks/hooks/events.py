"""What happened in a registry, as its webhooks tell it: MLflow's events and the Hugging Face Hub's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.gateway.stamps import parse_time
from mlflow_fireworks.hooks.jobs import Subject

OWN_TAGS = "fireworks."
"""The tags that promotions write themselves; they never cause one."""
_BRANCHES, _TAGS = "refs/heads/", "refs/tags/"


@dataclass(frozen=True)
class Event:
    """A pointer that was set or removed.

    Args:
        id: The same on every retry and replay of the delivery.
        subject: The pointer.
        version: The version or commit it was set to; "" when it was removed.
        removed: Whether it was removed.
        recurs: Whether another event may have the same id, since it names what happened and not the delivery.
        at: Unix time in seconds at which it happened; 0 where the registry does not say.
    """

    id: str
    subject: Subject
    version: str
    removed: bool = False
    recurs: bool = False
    at: float = 0.0


def read_mlflow_event(body: bytes, delivery_id: str) -> list[Event]:
    """Read the body of an MLflow webhook.

    Source: MLflow 3.17, `entities/webhook.py` and captured deliveries. `alias.deleted` names no version. A workspace is
    named only where MLFLOW_ENABLE_WORKSPACES is on (`webhooks/delivery.py`).

    Args:
        body: As it came.
        delivery_id: Its `X-MLflow-Delivery-Id`.

    Returns:
        One event, or none when it is about something that no rule can ask for.

    Raises:
        InvalidConfigError: It is not such a body.
    """
    payload = _read_object(body)
    data = payload.get("data")
    entity, action = payload.get("entity"), payload.get("action")
    workspace = payload.get("workspace")
    place = workspace if isinstance(workspace, str) else ""
    at = parse_time(str(payload.get("timestamp")))
    if not isinstance(data, Mapping) or not isinstance(entity, str) or not isinstance(action, str):
        raise InvalidConfigError("not an MLflow webhook: entity, action or data is missing")
    match entity, action:
        case "model_version_alias", "created":
            subject = Subject(kind="alias", name=_text(data, "name"), ref=_text(data, "alias"), workspace=place)
            return [Event(delivery_id, subject, _text(data, "version"), at=at)]
        case "model_version_alias", "deleted":
            subject = Subject(kind="alias", name=_text(data, "name"), ref=_text(data, "alias"), workspace=place)
            return [Event(delivery_id, subject, "", removed=True, at=at)]
        case "model_version_tag", "set":
            key = _text(data, "key")
            if key.startswith(OWN_TAGS):
                return []
            subject = Subject(
                kind="tag", name=_text(data, "name"), ref=f"{key}={data.get('value') or ''}", workspace=place
            )
            return [Event(delivery_id, subject, _text(data, "version"), at=at)]
        case "model_version", "created":
            subject = Subject(kind="version", name=_text(data, "name"), workspace=place)
            return [Event(delivery_id, subject, _text(data, "version"), at=at)]
    return []


def read_hub_event(body: bytes) -> list[Event]:
    """Read the body of a Hugging Face Hub webhook: one event for each branch or tag that moved.

    Source: hub-docs `docs/hub/webhooks.md`, payload version 3. The Hub sends no delivery id, so repo, ref and the two
    commits make one. `repo.content` events also tell of pull requests (`refs/pr/…`), which are passed over.

    Args:
        body: As it came.

    Raises:
        InvalidConfigError: It is not such a body.
    """
    payload = _read_object(body)
    repo, event = payload.get("repo"), payload.get("event")
    if not isinstance(repo, Mapping) or not isinstance(event, Mapping):
        raise InvalidConfigError("not a Hugging Face webhook: event or repo is missing")
    scope = str(event.get("scope", ""))
    if repo.get("type") != "model" or scope.partition(".")[0] != "repo":
        return []
    name = _text(repo, "name")
    refs = payload.get("updatedRefs") or []
    if not isinstance(refs, list) or not all(isinstance(ref, Mapping) for ref in refs):
        raise InvalidConfigError("not a Hugging Face webhook: updatedRefs is not a list of refs")
    events = []
    for moved in refs:
        ref = _text(moved, "ref")
        old, new = (str(moved.get(side) or "") for side in ("oldSha", "newSha"))
        if ref.startswith(_BRANCHES):
            subject = Subject(kind="branch", name=name, ref=ref.removeprefix(_BRANCHES))
        elif ref.startswith(_TAGS):
            subject = Subject(kind="hub_tag", name=name, ref=ref.removeprefix(_TAGS))
        else:
            continue
        events.append(Event(f"{name} {ref} {old} {new}", subject, new, removed=not new, recurs=True))
    return events


def _read_object(body: bytes) -> Mapping[str, Any]:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidConfigError("the body is not JSON") from None
    if not isinstance(payload, dict):
        raise InvalidConfigError("the body is not a JSON object")
    return payload


def _text(data: Mapping[str, Any], field: str) -> str:
    value = data.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        raise InvalidConfigError(f"'{field}' is missing or not text")
    return value
