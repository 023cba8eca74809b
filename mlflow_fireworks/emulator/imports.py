"""The rarer calls on models: import from a bucket, its operation, prepare, and download URLs."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mlflow_fireworks.emulator.deployments import random_id
from mlflow_fireworks.emulator.models import Models, object_prefix
from mlflow_fireworks.emulator.options import Clock
from mlflow_fireworks.emulator.signing import Signer
from mlflow_fireworks.emulator.state import Resource, Store
from mlflow_fireworks.emulator.transitions import Transitions, advance
from mlflow_fireworks.emulator.wire import ApiError, Call, Code, JsonObject, timestamp

_REQUIRED = {"awsS3Source": ("s3Bucket",), "azureBlobSource": ("storageAccount", "container")}
_IMPORTED_TYPE = "type.googleapis.com/gateway.Model"


@dataclass(frozen=True)
class Imports:
    """Import, prepare and download.

    Args:
        store: Where models and operations live.
        models: Resolves models.
        signer: Signs download URLs.
        transitions: How long an import or a quantization takes.
        ids: Makes operation ids.
        clock: Seconds since the epoch.
    """

    store: Store
    models: Models
    signer: Signer
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
        with self.store.transaction() as transaction:
            model = self.models.addressed(transaction, call)
            if model.body["state"] == "READY":
                raise ApiError(Code.FAILED_PRECONDITION, f'model "{model.name}" is already READY')
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

    def prepare(self, call: Call) -> JsonObject:
        """PrepareModel: another precision becomes available some time later; the model stays READY."""
        precision = call.body.get("precision", "PRECISION_UNSPECIFIED")
        if precision == "PRECISION_UNSPECIFIED":
            raise ApiError(Code.INVALID_ARGUMENT, "precision is required")
        self.models.refuse_catalogue(call.path["account"])
        with self.store.transaction() as transaction:
            model = self.models.addressed(transaction, call)
            if model.body["state"] != "READY":
                raise ApiError(Code.FAILED_PRECONDITION, f'model "{model.name}" is not READY')
            precisions = sorted({*model.body.get("supportedPrecisions", []), precision})
            then = {"supportedPrecisions": precisions, "updateTime": timestamp(self.clock(), digits=6)}
            self.transitions.begin(model, then, self.clock(), failed={})
            transaction.put(model)
        return {}

    def get_download_endpoint(self, call: Call) -> JsonObject:
        """GetModelDownloadEndpoint: one signed GET for each file of a READY model."""
        with self.store.transaction() as transaction:
            model = self.models.addressed(transaction, call)
            if model.body["state"] != "READY":
                raise ApiError(Code.FAILED_PRECONDITION, f'model "{model.name}" is not READY')
            if "uid" not in model.private:
                raise ApiError(Code.PERMISSION_DENIED, "model download is not enabled for this model")
            prefix = object_prefix(model)
            names = [name for name in transaction.objects(prefix) if name in model.private["files"]]
        expires = self.models.options.url_expiry_seconds
        urls = {
            name: self.signer.sign("GET", call.host, prefix + name, {}, now=self.clock(), expires_seconds=expires)
            for name in names
        }
        return {"filenameToSignedUrls": urls}
