"""What is said of a deployment in one line: from Fireworks, the registry and the hooks' queue."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mlflow_fireworks.deployments import Deployments, describe_serving
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.gateway.revisions import Deployment
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.gateway.wire import READY
from mlflow_fireworks.hooks.jobs import Job, State, newest_of_each
from mlflow_fireworks.hooks.snapshot import Snapshot
from mlflow_fireworks.names import EndpointName
from mlflow_fireworks.progress import format_bytes
from mlflow_fireworks.registry.versions import find_version
from mlflow_fireworks.serving.places import Endpoint
from mlflow_fireworks.serving.readiness import describe_replicas
from mlflow_fireworks.target import Target, parse_target

HEAD = ("NAME", "REVISION", "STATE", "VERSION", "ENDPOINT", "ADDRESS", "NOW")


@dataclass(frozen=True)
class Row:
    """A deployment.

    Args:
        name: Its name.
        revision: Number of the current revision; None where there is no deployment yet.
        state: Of the current revision's model.
        pending: The model of the revision that was asked for last, with its state; None when it is READY.
        version: The registry's version that the current revision was made from; None when it is none.
        aliases: The aliases that this version has now.
        endpoints: Address by name, of the endpoints that serve it.
        behind: Revision by endpoint, of those that serve another one than the current.
        replicas: In words, by endpoint.
        doing: What the hooks do about it now, or wait for; None when nothing.
        error: Why the last promotion failed; None when it did not.
        taken_off: What somebody did to it by hand after it was served; None for nothing.
    """

    name: str
    revision: int | None = None
    state: str | None = None
    pending: str | None = None
    version: str | None = None
    aliases: tuple[str, ...] = ()
    endpoints: Mapping[str, str] = field(default_factory=dict)
    behind: Mapping[str, int] = field(default_factory=dict)
    replicas: Mapping[str, str] = field(default_factory=dict)
    doing: str | None = None
    error: str | None = None
    taken_off: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        """For people, as of `HEAD`."""
        version = " ".join([self.version or "", *(f"@{alias}" for alias in self.aliases)]).strip()
        endpoints = ", ".join(self._describe_endpoint(name) for name in self.endpoints)
        parts = (self.pending, self.doing or self.taken_off, self.error and f"failed: {self.error}")
        now = "; ".join(part for part in parts if part)
        state, addresses = self.state or "-", ", ".join(self.endpoints.values())
        return (self.name, str(self.revision or "-"), state, version, endpoints, addresses, now)

    def _describe_endpoint(self, name: str) -> str:
        behind = f", still revision {self.behind[name]}" if name in self.behind else ""
        return f"{name} ({self.replicas.get(name, '')}{behind})"


def collect_rows(
    deployments: Deployments, found: Iterable[Deployment], snapshot: Snapshot | None, tell: Callable[[str], None]
) -> Iterator[Row]:
    """One row for each deployment.

    Args:
        deployments: Of the account.
        found: Which of them.
        snapshot: The hooks' queue; None where there is none.
        tell: Is told, once, that the registry does not answer.
    """
    endpoints, registry = deployments.list_endpoints(), _Registry(tell)
    for deployment in found:
        yield _make_row(deployment, endpoints, snapshot, registry)


def collect_missing(target: Target, known: Collection[str], snapshot: Snapshot | None) -> Iterator[Row]:
    """One row for each deployment that is not there, though the hooks were asked for it.

    Args:
        target: The account.
        known: The deployments that are there.
        snapshot: The hooks' queue; None where there is none.
    """
    if snapshot is None:
        return
    unapproved = (job for held in snapshot.held for job in held.jobs)
    for job in newest_of_each([*snapshot.jobs, *unapproved]).values():
        failed = job.error if job.state is State.DEAD else None
        is_asked_for = job.action == "promote" and (failed or not job.state.is_final)
        if is_asked_for and job.deployment not in known and _is_on(target, job.target):
            yield Row(job.deployment, doing=_describe_work(job.deployment, [job], snapshot), error=failed)


def _is_on(target: Target, other: str) -> bool:
    there = parse_target(other)
    return there.base_url == target.base_url and (there.account or target.account) == (target.account or there.account)


class _Registry:
    """Asked until it does not answer: one that is away would be waited for by each of hundreds of deployments."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._is_away = False

    def ask(self, source: str) -> tuple[tuple[str, ...], str | None]:
        """The aliases of a version, and why its last promotion failed."""
        try:
            version = None if self._is_away else find_version(source)
        except FireworksError as error:
            self._is_away = True
            self._tell(error.message)
            version = None
        return (tuple(version.aliases), version.tags.get("fireworks.error")) if version else ((), None)


def _make_row(
    found: Deployment, endpoints: Mapping[EndpointName, Endpoint], snapshot: Snapshot | None, registry: _Registry
) -> Row:
    shown = describe_serving(found, endpoints)
    awaited = found.awaited
    aliases, error = registry.ask(found.current.source)
    jobs = [job for job in snapshot.jobs if job.deployment == found.name] if snapshot else []
    failed = next((job.error for job in jobs[:1] if job.state is State.DEAD), None)
    return Row(
        found.name,
        found.current.number,
        found.current.model.state,
        f"{awaited.model.model_id} is {awaited.model.state}" if awaited else None,
        shown["version"],
        aliases,
        shown["endpoints"],
        shown["endpoints_behind"],
        {name: _describe_state(endpoints[name].current) for name in shown["endpoints"]},
        _describe_work(found.name, jobs, snapshot) if snapshot else None,
        failed or error,
        shown["taken_off"],
    )


def _describe_state(current: OnDemandDeployment) -> str:
    told = describe_replicas(current)
    return told if current.state == READY else f"{current.state}, {told}"


def _describe_work(name: str, jobs: Sequence[Job], snapshot: Snapshot) -> str | None:
    """What runs, else why nothing may, else what waits."""
    unfinished = next((job for job in jobs if not job.state.is_final), None)
    is_running = unfinished is not None and unfinished.state is State.RUNNING
    held = [item.describe() for item in snapshot.held if any(job.deployment == name for job in item.jobs)]
    held += [hold.describe() for hold in snapshot.holds if hold.what == name or any(map(hold.is_about, jobs))]
    if held and not is_running:
        return held[0]
    if unfinished is None:
        return None
    progress = unfinished.progress
    doing = progress.text if is_running and not snapshot.is_abandoned(unfinished) else ""
    moved = f" ({format_bytes(progress.moved)} of {format_bytes(progress.size)})" if progress.size else ""
    return f"{doing or snapshot.describe(unfinished)}{moved}, to {unfinished.subject}"
