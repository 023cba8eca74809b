"""Routers of one account: stable names in front of on-demand deployments."""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from mlflow_fireworks.errors import RefusedError
from mlflow_fireworks.gateway.serving_wire import Router, RouterPage
from mlflow_fireworks.gateway.transport import Transport

_NO_SUCH_CALL = frozenset({httpx.codes.NOT_FOUND, httpx.codes.NOT_IMPLEMENTED})


@dataclass(frozen=True)
class Routers:
    """The routers of one account.

    Args:
        transport: Carries the calls.
        account: Account id.
    """

    transport: Transport
    account: str

    def full_name(self, router_id: str) -> str:
        """`accounts/A/routers/R`, which is also what requests name as their model."""
        return f"accounts/{self.account}/routers/{router_id}"

    def list(self) -> tuple[Router, ...] | None:
        """All routers, those that Fireworks made itself included; None where the service has no such call."""
        path, task = f"/v1/accounts/{self.account}/routers", f"list the routers of account {self.account}"
        try:
            return tuple(router for page in self.transport.pages(RouterPage, path, task) for router in page.routers)
        except RefusedError as error:
            if error.status in _NO_SUCH_CALL:
                return None
            raise

    def find(self, router_id: str) -> Router | None:
        """A router by its id; None when there is none, or no such call."""
        try:
            return self.transport.find(Router, self.full_name(router_id))
        except RefusedError as error:
            if error.status in _NO_SUCH_CALL:
                return None
            raise

    def create(self, router_id: str, deployments: Sequence[str], display_name: str) -> Router:
        """Make a router.

        Args:
            router_id: Its id in the account.
            deployments: Full names of the deployments that it leads to.
            display_name: Shown in Fireworks' pages.

        Raises:
            AlreadyExistsError: The id is taken.
            RefusedError: Fireworks refuses, a deployment of a single region for one.
        """
        body = {"displayName": display_name, "deployments": list(deployments), "weightedRandom": {}}
        path = f"/v1/accounts/{self.account}/routers"
        params, task = {"routerId": router_id}, f"create router {router_id}"
        return self.transport.ask(Router, "POST", path, task, body, params=params)

    def update(self, router: Router, deployments: Sequence[str], display_name: str) -> Router:
        """Point a router elsewhere; it may take a while until all requests follow.

        A public client says that `name` must be in the body.
        """
        body = {"name": router.name, "displayName": display_name, "deployments": list(deployments)}
        return self.transport.ask(Router, "PATCH", f"/v1/{router.name}", f"update {router.name}", body)

    def delete(self, router: Router) -> None:
        """Delete a router; requests to it fail at once. One that is already gone is fine."""
        self.transport.delete(router.name)
