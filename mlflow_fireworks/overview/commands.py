"""`mlflow-fireworks status`, `logs`, `resume`, `revisions` and `rollback`."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from mlflow_fireworks.config import parse_config
from mlflow_fireworks.errors import BusyError, ConflictError, FireworksError, NotFoundError, UnavailableError
from mlflow_fireworks.gateway.revisions import Deployment, Revision
from mlflow_fireworks.gateway.wire import FAILED, READY
from mlflow_fireworks.hooks.options import QUEUE
from mlflow_fireworks.hooks.snapshot import Snapshot, read_snapshot
from mlflow_fireworks.names import DeploymentName, EndpointName, enumerate_names
from mlflow_fireworks.opening import look_at
from mlflow_fireworks.options import JSON, PAIRS, TARGET, read_pairs, show
from mlflow_fireworks.overview.history import tell_jobs, tell_models
from mlflow_fireworks.overview.rows import HEAD, collect_missing, collect_rows
from mlflow_fireworks.overview.table import write_table
from mlflow_fireworks.pipeline.delivery import open_journal
from mlflow_fireworks.pipeline.validation import describe_failure
from mlflow_fireworks.plugin import FireworksDeploymentClient
from mlflow_fireworks.registry.model_uri import version_in
from mlflow_fireworks.target import parse_target
from mlflow_fireworks.terminal import say, say_json, say_wrapped

_SECONDS_BETWEEN_LOOKS = 5.0
_REVISION_HEAD = ("REVISION", "STATE", "MODEL", "SOURCE", "CREATED", "")


@click.command()
@click.argument("name", required=False)
@TARGET
@QUEUE
@click.option("--watch", is_flag=True, help="Refresh every few seconds, until Ctrl-C.")
@click.option("--all", "others", is_flag=True, help="Also show models that this plugin did not create.")
@JSON
def status(  # noqa: PLR0917 - click passes them by name
    name: str | None, target: str, queue_url: str | None, watch: bool, others: bool, as_json: bool
) -> None:
    """Show all deployments, or NAME, one line each: its state, what serves it, and what is happening to it now."""
    if not watch:
        _show_status(target, name, queue_url, others=others, as_json=as_json)
        return
    with suppress(KeyboardInterrupt):
        while True:
            try:
                _show_status(target, name, queue_url, others=others, as_json=as_json, clear=True)
            except (BusyError, UnavailableError) as error:  # it may be back at the next look
                say(error.message, err=True)
            time.sleep(_SECONDS_BETWEEN_LOOKS)


@click.command()
@click.argument("name")
@TARGET
@QUEUE
@JSON
def logs(name: str, target: str, queue_url: str | None, as_json: bool) -> None:
    """Show what happened to the deployment NAME, oldest first: on Fireworks, and in the hooks' queue."""
    snapshot = _read_queue(queue_url)
    told = [*tell_jobs(name, snapshot)] if snapshot else []
    try:
        with look_at(parse_target(target)) as deployments:
            told += tell_models(deployments.find(DeploymentName(name)))
    except NotFoundError:
        if not told:
            raise
    told.sort(key=lambda item: item.time)
    if as_json:
        say_json([item.to_dict() for item in told])
        return
    for item in told:
        say_wrapped(f"{_to_seconds(item.time)}  {item.where:<9}  {item.text}", 4)


@click.command()
@click.argument("name")
@TARGET
@JSON
def revisions(name: str, target: str, as_json: bool) -> None:
    """Show every revision of the deployment NAME; `rollback` puts one back on its endpoint."""
    with look_at(parse_target(target)) as deployments:
        found = deployments.find(DeploymentName(name))
    if as_json:
        say_json([_describe_revision(found, item) for item in found.revisions])
        return
    rows = []
    for item in found.revisions:
        told = _describe_revision(found, item)
        mark = "current" if told["current"] else ""
        created = _to_seconds(told["created"] or "")
        rows.append((str(item.number), told["state"], told["model"], told["source"] or "", created, mark))
    for line in write_table(_REVISION_HEAD, rows):
        say(line)


@click.command()
@click.argument("name")
@click.argument("revision", type=click.IntRange(min=1))
@TARGET
@click.option("--endpoint", help="Endpoint to put it on. [default: the one that serves NAME]")
@PAIRS
@JSON
def rollback(  # noqa: PLR0917 - click passes them by name
    name: str, revision: int, target: str, endpoint: str | None, pairs: tuple[str, ...], as_json: bool
) -> None:
    """Put an earlier REVISION of the deployment NAME back on its endpoint without downtime; see `revisions`."""
    if endpoint is None:
        endpoint = _find_only_endpoint(target, DeploymentName(name))
    options = read_pairs(pairs) | {"revision": revision}
    show(FireworksDeploymentClient(target).update_deployment(name, endpoint=endpoint, config=options), as_json)


