"""How the page and the log say it, for people."""

from mlflow_fireworks.hooks.jobs import Job
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.hooks.templates import is_glob
from mlflow_fireworks.progress import format_bytes, format_seconds

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_COMMIT_LENGTH = 12


def describe_age(seconds: float) -> str:
    """How long ago.

    Args:
        seconds: Since then.
    """
    for unit, name in ((_DAY, "day"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'s' if name == 'day' and count > 1 else ''} ago"
    return "just now"


def describe_rate(job: Job, now: float) -> str:
    """Bytes a second, and how long it will take at that.

    Args:
        job: One that moves bytes.
        now: Unix time in seconds.
    """
    progress, seconds = job.progress, now - job.progress.began
    if not progress.moved or seconds <= 0:
        return ""
    rate = progress.moved / seconds
    left = (progress.size - progress.moved) / rate
    for unit, name in ((_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
        if left >= unit:
            return f"{format_bytes(int(rate))}/s, {int(left // unit)} {name} left"
    return f"{format_bytes(int(rate))}/s"


def describe_version(job: Job) -> str:
    """What the registry calls it: `version 7`, or `commit 0123456789ab`; "" before it was read."""
    if not job.version:
        return ""
    return f"commit {job.version[:_COMMIT_LENGTH]}" if job.subject.is_on_hub else f"version {job.version}"


def describe_revision(job: Job) -> str:
    """What Fireworks holds of it: `revision 2`; "" before it is done, or when it removed something."""
    revision = job.result.get("revision")
    return f"revision {revision}" if revision else ""


def describe_cause(job: Job) -> str:
    """What asked for it."""
    return {
        "webhook": "requested by a webhook",
        "reconcile": "found by comparing with the registry",
        "by hand": "retried manually",
        "approval": "approved manually",
    }.get(job.cause, job.cause)


def describe_end(job: Job) -> str:
    """A job that is done in one line: what, from which pointer, to which model and endpoint, and how long it took."""
    took = f"took {format_seconds(job.updated - job.created)}"
    result = job.result
    if job.action == "remove":
        what = "deleted" if result.get("action") == "delete" else f"taken off endpoint {job.endpoint}"
        return f"{job.deployment}: {what}, since {job.subject} was removed; {took}"
    parts = [
        describe_version(job),
        f"{result.get('action', 'done')} as {result.get('model') or job.deployment}",
        describe_revision(job),
        f"on endpoint {result['endpoint']}" if result.get("endpoint") else "",
        str(result.get("state") or ""),
    ]
    return f"{job.deployment}: promoted {job.subject}: {', '.join(part for part in parts if part)}; {took}"


def describe_rule(rule: Rule) -> str:
    """What a rule follows and does: `When alias champion is set on the registered model chat: deploy …`."""
    what = "Hub repo" if rule.hub else "registered model"
    pattern = rule.hub or rule.model or ""
    if pattern == "*":
        where = f"any {what}"
    else:
        where = f"any {what} that matches {pattern}" if is_glob(pattern) else f"the {what} {pattern}"
    if rule.hub:
        moved = f"branch {rule.branch} of {where} moves" if rule.branch else f"tag {rule.tag} is pushed to {where}"
        deployed = "that commit"
    elif rule.alias:
        moved, deployed = f"alias {rule.alias} is set on {where}", "that version"
    else:
        moved = f"a version of {where} is tagged {rule.tag}" if rule.tag else f"a new version of {where} is created"
        deployed = "it"
    endpoint = f" and move endpoint {rule.endpoint} to it" if rule.endpoint else ""
    return f"When {moved}: deploy {deployed} as {rule.template} on {rule.target}{endpoint}."


def describe_limits(rule: Rule) -> list[str]:
    """What else a rule says, in a few words each."""
    trigger = "branch" if rule.branch else "tag" if rule.tag else "alias"
    removal = {
        "keep": "" if rule.version else f"if the {trigger} is removed, everything is kept",
        "release": f"if the {trigger} is removed, the endpoint is released",
        "delete": f"if the {trigger} is removed, the deployment is deleted",
    }[rule.when_removed]
    options = ", ".join(f"{option}={value}" for option, value in rule.config.items())
    found = [
        removal,
        f"at most {rule.concurrency} at a time" if rule.concurrency else "",
        f"options: {options}" if options else "",
    ]
    return [part for part in found if part]
