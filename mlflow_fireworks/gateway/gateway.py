"""One account of Fireworks' control plane: the clients of its resources, over one connection."""

from collections.abc import Callable, Mapping
from functools import cached_property

import httpx
from pydantic import SecretStr
from typing_extensions import Self

from mlflow_fireworks.errors import InvalidConfigError, RefusedError
from mlflow_fireworks.gateway.adapters import LoadedAdapters
from mlflow_fireworks.gateway.deployments import OnDemandDeployments
from mlflow_fireworks.gateway.lookup import Lookup
from mlflow_fireworks.gateway.models import Models
from mlflow_fireworks.gateway.routers import Routers
from mlflow_fireworks.gateway.transport import Transport
from mlflow_fireworks.gateway.wire import Account, AccountPage, Quota, QuotaPage
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.names import enumerate_names


class Gateway:
    """The control plane of one account.

    Args:
        base_url: Address of the API, without a trailing slash.
        api_key: Sent to that address only.
        account: Account id; asked of the API at first use when None.
        retry: How failures that may pass are tried again.
        timeouts: How long one request may hang.
        tell: Is told about retries.
        transport: For tests of this class without a server; a real connection when None.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr,
        account: str | None = None,
        *,
        retry: Retry | None = None,
        timeouts: Timeouts | None = None,
        tell: Callable[[str], None] = lambda _: None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.transport = Transport(base_url, api_key, retry=retry, timeouts=timeouts, tell=tell, transport=transport)
        self._account = account

    @cached_property
    def account(self) -> str:
        """The account id.

        Raises:
            RefusedError: The key is not accepted.
            InvalidConfigError: The API does not say whose key it is, or names several accounts.
        """
        return self._account or self._ask_account()

    @cached_property
    def models(self) -> Models:
        """Its models."""
        return Models(self.transport, self.account)

    @cached_property
    def lookup(self) -> Lookup:
        """Finds some of its models."""
        return Lookup(self.models)

    @cached_property
    def deployments(self) -> OnDemandDeployments:
        """Its GPUs."""
        return OnDemandDeployments(self.transport, self.account)

    @cached_property
    def routers(self) -> Routers:
        """The stable names in front of those."""
        return Routers(self.transport, self.account)

    @cached_property
    def adapters(self) -> LoadedAdapters:
        """What is loaded on those."""
        return LoadedAdapters(self.transport, self.account)

    def describe_account(self) -> tuple[Account, Mapping[str, str]]:
        """The account as Fireworks describes it, and the headers of that answer.

        Raises:
            UnexpectedAnswerError: What answers is not Fireworks' API.
        """
        task = f"look up account {self.account}"
        response = self.transport.send("GET", f"/v1/accounts/{self.account}", task)
        return self.transport.read(Account, response, task), response.headers

    def list_quotas(self) -> list[Quota]:
        """How much of everything the account may use, and how much it does."""
        pages = self.transport.pages(QuotaPage, f"/v1/accounts/{self.account}/quotas", "list the quotas")
        return [quota for page in pages for quota in page.quotas]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.transport.close()

    def _ask_account(self) -> str:
        """Whose key it is.

        `GET /verifyApiKey` answers that in a header, as Fireworks' own client reads it; an API without that call lists
        the accounts of the key.
        """
        try:
            response = self.transport.send("GET", "/verifyApiKey", "verify the API key")
            found = [str(response.headers.get("x-fireworks-account-id", "")).strip()]
        except RefusedError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            page = self.transport.ask(AccountPage, "GET", "/v1/accounts", "list the accounts of the key")
            found = [account.name.removeprefix("accounts/") for account in page.accounts]
        if len(found) == 1 and found[0]:
            return found[0]
        known = f" (it has access to {enumerate_names(found)})" if len(found) > 1 else ""
        raise InvalidConfigError(
            f"{self.transport.host} did not say which account the key belongs to{known}; "
            "use the target fireworks:/ACCOUNT, or set FIREWORKS_ACCOUNT_ID"
        )
