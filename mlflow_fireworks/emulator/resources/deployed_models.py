"""Deployed models: adapters loaded on a deployment, and the entry that every deployment has for its own model."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mlflow_fireworks.emulator.options import Clock
from mlflow_fireworks.emulator.protocol import fields, listing, serving_messages
from mlflow_fireworks.emulator.protocol.wire import ApiError, Call, Code, JsonObject, timestamp
from mlflow_fireworks.emulator.resources.deployments import Deployments
from mlflow_fireworks.emulator.resources.models import Models
from mlflow_fireworks.emulator.resources.naming import random_id
from mlflow_fireworks.emulator.resources.transitions import Transitions, advance
from mlflow_fireworks.emulator.storage.state import Resource, Store, Transaction


@dataclass(frozen=True)
class DeployedModels:
    """The service that loads and unloads adapters.

    Args:
        store: Where they live.
        models: Resolves models.
        deployments: Resolves deployments.
        transitions: How long loading takes.
        ids: Makes ids.
        clock: Seconds since the epoch.
    """

    store: Store
    models: Models
    deployments: Deployments
    transitions: Transitions
    ids: random.Random
    clock: Clock

    def create(self, call: Call) -> JsonObject:
        """CreateDeployedModel: load an adapter onto a deployment; DEPLOYING first, DEPLOYED by itself."""
        account = call.path["account"]
        body = fields.settable(serving_messages.DEPLOYED_MODEL, call.body)
        for name in ("model", "deployment"):
            if not body.get(name):
                raise ApiError(Code.INVALID_ARGUMENT, f"{name} is required")
        now = self.clock()
        with self.store.transaction() as transaction:
            model = self.models.find(transaction, body["model"])
            deployment = self.deployments.find(transaction, body["deployment"])
            if deployment is None or deployment.body["state"] in ("DELETED", "DELETING"):
                raise ApiError(Code.NOT_FOUND, f'deployment "{body["deployment"]}" not found')
            _check_fit(model, deployment)
            loaded = transaction.all("deployedModels")
            here = [other for other in loaded if other.body["deployment"] == deployment.name]
            if any(other.body["model"] == model.name for other in here):
                raise ApiError(Code.ALREADY_EXISTS, f'model "{model.name}" is already deployed: already exists')
            _replace_merged(transaction, deployment, here, replace=call.query.get("replaceMergedAddon", False))
            id_ = f"{model.id[:50]}-{random_id(self.ids)}"
            resource = Resource("deployedModels", account, id_, body)
            first = not any(other.body["model"] == model.name for other in loaded)
            body.update(
                name=resource.name,
                default=body.get("default", False) or first,
                state="DEPLOYING",
                status={"code": "OK"},
                createTime=timestamp(now, digits=6),
                updateTime=timestamp(now, digits=6),
                createdBy=f"developer@{account}.example",
            )
            # A failed load leaves the unspecified state, which the old SDK takes for a failure.
            failed = {"state": "STATE_UNSPECIFIED"}
            self.transitions.begin(resource, {"state": "DEPLOYED"}, now, failed=failed)
            transaction.put(resource)
            _only_default(transaction, resource)
        return {**body, "createTime": timestamp(now, digits=9), "updateTime": timestamp(now, digits=9)}

    def get(self, call: Call) -> JsonObject:
        """GetDeployedModel."""
        with self.store.transaction() as transaction:
            loaded = self._addressed(transaction, call)
        mask = call.query.get("readMask", "")
        return listing.apply_mask(serving_messages.DEPLOYED_MODEL, loaded.body, mask)

    def page(self, call: Call) -> JsonObject:
        """ListDeployedModels."""
        with self.store.transaction() as transaction:
            found = [
                advance(transaction, loaded, self.clock())
                for loaded in transaction.all("deployedModels", call.path["account"])
            ]
        bodies = [loaded.body for loaded in found if loaded]
        return listing.page("deployedModels", serving_messages.DEPLOYED_MODEL, bodies, call.query)

    def update(self, call: Call) -> JsonObject:
        """UpdateDeployedModel."""
        with self.store.transaction() as transaction:
            loaded = self._addressed(transaction, call)
            loaded.body = fields.merge(serving_messages.DEPLOYED_MODEL, loaded.body, call.body)
            loaded.body["updateTime"] = timestamp(self.clock(), digits=6)
            transaction.put(loaded)
            _only_default(transaction, loaded)
        return loaded.body

    def delete(self, call: Call) -> JsonObject:
        """DeleteDeployedModel: UNDEPLOYING first, gone by itself."""
        with self.store.transaction() as transaction:
            loaded = self._addressed(transaction, call)
            loaded.body["state"] = "UNDEPLOYING"
            self.transitions.begin(loaded, {}, self.clock())
            transaction.put(loaded)
        return {}

    def on(self, transaction: Transaction, deployment: str, model: str) -> Resource | None:
        """The entry of a model on a deployment, as it is now."""
        for loaded in transaction.all("deployedModels"):
            if loaded.body["deployment"] == deployment and loaded.body["model"] == model:
                return advance(transaction, loaded, self.clock())
        return None

    def _addressed(self, transaction: Transaction, call: Call) -> Resource:
        loaded = transaction.get("deployedModels", call.path["account"], call.path["deployed_model"])
        loaded = loaded and advance(transaction, loaded, self.clock())
        if loaded is None:
            raise ApiError(Code.NOT_FOUND, f'deployed model "{call.path["deployed_model"]}" not found')
        return loaded


def _check_fit(model: Resource, deployment: Resource) -> None:
    base = model.body.get("peftDetails", {}).get("baseModel", "")
    if not base:
        raise ApiError(Code.INVALID_ARGUMENT, f'model "{model.name}" is not a LoRA addon')
    if model.body["state"] != "READY":
        raise ApiError(Code.FAILED_PRECONDITION, f'model "{model.name}" is not READY')
    hot = deployment.body.get("enableHotReloadLatestAddon")
    if not deployment.body.get("enableAddons") and not hot:
        raise ApiError(Code.FAILED_PRECONDITION, f'addons are not enabled on deployment "{deployment.name}"')
    if base != deployment.body["baseModel"]:
        raise ApiError(
            Code.INVALID_ARGUMENT,
            f'model "{model.name}" was tuned from "{base}", the deployment serves "{deployment.body["baseModel"]}"',
        )


def _replace_merged(transaction: Transaction, deployment: Resource, here: list[Resource], *, replace: bool) -> None:
    """A hot-reload deployment merges one adapter at a time; the next one must say that it replaces it."""
    if not deployment.body.get("enableHotReloadLatestAddon"):
        return
    adapters = [other for other in here if other.body["model"] != deployment.body["baseModel"]]
    if adapters and not replace:
        raise ApiError(Code.FAILED_PRECONDITION, "an addon is already merged: pass replace_merged_addon to replace it")
    for other in adapters:
        transaction.remove(other)


def _only_default(transaction: Transaction, chosen: Resource) -> None:
    if not chosen.body.get("default"):
        return
    for other in transaction.all("deployedModels"):
        if other.body["model"] == chosen.body["model"] and other.name != chosen.name and other.body.get("default"):
            other.body["default"] = False
            transaction.put(other)
