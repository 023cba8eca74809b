"""An MLflow deployment from end to end: the pipeline's way to READY, joined with serving's way to an answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_fireworks.errors import InvalidConfigError, NotFoundError
from mlflow_fireworks.gateway.revisions import Deployment
from mlflow_fireworks.gateway.wire import READY, Model
from mlflow_fireworks.pipeline.outcome import Outcome, describe_deployment
from mlflow_fireworks.pipeline.pipeline import Pipeline
from mlflow_fireworks.pipeline.tunability import describe_tunability, watch_tunability
from mlflow_fireworks.serving.context import ServingRun
from mlflow_fireworks.serving.endpoints import find_endpoint
from mlflow_fireworks.serving.places import Endpoint, find_places, list_endpoints
from mlflow_fireworks.serving.predictions import Predictions, choose_place, predict, predict_stream
from mlflow_fireworks.serving.release import release, take_adapter_off
from mlflow_fireworks.serving.rollout import foresee, serve_deployment


@dataclass(frozen=True)
class Deployments:
    """MLflow's calls about deployments.

    Args:
        pipeline: Brings models to READY.
        serving: Puts them on GPUs.
    """

    pipeline: Pipeline
    serving: ServingRun

    def create(self, name: str, model_uri: str, flavor: str | None, endpoint: str | None) -> dict[str, Any]:
        """Bring a model to READY, and on request to an endpoint.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        if endpoint:
            self.foresee(name, endpoint)
        outcome = self.pipeline.create(name, model_uri, flavor)
        return self._go_on(outcome, endpoint, moving=False)

    def update(self, name: str, model_uri: str | None, flavor: str | None, endpoint: str | None) -> dict[str, Any]:
        """New content, or an earlier revision back on an endpoint, or finish and change what is there.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        number = self.pipeline.run.config.revision
        if number is not None:
            if model_uri or not endpoint:
                raise InvalidConfigError("-C revision is for update with --endpoint and without -m")
            return self.roll_back(name, number, endpoint)
        if endpoint:
            self.foresee(name, endpoint)
        outcome = self.pipeline.update(name, model_uri, flavor) if model_uri else self.pipeline.finish(name)
        if not endpoint and outcome.model is not None:
            self._mention_endpoints(name, outcome.model)
        return self._go_on(outcome, endpoint, moving=True)

    def delete(self, name: str, endpoint: str | None) -> None:
        """Delete all revisions; with an endpoint, only take its adapter off that.

        Raises:
            FailedPreconditionError: Something serves it, and `cascade` is not set.
            FireworksError: One line that says what happened and what to do.
        """
        existing = self.pipeline.deployments().get(name)
        if endpoint:
            if existing:
                take_adapter_off(self.serving, name, _models_of(existing), find_endpoint(self.serving, endpoint))
            return
        config = self.pipeline.run.config
        if existing and (existing.is_managed or config.force):
            release(self.serving, name, _models_of(existing), cascade=config.cascade)
        self.pipeline.delete(name)

    def foresee(self, name: str, endpoint: str) -> None:
        """Say what is wrong with an endpoint for a deployment before anything is sent, as far as that is known.

        Raises:
            FireworksError: One line that says what is wrong and what to do.
        """
        foresee(self.serving, endpoint, self._known_models(name))

    def release(self, name: str, endpoint: str) -> None:
        """Take a deployment off one endpoint, whose GPUs go unless others are on it; the models stay.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        release(self.serving, name, self._known_models(name), cascade=True, endpoint=endpoint)

    def list(self, endpoint: str | None) -> list[dict[str, Any]]:
        """All deployments, or those that an endpoint serves."""
        endpoints = list_endpoints(self.serving.deployments)
        if endpoint:
            endpoints = {endpoint: find_endpoint(self.serving, endpoint)}
        found = [_describe(item, endpoints) for item in self.pipeline.deployments().values()]
        return [item for item in found if item["endpoints"]] if endpoint else found

    def get(self, name: str, endpoint: str | None) -> dict[str, Any]:
        """One deployment.

        Raises:
            NotFoundError: There is none of that name, or that endpoint does not serve it.
        """
        found = _describe(self.pipeline.deployment(name), list_endpoints(self.serving.deployments))
        if endpoint and endpoint not in found["endpoints"]:
            raise NotFoundError(f"endpoint '{endpoint}' does not serve '{name}'")
        return found

    def predict(self, name: str | None, inputs: Any, endpoint: str | None) -> Predictions:
        """Ask the model of a deployment or endpoint.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        return predict(self.serving, choose_place(self.serving, self._named(name), endpoint), inputs)

    def predict_stream(self, name: str | None, inputs: Any, endpoint: str | None) -> Iterator[dict[str, Any]]:
        """Ask for one answer, piece by piece; see `predict`."""
        yield from predict_stream(self.serving, choose_place(self.serving, self._named(name), endpoint), inputs)

    def _known_models(self, name: str) -> set[str]:
        """All revisions of a deployment, or none when it is not there yet."""
        existing = self.pipeline.deployments().get(name)
        return _models_of(existing) if existing else set()

    def _named(self, name: str | None) -> Deployment | None:
        return self.pipeline.deployment(name) if name else None

    def _go_on(self, outcome: Outcome, endpoint: str | None, *, moving: bool) -> dict[str, Any]:
        """What may follow READY: fine-tuning to be looked for, and an endpoint."""
        result = outcome.to_dict()
        model = outcome.model
        if model is None or model.state != READY:
            if endpoint:
                name = outcome.stamp.deployment
                self.serving.reporter.warn(
                    f"endpoint '{endpoint}' was left as it is, because the model is not READY; go on with: "
                    + self.pipeline.run.command("update", name)
                    + f" --endpoint {endpoint}"
                )
            return result
        if self.pipeline.run.config.watch_tunable and not outcome.dry_run:
            result["tunable"] = watch_tunability(self.pipeline.run, model)
            self.serving.reporter.note(f"fine-tuning of {model.name}: {result['tunable']}")
        if endpoint:
            siblings = self._known_models(outcome.stamp.deployment) | {model.name}
            result |= self._serve(endpoint, model, siblings, moving=moving)
        return result

    def roll_back(self, name: str, number: int, endpoint: str) -> dict[str, Any]:
        """Put a READY revision on an endpoint, started when there is none.

        Raises:
            NotFoundError: There is no such revision, or it is not READY.
            FireworksError: One line that says what happened and what to do.
        """
        existing = self.pipeline.deployment(name)
        found = next((revision for revision in existing.revisions if revision.number == number), None)
        if found is None or not found.is_ready:
            ready = [str(revision.number) for revision in existing.revisions if revision.is_ready]
            raise NotFoundError(f"'{name}' has no READY revision {number}; READY are: {', '.join(ready) or 'none'}")
        place = self._serve(endpoint, found.model, _models_of(existing), moving=True)
        dry_run = self.serving.config.dry_run
        return (
            describe_deployment(existing) | {"revision": number, "model": found.model.name, "dry_run": dry_run} | place
        )

    def _serve(self, endpoint: str, model: Model, siblings: set[str], *, moving: bool) -> dict[str, Any]:
        live_merge = self.pipeline.run.config.live_merge
        place = serve_deployment(self.serving, endpoint, model, siblings, live_merge=live_merge, moving=moving)
        return {"endpoint": endpoint, "address": place.address}

    def _mention_endpoints(self, name: str, model: Model) -> None:
        """Nothing moves to a new revision unasked, since that costs GPUs; but it is said how."""
        models = self._known_models(name)
        for endpoint in list_endpoints(self.serving.deployments).values():
            places = find_places([endpoint], models)
            if places and places[0].model != model.name:
                self.serving.reporter.note(
                    f"endpoint '{endpoint.name}' still serves {places[0].model}; move it with: "
                    + self.pipeline.run.command("update", name)
                    + f" --endpoint {endpoint.name}"
                )


def _models_of(deployment: Deployment) -> set[str]:
    return {revision.model.name for revision in deployment.revisions}


def _describe(deployment: Deployment, endpoints: Mapping[str, Endpoint]) -> dict[str, Any]:
    """A deployment as `list` and `get` show it, with who serves it and whether it can be fine-tuned."""
    models = _models_of(deployment)
    serving = {name: find_places([endpoint], models) for name, endpoint in endpoints.items()}
    return describe_deployment(deployment) | {
        "tunable": describe_tunability(deployment.current.model),
        "endpoints": {name: places[0].address for name, places in serving.items() if places},
    }
