"""The data plane's routing rules: which ``model`` strings reach which deployment, and how the others are refused.

A request that reaches a model is answered by that model where `engines` runs it. Else no model runs here, and it gets a
deterministic answer of the OpenAI shape that says so.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace

from mlflow_fireworks.emulator.answers.engines import CannotRunError, Engines
from mlflow_fireworks.emulator.answers.vector_length import find_vector_length, is_settings
from mlflow_fireworks.emulator.options import Clock, Options
from mlflow_fireworks.emulator.protocol.wire import ApiError, JsonObject, Response, json_response
from mlflow_fireworks.emulator.resources.deployed_models import DeployedModels
from mlflow_fireworks.emulator.resources.deployments import Deployments
from mlflow_fireworks.emulator.resources.models import Models, object_prefix
from mlflow_fireworks.emulator.resources.routers import Routers
from mlflow_fireworks.emulator.storage.state import Resource, Store, Transaction

_NAME = re.compile(r"(?:accounts/)?([a-z0-9-]+)/(?:(models|deployments|routers)/)?([a-z0-9.-]+)")
_SCALING_UP = "Deployment is currently scaled to zero and is scaling up. Please retry your request in a few minutes."
_ERRORS_FROM = 400
_UNKNOWN_LENGTH, _MAX_DIMENSIONS = 16, 4096
_STATED_LENGTH = re.compile(r"\bdim=([1-9]\d{0,4})\b")


class InferenceError(Exception):
    """A refusal of the data plane, whose errors look different from the control plane's.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self._body = {"error": {"message": message, "code": code, "type": "error", "param": param}}

    def response(self) -> Response:
        """The refusal as it goes out."""
        return json_response(self.status, self._body, why=str(self))


class NotRoutedError(InferenceError):
    """What the proxy in front of deployments answers; not in the data plane's own form."""

    def __init__(self, message: str = "fault filter abort") -> None:
        super().__init__(503, message, "")

    def response(self) -> Response:
        """The refusal as it goes out."""
        return Response(self.status, str(self).encode(), {"Content-Type": "text/plain"}, why=str(self))


@dataclass(frozen=True)
class _Reached:
    """What a request has reached.

    Args:
        model: Full name of the model or adapter.
        deployment: Full name of where it runs.
        place: How it was addressed; behind a router, what the router led to.
        is_wrong: Whether its vectors are wrong there.
    """

    model: str
    deployment: str
    place: str
    is_wrong: bool


