"""The rule file: which pointers of which registry end on Fireworks, and how.

::

    rules:
      - name: champions            # for messages; made from what follows when left out
        model: "chat*"             # registered model of MLflow (glob) …
        alias: champion            # … and its alias (glob), or  tag: stage=prod  or  version: created
        target: fireworks:/acme    # as for mlflow deployments -t
        deployment: "{model}"      # template of the name on Fireworks
        endpoint: "{model}-prod"   # also move this endpoint (GPUs, billed); the same template
        max_endpoints: 3           # how many such endpoints may be up at once; 1 when left out
        max_price_per_hour: 30     # US dollars (list prices) that they may cost together
        config: {watch_tunable: true}
        when_removed: keep         # or release (take it off the endpoint), or delete
        concurrency: 2             # of this rule at the same time
        workspace: team-a          # of the MLflow server, where it has several
        windows: {endpoint: "Mon-Fri 09:00-16:00 Europe/Berlin"}  # when the endpoint does not move
      - hub: "acme/*"              # repo on the Hugging Face Hub (glob) …
        branch: main               # … and its branch, or  tag: "prod-*"
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.hooks.events import Event
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.names import did_you_mean, enumerate_names

_EXPLAINED = 5  # rules that one line has room for


class CurrentRules(Protocol):
    """Hands out the rules that are in force now."""

    @property
    def current(self) -> "Rules":
        """The rules."""


class Rules(BaseModel):
    """A rule file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...]

    @model_validator(mode="after")
    def _check_titles(self) -> "Rules":
        if not self.rules:
            raise ValueError("rules: is empty; add at least one rule")
        titles = [rule.title for rule in self.rules]
        if twice := sorted({title for title in titles if titles.count(title) > 1}):
            raise ValueError(f"two rules are called '{twice[0]}'; give each its own name:")
        outlines: dict[str, str] = {}
        for rule in self.rules:
            if not rule.names_versions and (other := outlines.setdefault(rule.outline(), rule.title)) != rule.title:
                raise ValueError(
                    f"rules '{other}' and '{rule.title}' lead to the same deployment and would overwrite each other; "
                    "give one of them another deployment:"
                )
        return self

    def __iter__(self) -> Iterator[Rule]:  # type: ignore[override]  # pydantic iterates over fields
        """The rules, in the order of the file."""
        return iter(self.rules)

    @property
    def current(self) -> "Rules":
        """These: so that fixed rules can be given where those of a file that changes are."""
        return self

    def find(self, title: str) -> Rule | None:
        """A rule by its title."""
        return next((rule for rule in self.rules if rule.title == title), None)

    def matching(self, event: Event) -> list[Rule]:
        """The rules that an event is for."""
        return [rule for rule in self.rules if rule.matches(event.subject)]

    def explain_nothing(self, event: Event) -> str:
        """Why nothing follows from an event, for a person: which rules were compared, and what they ask for."""
        subject = event.subject
        kind = {"version": "versions", "hub_tag": "tag"}.get(subject.kind, subject.kind)
        about = f"{kind} of '{subject.name}'" if kind == "versions" else f"{kind} '{subject.ref}' of '{subject.name}'"
        if matching := self.matching(event):
            titles = ", ".join(f"'{rule.title}'" for rule in matching)
            return f"{about} was removed, and its deployment is kept on Fireworks by {titles} (when_removed: keep)"
        compared = [f"'{rule.title}' {rule.explain_mismatch(subject)}" for rule in self.rules[:_EXPLAINED]]
        if len(self.rules) > _EXPLAINED:
            compared.append(f"{len(self.rules) - _EXPLAINED} more")
        return f"no rule applies to {about} ({'; '.join(compared)})"


def load_rules(path: Path) -> Rules:
    """Read a rule file.

    Args:
        path: A YAML file.

    Raises:
        InvalidConfigError: It cannot be read or holds faults; all of them are named.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidConfigError(
            f"cannot read the rules {path}: {error.strerror}; name the file with --rules"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise InvalidConfigError(f"{path} is not YAML{line}: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, dict):
        raise InvalidConfigError(f"{path} has no rules; start it with 'rules:' and a list")
    try:
        return Rules.model_validate(content)
    except ValidationError as error:
        if "rules" not in content:
            found = f" (found {enumerate_names(map(repr, content))})" if content else ""
            raise InvalidConfigError(f"{path}: missing 'rules'{found}") from None
        faults = "; ".join(_describe(fault["loc"], fault["type"], fault["msg"]) for fault in error.errors())
        raise InvalidConfigError(f"{path}: {faults}") from None


def _describe(place: Sequence[int | str], kind: str, message: str) -> str:
    parts = [f"rule {part + 1}" if isinstance(part, int) else part for part in place if part != "rules"]
    if kind == "extra_forbidden":
        message = "; ".join(filter(None, ("is not known", did_you_mean(str(place[-1]), Rule.model_fields))))
    return f"{', '.join(map(str, parts))}: ".lstrip(": ") + message.removeprefix("Value error, ").replace(
        "Input should", "it should"
    )
