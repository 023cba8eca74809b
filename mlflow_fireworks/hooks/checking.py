"""`mlflow-fireworks hooks check` and `approve`: what the rules would do and cost, and a person's word that they may."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import mlflow

from mlflow_fireworks.errors import InvalidConfigError, UnavailableError
from mlflow_fireworks.hooks.consent import approve_rules
from mlflow_fireworks.hooks.events import Event, read_hub_event, read_mlflow_event
from mlflow_fireworks.hooks.findings import compare
from mlflow_fireworks.hooks.forecast import Item, make_forecast
from mlflow_fireworks.hooks.jobs import Job
from mlflow_fireworks.hooks.options import QUEUE, RULES, locate_queue
from mlflow_fireworks.hooks.queue import OF_PEOPLE, Queue, open_queue
from mlflow_fireworks.hooks.receiver import plan_jobs
from mlflow_fireworks.hooks.registration import explain_missing_webhooks
from mlflow_fireworks.hooks.rules import load_rules
from mlflow_fireworks.hooks.snapshot import open_if_there
from mlflow_fireworks.options import JSON
from mlflow_fireworks.run import user_name
from mlflow_fireworks.terminal import say, say_json, say_wrapped

NOT_ABOUT_EVENT = "nothing: no rule applies to this event"


@click.command()
@RULES
@QUEUE
@click.option(
    "--event", type=click.File("rb"), help="File with the body of a webhook, to show what it would cause; - = stdin."
)
@JSON
def check(rules_path: Path, queue_url: str | None, event: Any, as_json: bool) -> None:
    """Show what the rules would do about an event, or about the registry as it is now, and what the GPUs would cost.

    Nothing is changed.
    """
    rules = load_rules(rules_path)
    if event:
        planned = [_describe_job(job) for one in read_event(event.read()) for job in plan_jobs(rules, one)]
        _show_check(planned, as_json, NOT_ABOUT_EVENT)
        return
    queue = _open_if_there(queue_url)
    forecast = make_forecast(compare(rules, queue.ledger.jobs() if queue else ()), queue)
    found = [_describe_finding(item) for item in forecast.items]
    if any(rule.model for rule in rules) and (note := explain_missing_webhooks(mlflow.get_tracking_uri())):
        say(note, err=True)
    if as_json:
        say_json({"findings": found, "gpus": forecast.tell()})
        return
    _show_check(found, as_json, "nothing: no rule matches anything in the registry right now")
    for line in forecast.describe(queue.path if queue else None):
        say_wrapped(line, 4)


@click.command()
@click.argument("rule", required=False)
@RULES
@QUEUE
@JSON
def approve(rule: str | None, rules_path: Path, queue_url: str | None, as_json: bool) -> None:
    """Let RULE start GPUs, within its limits; without RULE, all rules that wait for it.

    A comparison starts no GPUs by a new rule before that. `hooks check` tells what it would start, and what that costs.
    """
    queue = open_queue(locate_queue(queue_url), patience=OF_PEOPLE)
    approved = approve_rules(queue, rule, lambda: load_rules(rules_path), user_name())
    if as_json:
        say_json([item.tell() for item in approved])
        return
    for item in approved:
        say(item.describe())


def read_event(body: bytes) -> list[Event]:
    """The events in a body, whoever would send it.

    Raises:
        InvalidConfigError: It is none of MLflow's nor of the Hub's.
    """
    try:
        return read_mlflow_event(body, "check")
    except InvalidConfigError:
        return list(read_hub_event(body))


def _describe_job(job: Job) -> dict[str, str | None]:
    """What follows from an event; what is on Fireworks was not looked at."""
    return {
        "rule": job.rule,
        "pointer": str(job.subject),
        "version": job.version,
        "action": job.action,
        "deployment": job.deployment,
        "endpoint": job.endpoint,
        "target": job.target,
        "missing": None,
    }


def _describe_finding(item: Item) -> dict[str, Any]:
    """What follows from a comparison."""
    finding = item.finding
    action = finding.job.action if finding.missing and not finding.taken_off else "none"
    return _describe_job(finding.job) | {"action": action, "missing": finding.missing} | item.tell()


def _show_check(found: Sequence[Mapping[str, Any]], as_json: bool, nothing: str) -> None:
    if as_json:
        say_json({"findings": found})
        return
    for item in found:
        endpoint = f", endpoint {item['endpoint']}" if item["endpoint"] else ""
        about = {None: "", "": ": up to date"}.get(item["missing"], f": {item['missing']}")
        gpus = f"; starts GPUs: {item['gpus']}" if item.get("gpus") else ""
        gpus += f"; held: {item['held']}" if item.get("held") else ""
        say_wrapped(
            f"{item['action']:<7}  {item['pointer']} = {item['version'] or '-'} -> {item['deployment']}{endpoint} "
            f"on {item['target']}, by rule '{item['rule']}'{about}{gpus}",
            4,
        )
    if not found:
        say(nothing)


def _open_if_there(url: str | None) -> Queue | None:
    """The queue, for those who only look; None when there is none yet, or it does not answer."""
    try:
        return open_if_there(url)
    except UnavailableError as error:
        say(f"{error.message}; so which rules are approved is unknown", err=True)
        return None
