"""Whether automatic promotions would happen."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.doctor.check import Check, Verdict, look, note, ok, problem
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.hooks.findings import compare
from mlflow_fireworks.hooks.jobs import Job, format_time
from mlflow_fireworks.hooks.options import locate_queue
from mlflow_fireworks.hooks.registration import NAME, list_webhooks
from mlflow_fireworks.hooks.rules import Rules, load_rules
from mlflow_fireworks.hooks.service import load_keys, load_secrets
from mlflow_fireworks.hooks.snapshot import Snapshot, read_snapshot
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.redaction import hide_credentials
from mlflow_fireworks.registry.reach import require_mlflow


def check_hooks(rules_path: Path, queue_url: str | None) -> Iterator[Check]:
    """Look at the rules, what they need, the webhooks and the queue.

    Args:
        rules_path: The rule file.
        queue_url: The queue; None means the default one.
    """
    try:
        rules = load_rules(rules_path)
    except FireworksError as error:
        yield problem("rules", error.message)
        return
    count = f"{len(rules.rules)} rule{'s' if len(rules.rules) > 1 else ''}"
    yield ok("rules", f"{rules_path} has {count}: {enumerate_names(rule.title for rule in rules)}")
    yield _need("API keys", "there is one for each target", lambda: load_keys(rules))
    webhook = look("webhook", _check_webhook) if any(rule.model for rule in rules) else None
    if webhook:
        yield webhook
    secrets = _need("secrets", "all that the rules need are set", lambda: load_secrets(rules))
    if secrets.verdict is Verdict.PROBLEM and webhook and webhook.verdict is Verdict.NOTE:
        secrets = note("secrets", f"for `hooks serve`, {secrets.text}")
    yield secrets
    snapshot = _read_queue(queue_url)
    if isinstance(snapshot, Check):
        yield snapshot
    else:
        yield from _check_queue(snapshot)
    yield look("matches", lambda: _check_matches(rules, () if isinstance(snapshot, Check) else snapshot.jobs))


def _read_queue(queue_url: str | None) -> Snapshot | Check:
    """The queue as it is, or why it cannot be seen.

    Args:
        queue_url: The queue; None means the default one.
    """
    try:
        found = read_snapshot(queue_url)
    except FireworksError as error:
        return problem("queue", error.message)
    if found is None:
        return note(
            "queue", f"{locate_queue(queue_url)} does not exist yet; a worker creates it", Commands.start_worker()
        )
    return found


def check_jobs(deployment: str, queue_url: str | None) -> Iterator[Check]:
    """What the hooks do about one deployment; nothing where there is no queue.

    Args:
        deployment: Its name.
        queue_url: The queue; None means the default one.
    """
    snapshot = _read_queue(queue_url)
    if isinstance(snapshot, Check):
        return
    jobs = [job for job in snapshot.jobs if job.deployment == deployment]
    if not jobs:
        return
    last = jobs[0]
    told = f"{last.subject} = {last.version or '-'} is {snapshot.describe(last)}"
    if last in snapshot.dead:
        yield problem("hooks", f"{told}: {last.error}", Commands.retry_job(last.id))
    else:
        yield ok("hooks", told) if last.state.is_final else note("hooks", f"{told}: {last.progress.text or last.error}")
    for held in snapshot.held:
        if any(job.deployment == deployment for job in held.jobs):
            yield note("hooks", held.describe(), held.command)
    for hold in snapshot.holds:
        if hold.is_about(last):
            yield note("hooks", hold.describe(), hold.command)


def _need(subject: str, text: str, load: Callable[[], object]) -> Check:
    def question() -> Check:
        load()
        return ok(subject, text)

    return look(subject, question)


def _check_webhook() -> Check:
    """Whether the MLflow server has a webhook of ours, and gets an answer where it leads: it sends a test event."""
    where = mlflow.get_registry_uri()
    if not where.startswith(("http://", "https://")):
        return note("webhook", "only an MLflow server sends webhooks; without one, comparing finds all changes")
    require_mlflow(where)
    client = MlflowClient()
    found = [webhook for webhook in list_webhooks(client) if webhook.name == NAME]
    if not found:
        return note(
            "webhook",
            f"{hide_credentials(where)} has no webhook for a receiver; create one with `hooks register`, or rely on "
            "comparing",
        )
    for webhook in found:
        tested = client.test_webhook(webhook.webhook_id)
        if not tested.success:
            why = tested.response_status or tested.error_message
            return problem("webhook", f"{webhook.url} did not accept MLflow's test event ({why}); is `hooks serve` up?")
    return ok("webhook", f"MLflow's test event reached {enumerate_names(webhook.url for webhook in found)}")


def _check_queue(snapshot: Snapshot) -> Iterator[Check]:
    told = f"unfinished jobs: {len(snapshot.unfinished)}, workers alive: {len(snapshot.workers)}"
    if snapshot.lack:
        yield problem("queue", snapshot.lack)
    else:
        yield ok("queue", told) if snapshot.workers else note("queue", told, Commands.start_worker())
    for job in snapshot.dead:
        yield problem(
            "job", f"{job.id}: {job.subject} -> {job.deployment} failed: {job.error}", Commands.retry_job(job.id)
        )
    for held in snapshot.held:
        yield note("approval", held.describe(), held.command)
    for hold in snapshot.holds:
        yield note("hold", hold.describe(), hold.command)
    yield _check_comparison(snapshot)


def _check_comparison(snapshot: Snapshot) -> Check:
    last = snapshot.comparison
    if last is None:
        return note("comparison", "the registry has not been compared with Fireworks yet; a worker does that")
    if last.error:
        return problem("comparison", f"has been failing since {format_time(last.failing_since)}: {last.error}")
    return ok(
        "comparison", f"the registry was compared with Fireworks {format_seconds(time.time() - last.succeeded)} ago"
    )


def _check_matches(rules: Rules, jobs: Sequence[Job]) -> Check:
    """Which rules match nothing in the registry; a typo in one is seen here."""
    matched = {finding.job.rule for finding in compare(rules, jobs)}
    if idle := [rule.title for rule in rules if rule.title not in matched]:
        return note("matches", f"nothing in the registry matches {enumerate_names(idle)}; check their names")
    return ok("matches", "every rule matches something in the registry")
