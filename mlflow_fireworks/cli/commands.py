"""The commands of `mlflow-fireworks`; those of other rooms are imported when they are asked for."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import click

from mlflow_fireworks.cli.menu import load_command
from mlflow_fireworks.commands import Commands
from mlflow_fireworks.config import parse_config
from mlflow_fireworks.endpoint_config import EndpointConfig
from mlflow_fireworks.names import DeploymentName, EndpointName
from mlflow_fireworks.option_values import list_options
from mlflow_fireworks.options import JSON, PAIRS, TARGET, read_pairs, show
from mlflow_fireworks.overview.table import write_table
from mlflow_fireworks.pipeline.outcome import Outcome, describe_plan
from mlflow_fireworks.plugin import FireworksDeploymentClient
from mlflow_fireworks.probe.probe import MOST_MODELS, open_session, run_probe
from mlflow_fireworks.probe.report import Report, name_service
from mlflow_fireworks.progress import format_bytes, make_reporter
from mlflow_fireworks.promotion import promote as promote_model
from mlflow_fireworks.run import utc_now
from mlflow_fireworks.signals import stopped_soon
from mlflow_fireworks.target import parse_target
from mlflow_fireworks.terminal import say, say_json, say_wrapped

Command = Callable[..., None]


class LazyGroup(click.Group):
    """A group some of whose commands are imported when they are asked for: the hooks bring a web server and a queue."""

    lazy: ClassVar = {
        "doctor": ("mlflow_fireworks.doctor.commands", "doctor"),
        "hooks": ("mlflow_fireworks.hooks.commands", "hooks"),
        **{
            name: ("mlflow_fireworks.overview.commands", name)
            for name in ("logs", "resume", "revisions", "rollback", "status")
        },
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the alphabet."""
        return sorted([*super().list_commands(ctx), *self.lazy])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, imported if it must be."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, name = self.lazy[cmd_name]
        command: click.Command = load_command(module, name)
        return command


@click.group(cls=LazyGroup)
def main() -> None:
    """All of them; `cli.main` is what people call, which has this group's help."""