@click.command()
@click.argument("name")
@TARGET
@PAIRS
@JSON
def resume(name: str, target: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Resume an interrupted deployment NAME: upload the missing files, and validate.

    The model is read again from where it came from, unless this machine knows that all of it was sent.
    """
    options = read_pairs(pairs)
    parse_config(options)
    rest = _find_rest(target, DeploymentName(name))
    if rest is None:
        say(f"nothing to resume: '{name}' is READY", err=True)
        if as_json:
            say_json({"name": name, "state": READY})
        return
    show(FireworksDeploymentClient(target).update_deployment(name, rest.model_uri, config=options), as_json)


@dataclass(frozen=True)
class _Rest:
    """What is missing of a deployment.

    Args:
        model_uri: Where its files come from; None when all of them were sent.
    """

    model_uri: str | None


def _find_rest(target: str, name: DeploymentName) -> _Rest | None:
    with look_at(parse_target(target)) as deployments:
        run, found = deployments.run, deployments.find(name)
        revision = found.latest
        if revision.is_ready:
            return None
        model, stamp = revision.model, revision.stamp
        if stamp is None:
            raise ConflictError(
                f"{model.name} is {model.state}, and this plugin did not create it; whoever did must finish it"
            )
        if model.state == FAILED:
            raise describe_failure(run.commands, stamp, model)
        with open_journal(run, model.name) as journal:
            missing = journal.missing(stamp.fingerprint, model.create_time)
        return _Rest(None if missing == [] else stamp.model_uri)


def _find_only_endpoint(target: str, name: DeploymentName) -> str:
    with look_at(parse_target(target)) as deployments:
        serving = list(deployments.get(name, None)["endpoints"])
    if not serving:
        raise NotFoundError(f"nothing serves '{name}', so there is nothing to roll back; name one with --endpoint")
    if len(serving) > 1:
        raise ConflictError(f"'{name}' is on {enumerate_names(serving)}; choose one with --endpoint")
    return str(EndpointName(serving[0]))


def _show_status(
    target: str, name: str | None, queue_url: str | None, *, others: bool, as_json: bool, clear: bool = False
) -> None:
    account, snapshot = parse_target(target), _read_queue(queue_url)
    found: list[Deployment] = []
    absent: NotFoundError | None = None
    with look_at(account) as deployments:
        try:
            found += [deployments.find(DeploymentName(name))] if name else deployments.list_existing().values()
        except NotFoundError as error:  # the hooks may have been asked for it
            absent = error
        shown = [item for item in found if name or item.is_managed or others]
        rows = [*collect_rows(deployments, shown, snapshot, _tell_registry)]
    missing = collect_missing(account, {item.name for item in found}, snapshot)
    rows += [row for row in missing if name in (None, row.name)]
    if absent and not rows:
        raise absent
    if snapshot and snapshot.lack:
        say(snapshot.lack, err=True)
    if clear:
        click.clear()  # does nothing where stdout is no terminal
    if as_json:
        say_json([row.to_dict() for row in rows])
    elif rows:
        for line in write_table(HEAD, [row.cells() for row in rows]):
            say(line)
    else:
        hidden = len(found) - len(shown)
        say("no deployments yet" + (f"; --all shows {hidden} models of others" if hidden else ""), err=True)


def _tell_registry(reason: str) -> None:
    say(f"{reason}; aliases are not shown", err=True)


def _read_queue(queue_url: str | None) -> Snapshot | None:
    """The hooks' queue; one that does not answer is worth a line, and the rest is shown."""
    try:
        return read_snapshot(queue_url)
    except FireworksError as error:
        say(f"{error.message}; the hooks' jobs are not shown", err=True)
        return None


def _to_seconds(time: str) -> str:
    return re.sub(r"\.\d+", "", time)


def _describe_revision(deployment: Deployment, revision: Revision) -> dict[str, Any]:
    stamp = revision.stamp
    return {
        "revision": revision.number,
        "model": revision.model.model_id,
        "state": revision.model.state,
        "current": revision is deployment.current,
        "source": stamp.source if stamp else None,
        "version": version_in(stamp.source) if stamp else None,
        "bytes": stamp.size if stamp else None,
        "created": revision.model.create_time or None,
    }
