"""GPUs of one account: on-demand deployments, and the shapes that fit a model."""

from collections.abc import Iterator, Mapping
from typing import Any

from mlflow_fireworks.errors import InvalidRequestError, RefusedError
from mlflow_fireworks.gateway.catalogue import PUBLIC_CATALOGUE
from mlflow_fireworks.gateway.collection import Collection
from mlflow_fireworks.gateway.serving_wire import (
    DeploymentPage,
    OnDemandDeployment,
    Shape,
    ShapePage,
    ShapeVersion,
    ShapeVersions,
)

_SHAPELESS = "acceptShapelessRisk"
_ALL_ACCOUNTS = "-"


class OnDemandDeployments(Collection):
    """The on-demand deployments of one account."""

    kind = "deployments"

    def create(
        self, deployment_id: str, fields: Mapping[str, Any], *, validate_only: bool = False
    ) -> OnDemandDeployment:
        """Ask for GPUs; billing begins when replicas are up.

        Hardware that is named without a shape comes with `acceptShapelessRisk`, which Fireworks is going to ask for; a
        service that does not know it is asked again without it.

        Args:
            deployment_id: Its id in the account.
            fields: Fields of the Deployment resource, by their names on the wire.
            validate_only: Check, and answer what would be made; make nothing.

        Raises:
            AlreadyExistsError: The id is taken, for seven days after a soft delete too.
        """
        params = {"deploymentId": deployment_id} | ({"validateOnly": "true"} if validate_only else {})
        if fields.get("deploymentShape"):
            return self._create(deployment_id, fields, params)
        try:
            return self._create(deployment_id, fields, {**params, _SHAPELESS: "true"})
        except InvalidRequestError as error:
            if _SHAPELESS.lower() not in error.server_message.replace("_", "").lower():
                raise
            return self._create(deployment_id, fields, params)

    def _create(self, deployment_id: str, fields: Mapping[str, Any], params: Mapping[str, str]) -> OnDemandDeployment:
        task = f"create endpoint {deployment_id}"
        return self.transport.ask(OnDemandDeployment, "POST", self.path, task, dict(fields), params=params)

    def find(self, name: str) -> OnDemandDeployment | None:
        """A deployment by id or full name, or None when there is none; a softly deleted one is still found."""
        return self.transport.find(OnDemandDeployment, self.full_name(name))

    def list(self, *, deleted: bool = False) -> Iterator[OnDemandDeployment]:
        """All deployments of the account.

        Args:
            deleted: Also those that were softly deleted within the last seven days.
        """
        query, task = {"showDeleted": "true"} if deleted else {}, f"list the deployments of account {self.account}"
        for page in self.transport.pages(DeploymentPage, self.path, task, query):
            yield from page.deployments

    def update(self, deployment: OnDemandDeployment, fields: Mapping[str, Any]) -> OnDemandDeployment:
        """Change fields of a deployment, by their names on the wire.

        Fireworks' API description asks for `baseModel` in the body of every update.
        """
        name, body = deployment.name, {"baseModel": deployment.base_model, **fields}
        return self.transport.ask(OnDemandDeployment, "PATCH", f"/v1/{name}", f"update {name}", body)

    def delete(self, name: str, *, hard: bool = False, ignore_checks: bool = False) -> None:
        """Take a deployment down; one that is already gone is fine.

        Args:
            name: Id or full name.
            hard: Forget it at once, so that its id is free again; else it can be brought back for seven days.
            ignore_checks: Also when it answered requests within the last hour.

        Raises:
            FailedPreconditionError: It answered requests within the last hour.
        """
        params = {key: "true" for key, wanted in {"hard": hard, "ignoreChecks": ignore_checks}.items() if wanted}
        self.transport.delete(self.full_name(name), params)

    def undelete(self, deployment: OnDemandDeployment) -> OnDemandDeployment:
        """Bring a softly deleted deployment back; it starts again, and is billed again."""
        name = deployment.name
        return self.transport.ask(OnDemandDeployment, "POST", f"/v1/{name}:undelete", f"restore {name}", {})

    def match_shapes(self, model: str, *, addons: bool = False) -> tuple[ShapeVersion, ...]:
        """The validated shapes that a model can be deployed on; empty when Fireworks has tried none.

        Args:
            model: Full name of a base model or an adapter.
            addons: Only shapes that take adapters.
        """
        request = {"parent": f"accounts/{self.account}", "deployment": {"baseModel": model, "enableAddons": addons}}
        path = f"/v1/accounts/{self.account}/deploymentShapeVersions:match"
        body = {"createDeploymentRequest": request}
        answer = self.transport.ask(ShapeVersions, "POST", path, f"find deployment shapes for {model}", body)
        return answer.deployment_shape_versions

    def list_shapes(self) -> tuple[Shape, ...]:
        """The shapes in Fireworks' catalogue; empty where this key may not see them."""
        for account in (PUBLIC_CATALOGUE, _ALL_ACCOUNTS):
            path = f"/v1/accounts/{account}/deploymentShapes"
            try:
                pages = self.transport.pages(ShapePage, path, "list the deployment shapes")
                if found := tuple(shape for page in pages for shape in page.deployment_shapes):
                    return found
            except RefusedError:
                continue
        return ()
