"""Adapters loaded on the GPUs of one account; Fireworks calls them deployed models."""

from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_fireworks.gateway.serving_wire import DeployedModel, DeployedModelPage
from mlflow_fireworks.gateway.transport import Transport


@dataclass(frozen=True)
class LoadedAdapters:
    """What is loaded on the deployments of one account.

    Args:
        transport: Carries the calls.
        account: Account id.
    """

    transport: Transport
    account: str

    def load(self, model: str, deployment: str, description: str, *, replace_merged: bool) -> DeployedModel:
        """Load an adapter on a deployment; it is there when its state is DEPLOYED.

        Args:
            model: Full name of the adapter.
            deployment: Full name of the deployment.
            description: Written on the entry.
            replace_merged: Take the place of the adapter that a hot-reload deployment has merged.
        """
        body = {"model": model, "deployment": deployment, "description": description}
        path = f"/v1/accounts/{self.account}/deployedModels"
        params = {"replaceMergedAddon": "true"} if replace_merged else {}
        return self.transport.ask(DeployedModel, "POST", path, f"load {model} onto {deployment}", body, params=params)

    def find(self, name: str) -> DeployedModel | None:
        """The entry of a model on a deployment, by its full name; None when it was unloaded."""
        return self.transport.find(DeployedModel, name)

    def list(self) -> Iterator[DeployedModel]:
        """All models on all deployments, the deployments' own models included."""
        path, task = f"/v1/accounts/{self.account}/deployedModels", f"list the loaded models of account {self.account}"
        for page in self.transport.pages(DeployedModelPage, path, task):
            yield from page.deployed_models

    def describe(self, loaded: DeployedModel, description: str) -> DeployedModel:
        """Change the description of an entry."""
        body = {"description": description}
        return self.transport.ask(DeployedModel, "PATCH", f"/v1/{loaded.name}", f"update {loaded.name}", body)

    def unload(self, loaded: DeployedModel) -> None:
        """Take an adapter off a deployment; one that is already gone is fine."""
        self.transport.delete(loaded.name)
