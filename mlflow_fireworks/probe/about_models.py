"""Questions about creating models, signing URLs and validation, up to READY and after it."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import httpx

from mlflow_fireworks.gateway.wire import FAILED, READY
from mlflow_fireworks.probe.answers import Reply
from mlflow_fireworks.probe.checkpoint import make_llama
from mlflow_fireworks.probe.points import Finding, Point
from mlflow_fireworks.probe.session import NotAskedError, Session, is_not_yet

_LANDING_SECONDS = 25.0
_CONTROL_SECONDS = 5.0
# The model that shows whether a wait is about the second signing: its URLs were signed once only.
_SIGNED_ONCE = "embedding"
_URL = "https://huggingface.co/meta-llama/Llama-3.2-1B"
_FIRST_HALF = ("config.json", "tokenizer.json", "tokenizer_config.json")
_NO_RETENTION = re.compile(r"zero.?data.?retention|\bZDR\b", re.IGNORECASE)
_LIVES = {"3600": "60m", "900": "15m"}
_SIGNING_REFUSALS = (httpx.codes.BAD_REQUEST, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.CONFLICT)


def base_fields(files: Mapping[str, bytes], kind: str = "HF_BASE_MODEL") -> dict[str, Any]:
    """The fields of a model without what validation could find out: type, size and context length."""
    details = {"checkpointFormat": "HUGGINGFACE", "worldSize": 1, "huggingfaceFiles": sorted(files)}
    return {"kind": kind, "description": "A probe by mlflow-fireworks; may be deleted.", "baseModelDetails": details}


def sizes_of(files: Mapping[str, bytes]) -> dict[str, int]:
    """Lengths by name, as signing asks for them."""
    return {name: len(content) for name, content in files.items()}


def _unknown_field(session: Session) -> Finding:
    reply = session.create_model("field", {**base_fields(make_llama()), "mlflowFireworksProbe": True})
    if reply.is_success:
        return Finding("ignored", {"unknown-fields": "ignored"})
    ways = {"unknown-fields": "refused"} if reply.status == httpx.codes.BAD_REQUEST else {}
    return Finding(reply.describe(), ways)


def _bad_enum(session: Session) -> Finding:
    return Finding(session.create_model("enum", base_fields(make_llama(), "MLFLOW_FIREWORKS_PROBE")).describe())


def _create(session: Session) -> Finding:
    reply = session.create_model("base", base_fields(make_llama()))
    if not reply.is_success:
        retains_nothing = _NO_RETENTION.search(reply.answer.message)
        return Finding(reply.describe(), {"account": "zero-data-retention"} if retains_nothing else {})
    unset = sorted(name for name, value in reply.body.items() if value is None)
    return Finding(f"state {reply.body.get('state')}; null where unset: {', '.join(unset) or 'nothing'}")


def _create_again(session: Session) -> Finding:
    session.need("base")
    return Finding(session.create_model("base", base_fields(make_llama())).describe())


def _url_while_uploading(session: Session) -> Finding:
    session.need("base")
    reply = session.call("PATCH", f"/v1/{session.model('base')}", {"huggingFaceUrl": _URL})
    if not reply.is_success:
        return Finding(reply.describe())
    kept = session.look("base").body.get("huggingFaceUrl") == _URL
    return Finding("taken and kept" if kept else "taken and not kept")


def _early_validation(session: Session) -> Finding:
    files = make_llama()
    session.create_model("early", base_fields(files))
    first = session.validate("early")
    _signed(session, "early", files)
    second = session.validate("early")
    word = any("FAILED_PRECONDITION" in reply.answer.message for reply in (first, second))
    return Finding(
        f"before signing {first.describe()}; before any file {second.describe()}; "
        f"the word FAILED_PRECONDITION {'appears' if word else 'does not appear'}"
    )


def _signing_after_early_validation(session: Session) -> Finding:
    reply = session.sign("early", sizes_of(make_llama()))
    return Finding("accepted" if reply.is_success else reply.describe())


def _without_config(session: Session) -> Finding:
    files = make_llama()
    session.put("early", {name: files[name] for name in sorted(files) if name != "config.json"})
    return Finding(session.validate("early").describe())


def _sign(session: Session) -> Finding:
    files = make_llama()
    _signed(session, "base", files)
    query = parse_qs(session.query_of("base", "config.json"))
    life = query.get("X-Goog-Expires", ["unknown"])[0]
    headers = query.get("X-Goog-SignedHeaders", ["unknown"])[0]
    text = f"URLs live {session.mask.hide(life)} s; signed headers {session.mask.hide(headers)}"
    return Finding(text, {"url-life": _LIVES[life]} if life in _LIVES else {})


def _upload(session: Session) -> Finding:
    files = make_llama()
    replies = session.put("base", {name: files[name] for name in _FIRST_HALF})
    statuses = sorted({reply.describe() for reply in replies})
    checksum = "x-goog-hash" in replies[0].answer.headers
    return Finding(f"{', '.join(statuses)}; a checksum comes {'back' if checksum else 'not back'}")


def _second_signing(session: Session) -> Finding:
    if not session.urls.get("base"):
        raise NotAskedError("the first signing failed")
    reply = session.sign("base", sizes_of(make_llama()))
    if reply.is_success:
        return Finding("accepted", {"second-signing": "accepted"})
    ways = {"second-signing": f"refused-{reply.status}"} if reply.status in _SIGNING_REFUSALS else {}
    return Finding(reply.describe(), ways)


def _validation(session: Session) -> Finding:
    """Half of the files landed before the URLs were signed again: were they forgotten, or is the service slow?"""
    files = make_llama()
    session.put("base", {name: content for name, content in files.items() if name not in _FIRST_HALF})
    replies = session.wait_until_ready("base", _LANDING_SECONDS)
    if not session.is_ready("base") and not _becomes_ready(session, _SIGNED_ONCE):
        replies += session.wait_until_ready("base", _LANDING_SECONDS)
    course, ways = _describe_course(replies), _way_of_validation(replies)
    was_signed_again = session.ways.get("second-signing") == "accepted"
    if session.is_ready("base"):
        return Finding(f"{course}; READY", {**ways, **({"landed-files": "kept"} if was_signed_again else {})})
    session.put("base", {name: files[name] for name in _FIRST_HALF})
    replies = session.wait_until_ready("base", _LANDING_SECONDS)
    course, ways = f"{course} → sent again → {_describe_course(replies)}", _way_of_validation(replies)
    if not session.is_ready("base"):
        return Finding(f"{course}; not READY")
    is_sure = was_signed_again and session.is_ready(_SIGNED_ONCE)
    return Finding(f"{course}; READY", {**ways, **({"landed-files": "forgotten"} if is_sure else {})})


def _becomes_ready(session: Session, role: str) -> bool:
    with suppress(NotAskedError):
        session.wait_until_ready(role, _CONTROL_SECONDS)
        return session.is_ready(role)
    return False


def _describe_course(replies: list[Reply]) -> str:
    return " → ".join(dict.fromkeys(reply.describe() for reply in replies))


def _filled_in(session: Session) -> Finding:
    body = session.look("base").body
    details = body.get("baseModelDetails")
    details = details if isinstance(details, dict) else {}
    found = {
        "state": body.get("state"),
        "modelType": details.get("modelType"),
        "parameterCount": details.get("parameterCount"),
        "defaultPrecision": details.get("defaultPrecision"),
        "contextLength": body.get("contextLength"),
        "supportsLora": body.get("supportsLora"),
    }
    shown = ", ".join(f"{name} {session.mask.hide(str(value))}" for name, value in found.items())
    return Finding(f"{shown}; parameterCount is sent as {_type_of(details.get('parameterCount'))}")


def _signing_when_ready(session: Session) -> Finding:
    _need_ready(session)
    return Finding(session.sign("base", sizes_of(make_llama())).describe())


def _validation_when_ready(session: Session) -> Finding:
    _need_ready(session)
    reply = session.validate("base")
    return Finding(f"{reply.describe()}; READY after it: {'yes' if session.is_ready('base') else 'no'}")


def _immutable(session: Session) -> Finding:
    session.need("base")
    before = session.look("base").body.get("kind")
    reply = session.call("PATCH", f"/v1/{session.model('base')}", {"kind": "EMBEDDING_MODEL"})
    changed = session.look("base").body.get("kind") != before
    return Finding(f"{reply.describe()}; {'changed' if changed else 'not changed'}")


def _states(session: Session) -> Finding:
    ways = {FAILED: "failed", "PREPARING": "preparing", READY: "plain"}
    found = next((way for state, way in ways.items() if state in session.states), None)
    return Finding(", ".join(sorted(session.states)) or "none was read", {"states": found} if found else {})


def _name_filter(session: Session) -> Finding:
    """Whether the models of one deployment can be asked for; the account has others, of which the probe knows one."""
    session.need("base")
    session.need("early")
    beginning = session.model("base")[:-1]
    reply = session.call("GET", f"/v1/{session.parent}/models", params={"filter": f'name="{beginning}*"'})
    if not reply.is_success:
        return Finding(reply.describe(), {"name-filters": "refused"} if reply.status == httpx.codes.BAD_REQUEST else {})
    models = reply.body.get("models")
    begins = {str(model.get("name")).startswith(beginning) for model in models or () if isinstance(model, dict)}
    ways = {frozenset(): "literal", frozenset({True}): "heeded"}
    way = ways.get(frozenset(begins), "ignored")
    return Finding({"literal": "lists none", "heeded": "lists it"}.get(way, "lists others, too"), {"name-filters": way})


def _delete(session: Session) -> Finding:
    session.need("base")
    name = session.model("base")
    reply = session.delete(name)
    after = session.call("GET", f"/v1/{name}")
    return Finding(f"{reply.describe()}; read after it {after.describe()}")


def _signed(session: Session, role: str, files: Mapping[str, bytes]) -> Reply:
    reply = session.sign(role, sizes_of(files))
    if not reply.is_success:
        raise NotAskedError(f"signing was refused: {reply.describe()}")
    return reply


def _need_ready(session: Session) -> None:
    if not session.is_ready("base"):
        raise NotAskedError("PROBE-base is not READY")


def _way_of_validation(replies: list[Reply]) -> dict[str, str]:
    """Which way validation is; unknown unless it came to its end."""
    refused = [reply for reply in replies if not reply.is_success]
    if any(reply.status == httpx.codes.PRECONDITION_FAILED for reply in refused):
        return {"validation": "precondition-412"}
    if any(reply.status >= httpx.codes.INTERNAL_SERVER_ERROR for reply in refused):
        return {"validation": "answer-lost"}
    if any("not found" in reply.answer.message for reply in refused) and replies[-1].is_success:
        return {"validation": "not-found"}
    return {"validation": "complete"} if replies and replies[-1].is_success and all(map(is_not_yet, refused)) else {}


def _type_of(value: object) -> str:
    return "text" if isinstance(value, str) else type(value).__name__


MAKING = (
    Point("unknown fields", "Is an unknown field refused?", "create a model with one", _unknown_field),
    Point("bad enum", "What is the reply for an invalid value?", "create a model of an invented kind", _bad_enum),
    Point("create", "Which fields come back, and how are they unset?", "create a model", _create),
    Point("create again", "What is the reply for a name that is taken?", "create it again", _create_again),
    Point("URL while UPLOADING", "Can huggingFaceUrl be set so early?", "PATCH it, read it", _url_while_uploading),
    Point(
        "early validation", "How does it say 'not yet'?", "validate before signing, before any file", _early_validation
    ),
    Point("signing after it", "Did that wedge the model?", "sign again", _signing_after_early_validation),
    Point("no config.json", "What does it say while a file is missing?", "validate without it", _without_config),
    Point("signing", "How long do URLs live, which headers are signed?", "getUploadEndpoint", _sign),
    Point("upload", "What does storage answer?", "PUT half of the files", _upload),
    Point("second signing", "Can URLs be signed again?", "getUploadEndpoint once more", _second_signing),
)
CHECKING = (
    Point(
        "validation",
        "How does it go to READY, and do files count that landed before the second signing?",
        "PUT the other half, validate until READY; else send the first half again",
        _validation,
    ),
    Point("filled in", "What does validation fill in by itself?", "GET the READY model", _filled_in),
    Point("signing when READY", "What is the reply?", "getUploadEndpoint of a READY model", _signing_when_ready),
    Point("validation when READY", "Can it be repeated?", "validateUpload of a READY model", _validation_when_ready),
)
ENDING = (
    Point("immutable fields", "Is changing one refused?", "PATCH kind, read it", _immutable),
    Point("name filters", "Do they find the beginning of a name?", "list models with a star at the end", _name_filter),
    Point("states", "Are there more than UPLOADING and READY?", "all models that were read", _states),
    Point("delete", "What is the reply, and does it take effect at once?", "DELETE a READY model, GET it", _delete),
)