@dataclass(frozen=True)
class Inference:
    """Routes inference requests.

    Args:
        store: To note traffic.
        models: Resolves models.
        deployments: Resolves and wakes deployments.
        deployed_models: Knows which adapters are loaded where.
        routers: Know which deployment a request to a router reaches.
        options: What new deployments and suspended accounts answer.
        clock: Seconds since the epoch.
        engines: Run models for real; None: nothing runs, and the answers say so.
    """

    store: Store
    models: Models
    deployments: Deployments
    deployed_models: DeployedModels
    routers: Routers
    options: Options
    clock: Clock
    engines: Engines | None = None

    def answer(self, operation: str, raw: bytes) -> Response:
        """Answer an inference request.

        Args:
            operation: One of the values of `routes.INFERENCE`.
            raw: The JSON body.

        Raises:
            InferenceError: As the data plane words it.
        """
        request = _parse(raw)
        reached = self._route(request["model"])
        answer = self._answer(operation, request, reached)
        if self.options.behaviours.has("answering-deployment", "untold"):
            return answer
        return replace(answer, headers={**answer.headers, "fireworks-deployment": reached.deployment})

    def _answer(self, operation: str, request: JsonObject, reached: _Reached) -> Response:
        if operation == "embeddings" and reached.is_wrong:
            return json_response(200, _embeddings(request, self._vector_length(reached.model), same=True))
        if self.engines:
            return _really_ask(self.engines, operation, reached.model, request)
        if operation == "embeddings":
            body = _embeddings(request, self._vector_length(reached.model), same=False)
        else:
            text = f"(local Fireworks: {reached.place} was reached; no model runs here) {_last_words(request)}"
            if request.get("stream") is True:
                events = _stream(operation, request["model"], text, self.clock())
                return Response(200, events, {"Content-Type": "text/event-stream"})
            body = _completion(operation, request["model"], text, self.clock())
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        return Response(200, content, {"Content-Type": "application/json"})

    def _vector_length(self, model: str) -> int:
        """How many numbers a vector of a model has: what its files say; of one without, such as an import, its text."""
        with self.store.transaction() as transaction:
            resource = self.models.find(transaction, model)
            uploaded = transaction.objects(object_prefix(resource)) if "uid" in resource.private else {}
            files = {name: self.store.read(stored) for name, stored in uploaded.items() if is_settings(name)}
        projects = self.options.behaviours.has("projections", "applied")
        stated = None if files else _STATED_LENGTH.search(resource.body.get("description", ""))
        return find_vector_length(files, projects=projects) or (int(stated[1]) if stated else _UNKNOWN_LENGTH)

    def _route(self, target: str) -> _Reached:
        """What a request reaches."""
        refusal: InferenceError | None = None
        with self.store.transaction() as transaction:
            # Caught inside, so that a refusal does not undo what the request has set in motion.
            try:
                deployment = self._reach(transaction, target)
            except InferenceError as error:
                refusal = error
        if refusal:
            raise refusal
        name = _full_name(target.partition("#")[0], "models") or str(deployment.body["baseModel"])
        place = f"{name}#{deployment.name}" if "/routers/" in target else target
        return _Reached(name, deployment.name, place, bool(deployment.private.get("wrong_vectors")))

    def _reach(self, transaction: Transaction, target: str) -> Resource:
        deployment = self._deployment(transaction, target)
        if deployment is None or deployment.body["state"] not in ("READY", "UPDATING"):
            raise _not_found()
        if self.options.behaviours.has("account", "suspended"):
            raise InferenceError(412, f"Account {deployment.account} is suspended", "ACCOUNT_SUSPENDED")
        self._refuse_early(transaction, deployment)
        deployment.private["last_request_at"] = self.clock()
        transaction.put(deployment)
        if deployment.body["maxReplicaCount"] == 0:
            raise _not_found()
        if deployment.body["replicaCount"] == 0:
            self.deployments.wake(transaction, deployment)
            raise InferenceError(
                503,
                _SCALING_UP,
                "DEPLOYMENT_SCALING_UP",
            )
        return deployment

    def _refuse_early(self, transaction: Transaction, target: Resource) -> None:
        """Refuse the first questions to a new deployment, or a newly loaded adapter, where that is the way."""
        behaviours, now = self.options.behaviours, self.clock()
        if behaviours.has("routing", "at-once"):
            return
        asked = target.private.setdefault("asked", {})
        early = behaviours.lasts("routing", asked, now, target.private.get("changed_at", 0.0))
        transaction.put(target)
        if early:
            raise NotRoutedError if behaviours.has("routing", "503-first") else _not_found()

    def _deployment(self, transaction: Transaction, target: str) -> Resource | None:
        """The deployment behind ``D``, ``M#D``, a router or, where that is switched on, a bare ``M``."""
        model, _, suffix = target.partition("#")
        if not suffix and "/routers/" in model:
            return self._behind(transaction, _full_name(model, "routers"))
        if not suffix:
            name = _full_name(model, "deployments" if "/deployments/" in model else "models")
            if "/deployments/" in name:
                return self.deployments.find(transaction, name)
            return self._default_of(transaction, name)
        deployment = self.deployments.find(transaction, _full_name(suffix, "deployments"))
        name = _full_name(model, "models")
        if deployment is None or name == deployment.body["baseModel"]:
            return deployment
        loaded = self.deployed_models.on(transaction, deployment.name, name)
        if loaded is None or loaded.body["state"] == "DEPLOYING":
            return None
        if loaded.body["state"] != "DEPLOYED":
            raise InferenceError(412, f"LoRA {name} failed to load", "PRECONDITION_FAILED", "model")
        if self.options.behaviours.has("routing", "404-first"):
            self._refuse_early(transaction, loaded)
        return deployment

    def _behind(self, transaction: Transaction, router: str) -> Resource | None:
        deployment = self.routers.lead(transaction, router)
        if deployment and not deployment.body["replicaCount"] and self.options.behaviours.has("router-sleep", "lasts"):
            raise NotRoutedError("no healthy upstream")
        return deployment

    def _default_of(self, transaction: Transaction, model: str) -> Resource | None:
        if self.options.behaviours.has("bare-model", "refused"):
            return None
        for loaded in transaction.all("deployedModels"):
            if loaded.body["model"] == model and loaded.body.get("default"):
                return self.deployments.find(transaction, loaded.body["deployment"])
        return None


