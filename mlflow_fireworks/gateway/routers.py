"""Routers of one account: stable names in front of on-demand deployments."""

from collections.abc import Sequence

import httpx

from mlflow_fireworks.errors import RefusedError
from mlflow_fireworks.gateway.collection import Collection
from mlflow_fireworks.gateway.serving_wire import Router, RouterPage

_NO_SUCH_CALL = frozenset({httpx.codes.NOT_FOUND, httpx.codes.NOT_IMPLEMENTED})


class Routers(Collection):
    """The routers of one account; the full name of one is also what requests name as their model."""

    kind = "routers"

    def list(self) -> tuple[Router, ...] | None:
        """All routers, those that Fireworks made itself included; None where the service has no such call."""
        task = f"list the routers of account {self.account}"
        try:
            pages = self.transport.pages(RouterPage, self.path, task)
            return tuple(router for page in pages for router in page.routers)
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
        params, task = {"routerId": router_id}, f"create router {router_id}"
        return self.transport.ask(Router, "POST", self.path, task, body, params=params)

    def update(self, router: Router, deployments: Sequence[str], display_name: str) -> Router:
        """Point a router elsewhere; it may take a while until all requests follow.

        A public client says that `name` must be in the body.
        """
        body = {"name": router.name, "displayName": display_name, "deployments": list(deployments)}
        return self.transport.ask(Router, "PATCH", f"/v1/{router.name}", f"update {router.name}", body)

    def delete(self, router: Router) -> None:
        """Delete a router; requests to it fail at once. One that is already gone is fine."""
        self.transport.delete(router.name)
