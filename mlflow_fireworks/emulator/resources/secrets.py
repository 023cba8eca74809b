"""Secrets: values that are kept for the service's own use, such as the SAS token of an import. Never read back."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_fireworks.emulator.protocol import fields, listing, messages
from mlflow_fireworks.emulator.protocol.wire import ApiError, Call, Code, JsonObject
from mlflow_fireworks.emulator.resources.naming import check_id
from mlflow_fireworks.emulator.storage.state import Resource, Store, Transaction


@dataclass(frozen=True)
class Secrets:
    """The secret service.

    Args:
        store: Where names are kept. The values are not: nothing here would use them.
    """

    store: Store

    def create(self, call: Call) -> JsonObject:
        """CreateSecret: the name may be given in full, and is else made from the key's name."""
        account = call.path["account"]
        key = call.body.get("keyName", "")
        if not key:
            raise ApiError(Code.INVALID_ARGUMENT, "key_name is required")
        if not call.body.get("value"):
            raise ApiError(Code.INVALID_ARGUMENT, "value is required")
        id_ = call.body.get("name", "").rpartition("/")[2] or key.lower().replace("_", "-")
        check_id("secret", id_)
        secret = Resource("secrets", account, id_, {"keyName": key})
        secret.body["name"] = secret.name
        with self.store.transaction() as transaction:
            if transaction.get("secrets", account, id_):
                raise ApiError(Code.ALREADY_EXISTS, f'secret "{secret.name}" already exists')
            transaction.put(secret)
        return secret.body

    def get(self, call: Call) -> JsonObject:
        """GetSecret, without its value."""
        with self.store.transaction() as transaction:
            secret = _addressed(transaction, call)
        return listing.apply_mask(messages.SECRET, secret.body, call.query.get("readMask", ""))

    def page(self, call: Call) -> JsonObject:
        """ListSecrets, without their values."""
        with self.store.transaction() as transaction:
            found = [secret.body for secret in transaction.all("secrets", call.path["account"])]
        return listing.page("secrets", messages.SECRET, found, call.query)

    def update(self, call: Call) -> JsonObject:
        """UpdateSecret: another value, or another name of its key."""
        with self.store.transaction() as transaction:
            secret = _addressed(transaction, call)
            changes = {name: value for name, value in call.body.items() if name != "value"}
            secret.body = fields.merge(messages.SECRET, secret.body, {**changes, "name": secret.name})
            transaction.put(secret)
        return secret.body

    def delete(self, call: Call) -> JsonObject:
        """DeleteSecret."""
        with self.store.transaction() as transaction:
            transaction.remove(_addressed(transaction, call))
        return {}


def _addressed(transaction: Transaction, call: Call) -> Resource:
    account, id_ = call.path["account"], call.path["secret"]
    secret = transaction.get("secrets", account, id_)
    if secret is None:
        raise ApiError(Code.NOT_FOUND, f'secret "accounts/{account}/secrets/{id_}" not found')
    return secret
