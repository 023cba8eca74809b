"""What happened to a deployment, oldest first: on Fireworks and in the hooks' queue."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mlflow_fireworks.gateway.revisions import Deployment
from mlflow_fireworks.hooks.jobs import show_time
from mlflow_fireworks.hooks.snapshot import Snapshot


@dataclass(frozen=True)
class Happening:
    """One line.

    Args:
        time: RFC 3339, in UTC.
        where: `fireworks` or `hooks`.
        text: What happened.
    """

    time: str
    where: str
    text: str

    def to_dict(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)


def tell_models(deployment: Deployment) -> Iterator[Happening]:
    """What Fireworks knows of a deployment's past.

    Args:
        deployment: With its revisions.
    """
    for revision in deployment.revisions:
        model, stamp = revision.model, revision.stamp
        source = revision.source or "unknown source"
        yield Happening(model.create_time, "fireworks", f"{model.model_id} was created from {source}")
        if model.update_time and model.update_time != model.create_time:
            reason = f": {model.status.message}" if model.status.message else ""
            yield Happening(
                model.update_time, "fireworks", f"{model.model_id} was last changed, and is {model.state}{reason}"
            )
        for done in (stamp.taken_off, stamp.instead) if stamp else ():
            if done:
                by = f", by {done.by}" if done.by else ""
                yield Happening(done.since, "fireworks", f"{model.model_id}: {done.reason}{by}")


def tell_jobs(name: str, snapshot: Snapshot) -> Iterator[Happening]:
    """What the hooks know of a deployment's past.

    Args:
        name: The deployment.
        snapshot: Their queue.
    """
    for job in snapshot.jobs:
        if job.deployment == name:
            about = f"{job.action} {job.subject} = {job.version or '-'}, by rule '{job.rule}'"
            yield Happening(show_time(job.created), "hooks", f"job {job.id} was requested ({job.cause}): {about}")
            end = f"{snapshot.describe(job)}" + (f": {job.error}" if job.error else "")
            yield Happening(show_time(job.updated), "hooks", f"job {job.id} is {end}")
