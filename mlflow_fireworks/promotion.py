"""From a pointer to what it points to on Fireworks: what hooks, CI jobs and people call to promote a model."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from mlflow_fireworks.config import Config
from mlflow_fireworks.deployments import Deployments
from mlflow_fireworks.errors import ConflictError, FireworksError, InvalidConfigError, UnavailableError
from mlflow_fireworks.gateway.wire import READY
from mlflow_fireworks.opening import open_deployments
from mlflow_fireworks.progress import Reporter, make_reporter
from mlflow_fireworks.registry.pointers import Pinned, pin
from mlflow_fireworks.registry.versions import retag_versions, write_outcome
from mlflow_fireworks.serving.options import parse_both
from mlflow_fireworks.target import check_name, parse_target, suggest_name

_TURNS = 5


def promote(
    model_uri: str,
    *,
    target: str = "fireworks",
    name: str | None = None,
    endpoint: str | None = None,
    config: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    look: Callable[[], Pinned] | None = None,
    look_every_seconds: float = 60.0,
) -> dict[str, Any]:
    """Bring a deployment to what a pointer shows: made when absent, updated when other, left alone when right.

    The pointer is read again now and then while bytes move, when the model is READY, before the endpoint moves, and
    once more at the end: if it moved on meanwhile, the work goes on with what it shows then. Half of a model that is
    not wanted any more stays in `UPLOADING`, since whoever wants it again needs only the rest. Running it again is
    harmless at any time.

    Args:
        model_uri: `models:/chat@champion`, `hf:/org/name@main`, or anything else that can be deployed.
        target: As for `mlflow deployments -t`.
        name: The deployment; made from the model's name when None.
        endpoint: Also move this endpoint to it, with no gap; started when there is none (and billed).
        config: Options as for `mlflow deployments -C`.
        reporter: Is told what happens; the one that the options ask for when None.
        look: Reads the pointer; from `model_uri` when None.
        look_every_seconds: How long bytes move before it is read again.

    Returns:
        As `create_deployment`, with `pointer`, `version`, and `endpoint` when one was moved. The registry's version
        carries the same as `fireworks.*` tags, and `fireworks.error` when it failed.

    Raises:
        FireworksError: One line that says what happened and what to do.
    """
    look = look or (lambda: pin(model_uri))
    options, endpoint_options = parse_both(config, endpoint)
    if not options.synchronous:
        raise InvalidConfigError("promote waits for READY; -C synchronous=false is for create and update")
    if name is not None:
        check_name(name)
    if endpoint is not None:
        check_name(endpoint)
    pinned = look()
    name = name or suggest_name(pinned.name)
    started = _now()
    watch = _Watch(reporter or make_reporter(options.progress), look, look_every_seconds)
    with open_deployments(parse_target(target), options, endpoint_options, watch) as deployments:
        for _ in range(_TURNS):
            watch.pinned = pinned
            try:
                result, now = _take_turn(deployments, name, pinned, endpoint, look)
            except FireworksError as error:
                _write_failure(pinned, options, name, error)
                raise
            if now == pinned:
                if warning := _write_success(pinned, options, result, started):
                    watch.warn(warning)
                return result | {"pointer": model_uri, "version": pinned.version}
            watch.note(f"{model_uri} moved from {pinned.uri} to {now.uri} meanwhile; going on with that")
            pinned = now
    raise UnavailableError(f"{model_uri} moved {_TURNS} times while it was promoted; run the same command again")


class _MovedError(Exception):
    """The pointer moved while bytes did.

    Args:
        now: What it shows.
    """

    def __init__(self, now: Pinned) -> None:
        super().__init__(now.uri)
        self.now = now


class _Watch:
    """Passes on what it is told; while bytes move, reads the pointer now and then, and stops them when it has moved.

    Args:
        reporter: Is told everything.
        look: Reads the pointer.
        every_seconds: Between two looks.
    """

    def __init__(self, reporter: Reporter, look: Callable[[], Pinned], every_seconds: float) -> None:
        self.pinned: Pinned | None = None
        self._look = look
        self._every_seconds = every_seconds
        self._next = time.monotonic() + every_seconds
        self._lock = threading.Lock()
        self._bytes_moved = reporter.bytes_moved
        self.step = reporter.step
        self.note = reporter.note
        self.warn = reporter.warn
        self.transfer_begins = reporter.transfer_begins
        self.bytes_fetched = reporter.bytes_fetched
        self.transfer_ends = reporter.transfer_ends

    def bytes_moved(self, count: int) -> None:
        """Raises `_MovedError`, which ends the upload as any failure does; bytes that are counted back never do."""
        self._bytes_moved(count)
        if count > 0 and time.monotonic() >= self._next and self._lock.acquire(blocking=False):
            try:
                now = self._look()
            except UnavailableError:
                return  # it will be asked again
            finally:
                self._next = time.monotonic() + self._every_seconds
                self._lock.release()
            if now != self.pinned:
                raise _MovedError(now)


def _take_turn(
    deployments: Deployments, name: str, pinned: Pinned, endpoint: str | None, look: Callable[[], Pinned]
) -> tuple[dict[str, Any], Pinned]:
    """Bring what a pointer showed to READY, and to the endpoint if that is what it still shows; and what it shows."""
    try:
        result = _deploy(deployments, name, pinned.uri, endpoint)
    except _MovedError as moved:
        return {}, moved.now
    now = look()
    if now == pinned and endpoint and not result["dry_run"]:
        result |= _serve(deployments, name, result, endpoint)
        now = look()
    return result, now


def _deploy(deployments: Deployments, name: str, uri: str, endpoint: str | None) -> dict[str, Any]:
    """Bring it to READY; whether the endpoint could take it is asked before anything is sent."""
    if endpoint:
        deployments.foresee(name, endpoint)
    if name in deployments.pipeline.deployments():
        return deployments.pipeline.update(name, uri).to_dict()
    try:
        return deployments.create(name, uri, None, None)
    except ConflictError:
        if name not in deployments.pipeline.deployments():
            raise
        return deployments.pipeline.update(name, uri).to_dict()  # somebody was faster


def _serve(deployments: Deployments, name: str, result: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    """Put the READY revision on the endpoint, without looking at its files again."""
    if result["state"] != READY:
        raise UnavailableError(f"'{name}' is {result['state']}, not READY, so endpoint '{endpoint}' was left as it is")
    place = deployments.roll_back(name, int(result["revision"]), endpoint)
    return {"endpoint": place["endpoint"], "address": place["address"]}


def write_failure(pinned: Pinned, name: str, message: str) -> str | None:
    """Say on the registry's version why it is not on Fireworks.

    Args:
        pinned: The version.
        name: The deployment.
        message: One line.

    Returns:
        None when it is written, else one line for a warning.
    """
    return write_outcome(
        pinned.registered,
        {
            "fireworks.deployment": name,
            "fireworks.error": message[:_TAG_MAX],
            "fireworks.updated": _now(),
            "fireworks.state": "FAILED",
        },
    )


def write_removal(model: str, name: str, *, deleted: bool) -> str | None:
    """Say on the registry's versions that a deployment is gone, or is not on an endpoint any more.

    Args:
        model: The registered model.
        name: The deployment.
        deleted: Whether the deployment itself is gone.

    Returns:
        As `write_failure`.
    """
    tags = _OFF_ENDPOINT | ({"fireworks.updated": _now(), "fireworks.state": "DELETED"} if deleted else {})
    return retag_versions(model, {"fireworks.deployment": name}, tags)


_OFF_ENDPOINT: dict[str, str | None] = {"fireworks.endpoint": None, "fireworks.address": None}
# MLflow 3.17, `utils/validation.py`: a model version tag holds up to 100,000 characters; a page should not.
_TAG_MAX = 1000


def _write_failure(pinned: Pinned, options: Config, name: str, error: FireworksError) -> None:
    if options.registry_tags and not options.dry_run:
        write_failure(pinned, name, error.message)


def _write_success(pinned: Pinned, options: Config, result: Mapping[str, Any], started: str) -> str | None:
    """Write it on the version, and take the endpoint off those that had it before; what could not be written."""
    if pinned.registered is None or not options.registry_tags or options.dry_run:
        return None
    tags = {"fireworks.started": started, "fireworks.updated": _now(), "fireworks.error": None}
    if endpoint := result.get("endpoint"):
        tags |= {"fireworks.endpoint": endpoint, "fireworks.address": result["address"]}
    warning = write_outcome(pinned.registered, tags)
    if endpoint and not warning:
        name, marks = pinned.registered.name, {"fireworks.endpoint": endpoint}
        warning = retag_versions(name, marks, _OFF_ENDPOINT, but=pinned.version)
    return warning


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
