"""Every command that a message prints, so that it works when it is pasted."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow_fireworks.names import DeploymentName, EndpointName

_MLFLOW = ("mlflow", "deployments")
_OWN = ("mlflow-fireworks",)


@dataclass(frozen=True)
class Commands:
    """The commands that go on from here, on one target.

    A deployment's name and an endpoint's have types of their own, since the id of a model (`chat-r2`) or of a Fireworks
    deployment (`prod-2`) in their place gives a command that fails.

    Args:
        target_uri: As the user wrote it.
        options: What this run was given for `-C`, which the command that goes on with it repeats.
        endpoint_options: Of these, what an endpoint's commands take.
        endpoint: The endpoint of this run.
    """

    target_uri: str
    options: Mapping[str, str] = field(default_factory=dict)
    endpoint_options: Mapping[str, str] = field(default_factory=dict)
    endpoint: EndpointName | None = None

    def again(self, name: DeploymentName, model_uri: str, *, revision: int) -> str:
        """This run once more, with its options: `create` makes the first revision, `update` the others."""
        verb = "create" if revision == 1 else "update"
        return self._write(*_MLFLOW, verb, name=name, model=model_uri, endpoint=self.endpoint, options=self._given)

    def finish(self, name: DeploymentName) -> str:
        """Go on with what this run has sent, and wait for it."""
        options = {option: value for option, value in self._given.items() if option != "synchronous"}
        return self._write(*_MLFLOW, "update", name=name, endpoint=self.endpoint, options=options)

    def resume_upload(self, name: DeploymentName) -> str:
        """Send what is missing of the last revision, wherever it was begun, and wait for it."""
        return shlex.join([*_OWN, "resume", name, "-t", self.target_uri])

    def promote(self, name: DeploymentName, model_uri: str) -> str:
        """Make what a model URI means now the current revision."""
        return shlex.join([*_OWN, "promote", model_uri, "--name", name, "-t", self.target_uri])

    def create(self, name: DeploymentName, model_uri: str) -> str:
        """Make a deployment."""
        return self._write(*_MLFLOW, "create", name=name, model=model_uri)

    def serve(self, name: DeploymentName, endpoint: EndpointName, **options: str) -> str:
        """Put a deployment on an endpoint; `options` are for `-C`."""
        return self._write(*_MLFLOW, "update", name=name, endpoint=endpoint, options=options)

    def delete(self, name: DeploymentName, **options: str) -> str:
        """Delete a deployment, with the options of this run and more for `-C`."""
        return self._write(*_MLFLOW, "delete", name=name, options={**self.options, **options})

    def get(self, name: DeploymentName) -> str:
        """Look at a deployment."""
        return self._write(*_MLFLOW, "get", name=name)

    def get_endpoint(self, endpoint: EndpointName) -> str:
        """Look at an endpoint."""
        return self._write(*_MLFLOW, "get-endpoint", endpoint=endpoint)

    def list_endpoints(self) -> str:
        """Look at all endpoints."""
        return self._write(*_MLFLOW, "list-endpoints")

    def create_endpoint(self, endpoint: EndpointName, **options: str) -> str:
        """Start an endpoint, with the options of this run and more for `-C`.

        MLflow's own command for that fails for every plugin (3.17).
        """
        return self._write(*_OWN, "endpoint", "create", name=endpoint, options={**self.endpoint_options, **options})

    def update_endpoint(self, endpoint: EndpointName, **options: str) -> str:
        """Change or move an endpoint, with the options of this run and more for `-C`."""
        return self._write(*_OWN, "endpoint", "update", name=endpoint, options={**self.endpoint_options, **options})

    def delete_endpoint(self, endpoint: EndpointName, **options: str) -> str:
        """Take an endpoint down; MLflow's own command for that takes no options (3.17)."""
        return self._write(*_OWN, "endpoint", "delete", name=endpoint, options=options)

    def undelete_endpoint(self, endpoint: EndpointName) -> str:
        """Bring back what was deleted of an endpoint last."""
        return self._write(*_OWN, "endpoint", "undelete", name=endpoint)

    @property
    def _given(self) -> dict[str, str]:
        return {**self.options, **(self.endpoint_options if self.endpoint else {})}

    @staticmethod
    def help() -> str:
        """Show all options of deployments."""
        return shlex.join([*_MLFLOW, "help", "-t", "fireworks"])

    @staticmethod
    def list_jobs(queue: str | None = None) -> str:
        """Look at the hooks' jobs.

        Args:
            queue: The queue's file; None for the default one, or one whose address the environment names.
        """
        return _write_for_hooks(queue, "jobs")

    @staticmethod
    def retry_job(job_id: str, queue: str | None = None) -> str:
        """Try a job of the hooks again; `queue` as for `list_jobs`."""
        return _write_for_hooks(queue, "retry", job_id)

    @staticmethod
    def approve(rule: str, queue: str | None = None) -> str:
        """Let a rule of the hooks start GPUs; `queue` as for `list_jobs`."""
        return _write_for_hooks(queue, "approve", rule)

    @staticmethod
    def resume(what: str, queue: str | None = None) -> str:
        """End a hold of the hooks, or bring back what somebody took off; `queue` as for `list_jobs`."""
        return _write_for_hooks(queue, "resume", what)

    @staticmethod
    def start_worker(queue: str | None = None) -> str:
        """Do the hooks' work, and look at the registry now and then; `queue` as for `list_jobs`."""
        return _write_for_hooks(queue, "worker")

    @staticmethod
    def register(url: str) -> str:
        """Make the webhooks that lead to a receiver, or bring them up to date."""
        return shlex.join([*_OWN, "hooks", "register", "--url", url])

    @staticmethod
    def start_emulator(state: str) -> str:
        """Run the local Fireworks by itself, on a folder with its state."""
        return shlex.join([*_OWN, "emulator", "--state", state])

    @staticmethod
    def play(ways: Mapping[str, str]) -> str:
        """Run the local Fireworks so that it behaves in these ways, by fact."""
        chosen = [part for fact, way in sorted(ways.items()) for part in ("--behaviour", f"{fact}={way}")]
        return shlex.join([*_OWN, "emulator", *chosen])

    def _write(
        self,
        *words: str,
        name: str | None = None,
        model: str | None = None,
        endpoint: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> str:
        flags = {"-t": self.target_uri, "--name": name, "-m": model, "--endpoint": endpoint}
        given = [part for flag, value in flags.items() if value is not None for part in (flag, value)]
        pairs = [part for option, value in (options or {}).items() for part in ("-C", f"{option}={value}")]
        return shlex.join([*words, *given, *pairs])


def _write_for_hooks(queue: str | None, *words: str) -> str:
    return shlex.join([*_OWN, "hooks", *words, *(("--queue", queue) if queue else ())])
