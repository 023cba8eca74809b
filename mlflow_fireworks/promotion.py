"""From a pointer to what it points to on Fireworks: what hooks, CI jobs and people call to promote a model."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from mlflow_fireworks.config import Config
from mlflow_fireworks.deployments import Deployments
from mlflow_fireworks.endpoint_config import parse_both
from mlflow_fireworks.errors import (
    FireworksError,
    InvalidConfigError,
    LimitError,
    NotFoundError,
    NotWantedError,
    UnavailableError,
)
from mlflow_fireworks.gateway.wire import FAILED, READY
from mlflow_fireworks.names import DeploymentName, EndpointName, check_name, suggest_name
from mlflow_fireworks.opening import open_deployments
from mlflow_fireworks.printable import make_all_printable
from mlflow_fireworks.progress import Reporter, make_reporter
from mlflow_fireworks.registry.lookup import read_model_uri
from mlflow_fireworks.registry.pointers import Pinned, is_pointer, pin
from mlflow_fireworks.registry.uri_types import RegisteredUri
from mlflow_fireworks.registry.versions import (
    DELETED,
    NOT_TAKEN_OFF,
    OFF_ENDPOINT,
    TAKEN_OFF,
    retag_versions,
    write_outcome,
)
from mlflow_fireworks.run import Permit
from mlflow_fireworks.target import parse_target

WAITING = "WAITING"
"""The state of a version whose promotion a limit or a hold keeps back, in the registry's tags."""
_MOST_MOVES = 5


@dataclass(frozen=True)
class NothingToPromote:
    """What a pointer shows that asks for no promotion (any more).

    Args:
        reason: Why, for a person.
        is_gone: The pointer was removed.
        taken_off: What it shows was taken off by a person.
    """

    reason: str
    is_gone: bool = False
    taken_off: Pinned | None = None


def promote(
    model_uri: str,
    *,
    target: str = "fireworks",
    name: str | None = None,
    endpoint: str | None = None,
    config: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    look_every_seconds: float = 60.0,
) -> dict[str, Any]:
    """Bring a deployment to what a pointer shows: made when absent, updated when other, left alone when right.

    The pointer is read again now and then while bytes move, when the model is READY, before the endpoint moves, and
    once more at the end: if it moved on meanwhile, the work goes on with what it shows then. Half of a model that is
    not wanted any more remains in `UPLOADING`, since whoever wants it again needs only the rest. Running it again is
    harmless at any time.

    Args:
        model_uri: `models:/chat@champion`, `hf:/org/name@main`, or anything else that can be deployed.
        target: As for `mlflow deployments -t`.
        name: The deployment; made from the model's name when None.
        endpoint: Also move this endpoint to it, with no gap; started when there is none (and billed).
        config: Options as for `mlflow deployments -C`.
        reporter: Is told what happens; the one that the options ask for when None.
        look_every_seconds: How long bytes move before the pointer is read again.

    Returns:
        As `create_deployment`, with `pointer`, `version`, and `endpoint` when one was moved. The registry's version
        carries the same as `fireworks.*` tags, and `fireworks.error` when it failed.

    Raises:
        FireworksError: One line that says what happened and what to do.
    """
    uri = read_model_uri(model_uri)
    result = follow(
        lambda: pin(uri),
        str(uri),
        target=target,
        name=name,
        endpoint=endpoint,
        config=config,
        reporter=reporter,
        look_every_seconds=look_every_seconds,
        by_hand=not is_pointer(uri),
    )
    if isinstance(result, NothingToPromote):
        raise NotFoundError(f"{uri}: {result.reason}")
    return make_all_printable(result)


def follow(
    look: Callable[[], Pinned | NothingToPromote],
    pointer: str,
    *,
    target: str = "fireworks",
    name: str | None = None,
    endpoint: str | None = None,
    config: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    look_every_seconds: float = 60.0,
    permit: Permit | None = None,
    by_hand: bool = False,
) -> dict[str, Any] | NothingToPromote:
    """`promote`, for who reads the pointer in a way of its own, which may find that nothing is to be done.

    Args:
        look: Reads the pointer.
        pointer: It in words, for messages.
        target: As for `promote`.
        name: As for `promote`.
        endpoint: As for `promote`.
        config: As for `promote`.
        reporter: As for `promote`.
        look_every_seconds: As for `promote`.
        permit: Whether GPUs may be started; None allows it.
        by_hand: Whether it shows one version for good, which somebody chose: hooks then leave it as it is.

    Returns:
        As `promote`; or what the pointer shows instead of something to promote.

    Raises:
        FireworksError: As `promote`.
    """
    options, endpoint_options = parse_both(config, endpoint)
    if not options.synchronous:
        raise InvalidConfigError("promote waits for READY; -C synchronous=false is for create and update")
    for given in (name, endpoint):
        if given is not None:
            check_name(given)
    shown = look()
    if isinstance(shown, NothingToPromote):
        return shown
    watch = _Watch(look, look_every_seconds, shown)
    reporter = reporter or make_reporter(options.progress)
    started = _now()
    with open_deployments(
        parse_target(target), options, endpoint_options, reporter, permit=permit, is_wanted=watch.is_as_shown
    ) as deployments:
        goal = _Goal(
            deployments,
            DeploymentName(name or suggest_name(shown.name)),
            EndpointName(endpoint) if endpoint is not None else None,
            by_hand,
        )
        for _ in range(_MOST_MOVES):
            result = _reach(goal, watch)
            now = watch.look()
            if isinstance(now, NothingToPromote):
                return now
            if now == watch.shown and result is not None:
                if warning := _write_success(now, options, result, started):
                    reporter.warn(warning)
                return result | {"pointer": pointer, "version": now.version}
            reporter.note(f"{pointer} moved from {watch.shown.uri} to {now.uri} in the meantime; continuing with that")
            watch.go_on_with(now)
    raise UnavailableError(
        f"{pointer} moved {_MOST_MOVES} times while it was being promoted; run the same command again"
    )


