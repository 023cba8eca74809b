"""`mlflow-fireworks doctor`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mlflow_fireworks.doctor.account import check_account, check_key
from mlflow_fireworks.doctor.check import Check, Verdict, look_through, note
from mlflow_fireworks.doctor.deployment import check_deployment
from mlflow_fireworks.doctor.hooks import check_hooks, check_jobs
from mlflow_fireworks.doctor.machine import check_machine
from mlflow_fireworks.doctor.registries import check_registries
from mlflow_fireworks.errors import NotFoundError
from mlflow_fireworks.hooks.options import QUEUE, RULES
from mlflow_fireworks.names import DeploymentName
from mlflow_fireworks.opening import look_at
from mlflow_fireworks.options import JSON, TARGET
from mlflow_fireworks.target import Target, parse_target
from mlflow_fireworks.terminal import say, say_json, say_wrapped

_MARKS = {Verdict.OK: "ok", Verdict.NOTE: "note", Verdict.PROBLEM: "PROBLEM"}


@click.command()
@click.argument("name", required=False)
@TARGET
@click.option("--hooks", "about_hooks", is_flag=True, help="Check the hooks: rules, webhooks, queue and workers.")
@RULES
@QUEUE
@JSON
def doctor(  # noqa: PLR0917 - click passes them by name
    name: str | None, target: str, about_hooks: bool, rules_path: Path, queue_url: str | None, as_json: bool
) -> None:
    """Find out why something does not work: check the account, this machine and the registries, or the deployment NAME.

    Nothing is changed, and no key is shown. Exits with 1 when there is a problem.
    """
    account = parse_target(target)
    found = []
    for check in _checks(account, name, about_hooks, rules_path, queue_url):
        found.append(check)
        if not as_json:
            say_wrapped(f"{_MARKS[check.verdict]:<8} {check.subject}: {check.text}", 9)
            if check.command:
                say(f"{'':<8} {check.command}")
    problems = sum(check.verdict is Verdict.PROBLEM for check in found)
    if as_json:
        say_json({"problems": problems, "checks": [check.to_dict() for check in found]})
    elif not problems:
        say("no problem found")
    if problems:
        sys.exit(1)


def _checks(
    account: Target, name: str | None, about_hooks: bool, rules_path: Path, queue_url: str | None
) -> Iterator[Check]:
    if about_hooks:
        yield from check_hooks(rules_path, queue_url)
    elif name is not None:
        of_hooks = [*look_through("hooks", lambda: check_jobs(name, queue_url))]
        yield from look_through("model", lambda: _check_name(account, DeploymentName(name), is_known=bool(of_hooks)))
        yield from of_hooks
    else:
        yield from check_machine()
        key = check_key(account)
        yield key
        if key.verdict is not Verdict.PROBLEM:
            yield from look_through("Fireworks", lambda: _check_fireworks(account))
        yield from check_registries()


def _check_name(account: Target, name: DeploymentName, *, is_known: bool) -> Iterator[Check]:
    with look_at(account) as deployments:
        try:
            yield from check_deployment(deployments, name)
        except NotFoundError as error:
            if not is_known:
                raise
            yield note("model", error.message.partition("; ")[0])  # why is what the hooks know


def _check_fireworks(account: Target) -> Iterator[Check]:
    with look_at(account) as deployments:
        yield from check_account(deployments.run)
