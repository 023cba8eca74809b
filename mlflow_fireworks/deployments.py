"""An MLflow deployment from end to end: the pipeline's way to READY, joined with serving's way to an answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_fireworks.errors import ConflictError, InvalidConfigError, NotFoundError
from mlflow_fireworks.gateway.revisions import Deployment, Revision
from mlflow_fireworks.gateway.stamps import Hand
from mlflow_fireworks.gateway.wire import READY, Model
from mlflow_fireworks.names import DeploymentName, EndpointName, enumerate_names
from mlflow_fireworks.pipeline.outcome import Outcome, describe_deployment
from mlflow_fireworks.pipeline.pipeline import Pipeline
from mlflow_fireworks.pipeline.tunability import describe_tunability, watch_tunability
from mlflow_fireworks.registry.model_uri import version_in
from mlflow_fireworks.registry.versions import DELETED, NOT_TAKEN_OFF, OFF_ENDPOINT, TAKEN_OFF
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.endpoints import delete_endpoint, find_endpoint
from mlflow_fireworks.serving.places import Endpoint, find_places, list_endpoints, pick_endpoint
from mlflow_fireworks.serving.predictions import Predictions, choose_place, predict, predict_stream
from mlflow_fireworks.serving.removal import stop_serving, take_adapter_off
from mlflow_fireworks.serving.rollout import check_endpoint, serve_deployment
from mlflow_fireworks.serving.taken_off import (
    accept_by_hand,
    correct_tags,
    find_taken_off,
    note_endpoint_deleted,
    note_place,
    note_taken_off,
    switch_on,
)


@dataclass(frozen=True)
class Deployments:
    """MLflow's calls about deployments.

    Args:
        run: The account, the options, and who is told.
    """

    run: Run

    @property
    def _pipeline(self) -> Pipeline:
        return Pipeline(self.run)

    def create(
        self, name: DeploymentName, model_uri: str, flavor: str | None, endpoint: EndpointName | None
    ) -> dict[str, Any]:
        """Bring a model to READY, and on request to an endpoint.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        if endpoint:
            self.check_endpoint(name, endpoint)
        outcome = self._pipeline.create(name, model_uri, flavor)
        return self._go_on(outcome, endpoint, moving=False)

    def update(
        self, name: DeploymentName, model_uri: str | None, flavor: str | None, endpoint: EndpointName | None
    ) -> dict[str, Any]:
        """New content, or an earlier revision back on an endpoint, or finish and change what is there.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        config = self.run.config
        if config.revision is not None or config.version is not None:
            if model_uri or not endpoint or (config.revision is not None and config.version is not None):
                raise InvalidConfigError("-C revision or -C version is for update with --endpoint and without -m")
            return self._roll_back_by_hand(
                name, config.revision or self._revision_of(name, str(config.version)), endpoint
            )
        if endpoint:
            self.check_endpoint(name, endpoint)
        if model_uri:
            outcome = self._pipeline.update(name, model_uri, flavor, by_hand=True)
        else:
            outcome = self._pipeline.finish(name)
        if not endpoint and outcome.model is not None:
            self._mention_endpoints(name, outcome.model)
        return self._go_on(outcome, endpoint, moving=True)

    def deploy(self, name: DeploymentName, model_uri: str, *, by_hand: bool) -> dict[str, Any]:
        """`create`, or `update` where the deployment exists; no endpoint is touched.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        return self._go_on(self.bring_up_to_date(name, model_uri, by_hand=by_hand), None, moving=True)

    def bring_up_to_date(self, name: DeploymentName, model_uri: str, *, by_hand: bool = False) -> Outcome:
        """Bring a model to READY, whether the deployment exists or not.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        existing = self._pipeline.find(name)
        if existing is None:
            try:
                return self._pipeline.create(name, model_uri)
            except ConflictError:
                existing = self._pipeline.find(name)
                if existing is None:
                    raise
        outcome = self._pipeline.update(name, model_uri, by_hand=by_hand)  # also when somebody was faster
        if not by_hand and outcome.stamp.revision == existing.current.number and not outcome.dry_run:
            accept_by_hand(self.run, existing)
        return outcome

    def delete(self, name: DeploymentName, endpoint: EndpointName | None) -> None:
        """Delete all revisions; with an endpoint, only take its adapter off that. The registry's tags tell it.

        Raises:
            InUseError: Something serves it, and `cascade` is not set.
            FireworksError: One line that says what happened and what to do.
        """
        existing = self._pipeline.find(name)
        if endpoint:
            if existing:
                take_adapter_off(self.run, name, existing.models, find_endpoint(self.run, endpoint))
                corrected = correct_tags(self.run, existing.revisions, OFF_ENDPOINT, endpoint)
                done = self.run.done_by_hand(Hand.REMOVAL, f"it was taken off endpoint '{endpoint}'")
                note_taken_off(self.run, existing.current, endpoint, done, in_registry=corrected)
            return
        config = self.run.config
        if existing and (existing.is_managed or config.force):
            stop_serving(self.run, name, existing.models, cascade=config.cascade)
        if self._pipeline.delete(name) and existing:
            done = self.run.done_by_hand(Hand.REMOVAL, f"deployment '{name}' was deleted")
            if correct_tags(self.run, existing.revisions, DELETED):
                correct_tags(self.run, [existing.current], {TAKEN_OFF: done.describe()})

    def delete_endpoint(self, name: EndpointName) -> bool:
        """Take all GPUs of an endpoint down; False when there was nothing to take down. The registry's tags tell it.

        Raises:
            ConflictError: The plugin did not make it, and `force` is not set.
        """
        endpoint = self.list_endpoints().get(name)
        deleted = delete_endpoint(self.run, name)
        if deleted and endpoint and not self.run.endpoint_config.unused:
            note_endpoint_deleted(self.run, endpoint)
        return deleted

    def find(self, name: DeploymentName) -> Deployment:
        """One deployment with its revisions.

        Raises:
            NotFoundError: There is none of that name.
        """
        return self._pipeline.deployment(name)

    def list_existing(self) -> dict[DeploymentName, Deployment]:
        """All deployments with their revisions, by name."""
        return self._pipeline.deployments()

    def list_endpoints(self) -> dict[EndpointName, Endpoint]:
        """All endpoints, by name."""
        return list_endpoints(self.run.gateway)

    def check_endpoint(self, name: DeploymentName, endpoint: EndpointName) -> None:
        """Say what is wrong with an endpoint for a deployment before anything is sent, as far as that is known.

        Raises:
            FireworksError: One line that says what is wrong and what to do.
        """
        check_endpoint(self.run, endpoint, self._known_models(name))

    def take_off_endpoint(self, name: DeploymentName, endpoint: EndpointName) -> None:
        """Take a deployment off one endpoint, whose GPUs go unless others are on it; the models stay.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        stop_serving(self.run, name, self._known_models(name), cascade=True, endpoint=endpoint)
        if existing := self._pipeline.find(name):
            note_place(self.run, existing.current.model.name, None)

    def list(self, endpoint: EndpointName | None) -> list[dict[str, Any]]:
        """All deployments, or those that an endpoint serves."""
        endpoints = self.list_endpoints()
        if endpoint:
            pick_endpoint(self.run, endpoint, endpoints)
        found = [describe_serving(item, endpoints, endpoint) for item in self.list_existing().values()]
        return [item for item in found if item["endpoints"]] if endpoint else found

    def get(self, name: DeploymentName, endpoint: EndpointName | None) -> dict[str, Any]:
        """One deployment.

        Raises:
            NotFoundError: There is none of that name, or that endpoint does not serve it.
        """
        found = describe_serving(self._pipeline.deployment(name), self.list_endpoints())
        if endpoint and endpoint not in found["endpoints"]:
            raise NotFoundError(f"endpoint '{endpoint}' does not serve '{name}'")
        return found

    def predict(self, name: DeploymentName | None, inputs: Any, endpoint: EndpointName | None) -> Predictions:
        """Ask the model of a deployment or endpoint.

        Raises:
            FireworksError: One line that says what happened and what to do.
        """
        return predict(self.run, choose_place(self.run, self._named(name), endpoint), inputs)

    def predict_stream(
        self, name: DeploymentName | None, inputs: Any, endpoint: EndpointName | None
    ) -> Iterator[dict[str, Any]]:
        """Ask for one answer, piece by piece; see `predict`."""
        yield from predict_stream(self.run, choose_place(self.run, self._named(name), endpoint), inputs)

    def switched_on(self, endpoint: EndpointName, model: str) -> "Deployments":
        """For a promotion to an endpoint that somebody scaled to zero; see `switch_on`."""
        return Deployments(switch_on(self.run, endpoint, model))

    def roll_back(self, name: DeploymentName, number: int, endpoint: EndpointName) -> dict[str, Any]:
        """Put a READY revision on an endpoint, started when there is none.

        Raises:
            NotFoundError: There is no such revision, or it is not READY.
            FireworksError: One line that says what happened and what to do.
        """
        existing = self._pipeline.deployment(name)
        found = next((revision for revision in existing.revisions if revision.number == number), None)
        if found is None or not found.is_ready:
            ready = enumerate_names(revision.number for revision in existing.revisions if revision.is_ready)
            raise NotFoundError(f"'{name}' has no READY revision {number}; READY revisions: {ready or 'none'}")
        place = self._serve(endpoint, found.model, existing.models, moving=True)
        what = {
            "revision": number,
            "version": version_in(found.source),
            "source": found.source,
            "model": found.model.name,
            "dry_run": self.run.endpoint_config.dry_run,
        }
        return describe_deployment(existing) | what | place

    def _roll_back_by_hand(self, name: DeploymentName, number: int, endpoint: EndpointName) -> dict[str, Any]:
        """`roll_back`, which nothing but a person or another promotion undoes."""
        result = self.roll_back(name, number, endpoint)
        current = self._pipeline.deployment(name).current
        if number != current.number and not self.run.endpoint_config.dry_run:
            what = f"endpoint '{endpoint}' was rolled back from revision {current.number} to {number}"
            note_taken_off(self.run, current, endpoint, self.run.done_by_hand(Hand.ROLLBACK, what))
        return result

    def _revision_of(self, name: DeploymentName, version: str) -> int:
        """The number of the revision that was made from a version of the registry; of several, the newest READY one."""
        made = {
            revision.number: version_in(revision.source)
            for revision in self._pipeline.deployment(name).revisions
            if revision.is_ready
        }
        found = [number for number, source in made.items() if source == version]
        if not found:
            known = enumerate_names(f"{source} (revision {number})" for number, source in made.items() if source)
            raise NotFoundError(
                f"'{name}' has no READY revision of version {version}; READY revisions: {known or 'none'}"
            )
        return max(found)

    def _known_models(self, name: DeploymentName) -> set[str]:
        """All revisions of a deployment, or none when it is not there yet."""
        existing = self._pipeline.find(name)
        return existing.models if existing else set()

    def _named(self, name: DeploymentName | None) -> Deployment | None:
        return self._pipeline.deployment(name) if name else None

    def _go_on(self, outcome: Outcome, endpoint: EndpointName | None, *, moving: bool) -> dict[str, Any]:
        """What may follow READY: fine-tuning to be looked for, and an endpoint."""
        result = outcome.to_dict()
        model, name = outcome.model, outcome.stamp.deployment
        if model is None or model.state != READY:
            if endpoint:
                self.run.reporter.warn(
                    f"endpoint '{endpoint}' was not changed: the model is not READY yet; continue with: "
                    + self.run.commands.finish(name)
                )
            return result
        if self.run.config.watch_tunable and not outcome.dry_run:
            result["tunable"] = watch_tunability(self.run, model)
            self.run.reporter.note(f"fine-tuning of {model.name}: {result['tunable']}")
        if endpoint:
            result |= self._serve(endpoint, model, self._known_models(name) | {model.name}, moving=moving)
        return result

    def _serve(self, endpoint: EndpointName, model: Model, siblings: set[str], *, moving: bool) -> dict[str, Any]:
        live_merge = self.run.config.live_merge
        place = serve_deployment(self.run, endpoint, model, siblings, live_merge=live_merge, moving=moving)
        if not self.run.endpoint_config.dry_run and note_place(self.run, model.name, endpoint):
            correct_tags(self.run, [Revision.of(model)], NOT_TAKEN_OFF)
        return {"endpoint": endpoint, "address": place.address, "serving": place.deployment.name}

    def _mention_endpoints(self, name: DeploymentName, model: Model) -> None:
        """Nothing moves to a new revision unasked, since that costs GPUs; but it is said how."""
        models = self._known_models(name)
        for endpoint in self.list_endpoints().values():
            places = find_places([endpoint], models)
            if places and places[0].model != model.name:
                self.run.reporter.note(
                    f"endpoint '{endpoint.name}' still serves {places[0].model}; move it with: "
                    + self.run.commands.serve(name, endpoint.name)
                )


def describe_serving(
    deployment: Deployment, endpoints: Mapping[EndpointName, Endpoint], only: EndpointName | None = None
) -> dict[str, Any]:
    """A deployment as `list` and `get` show it, with who (or whether only this endpoint) serves it."""
    shown = {name: endpoint for name, endpoint in endpoints.items() if only in (None, name)}
    found = {name: find_places([endpoint], deployment.models) for name, endpoint in shown.items()}
    serving = {name: places[0] for name, places in found.items() if places}
    current = deployment.current.model.name
    taken_off = find_taken_off(deployment, endpoints)
    return describe_deployment(deployment) | {
        "tunable": describe_tunability(deployment.current.model),
        "endpoints": {name: place.address for name, place in serving.items()},
        "endpoints_behind": {
            name: deployment.number_of(place.model) for name, place in serving.items() if place.model != current
        },
        "taken_off": taken_off.describe() if taken_off else None,
    }