class _Watch:
    """Whether a pointer still shows what is being promoted.

    Args:
        look: Reads the pointer.
        every_seconds: Between two readings while bytes move.
        shown: What it showed first.
    """

    def __init__(self, look: Callable[[], Pinned | NothingToPromote], every_seconds: float, shown: Pinned) -> None:
        self.look = look
        self._every_seconds = every_seconds
        self.go_on_with(shown)

    def go_on_with(self, shown: Pinned) -> None:
        """This is being promoted from now on."""
        self.shown = shown
        self._next = time.monotonic() + self._every_seconds

    def is_as_shown(self) -> bool:
        """Read it again if it is time for that; a registry that does not answer changes nothing."""
        if time.monotonic() < self._next:
            return True
        try:
            return self.look() == self.shown
        except UnavailableError:
            return True
        finally:
            self._next = time.monotonic() + self._every_seconds


@dataclass(frozen=True)
class _Goal:
    """Where what a pointer shows is brought to.

    Args:
        deployments: Of the account.
        name: The deployment.
        endpoint: The endpoint that is moved too.
        by_hand: Whether a person chose the version.
    """

    deployments: Deployments
    name: DeploymentName
    endpoint: EndpointName | None
    by_hand: bool


def _reach(goal: _Goal, watch: _Watch) -> dict[str, Any] | None:
    """Bring what the pointer shows to its goal; None when it shows something else meanwhile."""
    try:
        return _deploy(goal, watch)
    except NotWantedError:
        return None
    except FireworksError as error:
        _write_failure(watch.shown, goal.deployments.run.config, goal.name, error)
        raise


def _deploy(goal: _Goal, watch: _Watch) -> dict[str, Any] | None:
    """Bring it to READY, and to the endpoint if the pointer still shows it then.

    Whether the endpoint could take it is asked before anything is sent.
    """
    run = goal.deployments.run
    run.permit.admit(run, None)
    if goal.endpoint:
        goal.deployments.check_endpoint(goal.name, goal.endpoint)
    result = goal.deployments.deploy(goal.name, watch.shown.uri, by_hand=goal.by_hand)
    if not goal.endpoint or result["dry_run"]:
        return result
    if watch.look() != watch.shown:
        return None
    if result["state"] != READY:
        state = result["state"]
        raise UnavailableError(f"'{goal.name}' is {state}, not READY; endpoint '{goal.endpoint}' was not changed")
    run.permit.admit(run, goal.endpoint)
    deployments = goal.deployments.switched_on(goal.endpoint, str(result["model"]))
    place = deployments.roll_back(goal.name, int(result["revision"]), goal.endpoint)
    return result | {key: place[key] for key in ("endpoint", "address", "serving")}


def write_failure(pinned: Pinned, name: str, message: str, state: str = FAILED) -> str | None:
    """Say on the registry's version why it is not on Fireworks.

    Args:
        pinned: The version.
        name: The deployment.
        message: One line.
        state: `FAILED`, or `WAITING` for what a limit or a hold keeps back.

    Returns:
        None when it is written, else one line for a warning.
    """
    return write_outcome(
        pinned.registered,
        {
            "fireworks.deployment": name,
            "fireworks.error": message[:_TAG_MAX],
            "fireworks.updated": _now(),
            "fireworks.state": state,
        },
    )


def write_taken_off(model: str, version: str, reason: str) -> str | None:
    """Say on a version of the registry that somebody took it off by hand.

    Args:
        model: The registered model.
        version: Its version.
        reason: What was done.

    Returns:
        As `write_failure`.
    """
    tags = {TAKEN_OFF: reason[:_TAG_MAX], "fireworks.updated": _now()}
    return write_outcome(RegisteredUri(model, version), tags)


def write_removal(model: str, name: str, *, deleted: bool) -> str | None:
    """Say on the registry's versions that a deployment is gone, or is not on an endpoint any more.

    Args:
        model: The registered model.
        name: The deployment.
        deleted: Whether the deployment itself is gone.

    Returns:
        As `write_failure`.
    """
    tags = {**(DELETED if deleted else OFF_ENDPOINT), "fireworks.updated": _now()}
    return retag_versions(model, {"fireworks.deployment": name}, tags)


# MLflow 3.17, `utils/validation.py`: a model version tag holds up to 100,000 characters; a page should not.
_TAG_MAX = 1000


def _write_failure(pinned: Pinned, options: Config, name: str, error: FireworksError) -> None:
    if options.registry_tags and not options.dry_run:
        write_failure(pinned, name, error.message, WAITING if isinstance(error, LimitError) else FAILED)


def _write_success(pinned: Pinned, options: Config, result: Mapping[str, Any], started: str) -> str | None:
    """Write it on the version, and take the endpoint off those that had it before; what could not be written."""
    if pinned.registered is None or not options.registry_tags or options.dry_run:
        return None
    tags = {"fireworks.started": started, "fireworks.updated": _now(), "fireworks.error": None, **NOT_TAKEN_OFF}
    if endpoint := result.get("endpoint"):
        tags |= {"fireworks.endpoint": endpoint, "fireworks.address": result["address"]}
    warning = write_outcome(pinned.registered, tags)
    if endpoint and not warning:
        registered, marks = pinned.registered, {"fireworks.endpoint": endpoint}
        warning = retag_versions(registered.name, marks, OFF_ENDPOINT, registered.version, registered.workspace)
    return warning


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
