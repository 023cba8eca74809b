"""What the resources of every kind have in common: they belong to an account, and have names in it."""

from dataclasses import dataclass
from typing import ClassVar

from mlflow_fireworks.gateway.transport import Transport


@dataclass(frozen=True)
class Collection:
    """The resources of one kind in one account.

    Args:
        transport: Carries the calls.
        account: Account id.
    """

    kind: ClassVar[str]
    """Their name in paths: `models`."""

    transport: Transport
    account: str

    @property
    def path(self) -> str:
        """Below the API's address."""
        return f"/v1/accounts/{self.account}/{self.kind}"

    def full_name(self, resource_id: str) -> str:
        """`accounts/A/models/M` for an id of this account; a full name is returned as it is."""
        return (
            resource_id if resource_id.startswith("accounts/") else f"accounts/{self.account}/{self.kind}/{resource_id}"
        )
