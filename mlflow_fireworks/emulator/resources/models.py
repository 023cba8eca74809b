"""Models: create, read, change, prepare, delete. The rules, without HTTP; `model_files` has the other half."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from mlflow_fireworks.emulator.options import Clock, Options
from mlflow_fireworks.emulator.protocol import fields, listing, messages
from mlflow_fireworks.emulator.protocol.wire import ApiError, Call, Code, JsonObject, timestamp
from mlflow_fireworks.emulator.resources import catalogue
from mlflow_fireworks.emulator.resources.naming import check_id, check_texts
from mlflow_fireworks.emulator.resources.transitions import Transitions, advance
from mlflow_fireworks.emulator.storage.state import Resource, Store, Transaction
from mlflow_fireworks.emulator.validation.adapter import MAX_RANK, MIN_RANK

MODEL_NAME = re.compile(r"accounts/([^/]+)/models/([^/]+)")

ADDONS = frozenset({"HF_PEFT_ADDON", "HF_TEFT_ADDON"})
LORA_TYPES = frozenset(
    {"llama", "llama4", "mistral", "mixtral", "qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "gemma",
     "gemma2", "gemma3", "gpt_oss", "phi3", "deepseek_v3", "kimi_k2", "glm4_moe"}
)  # fmt: skip
_MANY_FILES = 37
_NAME_FILTER = re.compile(r'\bname\s*=\s*"[^"]*\*"')
_HUGGING_FACE_URL = re.compile(r"https://huggingface\.co/[\w.-]+/[\w.-]+/?")


@dataclass(frozen=True)
class Models:
    """The model service over a store.

    Args:
        store: Where models live.
        options: How late tunability appears.
        transitions: How long another precision takes.
        clock: Seconds since the epoch.
    """

    store: Store
    options: Options
    transitions: Transitions
    clock: Clock

    def create(self, call: Call) -> JsonObject:
        """CreateModel: a new model in state UPLOADING."""
        account, id_ = call.path["account"], call.body.get("modelId", "")
        self.refuse_catalogue(account)
        self.refuse_custom(account)
        check_id("model", id_)
        sent = call.body.get("model", {})
        check_texts(sent)
        body = fields.settable(messages.MODEL, sent)
        if body.get("kind", "KIND_UNSPECIFIED") == "KIND_UNSPECIFIED":
            body["kind"] = "HF_PEFT_ADDON"
        _check_details(sent, body)
        self.check_count(len(body.get("baseModelDetails", {}).get("huggingfaceFiles", [])))
        now = self.clock()
        resource = Resource("models", account, id_, body, {"uid": secrets.token_hex(8), "files": {}})
        if body.get("huggingFaceUrl"):
            resource.private["url_set_at"] = now
        body.update(
            name=resource.name,
            state="UPLOADING",
            status={"code": "OK"},
            cluster=call.body.get("cluster", ""),
            createdBy=f"developer@{account}.example",
            createTime=timestamp(now, digits=6),
            updateTime=timestamp(now, digits=6),
        )
        if body.get("baseModelDetails"):
            body["baseModelDetails"].setdefault("worldSize", 1)
        with self.store.transaction() as transaction:
            if transaction.get("models", account, id_):
                raise ApiError(Code.ALREADY_EXISTS, f'model "{resource.name}" already exists')
            peft = body.get("peftDetails", {})
            if peft.get("baseModel"):
                base = self.find(transaction, peft["baseModel"])
                peft["baseModelType"] = base.body.get("baseModelDetails", {}).get("modelType", "")
            transaction.put(resource)
        # The live service answers a create with nanoseconds and everything later with microseconds.
        return {**body, "createTime": timestamp(now, digits=9), "updateTime": timestamp(now, digits=9)}

    def get(self, call: Call) -> JsonObject:
        """GetModel."""
        with self.store.transaction() as transaction:
            resource = self.addressed(transaction, call)
            loaded = [
                now
                for item in _users(transaction, resource.name)
                if item.collection == "deployedModels" and (now := advance(transaction, item, self.clock()))
            ]
        keys = messages.DEPLOYED_MODEL_REF.fields
        refs = [{key: item.body[key] for key in keys if key in item.body} for item in loaded]
        body = {**self._seen(resource), "deployedModelRefs": refs}
        return listing.apply_mask(messages.MODEL, body, call.query.get("readMask", ""))

    def page(self, call: Call) -> JsonObject:
        """ListModels: of one account, or the public catalogue of ``fireworks``."""
        account = call.path["account"]
        with self.store.transaction() as transaction:
            found = transaction.all("models", account)
        bodies = [self._seen(resource) for resource in found]
        if account == catalogue.ACCOUNT:
            bodies += catalogue.models()
        query, way = call.query, self.options.behaviours.of("name-filters")
        if way != "heeded" and _NAME_FILTER.search(query.get("filter", "")):
            if way == "refused":
                raise ApiError(Code.INVALID_ARGUMENT, f"invalid filter {query['filter']!r}")
            bodies, query = bodies if way == "ignored" else [], {**query, "filter": ""}
        return listing.page("models", messages.MODEL, bodies, query)

    def update(self, call: Call) -> JsonObject:
        """UpdateModel: output-only and immutable fields are kept silently, as observed."""
        self.refuse_catalogue(call.path["account"])
        check_texts(call.body)
        with self.store.transaction() as transaction:
            resource = self.addressed(transaction, call)
            before = resource.body.get("huggingFaceUrl")
            resource.body = fields.merge(messages.MODEL, resource.body, call.body)
            resource.body["updateTime"] = timestamp(self.clock(), digits=6)
            if resource.body.get("huggingFaceUrl") != before:
                resource.private["url_set_at"] = self.clock()
            transaction.put(resource)
        return self._seen(resource)

    def prepare(self, call: Call) -> JsonObject:
        """PrepareModel: another precision becomes available some time later; the model stays READY."""
        precision = call.body.get("precision", "PRECISION_UNSPECIFIED")
        if precision == "PRECISION_UNSPECIFIED":
            raise ApiError(Code.INVALID_ARGUMENT, "precision is required")
        self.refuse_catalogue(call.path["account"])
        self.refuse_custom(call.path["account"])
        with self.store.transaction() as transaction:
            model = self.addressed(transaction, call)
            if model.body["state"] != "READY":
                raise ApiError(Code.FAILED_PRECONDITION, f'model "{model.name}" is not READY')
            precisions = sorted({*model.body.get("supportedPrecisions", []), precision})
            then = {"supportedPrecisions": precisions, "updateTime": timestamp(self.clock(), digits=6)}
            self.begin(model, then)
            transaction.put(model)
        return {}

    def delete(self, call: Call) -> JsonObject:
        """DeleteModel, with everything that was uploaded for it."""
        self.refuse_catalogue(call.path["account"])
        with self.store.transaction() as transaction:
            resource = self.addressed(transaction, call)
            users = [advance(transaction, item, self.clock()) for item in _users(transaction, resource.name)]
            if any(item is not None and item.body["state"] != "DELETED" for item in users):
                raise ApiError(Code.FAILED_PRECONDITION, "cannot delete model with active deployments")
            transaction.remove(resource)
            transaction.remove_objects(object_prefix(resource))
        return {}

    def find(self, transaction: Transaction, name: str) -> Resource:
        """A model by its full resource name, catalogue included.

        Raises:
            ApiError: NOT_FOUND, or INVALID_ARGUMENT for something that is no model name.
        """
        match = MODEL_NAME.fullmatch(name)
        if not match:
            raise ApiError(Code.INVALID_ARGUMENT, f'invalid model name "{name}"')
        resource = transaction.get("models", match[1], match[2])
        if resource is None and match[1] == catalogue.ACCOUNT:
            body = catalogue.model(match[2])
            resource = Resource("models", match[1], match[2], body) if body else None
        if resource is None:
            raise ApiError(Code.NOT_FOUND, f'model "{name}" not found')
        return resource

    def addressed(self, transaction: Transaction, call: Call) -> Resource:
        """The model that a call's path names, as it is now.

        Raises:
            ApiError: NOT_FOUND.
        """
        model = self.find(transaction, f"accounts/{call.path['account']}/models/{call.path['model']}")
        return advance(transaction, model, self.clock()) or model

    @staticmethod
    def refuse_catalogue(account: str) -> None:
        """Refuse to change anything in the public catalogue.

        Raises:
            ApiError: PERMISSION_DENIED.
        """
        if account == catalogue.ACCOUNT:
            raise ApiError(Code.PERMISSION_DENIED, f'no permission to change models of account "{account}"')

    def begin(self, model: Resource, then: JsonObject) -> None:
        """Let a READY model start to change; where that is the way, it is PREPARING until it has."""
        if not self.options.behaviours.has("states", "preparing"):
            self.transitions.begin(model, then, self.clock(), failed={})
            return
        polls, seconds = self.options.behaviours.length("states")
        model.body["state"] = "PREPARING"
        at = self.clock() + seconds
        model.private["change"] = {"at": at, "reads": polls, "then": {**then, "state": "READY"}}

    def refuse_custom(self, account: str) -> None:
        """Refuse uploads, imports and preparations of an account with Zero Data Retention.

        Raises:
            ApiError: PERMISSION_DENIED; the real code and text are not known.
        """
        if self.options.behaviours.has("account", "zero-data-retention"):
            raise ApiError(
                Code.PERMISSION_DENIED,
                f'custom models are not available for account "{account}": Zero Data Retention is enabled',
            )

    def check_count(self, files: int) -> None:
        """Refuse a model of many files where that is the way.

        Raises:
            ApiError: INVALID_ARGUMENT, in the observed wording.
        """
        if files > _MANY_FILES and self.options.behaviours.has("many-files", "refused"):
            raise ApiError(Code.INVALID_ARGUMENT, "etcdserver: request is too large")

    def _seen(self, resource: Resource) -> JsonObject:
        """The body a caller sees now: tunability appears by itself some time after READY."""
        body = resource.body
        since = max(resource.private.get("ready_at", 0.0), resource.private.get("url_set_at", 0.0))
        if (
            body.get("state") == "READY"
            and body.get("kind") == "HF_BASE_MODEL"
            and "ready_at" in resource.private
            and _HUGGING_FACE_URL.fullmatch(body.get("huggingFaceUrl", ""))
            and body.get("baseModelDetails", {}).get("modelType") in LORA_TYPES
            and self.clock() >= since + self.options.tunability_seconds
        ):
            flags = ("tunable", "supervisedLoraTunable", "supervisedFullParameterTunable", "rlLoraTunable", "rlTunable")
            return {**body, **dict.fromkeys(flags, True)}
        return body


def _users(transaction: Transaction, model: str) -> list[Resource]:
    """The deployments that serve a model, and its entries on deployments."""
    deployments = [item for item in transaction.all("deployments") if item.body["baseModel"] == model]
    return deployments + [item for item in transaction.all("deployedModels") if item.body["model"] == model]


def object_prefix(resource: Resource) -> str:
    """What the object names of a model's files start with."""
    # The uid keeps a model made again under an old name from inheriting the old one's files.
    return f"{resource.name}/{resource.private['uid']}/"