@main.command()
@TARGET
@click.option("-m", "--model-uri", required=True, help="Model URI, as for mlflow deployments.")
@click.option("--name", required=True, help="Name of the deployment.")
@PAIRS
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(target: str, model_uri: str, name: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Show what a create or update would do and every file it would upload; changes nothing."""
    options = parse_config(read_pairs(pairs) | {"dry_run": True})
    outcome = FireworksDeploymentClient(target).plan_deployment(name, model_uri, options)
    if as_json:
        say_json(_plan_as_json(outcome))
        return
    for line in _plan_as_text(outcome):
        say(line)


@main.command()
@click.argument("model_uri")
@TARGET
@click.option("--name", help="Name of the deployment. [default: derived from the model's name]")
@click.option("--endpoint", help="Also move this endpoint to it, starting it if there is none (billed).")
@PAIRS
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def promote(  # noqa: PLR0917 - click passes them by name
    model_uri: str, target: str, name: str | None, endpoint: str | None, pairs: tuple[str, ...], as_json: bool
) -> None:
    """Bring a deployment up to date with MODEL_URI (e.g. models:/chat@champion); safe to re-run (idempotent).

    The deployment is created if it does not exist, gets a new revision if its content differs, and is otherwise left
    alone. The alias or branch is read again before the endpoint moves.
    """
    with stopped_soon():
        result = promote_model(model_uri, target=target, name=name, endpoint=endpoint, config=read_pairs(pairs))
    show(result, as_json)


@main.command()
@TARGET
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON instead of Markdown.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the report to this file.")
def probe(target: str, yes: bool, as_json: bool, output: Path | None) -> None:
    """Find out what Fireworks really does where its documentation is silent, and print a report for an issue.

    It creates a few tiny models on the account, tests how the API treats them, and deletes them again. No GPU is
    started and nothing is billed. The report contains no key, no URL and no account id.
    """
    account = parse_target(target)
    if not yes:
        click.confirm(
            f"On {target}: create up to {MOST_MODELS} models of a few KB, test how the API treats them and delete "
            "them (no GPU is started, nothing is billed)?",
            abort=True,
            err=True,
        )
    with open_session(account, make_reporter("lines")) as session:
        result = run_probe(session)
    report = Report(result, name_service(account), utc_now())
    _write(report.to_json() if as_json else report.to_markdown(), output)
    for name in result.left:
        say(f"{name} could not be deleted; delete it with: {_deletion(Commands(target), name)}", err=True)
    if result.interrupted or result.left:
        sys.exit(1)


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def emulator(context: click.Context, arguments: tuple[str, ...]) -> None:
    """Run the local Fireworks as a server; --help shows its options."""
    from mlflow_fireworks.emulator.__main__ import main as run_emulator  # noqa: PLC0415 - only this command needs it

    sys.exit(run_emulator(list(arguments), called=context.command_path))


@main.group()
def endpoint() -> None:
    """Put models on GPUs (Fireworks on-demand deployments), which are billed while they are up.

    MLflow's own `mlflow deployments create-endpoint` fails for every plugin, so use this instead.
    """


def _endpoint_options(*, config: bool) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        command = JSON(command)
        if config:
            command = PAIRS(command)
        command = click.option("--name", required=True, help="Name of the endpoint.")(command)
        return TARGET(command)

    return decorate


@endpoint.command()
@_endpoint_options(config=True)
def create(target: str, name: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Start GPUs that serve a model, and wait until it answers.

    The model is named with -C model=DEPLOYMENT; `endpoint options` shows the other options.
    """
    show(FireworksDeploymentClient(target).create_endpoint(name, read_pairs(pairs)), as_json)


@endpoint.command()
@_endpoint_options(config=True)
def update(target: str, name: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Change replicas, or move to another model or other GPUs.

    Replicas change in place, and a move causes no downtime.
    """
    show(FireworksDeploymentClient(target).update_endpoint(name, read_pairs(pairs)), as_json)


@endpoint.command()
@_endpoint_options(config=True)
def delete(target: str, name: str, pairs: tuple[str, ...], as_json: bool) -> None:
    """Take an endpoint's GPUs down; an unknown name is an error."""
    client = FireworksDeploymentClient(target)
    client.get_endpoint(name)  # a typo must not read as if the billing had ended
    client.delete_endpoint(name, read_pairs(pairs))
    show({"name": name, "state": "DELETED"}, as_json)


@endpoint.command()
@_endpoint_options(config=False)
def undelete(target: str, name: str, as_json: bool) -> None:
    """Restore an endpoint deleted in the last seven days.

    It is billed again while it is up.
    """
    show(FireworksDeploymentClient(target).undelete_endpoint(name), as_json)


@endpoint.command()
@_endpoint_options(config=False)
def get(target: str, name: str, as_json: bool) -> None:
    """Show one endpoint."""
    show(FireworksDeploymentClient(target).get_endpoint(name), as_json)


@endpoint.command(name="list")
@TARGET
@JSON
def list_endpoints(target: str, as_json: bool) -> None:
    """Show all endpoints of the account."""
    found = FireworksDeploymentClient(target).list_endpoints()
    if as_json:
        say_json(found)
        return
    if not found:
        say("no endpoints yet", err=True)
        return
    rows = [(item["name"], item["state"], item["replicas"], item["address"]) for item in found]
    for line in write_table(("NAME", "STATE", "REPLICAS", "ADDRESS"), rows):
        say(line)
    for item in found:
        for share in item["shares"]:
            part = "by load" if share["share"] is None else f"{share['share']:.0%}"
            say_wrapped(f"{item['name']} routes {part} to {share['model']}#{share['deployment']}", 4)
        for name in item["others"]:
            say_wrapped(f"{name} is also billed, but gets no requests; take it down with: {item['remove_others']}", 4)


@endpoint.command()
def options() -> None:
    """Show every option of -C."""
    for name, kind, default, text in list_options(EndpointConfig):
        say(f"{name}  ({kind}, default {default})")
        say(f"    {text}")


def _write(report: str, output: Path | None) -> None:
    if output:
        try:
            output.write_text(report, encoding="utf-8")
        except OSError as error:
            say(f"cannot write {output} ({error.strerror}); here is the report:", err=True)
        else:
            say(f"wrote {output}: read it, then paste it into an issue", err=True)
            return
    for line in report.split("\n"):
        say(line)


def _deletion(commands: Commands, name: str) -> str:
    """The command that deletes what a probe has left, by its full name."""
    id_ = name.rpartition("/")[2]
    if "/deployments/" in name:
        return commands.delete_endpoint(EndpointName(id_), force="true", hard="true")
    return commands.delete(DeploymentName(id_), force="true")


def _plan_as_json(outcome: Outcome) -> dict[str, Any]:
    files = outcome.manifest.files if outcome.manifest else ()
    return outcome.to_dict() | {
        "file_list": [{"name": file.name, "size": file.size, "origin": file.origin} for file in files]
    }


def _plan_as_text(outcome: Outcome) -> list[str]:
    decision = f"{outcome.stamp.deployment}: {describe_plan(outcome)}"
    if outcome.manifest is None:
        return [decision]
    width = max(len(file.name) for file in outcome.manifest.files)
    return [decision] + [
        f"  {file.name:<{width}}  {format_bytes(file.size):>10}"
        + (f"   {_describe_origin(file.origin)}" if file.origin != file.name else "")
        for file in outcome.manifest.files
    ]


def _describe_origin(origin: str) -> str:
    return origin if origin.startswith("made ") else f"from {origin}"
