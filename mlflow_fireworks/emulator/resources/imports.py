"""Imports: a model from a bucket, and the operation that says how far it is."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mlflow_fireworks.emulator.options import Clock
from mlflow_fireworks.emulator.protocol.wire import ApiError, Call, Code, JsonObject
from mlflow_fireworks.emulator.resources.models import Models
from mlflow_fireworks.emulator.resources.naming import random_id
from mlflow_fireworks.emulator.resources.transitions import Transitions, advance
from mlflow_fireworks.emulator.storage.state import Resource, Store

_REQUIRED = {"awsS3Source": ("s3Bucket",), "azureBlobSource": ("storageAccount", "container")}
_IMPORTED_TYPE = "type.googleapis.com/gateway.Model"


@dataclass(frozen=True)
class Imports:
    """Imports and their operations.

    Args:
        store: Where models and operations live.
        models: Resolves models.
        transitions: How long an import takes.
        ids: Makes operation ids.
        clock: Seconds since the epoch.
    """

    store: Store
    models: Models
    transitions: Transitions
    ids: random.Random
    clock: Clock

    def start(self, call: Call) -> JsonObject:
        """ImportModel: an operation that is done some time later. No bucket is read.

        After it the model still needs ``validateUpload``, which then has no files to look at.
        """
        sources = [name for name in _REQUIRED if name in call.body]
        if len(sources) != 1:
            raise ApiError(Code.INVALID_ARGUMENT, "exactly one of aws_s3_source and azure_blob_source is required")
        for key in _REQUIRED[sources[0]]:
            if not call.body[sources[0]].get(key):
                raise ApiError(Code.INVALID_ARGUMENT, f"{sources[0]}.{key} is required")
        now = self.clock()
        account = call.path["account"]
        self.models.refuse_custom(account)
        token = call.body.get("azureBlobSource", {}).get("sasTokenSecret", "")
        with self.store.transaction() as transaction:
            model = self.models.addressed(transaction, call)
            if model.body["state"] == "READY":
                raise ApiError(Code.FAILED_PRECONDITION, f'model "{model.name}" is already READY')
            if token and not transaction.get("secrets", account, token.rpartition("/")[2]):
                raise ApiError(Code.NOT_FOUND, f'secret "{token}" not found')
            operation = Resource("operations", account, f"op-{random_id(self.ids)}", {})
            metadata = {"@type": "type.googleapis.com/gateway.ImportModelMetadata", "statusMessage": "importing"}
            operation.body = {"name": operation.name, "metadata": metadata, "done": False}
            operation.private["model"] = model.id
            done = {"done": True, "response": {"@type": _IMPORTED_TYPE, "name": model.name}}
            self.transitions.begin(operation, done, now, failed={"done": True})
            transaction.put(operation)
        return operation.body

    def get_operation(self, call: Call) -> JsonObject:
        """GetOperation."""
        with self.store.transaction() as transaction:
            operation = transaction.get("operations", call.path["account"], call.path["operation"])
            if operation is None or advance(transaction, operation, self.clock()) is None:
                raise ApiError(Code.NOT_FOUND, f'operation "{call.path["operation"]}" not found')
            status = operation.body.pop("status", None)
            if status:  # how a scripted failure arrives; an operation carries it as `error`
                operation.body["error"] = {"code": int(Code.INTERNAL), "message": status["message"]}
                transaction.put(operation)
            model = transaction.get("models", call.path["account"], operation.private["model"])
            if model and "response" in operation.body and not model.private.get("imported"):
                model.private["imported"] = True
                transaction.put(model)
        return operation.body
