"""Adapters loaded on the GPUs of one account; Fireworks calls them deployed models."""

from collections.abc import Iterator

from mlflow_fireworks.gateway.collection import Collection
from mlflow_fireworks.gateway.serving_wire import DeployedModel, DeployedModelPage


class LoadedAdapters(Collection):
    """What is loaded on the deployments of one account."""

    kind = "deployedModels"

    def load(self, model: str, deployment: str, description: str, *, replace_merged: bool) -> DeployedModel:
        """Load an adapter on a deployment; it is there when its state is DEPLOYED.

        Args:
            model: Full name of the adapter.
            deployment: Full name of the deployment.
            description: Written on the entry.
            replace_merged: Take the place of the adapter that a hot-reload deployment has merged.
        """
        body = {"model": model, "deployment": deployment, "description": description}
        params, task = {"replaceMergedAddon": "true"} if replace_merged else {}, f"load {model} onto {deployment}"
        return self.transport.ask(DeployedModel, "POST", self.path, task, body, params=params)

    def find(self, name: str) -> DeployedModel | None:
        """The entry of a model on a deployment, by its full name; None when it was unloaded."""
        return self.transport.find(DeployedModel, name)

    def list(self) -> Iterator[DeployedModel]:
        """All models on all deployments, the deployments' own models included."""
        task = f"list the loaded models of account {self.account}"
        for page in self.transport.pages(DeployedModelPage, self.path, task):
            yield from page.deployed_models

    def describe(self, loaded: DeployedModel, description: str) -> DeployedModel:
        """Change the description of an entry."""
        body = {"description": description}
        return self.transport.ask(DeployedModel, "PATCH", f"/v1/{loaded.name}", f"update {loaded.name}", body)

    def unload(self, loaded: DeployedModel) -> None:
        """Take an adapter off a deployment; one that is already gone is fine."""
        self.transport.delete(loaded.name)
