"""On-demand deployments: create, read, scale, change, delete softly or for good, bring back."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_fireworks.emulator.behaviours import Behaviours
from mlflow_fireworks.emulator.options import Clock
from mlflow_fireworks.emulator.protocol import fields, listing, serving_messages
from mlflow_fireworks.emulator.protocol.wire import ApiError, Call, Code, JsonObject, timestamp
from mlflow_fireworks.emulator.resources import quotas
from mlflow_fireworks.emulator.resources.hardware import Hardware
from mlflow_fireworks.emulator.resources.limits import MAX_REPLICAS, check_limits, check_tags, seconds
from mlflow_fireworks.emulator.resources.models import Models
from mlflow_fireworks.emulator.resources.naming import check_id, random_id
from mlflow_fireworks.emulator.resources.transitions import Transitions, advance
from mlflow_fireworks.emulator.storage.state import Resource, Store, Transaction

NAME = re.compile(r"accounts/([^/]+)/deployments/([^/]+)")
PURGE_SECONDS = 7 * 86400

_RECENT_SECONDS = 3600
_AUTOSCALING = {"scaleUpWindow": "30s", "scaleDownWindow": "600s", "scaleToZeroWindow": "3600s"}


@dataclass(frozen=True)
class Deployments:
    """The deployment service.

    Args:
        store: Where deployments live.
        models: Resolves base models.
        hardware: Chooses what they run on.
        behaviours: When replicas are ready, how a quota refuses.
        transitions: How long things take.
        ids: Makes ids for deployments that come without one.
        clock: Seconds since the epoch.
    """

    store: Store
    models: Models
    hardware: Hardware
    behaviours: Behaviours
    transitions: Transitions
    ids: random.Random
    clock: Clock

    def create(self, call: Call) -> JsonObject:
        """CreateDeployment: CREATING first, READY by itself; ``validateOnly`` keeps nothing."""
        account, query = call.path["account"], call.query
        id_ = query.get("deploymentId") or random_id(self.ids)
        if query.get("deploymentId"):
            check_id("deployment", id_)
        body = fields.settable(serving_messages.DEPLOYMENT, call.body)
        check_tags(body.get("annotations", {}))
        deployment = Resource("deployments", account, id_, body)
        now = self.clock()
        with self.store.transaction() as transaction:
            if self._read(transaction, account, id_):
                raise ApiError(Code.ALREADY_EXISTS, f'deployment "{deployment.name}" already exists')
            self._complete(transaction, deployment, query)
            replicas = body["desiredReplicaCount"]
            self._check_quota(transaction, deployment, replicas * body["acceleratorCount"])
            body.update(
                name=deployment.name,
                state="CREATING",
                status={"code": "OK"},
                createTime=timestamp(now, digits=6),
                updateTime=timestamp(now, digits=6),
                region="US_IOWA_1",
            )
            if not query.get("validateOnly"):
                self.transitions.begin(deployment, _ready(replicas), now, failed={"state": "FAILED"})
                transaction.put(deployment)
                if not query.get("disableAutoDeploy"):
                    self._deploy_base(transaction, deployment, now)
        return {**body, "createTime": timestamp(now, digits=9), "updateTime": timestamp(now, digits=9)}

    def get(self, call: Call) -> JsonObject:
        """GetDeployment; a softly deleted one still answers."""
        with self.store.transaction() as transaction:
            deployment = self._addressed(transaction, call)
            body = self._seen(deployment, counts=True)
            transaction.put(deployment)
        return listing.apply_mask(serving_messages.DEPLOYMENT, body, call.query.get("readMask", ""))

    def page(self, call: Call) -> JsonObject:
        """ListDeployments; deleted ones only with ``showDeleted``."""
        with self.store.transaction() as transaction:
            found = [
                self._read(transaction, deployment.account, deployment.id)
                for deployment in transaction.all("deployments", call.path["account"])
            ]
        hidden = () if call.query.get("showDeleted") else ("DELETED",)
        bodies = [self._seen(item, counts=False) for item in found if item and item.body["state"] not in hidden]
        message = serving_messages.DEPLOYMENT
        return listing.page("deployments", message, bodies, call.query, order="create_time")

    def update(self, call: Call) -> JsonObject:
        """UpdateDeployment: immutable fields are kept; the deployment is UPDATING for a while."""
        with self.store.transaction() as transaction:
            deployment = self._living(transaction, call)
            check_tags(call.body.get("annotations", {}))
            deployment.body = fields.merge(serving_messages.DEPLOYMENT, deployment.body, call.body)
            check_limits(deployment.body)
            self._rescale(transaction, deployment, deployment.body["desiredReplicaCount"])
        return deployment.body

    def scale(self, call: Call) -> JsonObject:
        """ScaleDeployment to a number of replicas."""
        count = call.body.get("replicaCount", 0)
        if not 0 <= count <= MAX_REPLICAS:
            raise ApiError(Code.INVALID_ARGUMENT, f"replica_count must be between 0 and {MAX_REPLICAS}")
        with self.store.transaction() as transaction:
            deployment = self._living(transaction, call)
            deployment.body["maxReplicaCount"] = max(count, deployment.body["maxReplicaCount"])
            deployment.body["minReplicaCount"] = min(count, deployment.body["minReplicaCount"])
            self._rescale(transaction, deployment, count)
        return {}

    def delete(self, call: Call) -> JsonObject:
        """DeleteDeployment: softly unless ``hard``; refused after recent traffic unless ``ignoreChecks``."""
        now = self.clock()
        with self.store.transaction() as transaction:
            deployment = self._addressed(transaction, call)
            used = deployment.private.get("last_request_at", 0.0) > now - _RECENT_SECONDS
            if used and not call.query.get("ignoreChecks"):
                raise ApiError(
                    Code.FAILED_PRECONDITION,
                    "deployment has received inference requests in the last hour, "
                    "pass ignore_checks to skip this check",
                )
            for loaded in transaction.all("deployedModels"):
                if loaded.body["deployment"] == deployment.name:
                    transaction.remove(loaded)
            if call.query.get("hard"):
                transaction.remove(deployment)
            elif deployment.body["state"] not in ("DELETED", "DELETING"):
                deployment.body.update(
                    state="DELETING",
                    deleteTime=timestamp(now, digits=6),
                    purgeTime=timestamp(now + PURGE_SECONDS, digits=6),
                )
                deployment.private["purge_at"] = now + PURGE_SECONDS
                gone = {**_replicas(0), "desiredReplicaCount": 0, "state": "DELETED"}
                self.transitions.begin(deployment, gone, now)
                transaction.put(deployment)
        return {}

    def undelete(self, call: Call) -> JsonObject:
        """UndeleteDeployment, until it is purged."""
        with self.store.transaction() as transaction:
            deployment = self._addressed(transaction, call)
            if deployment.body["state"] not in ("DELETED", "DELETING"):
                raise ApiError(Code.FAILED_PRECONDITION, f'deployment "{deployment.name}" is not deleted')
            deployment.private.pop("purge_at", None)
            wanted = _wanted_replicas(deployment.body)
            deployment.body.update(state="CREATING", deleteTime=None, purgeTime=None, desiredReplicaCount=wanted)
            self.transitions.begin(deployment, _ready(wanted), self.clock(), failed={"state": "FAILED"})
            transaction.put(deployment)
        return deployment.body

    def set_tags(self, call: Call) -> JsonObject:
        """SetDeploymentTags: other tags are kept."""
        check_tags(call.body.get("tags", {}))
        return self._tag(call, call.body.get("tags", {}))

    def delete_tags(self, call: Call) -> JsonObject:
        """DeleteDeploymentTags: keys that do not exist are ignored."""
        check_tags(call.body.get("keys", []))
        return self._tag(call, dict.fromkeys(call.body.get("keys", [])))

    def find(self, transaction: Transaction, name: str) -> Resource | None:
        """A deployment by its full name, as it is now; None when there is none."""
        match = NAME.fullmatch(name)
        return self._read(transaction, match[1], match[2]) if match else None

    def wake(self, transaction: Transaction, deployment: Resource) -> None:
        """Start to scale up from zero, as the first request to a sleeping deployment does."""
        if "change" not in deployment.private:
            deployment.body["desiredReplicaCount"] = 1
            self.transitions.begin(deployment, _replicas(1), self.clock())
            transaction.put(deployment)

    def _read(self, transaction: Transaction, account: str, id_: str) -> Resource | None:
        deployment = transaction.get("deployments", account, id_)
        now = self.clock()
        if deployment is None or advance(transaction, deployment, now) is None:
            return None
        if now >= deployment.private.get("purge_at", now + 1):
            transaction.remove(deployment)
            return None
        self._fall_asleep(transaction, deployment, now)
        return deployment

    @staticmethod
    def _fall_asleep(transaction: Transaction, deployment: Resource, now: float) -> None:
        body, private = deployment.body, deployment.private
        window = seconds(body["autoscalingPolicy"]["scaleToZeroWindow"])
        active = max(private.get("last_request_at", 0.0), private.get("changed_at", now))
        idle = body["state"] == "READY" and not body["minReplicaCount"] and body["replicaCount"]
        if idle and window and now >= active + window:
            body.update(_replicas(0), desiredReplicaCount=0)
            transaction.put(deployment)

    def _addressed(self, transaction: Transaction, call: Call) -> Resource:
        deployment = self._read(transaction, call.path["account"], call.path["deployment"])
        if deployment is None:
            name = f"accounts/{call.path['account']}/deployments/{call.path['deployment']}"
            raise ApiError(Code.NOT_FOUND, f'deployment "{name}" not found')
        return deployment

    def _tag(self, call: Call, changes: Mapping[str, str | None]) -> JsonObject:
        with self.store.transaction() as transaction:
            deployment = self._living(transaction, call)
            tags = {**deployment.body.get("annotations", {}), **changes}
            deployment.body["annotations"] = {key: value for key, value in tags.items() if value is not None}
            transaction.put(deployment)
        return deployment.body

    def _living(self, transaction: Transaction, call: Call) -> Resource:
        deployment = self._addressed(transaction, call)
        if deployment.body["state"] in ("DELETED", "DELETING"):
            raise ApiError(Code.FAILED_PRECONDITION, f'deployment "{deployment.name}" is deleted')
        return deployment

    def _seen(self, deployment: Resource, *, counts: bool) -> JsonObject:
        """The body that a caller sees: where that is the way, READY comes some polls before the first replica."""
        body, polled = deployment.body, deployment.private.setdefault("polled", {})
        polled = polled if counts else dict(polled)
        if body["state"] != "READY" or not body["replicaCount"] or not self.behaviours.has("routing", "503-first"):
            return body
        early = self.behaviours.lasts("routing", polled, self.clock(), deployment.private.get("changed_at", 0.0))
        return {**body, "replicaStats": {"initializingReplicaCount": body["replicaCount"]}} if early else body

    def _rescale(self, transaction: Transaction, deployment: Resource, count: int) -> None:
        body = deployment.body
        wanted = max(body["minReplicaCount"], min(count, body["maxReplicaCount"]))
        more = (wanted - body["desiredReplicaCount"]) * body["acceleratorCount"]
        if more > 0:
            self._check_quota(transaction, deployment, more)
        body.update(desiredReplicaCount=wanted, state="UPDATING", updateTime=timestamp(self.clock(), digits=6))
        self.transitions.begin(deployment, _ready(wanted), self.clock(), failed={"state": "FAILED"})
        transaction.put(deployment)

    def _complete(self, transaction: Transaction, deployment: Resource, query: JsonObject) -> None:
        """Check a create request against its model and fill in everything it leaves open."""
        body = deployment.body
        if not body.get("baseModel"):
            raise ApiError(Code.INVALID_ARGUMENT, "base_model is required")
        model = self.models.find(transaction, body["baseModel"])
        base = model
        if model.body.get("peftDetails", {}).get("baseModel"):
            base = self.models.find(transaction, model.body["peftDetails"]["baseModel"])
        if model.body.get("state") != "READY":
            raise ApiError(Code.FAILED_PRECONDITION, f'model "{model.name}" is not READY')
        if not base.body.get("baseModelDetails", {}).get("modelType"):
            raise ApiError(Code.INVALID_ARGUMENT, "model is missing model_type")
        self.hardware.choose(transaction, deployment, base, query)
        if body.get("enableAddons"):
            if not base.body.get("supportsLora") or base is not model:
                raise ApiError(Code.INVALID_ARGUMENT, "addons are not supported for this model")
            if body.get("precision", "").startswith(("FP8", "FP4", "NF4")):
                raise ApiError(
                    Code.INVALID_ARGUMENT,
                    "invalid deployment: addons cannot be enabled with quantized precisions (FP8/FP4)",
                )
        body.setdefault("minReplicaCount", 0)
        body.setdefault("maxReplicaCount", max(body["minReplicaCount"], 1))
        body.setdefault("acceleratorCount", 0)
        body["autoscalingPolicy"] = {
            "loadTargets": {"default": 0.8},
            **_AUTOSCALING,
            **body.get("autoscalingPolicy", {}),
        }
        body.setdefault("placement", {"multiRegion": "GLOBAL"})
        check_limits(body)
        body.update(_replicas(0), desiredReplicaCount=_wanted_replicas(body))

    def _check_quota(self, transaction: Transaction, deployment: Resource, gpus: int) -> None:
        code = Code.PERMISSION_DENIED if self.behaviours.has("quota-status", "403") else Code.RESOURCE_EXHAUSTED
        quotas.check(transaction, deployment.account, deployment.body.get("acceleratorType", ""), gpus, code)

    def _deploy_base(self, transaction: Transaction, deployment: Resource, now: float) -> None:
        """A new deployment also serves its own model; the first one becomes that model's default target."""
        model = deployment.body["baseModel"]
        id_ = f"{model.rpartition('/')[2][:50]}-{random_id(self.ids)}"
        loaded = Resource("deployedModels", deployment.account, id_, {})
        loaded.body = {
            "name": loaded.name,
            "model": model,
            "deployment": deployment.name,
            "default": not any(other.body["model"] == model for other in transaction.all("deployedModels")),
            "state": "DEPLOYING",
            "status": {"code": "OK"},
            "createTime": timestamp(now, digits=6),
            "updateTime": timestamp(now, digits=6),
        }
        self.transitions.begin(loaded, {"state": "DEPLOYED"}, now)
        transaction.put(loaded)


def _wanted_replicas(body: JsonObject) -> int:
    return min(max(int(body["minReplicaCount"]), 1), int(body["maxReplicaCount"]))


def _ready(replicas: int) -> JsonObject:
    return {**_replicas(replicas), "state": "READY", "status": {"code": "OK"}}


def _replicas(count: int) -> JsonObject:
    return {
        "replicaCount": count,
        "replicaStats": {"readyReplicaCount": count, "effectiveReplicaCount": count},
    }