def _really_ask(engines: Engines, operation: str, model: str, request: JsonObject) -> Response:
    try:
        answer = engines.answer(operation, model, request)
    except CannotRunError as error:
        raise InferenceError(501, str(error), "CANNOT_RUN_HERE", "model") from error
    except OSError as error:
        raise InferenceError(502, f"the model stopped in the middle: {error}", "ENGINE_STOPPED") from error
    if answer is None:
        raise InferenceError(503, _SCALING_UP, "DEPLOYMENT_SCALING_UP")
    status, body, kind = answer
    if status >= _ERRORS_FROM:
        raise InferenceError(status, body.decode(errors="replace")[:500], "ENGINE_REFUSED")
    return Response(200, body, {"Content-Type": kind})


def _parse(raw: bytes) -> JsonObject:
    try:
        request = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InferenceError(400, "The request body is not valid JSON", "INVALID_REQUEST") from error
    if not isinstance(request, dict) or not isinstance(request.get("model"), str):
        raise InferenceError(400, "model is required", "INVALID_REQUEST", "model")
    return request


def _full_name(name: str, collection: str) -> str:
    """``alice/x`` is short for ``accounts/alice/<collection>/x``; what fits neither form names nothing."""
    match = _NAME.fullmatch(name)
    if not match or match[2] not in (None, collection):
        return ""
    return f"accounts/{match[1]}/{collection}/{match[3]}"


def _not_found() -> InferenceError:
    return InferenceError(404, "Model not found, inaccessible, and/or not deployed", "NOT_FOUND", "model")


def _last_words(request: JsonObject) -> str:
    messages = request.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {}
    content = last.get("content") if isinstance(last, dict) else None
    said = content if isinstance(content, str) else request.get("prompt")
    return said if isinstance(said, str) else ""


def _completion(operation: str, model: str, text: str, now: float) -> JsonObject:
    chat = operation == "chat_completions"
    said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    count = len(text.split())
    return {
        "id": f"local-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:24]}",
        "object": "chat.completion" if chat else "text_completion",
        "created": int(now),
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "logprobs": None, **said}],
        "usage": {"prompt_tokens": count, "completion_tokens": count, "total_tokens": 2 * count},
    }


def _stream(operation: str, model: str, text: str, now: float) -> bytes:
    """Server-sent events: a piece per word, then ``[DONE]``."""
    chat = operation == "chat_completions"
    whole = _completion(operation, model, text, now)
    events = []
    words = text.split(" ")
    for index, word in enumerate(words):
        piece = word if index == len(words) - 1 else word + " "
        delta = {"delta": {"role": "assistant", "content": piece}} if chat else {"text": piece}
        reason = "stop" if index == len(words) - 1 else None
        kind = "chat.completion.chunk" if chat else "text_completion"
        chunk = {**whole, "object": kind, "choices": [{"index": 0, "finish_reason": reason, **delta}]}
        events.append(f"data: {json.dumps(chunk)}\n\n")
    return ("".join(events) + "data: [DONE]\n\n").encode()


def _embeddings(request: JsonObject, length: int, *, same: bool) -> JsonObject:
    given = request.get("input", "")
    texts = given if isinstance(given, list) and all(isinstance(text, str) for text in given) else [given]
    size = request.get("dimensions", length)
    if type(size) is not int or not 1 <= size <= _MAX_DIMENSIONS:
        raise InferenceError(400, "dimensions is out of range", "INVALID_REQUEST", "dimensions")
    data = [
        {"object": "embedding", "index": index, "embedding": _vector("" if same else str(text), size)}
        for index, text in enumerate(texts)
    ]
    count = sum(len(str(text).split()) for text in texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "model": request["model"], "data": data, "usage": usage}


def _vector(text: str, size: int) -> list[float]:
    """Numbers between -1 and 1 that depend on the text alone."""
    raw = hashlib.shake_128(text.encode("utf-8", "replace")).digest(size)
    return [round(byte / 127.5 - 1, 6) for byte in raw]


def unauthorized(error: ApiError) -> InferenceError:
    """A missing or wrong key, as the data plane answers it."""
    return InferenceError(401, error.message, "UNAUTHORIZED")
