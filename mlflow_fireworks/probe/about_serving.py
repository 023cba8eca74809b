"""Questions about deployments. Nothing is started: every call says `validateOnly`, and the first one proves it."""

from collections.abc import Mapping
from typing import Any

import httpx

from mlflow_fireworks.probe.answers import Reply
from mlflow_fireworks.probe.points import Finding, Point
from mlflow_fireworks.probe.session import NotAskedError, Session

_GPU = {"acceleratorType": "NVIDIA_H100_80GB", "acceleratorCount": 1}
_NONE_UP = {"minReplicaCount": 0, "maxReplicaCount": 0}
_FAR_TOO_MANY = {"minReplicaCount": 1000, "maxReplicaCount": 1000}
_SHAPES = "/v1/accounts/-/deploymentShapes/-/versions"


def _validate_only(session: Session) -> Finding:
    _need_ready(session, "base")
    # Were it not for a check only, a deployment of no replicas would come up with none.
    reply = _ask(session, "base", {**_GPU, **_NONE_UP})
    after = session.call("GET", f"/v1/{_name(session)}")
    session.is_harmless = after.status == httpx.codes.NOT_FOUND
    if session.is_harmless:
        session.made.remove(_name(session))
    return Finding(f"{reply.describe()}; read after it {after.describe()}")


def _default_shape(session: Session) -> Finding:
    _need_harmless(session)
    reply = _ask(session, "base", {"deploymentShape": "default", **_NONE_UP})
    return Finding(f"{reply.describe()}; {_shape_of(session, reply)}")


def _other_shape(session: Session) -> Finding:
    _need_harmless(session)
    listed = session.call("GET", _SHAPES, params={"pageSize": "1", "filter": "latest_validated=true"})
    versions = listed.body.get("deploymentShapeVersions")
    name = str(versions[0].get("name", "")) if isinstance(versions, list) and versions else ""
    if not name:
        raise NotAskedError(f"no shape was listed: {listed.describe()}")
    reply = _ask(session, "base", {"deploymentShape": name, **_NONE_UP})
    if not reply.is_success:
        return Finding(reply.describe(), {"shapes": "kept"} if reply.status == httpx.codes.BAD_REQUEST else {})
    is_kept = bool(reply.body.get("deploymentShape"))
    return Finding(f"{reply.status}; {_shape_of(session, reply)}", {"shapes": "kept" if is_kept else "dropped"})


def _quota(session: Session) -> Finding:
    _need_harmless(session)
    reply = _ask(session, "base", {**_GPU, **_FAR_TOO_MANY})
    is_about_it = "quota" in reply.answer.message
    ways = {"quota-status": str(reply.status)} if is_about_it and reply.status in _QUOTA_STATUSES else {}
    return Finding(reply.describe(), ways)


_QUOTA_STATUSES = (httpx.codes.FORBIDDEN, httpx.codes.TOO_MANY_REQUESTS)


def _match(session: Session) -> Finding:
    found = []
    for role in ("base", "embedding"):
        body = {"parent": session.parent, "deployment": {"baseModel": session.model(role)}}
        path = f"/v1/{session.parent}/deploymentShapeVersions:match"
        reply = session.call("POST", path, {"createDeploymentRequest": body})
        versions = reply.body.get("deploymentShapeVersions")
        count = f", {len(versions)} shapes" if isinstance(versions, list) else ""
        found.append(f"{role}: {reply.describe()}{count}")
    return Finding("; ".join(found))


def _embedding(session: Session) -> Finding:
    _need_harmless(session)
    _need_ready(session, "embedding")
    reply = _ask(session, "embedding", {**_GPU, **_NONE_UP})
    if reply.is_success:
        return Finding("accepted without an embedding shape", {"embeddings": "silent"})
    return Finding(reply.describe(), {"embeddings": "guarded"} if reply.status == httpx.codes.BAD_REQUEST else {})


def _annotations(session: Session) -> Finding:
    _need_harmless(session)
    found = []
    for key in ("probe", "custom/probe"):
        reply = _ask(session, "base", {**_GPU, **_NONE_UP, "annotations": {key: "x"}})
        found.append(f"{key}: {reply.describe()}")
    return Finding("; ".join(found))


def _ask(session: Session, role: str, fields: Mapping[str, Any]) -> Reply:
    name = _name(session)
    if name not in session.made:
        session.made.append(name)  # should it be made against all that is known
    reply = session.call(
        "POST",
        f"/v1/{session.parent}/deployments",
        {"baseModel": session.model(role), **fields},
        params={"deploymentId": name.rpartition("/")[2], "validateOnly": "true"},
    )
    if session.is_harmless:
        session.made.remove(name)
    return reply


def _name(session: Session) -> str:
    return session.model("gpus").replace("/models/", "/deployments/")


def _shape_of(session: Session, reply: Reply) -> str:
    shape = str(reply.body.get("deploymentShape") or "")
    return f"shape {session.mask.hide(shape)}" if shape else "no shape in the answer"


def _need_ready(session: Session, role: str) -> None:
    if not session.is_ready(role):
        raise NotAskedError(f"PROBE-{role} is not READY")


def _need_harmless(session: Session) -> None:
    if not session.is_harmless:
        raise NotAskedError("validateOnly was not seen to start nothing")


POINTS = (
    Point("validateOnly", "Does it start nothing?", "check a deployment of 0 replicas, GET it", _validate_only),
    Point("default shape", "What is chosen for a tiny model?", "check deploymentShape=default", _default_shape),
    Point("other shape", "Is a shape of another model refused or dropped?", "check one of the catalogue", _other_shape),
    Point("quota", "How is too much refused?", "check 1000 replicas", _quota),
    Point("shape match", "Which shapes fit?", "deploymentShapeVersions:match", _match),
    Point("embeddings", "Is an embedding model refused on plain GPUs?", "check one without a shape", _embedding),
    Point("annotations", "Are bare keys refused?", "check one with a bare key, one with custom/", _annotations),
)
