"""GPUs of one account: on-demand deployments, the adapters loaded on them, shapes that fit, quotas."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from mlflow_fireworks.errors import ApiError
from mlflow_fireworks.gateway.client import Gateway
from mlflow_fireworks.gateway.serving_wire import (
    DeployedModel,
    DeployedModelPage,
    DeploymentPage,
    OnDemandDeployment,
    Quota,
    QuotaPage,
    ShapeVersion,
    ShapeVersions,
)

PageT = TypeVar("PageT", DeploymentPage, DeployedModelPage, QuotaPage)

_PAGE_SIZE = 200


@dataclass(frozen=True)
class DeploymentGateway:
    """The serving half of an account's control plane.

    Args:
        gateway: The account.
    """

    gateway: Gateway

    def create(
        self, deployment_id: str, fields: Mapping[str, Any], *, validate_only: bool = False
    ) -> OnDemandDeployment:
        """Ask for GPUs; billing begins when replicas are up.

        Args:
            deployment_id: Its id in the account.
            fields: Fields of the Deployment resource, by their names on the wire.
            validate_only: Check, and answer what would be made; make nothing.

        Raises:
            ApiError: With status 409 when the id is taken, for seven days after a soft delete too.
        """
        params = {"deploymentId": deployment_id} | ({"validateOnly": "true"} if validate_only else {})
        path = f"/v1/accounts/{self.gateway.account}/deployments"
        return self.gateway.ask(
            OnDemandDeployment, "POST", path, f"endpoint {deployment_id}", dict(fields), params=params
        )

    def find(self, name: str) -> OnDemandDeployment | None:
        """A deployment by id or full name, or None when there is none; a softly deleted one is still found."""
        name = self.full_name(name)
        try:
            return self.gateway.ask(OnDemandDeployment, "GET", f"/v1/{name}", name)
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def list(self) -> Iterator[OnDemandDeployment]:
        """All deployments of the account but the deleted ones."""
        for page in self._pages(DeploymentPage, "deployments"):
            yield from page.deployments

    def update(self, deployment: OnDemandDeployment, fields: Mapping[str, Any]) -> OnDemandDeployment:
        """Change fields of a deployment, by their names on the wire.

        Fireworks' API description asks for `baseModel` in the body of every update.
        """
        body = {"baseModel": deployment.base_model, **fields}
        return self.gateway.ask(OnDemandDeployment, "PATCH", f"/v1/{deployment.name}", deployment.name, body)

    def delete(self, name: str, *, hard: bool = False, ignore_checks: bool = False) -> None:
        """Take a deployment down; one that is already gone is fine.

        Args:
            name: Id or full name.
            hard: Forget it at once, so that its id is free again; else it can be brought back for seven days.
            ignore_checks: Also when it answered requests within the last hour.

        Raises:
            FailedPreconditionError: It answered requests within the last hour.
        """
        name = self.full_name(name)
        params = {key: "true" for key, wanted in {"hard": hard, "ignoreChecks": ignore_checks}.items() if wanted}
        self._delete(name, params)

    def load_model(self, model: str, deployment: str, description: str, *, replace_merged: bool) -> DeployedModel:
        """Load an adapter on a deployment; it is there when its state is DEPLOYED.

        Args:
            model: Full name of the adapter.
            deployment: Full name of the deployment.
            description: Written on the entry.
            replace_merged: Take the place of the adapter that a hot-reload deployment has merged.
        """
        body = {"model": model, "deployment": deployment, "description": description}
        path = f"/v1/accounts/{self.gateway.account}/deployedModels"
        params = {"replaceMergedAddon": "true"} if replace_merged else {}
        return self.gateway.ask(DeployedModel, "POST", path, f"{model} on {deployment}", body, params=params)

    def find_loaded(self, name: str) -> DeployedModel | None:
        """The entry of a model on a deployment, by its full name; None when it was unloaded."""
        try:
            return self.gateway.ask(DeployedModel, "GET", f"/v1/{name}", name)
        except ApiError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def list_loaded(self) -> Iterator[DeployedModel]:
        """All models on all deployments, the deployments' own models included."""
        for page in self._pages(DeployedModelPage, "deployedModels"):
            yield from page.deployed_models

    def describe_loaded(self, loaded: DeployedModel, description: str) -> DeployedModel:
        """Change the description of an entry."""
        return self.gateway.ask(DeployedModel, "PATCH", f"/v1/{loaded.name}", loaded.name, {"description": description})

    def unload_model(self, loaded: DeployedModel) -> None:
        """Take an adapter off a deployment; one that is already gone is fine."""
        self._delete(loaded.name, {})

    def match_shapes(self, model: str, *, addons: bool = False) -> tuple[ShapeVersion, ...]:
        """The validated shapes that a model can be deployed on; empty when Fireworks has tried none.

        Args:
            model: Full name of a base model or an adapter.
            addons: Only shapes that take adapters.
        """
        account = self.gateway.account
        request = {"parent": f"accounts/{account}", "deployment": {"baseModel": model, "enableAddons": addons}}
        path = f"/v1/accounts/{account}/deploymentShapeVersions:match"
        body = {"createDeploymentRequest": request}
        answer = self.gateway.ask(ShapeVersions, "POST", path, f"the shapes for {model}", body)
        return answer.deployment_shape_versions

    def list_quotas(self) -> Iterator[Quota]:
        """What the account may use and does."""
        for page in self._pages(QuotaPage, "quotas"):
            yield from page.quotas

    def full_name(self, deployment_id: str) -> str:
        """`accounts/A/deployments/D` for an id of this account; a full name is returned as it is."""
        if deployment_id.startswith("accounts/"):
            return deployment_id
        return f"accounts/{self.gateway.account}/deployments/{deployment_id}"

    def _delete(self, name: str, params: Mapping[str, str]) -> None:
        try:
            self.gateway.send("DELETE", f"/v1/{name}", subject=name, params=params)
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise

    def _pages(self, answer: type[PageT], collection: str) -> Iterator[PageT]:
        token = ""
        while True:
            params = {"pageSize": str(_PAGE_SIZE)} | ({"pageToken": token} if token else {})
            path = f"/v1/accounts/{self.gateway.account}/{collection}"
            page = self.gateway.ask(answer, "GET", path, f"the {collection} of {self.gateway.account}", params=params)
            yield page
            if not page.next_page_token or page.next_page_token == token:
                return
            token = page.next_page_token
