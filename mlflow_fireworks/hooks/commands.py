"""`mlflow-fireworks hooks …`: automatic promotions."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import mlflow

from mlflow_fireworks.errors import InvalidConfigError, UnavailableError
from mlflow_fireworks.hooks import options
from mlflow_fireworks.hooks.approvals import Held
from mlflow_fireworks.hooks.checking import NOT_ABOUT_EVENT, approve, check, read_event
from mlflow_fireworks.hooks.heartbeats import BEAT_SECONDS
from mlflow_fireworks.hooks.hold_commands import history, hold, resume
from mlflow_fireworks.hooks.holds import Hold
from mlflow_fireworks.hooks.jobs import Job, State, to_json
from mlflow_fireworks.hooks.links import Links, find_mlflow_pages, read_mlflow_pages
from mlflow_fireworks.hooks.logs import FORMATS, set_up_logs
from mlflow_fireworks.hooks.queue import OF_PEOPLE, Queue, open_queue
from mlflow_fireworks.hooks.receiver import plan_jobs
from mlflow_fireworks.hooks.reconcile import reconcile as enqueue_missing
from mlflow_fireworks.hooks.registration import register_on_hub, register_on_mlflow
from mlflow_fireworks.hooks.rule_file import RuleFile
from mlflow_fireworks.hooks.rules import Rules, load_rules
from mlflow_fireworks.hooks.service import SWEEP_SECONDS, Service, load_keys, load_secrets
from mlflow_fireworks.hooks.snapshot import Snapshot, take_snapshot
from mlflow_fireworks.hooks.subjects import check_workspaces
from mlflow_fireworks.hooks.wording import describe_revision
from mlflow_fireworks.hooks.worker import work_now
from mlflow_fireworks.options import JSON
from mlflow_fireworks.progress import format_bytes, logger
from mlflow_fireworks.registry.workspaces import in_workspace
from mlflow_fireworks.run import user_name
from mlflow_fireworks.signals import stopped_by_sigterm
from mlflow_fireworks.terminal import say, say_json, say_wrapped

Command = Callable[..., None]
_EVENTS_HINT = "no webhooks received yet; does the sender have the receiver's address?"


_RULES, _QUEUE, _JSON, _queue = options.RULES, options.QUEUE, JSON, options.locate_queue
Duration = options.Duration
_YES = click.option("--yes", is_flag=True, help="Approve all rules: they may start GPUs, within their limits.")
_WORKERS = click.option(
    "--workers", type=click.IntRange(min=0), default=2, show_default=True, help="How many promotions may run at once."
)
_RECONCILE = click.option(
    "--reconcile-every",
    type=Duration(),
    default="10m",
    show_default=True,
    help="How often to check the registry for missed events; 0 = never.",
)
_FIRST_PAUSE = click.option(
    "--retry-after",
    type=Duration(),
    default="10s",
    show_default=True,
    help="Delay before the first retry; grows with each one, up to 15 minutes.",
)
_LEASE = click.option(
    "--lease",
    type=Duration(),
    default="60s",
    show_default=True,
    help="On Redis: how long a crashed worker's jobs stay locked.",
)
_LOG_FORMAT = click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    envvar="MLFLOW_FIREWORKS_LOG_FORMAT",
    help="Log format on stderr; json = one object per line.",
)


@click.group()
def hooks() -> None:
    """Promote by rules: when an alias or a tag is set in MLflow, or a branch moves on the Hugging Face Hub."""


hooks.add_command(check)
hooks.add_command(approve)
hooks.add_command(hold)
hooks.add_command(resume)
hooks.add_command(history)


@hooks.command()
@_RULES
@_QUEUE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="Port; 0 = any free port.")
@_WORKERS
@_RECONCILE
@_FIRST_PAUSE
@_LEASE
@click.option(
    "--max-queue",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Refuse new webhooks (503) above this many jobs.",
)
@click.option(
    "--mlflow-ui",
    "mlflow_pages",
    envvar="MLFLOW_FIREWORKS_MLFLOW_UI",
    help="Address of the MLflow UI as your browser reaches it, for links. [default: the registry's address]",
)
@_YES
@_LOG_FORMAT
def serve(host: str, port: int, log_format: str, mlflow_pages: str | None, **how: Any) -> None:
    """Receive webhooks (POST /webhooks/mlflow and /webhooks/huggingface) and run the promotions."""
    set_up_logs(log_format)
    secrets = load_secrets(load_rules(how["rules_path"]))
    pages = read_mlflow_pages(mlflow_pages) if mlflow_pages else find_mlflow_pages(mlflow.get_registry_uri())
    with _until_stopped():
        _make_service(load_secrets, **how).serve(secrets, host, port, Links(pages))


@hooks.command()
@_RULES
@_QUEUE
@_WORKERS
@_RECONCILE
@_FIRST_PAUSE
@_LEASE
@_YES
@_LOG_FORMAT
def worker(log_format: str, **how: Any) -> None:
    """Run the queued promotions; any number of workers can share one Redis."""
    set_up_logs(log_format)
    with _until_stopped():
        _make_service(lambda _: None, **how).wait()


@hooks.command()
@_RULES
@_QUEUE
@_YES
@_JSON
def reconcile(rules_path: Path, queue_url: str | None, yes: bool, as_json: bool) -> None:
    """Compare the registry with Fireworks once and queue what is missing; needs no webhooks."""
    queue = _open_for_people(queue_url)
    rules = load_rules(rules_path)
    _check_workspaces(rules)
    found = enqueue_missing(queue, rules, dead_too=True, approve=yes)
    _list_jobs(found.enqueued, take_snapshot(queue), as_json)
    if not found.enqueued or found.given_up:
        say_wrapped(replace(found, held=(), holds=()).describe(queue.path), 4, err=True)
    _tell_held(found.held, found.holds)


@hooks.command()
@_QUEUE
@_JSON
def jobs(queue_url: str | None, as_json: bool) -> None:
    """Show the jobs, newest first."""
    snapshot = take_snapshot(_open_for_people(queue_url))
    _list_jobs(snapshot.jobs, snapshot, as_json)
    if not (snapshot.jobs or snapshot.held or snapshot.holds or as_json):
        say("no jobs yet", err=True)
    for told in (snapshot.lack, snapshot.describe_unreadable()):
        if told and not as_json:
            say(told, err=True)
    _tell_held(snapshot.held, snapshot.holds)


@hooks.command()
@_QUEUE
@_JSON
def events(queue_url: str | None, as_json: bool) -> None:
    """Show the last webhooks and what became of each, newest first; look here first when nothing happened."""
    queue = _open_for_people(queue_url)
    with queue.outage.watch():
        found = queue.deliveries.last()
    if as_json:
        say_json([to_json(delivery) for delivery in found])
        return
    for delivery in found:
        told = f"{delivery.sender:<11}  {delivery.id or '-'}  {delivery.describe()}"
        say_wrapped(f"{_format(delivery.received)}  {told}", 4)
    if not found:
        say(_EVENTS_HINT, err=True)


@hooks.command()
@click.argument("job_id")
@_QUEUE
@_JSON
def retry(job_id: str, queue_url: str | None, as_json: bool) -> None:
    """Retry a failed job now."""
    queue = _open_for_people(queue_url)
    _list_jobs([queue.retry(job_id, user_name())], take_snapshot(queue), as_json)


@hooks.command()
@click.argument("job_id")
@_QUEUE
@_JSON
def dismiss(job_id: str, queue_url: str | None, as_json: bool) -> None:
    """Dismiss a failed job: it is not retried unless its alias, tag or branch moves, or someone retries it."""
    queue = _open_for_people(queue_url)
    _list_jobs([queue.dismiss(job_id)], take_snapshot(queue), as_json)


@hooks.command()
@_RULES
@click.option("--url", required=True, help="Address of the receiver as MLflow and the Hub reach it, e.g. https://HOST.")
@_JSON
def register(rules_path: Path, url: str, as_json: bool) -> None:
    """Create the webhooks that the rules need, on the MLflow server and the Hub, and test them end to end.

    Start `hooks serve` first. Running it again brings the webhooks up to date.
    """
    rules = load_rules(rules_path)
    secrets = load_secrets(rules)
    found = []
    check_workspaces(rules)
    for workspace in sorted({rule.workspace or "" for rule in rules if rule.model}):
        of_it = Rules(rules=tuple(rule for rule in rules if rule.model and (rule.workspace or "") == workspace))
        with in_workspace(workspace):  # each has webhooks of its own
            if secrets.mlflow:
                found.append(register_on_mlflow(of_it, url, secrets.mlflow))
    if secrets.hub and any(rule.hub for rule in rules):
        found.append(register_on_hub(rules, url, secrets.hub))
    if as_json:
        say_json([asdict(item) for item in found])
        return
    for item in found:
        what = "created" if item.made else "updated"
        say(f"webhook {item.id} on {item.place} {what} and tested: {', '.join(item.events)} -> {item.url}")


@hooks.command()
@_RULES
@click.option(
    "--queue",
    "queue_url",
    envvar=options.QUEUE_VARIABLE,
    help="Take turns with everything that uses this queue, and respect its holds: a file, or redis://… if "
    "several machines share it. [default: none]",
)
@click.option(
    "--from-env", is_flag=True, help="Read the event from WEBHOOK_PAYLOAD, where the Hub puts it for its Jobs."
)
@click.option(
    "--event", type=click.File("rb"), help="Read the event (the body of a webhook) from this file; - = stdin."
)
@_LOG_FORMAT
@_JSON
def run(  # noqa: PLR0917 - click passes them by name
    rules_path: Path, queue_url: str | None, from_env: bool, event: Any, log_format: str, as_json: bool
) -> None:
    """Act on one event immediately, without a receiver; for a job that the event itself started.

    The event is not verified: whoever can run this can deploy.
    """
    set_up_logs(log_format)
    body = os.environ.get("WEBHOOK_PAYLOAD", "").encode() if from_env else event.read() if event else b""
    if not body:
        raise InvalidConfigError("name the event: --from-env (with WEBHOOK_PAYLOAD set) or --event FILE")
    rules = load_rules(rules_path)
    _check_workspaces(rules)
    shared = options.find_queue_url(queue_url)
    queue = open_queue(shared) if shared else None
    done = work_now(rules, [job for one in read_event(body) for job in plan_jobs(rules, one)], queue=queue)
    if not done and not as_json:
        say(NOT_ABOUT_EVENT)
    _list_jobs(done, Snapshot(time.time(), 0, tuple(done)), as_json)
    if any(job.state is State.DEAD for job in done):
        sys.exit(1)


def _tell_held(found: Sequence[Held], holds: Sequence[Hold]) -> None:
    """On stderr, so that what scripts read is left alone."""
    for held in found:
        say_wrapped(f"{held.describe()}; approve it with: {held.command}", 4, err=True)
    for one in holds:
        say_wrapped(f"{one.describe()}; resume it with: {one.command}", 4, err=True)


def _list_jobs(found: Sequence[Job], snapshot: Snapshot, as_json: bool) -> None:
    if as_json:
        say_json([snapshot.tell(job) for job in found])
        return
    for job in found:
        words = [job.progress.text, job.error]
        if job.progress.size:
            words.insert(1, f"{format_bytes(job.progress.moved)} of {format_bytes(job.progress.size)}")
        about = "; ".join(word for word in words if word)
        revision = f" ({describe_revision(job)})" if describe_revision(job) else ""
        say_wrapped(
            f"{job.id}  {_format(job.updated)}  {snapshot.describe(job):<10}  "
            f"{job.subject} = {job.version or '-'} -> {job.deployment}{revision}" + (f"  {about}" if about else ""),
            4,
        )


def _format(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _make_service(  # noqa: PLR0917 - click passes them by name
    check: Callable[[Rules], object],
    rules_path: Path,
    queue_url: str | None,
    workers: int,
    reconcile_every: float,
    retry_after: float,
    lease: float,
    yes: bool,
    max_queue: int = 1000,
) -> Service:
    def check_all(rules: Rules) -> None:
        check(rules)
        if workers or reconcile_every:
            load_keys(rules)  # rather now than at the first promotion
            _check_workspaces(rules)

    rules = RuleFile(rules_path, check_all)
    queue = open_queue(_queue(queue_url), max_queue, lease)
    view = open_queue(_queue(queue_url), patience=OF_PEOPLE, outage=queue.outage)
    return Service(
        queue,
        view,
        rules,
        workers=workers,
        reconcile_seconds=reconcile_every,
        first_pause_seconds=retry_after,
        sweep_seconds=min(SWEEP_SECONDS, lease),
        beat_seconds=min(BEAT_SECONDS, lease),
        approve=yes,
    )


def _check_workspaces(rules: Rules) -> None:
    """A registry that is away now is waited for later."""
    try:
        check_workspaces(rules)
    except UnavailableError as error:
        logger.warning("%s", error.message)


def _open_for_people(url: str | None) -> Queue:
    return open_queue(_queue(url), patience=OF_PEOPLE)


@contextmanager
def _until_stopped() -> Iterator[None]:
    """Run until Ctrl-C or SIGTERM, also as the first process of a container, which no signal ends by itself.

    Then end at once: uploads in other threads go on from where they were at the next start.
    """
    with stopped_by_sigterm(), suppress(KeyboardInterrupt):
        yield
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
