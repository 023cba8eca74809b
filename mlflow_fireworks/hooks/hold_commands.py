"""`mlflow-fireworks hooks hold`, `resume` and `history`: what a person holds back, brings back, and what was done."""

from pathlib import Path

import click

from mlflow_fireworks.hooks.holding import hold_promotions, resume_promotions
from mlflow_fireworks.hooks.jobs import show_time
from mlflow_fireworks.hooks.options import QUEUE, RULES, Duration, locate_queue
from mlflow_fireworks.hooks.queue import OF_PEOPLE, open_queue
from mlflow_fireworks.hooks.rules import load_rules
from mlflow_fireworks.options import JSON
from mlflow_fireworks.run import user_name
from mlflow_fireworks.terminal import say, say_json, say_wrapped


@click.command()
@click.argument("what", metavar="RULE|DEPLOYMENT")
@click.option("--until", type=Duration(), metavar="DURATION", help="Resume automatically after this long, e.g. 2h.")
@click.option("--reason", default="", help="Shown to others on the status page, in `hooks jobs` and in the log.")
@RULES
@QUEUE
@JSON
def hold(  # noqa: PLR0917 - click passes them by name
    what: str, until: float | None, reason: str, rules_path: Path, queue_url: str | None, as_json: bool
) -> None:
    """Pause a rule or a deployment; events are kept, and the newest one is acted on afterwards.

    What is running already stops before its endpoint moves. `hooks resume` ends the hold.
    """
    queue = open_queue(locate_queue(queue_url), patience=OF_PEOPLE)
    with queue.outage.watch():
        made = hold_promotions(
            queue, what, lambda: load_rules(rules_path), seconds=until, reason=reason, by=user_name()
        )
    if as_json:
        say_json(made.tell())
        return
    ends = f" until {show_time(made.until)}" if made.until else ""
    say_wrapped(f"{made.describe()}{ends}; resume it with: {made.command}", 4)


@click.command()
@click.argument("what", metavar="RULE|DEPLOYMENT")
@RULES
@QUEUE
@JSON
def resume(what: str, rules_path: Path, queue_url: str | None, as_json: bool) -> None:
    """End a hold, or bring back what someone rolled back, deleted or scaled to zero.

    What a person took off by hand, with whatever tool, is not brought back by comparing; this does, and so does the
    next move of the pointer.
    """
    queue = open_queue(locate_queue(queue_url), patience=OF_PEOPLE)
    with queue.outage.watch():
        resumed = resume_promotions(queue, what, lambda: load_rules(rules_path), user_name())
    if as_json:
        say_json([item.tell() for item in resumed])
        return
    for item in resumed:
        say(item.describe())


@click.command()
@QUEUE
@JSON
def history(queue_url: str | None, as_json: bool) -> None:
    """Show every promotion, hold, rollback and removal, oldest first: who requested it, and how it ended.

    Nothing is ever removed from it. What was done on Fireworks by hand is added when a comparison finds it.
    """
    queue = open_queue(locate_queue(queue_url), patience=OF_PEOPLE)
    with queue.outage.watch():
        found = queue.history.all()
    if as_json:
        say_json([entry.tell() for entry in found])
        return
    for entry in found:
        say_wrapped(entry.describe(), 4)
    if not found:
        say("nothing has been promoted, held or rolled back yet", err=True)
