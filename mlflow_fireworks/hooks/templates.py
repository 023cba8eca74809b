"""Templates of names in rules: `{model}-prod`."""

from string import Formatter

from mlflow_fireworks.hooks.jobs import Subject

_FIELDS = ("model", "version", "alias", "tag", "value", "owner", "repo", "branch", "workspace")


def fields_of(key: str, template: str) -> set[str]:
    """The fields in a template; an error names the key of the file that holds it."""
    try:
        used = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if unknown := sorted(used - set(_FIELDS)):
        raise ValueError(f"{key}: {{{unknown[0]}}} is not known; use {', '.join(f'{{{f}}}' for f in _FIELDS)}")
    return used


def fill(template: str, subject: Subject, version: str) -> str:
    """A template with its fields filled in.

    Args:
        template: The template.
        subject: What it is filled from.
        version: As well; a commit is shortened.
    """
    owner, _, repo = subject.name.rpartition("/")
    fields = {
        "model": repo,
        "repo": repo,
        "workspace": subject.workspace,
        "owner": owner,
        "version": version[:12],
        "alias": subject.ref if subject.kind == "alias" else "",
        "branch": subject.ref if subject.kind == "branch" else "",
        "tag": subject.ref.partition("=")[0] if subject.kind in ("tag", "hub_tag") else "",
        "value": subject.ref.partition("=")[2] if subject.kind == "tag" else "",
    }
    return template.format(**fields)


def is_glob(pattern: str) -> bool:
    """Whether it matches more than itself."""
    return any(mark in pattern for mark in "*?[")
