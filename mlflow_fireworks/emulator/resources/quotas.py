"""Quotas: how much of what an account may use, and how much it does."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_fireworks.emulator.protocol import fields, listing, serving_messages
from mlflow_fireworks.emulator.protocol.wire import ApiError, Call, Code, JsonObject
from mlflow_fireworks.emulator.storage.state import Resource, Store, Transaction

_SINCE = "2025-01-01T00:00:00.000000Z"
_GPU_QUOTA = {
    "NVIDIA_A100_80GB": "global--a100-count",
    "NVIDIA_H100_80GB": "global--h100-count",
    "NVIDIA_H200_141GB": "global--h200-count",
    "NVIDIA_B200_180GB": "global--b200-count",
}
# Documented defaults: 8 GPUs of each type, 6,000 requests a minute, 50 dollars a month in the first tier.
_DEFAULTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(_GPU_QUOTA.values(), (8, 8)),
    "monthly-spend-usd": (50, 50),
    "serverless-inference-rpm": (6000, 6000),
}


@dataclass(frozen=True)
class Quotas:
    """The quota service.

    Args:
        store: Where changed values and deployments live.
    """

    store: Store

    def page(self, call: Call) -> JsonObject:
        """ListQuotas."""
        with self.store.transaction() as transaction:
            found = [_quota(transaction, call.path["account"], id_).body for id_ in _DEFAULTS]
        return listing.page("quotas", serving_messages.QUOTA, found, call.query)

    def get(self, call: Call) -> JsonObject:
        """GetQuota."""
        with self.store.transaction() as transaction:
            quota = _quota(transaction, call.path["account"], call.path["quota"])
        return listing.apply_mask(serving_messages.QUOTA, quota.body, call.query.get("readMask", ""))

    def update(self, call: Call) -> JsonObject:
        """UpdateQuota: the value may move between zero and the maximum."""
        with self.store.transaction() as transaction:
            quota = _quota(transaction, call.path["account"], call.path["quota"])
            value = fields.merge(serving_messages.QUOTA, quota.body, call.body)["value"]
            if not 0 <= value <= quota.body["maxValue"]:
                raise ApiError(Code.INVALID_ARGUMENT, f"value must be between 0 and {quota.body['maxValue']}")
            quota.body["value"] = value
            transaction.put(quota)
        return quota.body


def check(transaction: Transaction, account: str, accelerator: str, gpus: int, code: Code) -> None:
    """Refuse a deployment that would need more GPUs than the quota allows.

    Raises:
        ApiError: With that code, in the observed wording (its HTTP status was not recorded).
    """
    id_ = _GPU_QUOTA.get(accelerator)
    if id_ is None:
        return
    quota = _quota(transaction, account, id_).body
    if quota["usage"] + gpus > quota["value"]:
        raise ApiError(
            code,
            f"{id_} for account {account}, in use: {int(quota['usage'])}, quota: {quota['value']}, requesting: {gpus}",
        )


def _quota(transaction: Transaction, account: str, id_: str) -> Resource:
    if id_ not in _DEFAULTS:
        raise ApiError(Code.NOT_FOUND, f'quota "{id_}" not found')
    quota = transaction.get("quotas", account, id_)
    if quota is None:
        value, maximum = _DEFAULTS[id_]
        quota = Resource("quotas", account, id_, {"value": value, "maxValue": maximum, "updateTime": _SINCE})
    quota.body.update(name=quota.name, usage=float(_in_use(transaction, account, id_)))
    return quota


def _in_use(transaction: Transaction, account: str, id_: str) -> int:
    return sum(
        deployment.body.get("acceleratorCount", 0) * deployment.body.get("desiredReplicaCount", 0)
        for deployment in transaction.all("deployments", account)
        if _GPU_QUOTA.get(deployment.body.get("acceleratorType", "")) == id_
        and deployment.body["state"] not in ("DELETED", "FAILED")
    )
