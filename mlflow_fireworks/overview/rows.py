"""What is said of a deployment in one line: from Fireworks, the registry and the hooks' queue."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlflow_fireworks.deployments import Deployments, describe_serving
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.gateway.revisions import Deployment
from mlflow_fireworks.hooks.jobs import Job, State
from mlflow_fireworks.hooks.snapshot import Snapshot
from mlflow_fireworks.names import EndpointName
from mlflow_fireworks.progress import format_bytes
from mlflow_fireworks.registry.versions import find_version
from mlflow_fireworks.serving.places import Endpoint
from mlflow_fireworks.serving.readiness import describe_replicas

HEAD = ("NAME", "REVISION", "STATE", "VERSION", "ENDPOINT", "ADDRESS", "NOW")


@dataclass(frozen=True)
class Row:
    """A deployment.

    Args:
        name: Its name.
        revision: Number of the current revision.
        state: Of the current revision's model.
        pending: The model of a revision that is not READY, with its state; None when all are.
        version: The registry's version that the current revision was made from; None when it is none.
        aliases: The aliases that this version has now.
        endpoints: Address by name, of the endpoints that serve it.
        behind: Revision by endpoint, of those that serve another one than the current.
        replicas: In words, by endpoint.
        doing: What the hooks do about it now, or wait for; None when nothing.
        error: Why the last promotion failed; None when it did not.
    """

    name: str
    revision: int
    state: str
    pending: str | None
    version: str | None
    aliases: tuple[str, ...]
    endpoints: Mapping[str, str]
    behind: Mapping[str, int]
    replicas: Mapping[str, str]
    doing: str | None
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        """For people, as of `HEAD`."""
        version = " ".join([self.version or "", *(f"@{alias}" for alias in self.aliases)]).strip()
        endpoints = ", ".join(self._describe_endpoint(name) for name in self.endpoints)
        now = "; ".join(part for part in (self.pending, self.doing, self.error and f"failed: {self.error}") if part)
        return (self.name, str(self.revision), self.state, version, endpoints, ", ".join(self.endpoints.values()), now)

    def _describe_endpoint(self, name: str) -> str:
        behind = f", still revision {self.behind[name]}" if name in self.behind else ""
        return f"{name} ({self.replicas.get(name, '')}{behind})"


def collect_rows(deployments: Deployments, found: Iterable[Deployment], snapshot: Snapshot | None) -> Iterator[Row]:
    """One row for each deployment.

    Args:
        deployments: Of the account.
        found: Which of them.
        snapshot: The hooks' queue; None where there is none.
    """
    endpoints = deployments.list_endpoints()
    for deployment in found:
        yield _make_row(deployment, endpoints, snapshot)


def _make_row(found: Deployment, endpoints: Mapping[EndpointName, Endpoint], snapshot: Snapshot | None) -> Row:
    shown = describe_serving(found, endpoints)
    unfinished, source = found.unfinished, found.current.stamp.source if found.current.stamp else ""
    aliases, error = _ask_registry(source)
    jobs = [job for job in snapshot.jobs if job.deployment == found.name] if snapshot else []
    failed = next((job.error for job in jobs[:1] if job.state is State.DEAD), None)
    return Row(
        found.name,
        found.current.number,
        found.current.model.state,
        f"{unfinished.model.model_id} is {unfinished.model.state}" if unfinished else None,
        shown["version"],
        aliases,
        shown["endpoints"],
        shown["endpoints_behind"],
        {name: describe_replicas(endpoints[name].current) for name in shown["endpoints"]},
        _describe_work(jobs, snapshot) if snapshot else None,
        failed or error,
    )


def _ask_registry(source: str) -> tuple[tuple[str, ...], str | None]:
    """The aliases of the version, and why its last promotion failed; nothing where the registry does not answer."""
    try:
        version = find_version(source)
    except FireworksError:
        return (), None
    return (tuple(version.aliases), version.tags.get("fireworks.error")) if version else ((), None)


def _describe_work(jobs: Sequence[Job], snapshot: Snapshot) -> str | None:
    for job in jobs:
        if not job.state.is_final:
            doing = job.progress.text if job.state is State.RUNNING else ""
            size = job.progress.size
            moved = f" ({format_bytes(job.progress.moved)} of {format_bytes(size)})" if size else ""
            return f"{doing or snapshot.describe(job)}{moved}, to {job.subject}"
    held = [item.describe() for item in snapshot.held if any(job in jobs for job in item.jobs)]
    held += [hold.describe() for hold in snapshot.holds if any(hold.is_about(job) for job in jobs)]
    return held[0] if held else None
