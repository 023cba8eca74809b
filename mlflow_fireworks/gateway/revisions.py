"""A deployment and its revisions: how one MLflow name maps to Fireworks models.

A Fireworks model cannot change once it is READY, so new content under the same name becomes the next model:
`chat`, `chat-r2`, `chat-r3`, … Which model belongs to which deployment, and what is in it, is written into the
model's own description (the stamp), so that any machine sees the same state.

Content that has been up before is not sent again: its revision only takes a new turn. So there are two orders, the one
they were made in (their numbers) and the one they were last asked for in (their turns), which is the same until then.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from mlflow_fireworks.gateway.stamps import RevisionStamp, TakenOff
from mlflow_fireworks.gateway.wire import READY, Model
from mlflow_fireworks.names import DeploymentName


@dataclass(frozen=True)
class Revision:
    """One model of a deployment.

    Args:
        model: The Fireworks model.
        stamp: What the plugin wrote into it; None for a model that it did not make.
    """

    model: Model
    stamp: RevisionStamp | None

    @classmethod
    def of(cls, model: Model) -> "Revision":
        """A model as what its description says it is."""
        return cls(model, RevisionStamp.read(model.description))

    @property
    def deployment(self) -> DeploymentName:
        """The deployment it belongs to; a model without a stamp is one of its own."""
        return self.stamp.deployment if self.stamp else DeploymentName(self.model.model_id)

    @property
    def number(self) -> int:
        """1 for the first."""
        return self.stamp.revision if self.stamp else 1

    @property
    def turn(self) -> int:
        """When it was last asked for; its number when it was not asked for again since."""
        return self.stamp.turn if self.stamp and self.stamp.turn is not None else self.number

    @property
    def source(self) -> str:
        """The model URI it was made from; "" for a model that the plugin did not make."""
        return self.stamp.source if self.stamp else ""

    @property
    def by_hand(self) -> TakenOff | None:
        """By whom it was put in the place of what was promoted, and when; None when it was promoted itself."""
        return self.stamp.instead if self.stamp else None

    @property
    def is_ready(self) -> bool:
        """Whether it can be deployed on GPUs."""
        return self.model.state == READY


@dataclass(frozen=True)
class Deployment:
    """All revisions of one name, oldest first; never empty."""

    name: DeploymentName
    revisions: tuple[Revision, ...]

    @property
    def newest(self) -> Revision:
        """The last one made, READY or not."""
        return self.revisions[-1]

    @property
    def latest(self) -> Revision:
        """The one asked for last, READY or not."""
        return max(self.revisions, key=_order)

    @property
    def current(self) -> Revision:
        """The READY one that was asked for last; before any is READY, the newest."""
        ready = [revision for revision in self.revisions if revision.is_ready]
        return max(ready, key=_order, default=self.newest)

    @property
    def unfinished(self) -> Revision | None:
        """Of those that are not READY, the one asked for last; None when all are."""
        return max((revision for revision in self.revisions if not revision.is_ready), key=_order, default=None)

    @property
    def awaited(self) -> Revision | None:
        """The one asked for last, if it is not READY; an earlier one that never was does not count any more."""
        return None if self.latest.is_ready else self.latest

    @property
    def displaced(self) -> Revision | None:
        """What was promoted last, if somebody has put the current revision in its place by hand since."""
        ready = sorted((revision for revision in self.revisions if revision.is_ready), key=_order, reverse=True)
        promoted = next((revision for revision in ready if not revision.by_hand), None)
        return None if promoted is self.current else promoted

    def number_of(self, model: str) -> int | None:
        """The number of the revision whose model has that full name; None when it is not one of this deployment."""
        return next((revision.number for revision in self.revisions if revision.model.name == model), None)

    @property
    def is_managed(self) -> bool:
        """Whether this plugin made all of it."""
        return all(revision.stamp for revision in self.revisions)

    @property
    def models(self) -> set[str]:
        """Full names of the models of all revisions."""
        return {revision.model.name for revision in self.revisions}


def _order(revision: Revision) -> tuple[int, int]:
    """Two machines may have taken the same turn; then all must see the same one ahead."""
    return revision.turn, revision.number


def group_deployments(models: Iterable[Model]) -> dict[DeploymentName, Deployment]:
    """The deployments that an account's models make up, by name. A model without a stamp is one of its own."""
    groups: dict[DeploymentName, list[Revision]] = {}
    for model in models:
        revision = Revision.of(model)
        groups.setdefault(revision.deployment, []).append(revision)
    return {
        name: Deployment(name, tuple(sorted(revisions, key=lambda revision: revision.number)))
        for name, revisions in sorted(groups.items())
    }


def model_id_of(deployment: DeploymentName, revision: int) -> str:
    """The model id of a revision: the bare name for the first, `name-rN` for later ones."""
    return deployment if revision == 1 else f"{deployment}-r{revision}"
