"""Accounts: who the key belongs to and which accounts there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlflow_fireworks.emulator.options import Options
from mlflow_fireworks.emulator.protocol import listing, messages
from mlflow_fireworks.emulator.protocol.wire import ApiError, Call, Code, JsonObject
from mlflow_fireworks.emulator.resources import catalogue
from mlflow_fireworks.emulator.storage.state import Store

_ACCOUNT_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SINCE = "2025-01-01T00:00:00.000000Z"


@dataclass(frozen=True)
class Accounts:
    """The account service.

    Args:
        store: Knows which accounts own anything.
        options: Which accounts exist.
    """

    store: Store
    options: Options

    def admit(self, account: str) -> None:
        """Refuse an account that does not exist or is not the caller's.

        Raises:
            ApiError: INVALID_ARGUMENT or PERMISSION_DENIED.
        """
        if not _ACCOUNT_ID.fullmatch(account):
            raise ApiError(Code.INVALID_ARGUMENT, f'invalid account ID "{account[:100]}"')
        if self.options.accounts and account not in (*self.options.accounts, catalogue.ACCOUNT):
            raise ApiError(Code.PERMISSION_DENIED, f'account "{account}" does not exist or is not accessible')

    def check_standing(self, account: str, method: str) -> None:
        """Refuse changes by a suspended account, which may still look and delete, and all by one of another region.

        Raises:
            ApiError: FAILED_PRECONDITION, under the status that the documentation gives; PERMISSION_DENIED.
        """
        if account != catalogue.ACCOUNT and self.options.behaviours.has("account", "other-region"):
            raise ApiError(
                Code.PERMISSION_DENIED, f"account {account} has US data residency; use us.api.fireworks.ai instead"
            )
        if method in ("POST", "PATCH") and self.options.behaviours.has("account", "suspended"):
            raise ApiError(Code.FAILED_PRECONDITION, f"account {account} is suspended", status=412)

    def verify_api_key(self, call: Call) -> JsonObject:
        """VerifyApiKey: an empty answer whose headers name the account."""
        account = self.options.own_account
        call.headers_out["x-fireworks-account-id"] = account
        call.headers_out["x-fireworks-developer-email"] = f"developer@{account}.example"
        return {}

    def get(self, call: Call) -> JsonObject:
        """GetAccount."""
        return listing.apply_mask(messages.ACCOUNT, self._body(call.path["account"]), call.query.get("readMask", ""))

    def page(self, call: Call) -> JsonObject:
        """ListAccounts: the key's own account and all that own anything."""
        known = set(self.options.accounts)
        if not known:
            with self.store.transaction() as transaction:
                known = {self.options.own_account, *transaction.accounts()}
        return listing.page("accounts", messages.ACCOUNT, [self._body(id_) for id_ in sorted(known)], call.query)

    def _body(self, id_: str) -> JsonObject:
        suspended = self.options.behaviours.has("account", "suspended")
        return {
            "name": f"accounts/{id_}",
            "displayName": id_,
            "email": f"developer@{id_}.example",
            "createTime": _SINCE,
            "updateTime": _SINCE,
            "state": "READY",
            "status": {"code": "OK"},
            "suspendState": "FAILED_PAYMENTS" if suspended else "UNSUSPENDED",
        }
