"""Whether automatic promotions would happen."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
from mlflow import MlflowClient

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.doctor.check import Check, Verdict, look, look_through, note, ok, problem
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.hooks.findings import compare
from mlflow_fireworks.hooks.jobs import Job, State, show_time
from mlflow_fireworks.hooks.options import locate_queue
from mlflow_fireworks.hooks.registration import NAME, explain_missing_webhooks, list_webhooks, needed_events
from mlflow_fireworks.hooks.rules import Rules, load_rules
from mlflow_fireworks.hooks.service import load_keys, load_secrets
from mlflow_fireworks.hooks.snapshot import Snapshot, read_snapshot
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.redaction import hide_credentials
from mlflow_fireworks.registry.reach import ERRNO, require_mlflow
from mlflow_fireworks.registry.workspaces import in_workspace

if TYPE_CHECKING:
    from mlflow.entities.webhook import Webhook  # since MLflow 3.3

_SHOWN = 3
_OLD_SECONDS = 3600.0  # six times as long as it takes from one comparison to the next


def check_hooks(rules_path: Path, queue_url: str | None) -> Iterator[Check]:
    """Look at the rules, what they need, the webhooks and the queue.

    Args:
        rules_path: The rule file.
        queue_url: The queue; None means the default one.
    """
    rules: Rules | None = None
    try:
        rules = load_rules(rules_path)
    except FireworksError as error:
        yield problem("rules", error.message)
    else:
        count = f"{len(rules.rules)} rule{'s' if len(rules.rules) > 1 else ''}"
        yield ok("rules", f"{rules_path} has {count}: {enumerate_names(rule.title for rule in rules)}")
        yield _need("API keys", "there is one for each target", partial(load_keys, rules))
        yield from _check_webhooks(rules)
    snapshot = _read_queue(queue_url)
    if isinstance(snapshot, Check):
        yield snapshot
    else:
        yield from _check_queue(snapshot)
    if rules:
        seen = None if isinstance(snapshot, Check) else snapshot
        yield from look_through("matches", partial(_check_pointers, rules, seen))


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
            "queue",
            f"{locate_queue(queue_url)} does not exist yet; a worker creates it",
            Commands.start_worker(queue_url),
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
        if snapshot.verdict is Verdict.PROBLEM:
            yield note(snapshot.subject, snapshot.text)
        return
    last = next((job for job in snapshot.jobs if job.deployment == deployment), None)
    if last:
        yield _describe_last(snapshot, last)
    for held in snapshot.held:
        if any(job.deployment == deployment for job in held.jobs):
            yield note("hooks", held.describe(), held.command)
    for hold in snapshot.holds:
        if hold.what == deployment or (last and hold.is_about(last)):
            yield note("hooks", hold.describe(), hold.command)


def _describe_last(snapshot: Snapshot, last: Job) -> Check:
    told = f"{last.subject} = {last.version or '-'} is {snapshot.describe(last)}"
    if last in snapshot.dead:
        return problem("hooks", f"{told}: {last.error}", Commands.retry_job(last.id, snapshot.queue))
    if snapshot.lack and last.id in snapshot.left_waiting:
        return problem("hooks", f"{told}: {snapshot.lack}")
    if last.state.is_final:
        return ok("hooks", told)
    if last.state is State.RUNNING:
        age = format_seconds(snapshot.taken - last.updated)
        return note("hooks", f"{told}: {last.progress.text or 'begun'}, {age} ago")
    return note("hooks", f"{told}: {last.error}" if last.error else told)


def _need(subject: str, text: str, load: Callable[[], object]) -> Check:
    def question() -> Check:
        load()
        return ok(subject, text)

    return look(subject, question)


def _check_webhooks(rules: Rules) -> Iterator[Check]:
    """What a receiver needs; who only runs workers needs none of it."""
    found = []
    for workspace in sorted({rule.workspace or "" for rule in rules if rule.model}):  # each has webhooks of its own
        of_it = Rules(rules=tuple(rule for rule in rules if rule.model and (rule.workspace or "") == workspace))
        with in_workspace(workspace):
            found.append(look("webhook", partial(_check_webhook, of_it)))
    yield from found
    secrets = _need("secrets", "all that the rules need are set", partial(load_secrets, rules))
    if secrets.verdict is Verdict.PROBLEM and found and all(check.verdict is Verdict.NOTE for check in found):
        secrets = note("secrets", f"for `hooks serve`, {secrets.text}")
    yield secrets


def _check_webhook(rules: Rules) -> Check:
    """Whether the MLflow server has a webhook of ours, and gets an answer where it leads: it sends a test event."""
    where = mlflow.get_registry_uri()
    if not where.startswith(("http://", "https://")):
        return note("webhook", "only an MLflow server sends webhooks; without one, comparing finds all changes")
    require_mlflow(where)
    if reason := explain_missing_webhooks(where):
        return note("webhook", reason)
    client = MlflowClient()
    found = [webhook for webhook in list_webhooks(client) if webhook.name == NAME]
    if not found:
        return note(
            "webhook",
            f"{hide_credentials(where)} has none for a receiver, so changes are found by comparing only; where "
            "`hooks serve` runs, create one with:",
            Commands.register("https://HOST"),
        )
    for webhook in found:
        if fault := _find_fault(client, webhook, rules):
            return fault
    return ok("webhook", f"MLflow's test event reached {enumerate_names(webhook.url for webhook in found)}")


def _find_fault(client: MlflowClient, webhook: "Webhook", rules: Rules) -> Check | None:
    """Why nothing, or not all, would come by a webhook; None when all would."""
    again = Commands.register(webhook.url.removesuffix("/webhooks/mlflow"))
    if str(webhook.status) != "ACTIVE":
        return problem("webhook", f"{webhook.url} is {webhook.status}, so MLflow sends nothing there", again)
    if missing := set(needed_events(rules)) - {str(event) for event in webhook.events}:
        wanted = enumerate_names(sorted(missing))
        return problem("webhook", f"MLflow does not send {wanted} to {webhook.url}, which the rules need", again)
    tested = client.test_webhook(webhook.webhook_id)
    if tested.success:
        return None
    if tested.response_status == HTTPStatus.UNAUTHORIZED:
        return problem("webhook", f"{webhook.url} has another secret than MLflow (401); give both the same:", again)
    if tested.response_status:
        why = f"answered MLflow's test event with {tested.response_status}; is that the address of `hooks serve`?"
        return problem("webhook", f"{webhook.url} {why}")
    found = ERRNO.search(tested.error_message or "")
    reason = found[1] if found else tested.error_message
    return problem("webhook", f"MLflow cannot reach {webhook.url} ({reason}); is `hooks serve` running there?")


def _check_queue(snapshot: Snapshot) -> Iterator[Check]:
    told = f"unfinished jobs: {len(snapshot.unfinished)}, workers alive: {len(snapshot.workers)}"
    if snapshot.lack:
        yield problem("queue", snapshot.lack)
    else:
        yield ok("queue", told) if snapshot.workers else note("queue", told, Commands.start_worker(snapshot.queue))
    for job in snapshot.dead:
        again = Commands.retry_job(job.id, snapshot.queue)
        yield problem("job", f"{job.id}: {job.subject} -> {job.deployment} failed: {job.error}", again)
    for job in snapshot.retried:
        yield note("job", f"{job.id}: {job.subject} -> {job.deployment} is {snapshot.describe(job)}: {job.error}")
    if snapshot.unreadable:
        yield note("job", snapshot.describe_unreadable())
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
        return problem("comparison", f"has been failing since {show_time(last.failing_since)}: {last.error}")
    age = time.time() - last.succeeded
    told = f"the registry was compared with Fireworks {format_seconds(age)} ago"
    if age > _OLD_SECONDS and not snapshot.workers:
        return problem("comparison", f"{told}, and no worker is alive", Commands.start_worker(snapshot.queue))
    return note("comparison", told) if age > _OLD_SECONDS else ok("comparison", told)


def _check_pointers(rules: Rules, snapshot: Snapshot | None) -> Iterator[Check]:
    """What is not followed, and which rules match nothing in the registry; a typo in one is seen here."""
    findings = [*compare(rules, snapshot.jobs if snapshot else ())]
    behind = [f"{item.job.subject} ({item.missing})" for item in findings if item.missing and not item.taken_off]
    if behind:
        is_worked_on = snapshot is not None and bool(snapshot.workers)
        command = None if is_worked_on else Commands.start_worker(snapshot.queue if snapshot else None)
        yield note("behind", f"not followed yet: {enumerate_names(behind, _SHOWN)}", command)
    matched = {item.job.rule for item in findings}
    if idle := [rule.title for rule in rules if rule.title not in matched]:
        yield note("matches", f"nothing in the registry matches {enumerate_names(idle)}; check their names")
    else:
        yield ok("matches", "every rule matches something in the registry")