def _check_details(sent: JsonObject, body: JsonObject) -> None:
    kind = sent.get("kind", "KIND_UNSPECIFIED")
    if kind == "HF_BASE_MODEL" and "baseModelDetails" not in sent:
        raise ApiError(Code.INVALID_ARGUMENT, "base_model_details is required for kind HF_BASE_MODEL")
    if body["kind"] in ADDONS and "baseModelDetails" in sent:
        raise ApiError(Code.INVALID_ARGUMENT, f"base_model_details must not be set for kind {body['kind']}")
    peft = sent.get("peftDetails", {})
    if kind in ADDONS and not peft.get("baseModel"):
        raise ApiError(Code.INVALID_ARGUMENT, f"peft_details.base_model is required for kind {kind}")
    rank = peft.get("r", 0)
    if rank and not MIN_RANK <= rank <= MAX_RANK:
        raise ApiError(Code.INVALID_ARGUMENT, f"peft_details.r must be between {MIN_RANK} and {MAX_RANK}")
    if "conversationConfig" in sent and not sent["conversationConfig"].get("style"):
        raise ApiError(Code.INVALID_ARGUMENT, "conversation_config.style is required")
    if sent.get("defaultDraftModel") and not sent.get("defaultDraftTokenCount"):
        raise ApiError(Code.INVALID_ARGUMENT, "default_draft_token_count is required with default_draft_model")
