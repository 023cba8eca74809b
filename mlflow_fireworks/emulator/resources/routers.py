"""Routers: a stable name in front of one or more deployments, and which of them a request to it reaches."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from mlflow_fireworks.emulator.behaviours import Behaviours
from mlflow_fireworks.emulator.options import Clock
from mlflow_fireworks.emulator.protocol import fields, listing, serving_messages
from mlflow_fireworks.emulator.protocol.wire import ApiError, Call, Code, JsonObject, timestamp
from mlflow_fireworks.emulator.resources.deployments import Deployments
from mlflow_fireworks.emulator.resources.naming import check_id, check_texts, random_id
from mlflow_fireworks.emulator.storage.state import Resource, Store, Transaction

NAME = re.compile(r"accounts/([^/]+)/routers/([^/]+)")

_STRATEGIES = ("weightedRandom", "evenLoad")
_FACT = "router-changes"


@dataclass(frozen=True)
class Routers:
    """The router service.

    Args:
        store: Where routers live.
        deployments: Resolves deployments.
        behaviours: Whether there are routers at all, and how fast a change of one shows.
        ids: Makes ids, and decides where a request goes.
        clock: Seconds since the epoch.
    """

    store: Store
    deployments: Deployments
    behaviours: Behaviours
    ids: random.Random
    clock: Clock

    def create(self, call: Call) -> JsonObject:
        """CreateRouter: in front of at least one multi-region deployment."""
        self._check_offered()
        account, now = call.path["account"], self.clock()
        id_ = call.query.get("routerId") or random_id(self.ids)
        if call.query.get("routerId"):
            check_id("router", id_)
        check_texts(call.body)
        router = Resource("routers", account, id_, fields.settable(serving_messages.ROUTER, call.body))
        _choose_strategy(router.body, call.body)
        with self.store.transaction() as transaction:
            if self._find(transaction, account, id_):
                raise ApiError(Code.ALREADY_EXISTS, f'router "{router.name}" already exists')
            self._check_targets(transaction, router.body)
            router.body.update(
                name=router.name,
                state="READY",
                status={"code": "OK"},
                createTime=timestamp(now, digits=6),
                updateTime=timestamp(now, digits=6),
                createdBy=f"developer@{account}.example",
            )
            self._begin_change(router, [], now)
            transaction.put(router)
        return {**router.body, "createTime": timestamp(now, digits=9), "updateTime": timestamp(now, digits=9)}

    def get(self, call: Call) -> JsonObject:
        """GetRouter."""
        self._check_offered()
        with self.store.transaction() as transaction:
            router = self._addressed(transaction, call)
        return listing.apply_mask(serving_messages.ROUTER, router.body, call.query.get("readMask", ""))

    def page(self, call: Call) -> JsonObject:
        """ListRouters."""
        self._check_offered()
        account = call.path["account"]
        with self.store.transaction() as transaction:
            made = transaction.all("routers", account)
            taken = {router.id for router in made}
            found = [*made, *(item for item in self._generated(transaction, account) if item.id not in taken)]
        return listing.page("routers", serving_messages.ROUTER, [router.body for router in found], call.query)

    def update(self, call: Call) -> JsonObject:
        """UpdateRouter; it may take a while until requests follow."""
        self._check_offered()
        check_texts(call.body)
        now = self.clock()
        with self.store.transaction() as transaction:
            router = self._editable(transaction, call)
            before = self._routed_to(router, counts=False)
            router.body = fields.merge(serving_messages.ROUTER, router.body, call.body)
            _choose_strategy(router.body, call.body)
            self._check_targets(transaction, router.body)
            router.body["updateTime"] = timestamp(now, digits=6)
            self._begin_change(router, before, now)
            transaction.put(router)
        return router.body

    def delete(self, call: Call) -> JsonObject:
        """DeleteRouter, at once: traffic to it then fails (docs)."""
        self._check_offered()
        with self.store.transaction() as transaction:
            transaction.remove(self._editable(transaction, call))
        return {}

    def lead(self, transaction: Transaction, name: str) -> Resource | None:
        """The deployment that a request to a router reaches; one that sleeps if all do, None if none can answer."""
        match = NAME.fullmatch(name)
        router = self._find(transaction, match[1], match[2]) if match else None
        if router is None:
            return None
        found = [self.deployments.find(transaction, target) for target in self._routed_to(router, counts=True)]
        living = [item for item in found if item and item.body["state"] in ("READY", "UPDATING")]
        awake = [item for item in living if item.body["replicaCount"]]
        chosen = self._choose(router, awake) if awake else next(iter(living), None)
        if not router.body.get("autoGenerated"):
            transaction.put(router)
        return chosen

    def _choose(self, router: Resource, awake: list[Resource]) -> Resource:
        """By chance, each replica with an equal share; or the one whose replicas have had the fewest requests."""
        replicas = {item.name: int(item.body["replicaCount"]) for item in awake}
        if router.body.get("evenLoad") is None:
            return self.ids.choices(awake, list(replicas.values()))[0]
        sent = router.private.setdefault("sent", {})
        chosen = min(awake, key=lambda item: sent.get(item.name, 0) / replicas[item.name])
        sent[chosen.name] = sent.get(chosen.name, 0) + 1
        return chosen

    def _routed_to(self, router: Resource, *, counts: bool) -> list[str]:
        """Where requests go now: where that is the way, for a while still to where the router pointed before."""
        change = router.private.get("turning")
        if change and self.behaviours.has(_FACT, "slow"):
            asked = change["asked"] if counts else dict(change["asked"])
            if self.behaviours.lasts(_FACT, asked, self.clock(), change["at"]):
                return list(change["before"])
        return list(router.body["deployments"])

    def _begin_change(self, router: Resource, before: list[str], now: float) -> None:
        if self.behaviours.has(_FACT, "slow") and router.body["deployments"] != before:
            router.private["turning"] = {"before": before, "at": now, "asked": {}}

    def _find(self, transaction: Transaction, account: str, id_: str) -> Resource | None:
        made = transaction.get("routers", account, id_)
        return made or next((item for item in self._generated(transaction, account) if item.id == id_), None)

    def _generated(self, transaction: Transaction, account: str) -> list[Resource]:
        """Where that is the way: a router for each multi-region deployment, which comes and goes with it."""
        if self.behaviours.has("auto-routers", "hidden"):
            return []
        found = [self.deployments.find(transaction, item.name) for item in transaction.all("deployments", account)]
        living = [item for item in found if item and item.body["state"] != "DELETED" and _is_multi_region(item)]
        return [_generate(item) for item in living]

    def _addressed(self, transaction: Transaction, call: Call) -> Resource:
        account, id_ = call.path["account"], call.path["router"]
        router = self._find(transaction, account, id_)
        if router is None:
            raise ApiError(Code.NOT_FOUND, f'router "accounts/{account}/routers/{id_}" not found')
        return router

    def _editable(self, transaction: Transaction, call: Call) -> Resource:
        router = self._addressed(transaction, call)
        if router.body.get("autoGenerated"):
            raise ApiError(Code.FAILED_PRECONDITION, "auto-generated routers cannot be updated or deleted")
        return router

    def _check_targets(self, transaction: Transaction, body: JsonObject) -> None:
        if not body.get("deployments"):
            raise ApiError(Code.INVALID_ARGUMENT, "a router needs at least one deployment")
        for name in body["deployments"]:
            deployment = self.deployments.find(transaction, name)
            if deployment is None:
                raise ApiError(Code.NOT_FOUND, f'deployment "{name}" not found')
            if deployment.body["state"] in ("DELETED", "DELETING"):
                raise ApiError(Code.FAILED_PRECONDITION, f'deployment "{name}" is deleted')
            if not _is_multi_region(deployment):
                raise ApiError(
                    Code.INVALID_ARGUMENT, f'routers only work with multi-region deployments, "{name}" is not one'
                )
        if body.get("model"):
            raise ApiError(Code.INVALID_ARGUMENT, "model must be empty for multi-region deployments")

    def _check_offered(self) -> None:
        """Answer as a service does that has no such call."""
        if self.behaviours.has("routers", "absent-404"):
            raise ApiError(Code.NOT_FOUND, "Not Found")
        if self.behaviours.has("routers", "absent-501"):
            raise ApiError(Code.UNIMPLEMENTED, "Method Not Allowed")


def _choose_strategy(body: JsonObject, sent: JsonObject) -> None:
    """A oneof: the one that is sent replaces the other; weighted by replicas where none was ever sent."""
    chosen = [name for name in _STRATEGIES if sent.get(name) is not None]
    if len(chosen) > 1:
        raise ApiError(Code.INVALID_ARGUMENT, 'proto: (line 1:1): error parsing "evenLoad", oneof is already set')
    if chosen:
        for name in _STRATEGIES:
            body[name] = {} if name in chosen else None
    elif all(body.get(name) is None for name in _STRATEGIES):
        body["weightedRandom"] = {}


def _is_multi_region(deployment: Resource) -> bool:
    region = str(deployment.body["placement"].get("multiRegion", ""))
    return not (region == "" or region.endswith("_UNSPECIFIED"))


def _generate(deployment: Resource) -> Resource:
    router = Resource("routers", deployment.account, deployment.id, {})
    router.body = {
        "name": router.name,
        "state": "READY",
        "status": {"code": "OK"},
        "deployments": [deployment.name],
        "weightedRandom": {},
        "autoGenerated": True,
        "createTime": deployment.body["createTime"],
        "updateTime": deployment.body["createTime"],
    }
    return router
