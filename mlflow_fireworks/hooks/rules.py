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

import json
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Protocol

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlflow_fireworks.endpoint_config import HARDWARE_OPTIONS, parse_both
from mlflow_fireworks.errors import FireworksError, InvalidConfigError
from mlflow_fireworks.hooks.events import OWN_TAGS, Event
from mlflow_fireworks.hooks.jobs import Job, Subject, name_job
from mlflow_fireworks.hooks.templates import fields_of, fill, is_glob
from mlflow_fireworks.hooks.windows import Windows
from mlflow_fireworks.names import EndpointName, check_name, did_you_mean, enumerate_names, suggest_name
from mlflow_fireworks.registry.workspaces import current_workspace, in_workspace
from mlflow_fireworks.target import parse_target

_EXPLAINED = 5  # rules that one line has room for
_LIMITS = {"max_endpoints", "max_price_per_hour"}
_ASKS_FOR_GPUS = ("model", "hub", "alias", "tag", "version", "branch", "target", "endpoint")
_COSTS = HARDWARE_OPTIONS | {"min_replicas", "max_replicas"}
_NOT_IN_RULES = ("dry_run", "synchronous", "revision", "version", "cascade", "force", "progress")


class CurrentRules(Protocol):
    """Hands out the rules that are in force now."""

    @property
    def current(self) -> "Rules":
        """The rules."""


class Rule(BaseModel):
    """One rule. The fields are the keys of the file; see the module.

    Args:
        name: For messages, the status page and jobs.
        model: Registered model of MLflow, a glob.
        hub: Repo on the Hugging Face Hub, a glob of `org/name`.
        alias: Alias of a version, a glob.
        tag: `key=value` on a version (the value a glob); with `hub`, the name of a Git tag, a glob.
        version: `created`: every new version.
        branch: Branch on the Hub.
        target: Deployment target, as for `mlflow deployments -t`.
        deployment: Template of the deployment's name; `{model}`, `{version}`, `{alias}`, `{tag}`, `{value}`,
            `{owner}`, `{repo}`, `{branch}` are filled in, and the whole is made a legal name.
        endpoint: Is moved to the model once that is READY, and started (GPUs, billed) when there is none; a template
            too; None leaves endpoints alone.
        max_endpoints: How many endpoints of this rule may be up at once. Only 1 by default, since a glob may match any
            number of models, and each endpoint costs dollars an hour.
        max_price_per_hour: What they may cost together in an hour, in US dollars at list prices; None sets no bound.
        config: Options as for `mlflow deployments -C`.
        when_removed: What follows when the alias, tag or branch goes: `keep` everything, `release` the endpoint
            (its GPUs go), or `delete` the deployment.
        concurrency: How many promotions of this rule may run at the same time; None leaves it to the workers.
        workspace: The workspace of the MLflow server that the model is in; None for the one that MLFLOW_WORKSPACE
            names, or the server's default one.
        windows: When its endpoint does not move; what is asked for meanwhile is done afterwards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    name: str = ""
    model: str | None = Field(default=None, min_length=1)
    hub: str | None = Field(default=None, min_length=1)
    alias: str | None = Field(default=None, min_length=1)
    tag: str | None = Field(default=None, min_length=1)
    version: Literal["created"] | None = None
    branch: str | None = Field(default=None, min_length=1)
    target: str = "fireworks"
    deployment: str = ""
    endpoint: str | None = None
    max_endpoints: int = Field(default=1, ge=1)
    max_price_per_hour: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    config: dict[str, Any] = {}
    when_removed: Literal["keep", "release", "delete"] = "keep"
    concurrency: int | None = Field(default=None, ge=1)
    workspace: str | None = Field(default=None, min_length=1)
    windows: Windows = Windows()

    @model_validator(mode="after")
    def _check(self) -> "Rule":
        self._check_trigger()
        if self.when_removed != "keep" and self.names_versions:
            raise ValueError(
                "when_removed: with {version} in deployment: each version has its own deployment, and all of "
                "them are kept"
            )
        if self.when_removed == "release" and not self.endpoint:
            raise ValueError("when_removed: release needs endpoint:")
        if not self.endpoint and (idle := sorted(_LIMITS & self.model_fields_set)):
            raise ValueError(f"{idle[0]}: needs endpoint:, because only endpoints are billed by the hour")
        if self.windows.endpoint and not self.endpoint:
            raise ValueError("windows: needs endpoint:, because only endpoints move")
        if self.workspace and self.hub:
            raise ValueError("workspace: belongs to an MLflow server; the Hugging Face Hub has no workspaces")
        self._check_template()
        try:
            with in_workspace(self.workspace or ""):  # tells whether it can be one
                parse_target(self.target, environ={})
            if self.endpoint and "{" not in self.endpoint:
                check_name(self.endpoint)
        except FireworksError as error:
            raise ValueError(error.message) from None
        try:
            parse_both(self.config, self.endpoint)
        except FireworksError as error:  # its words are the command line's
            text = error.message.replace("-C ", "").replace("--endpoint NAME", "endpoint: NAME to the rule")
            raise ValueError(f"config: {text}") from None
        if bad := [option for option in self.config if option in _NOT_IN_RULES]:
            raise ValueError(f"config: {', '.join(bad)} cannot be used in a rule")
        return self

    def _check_trigger(self) -> None:
        if (self.model is None) == (self.hub is None):
            raise ValueError("name either model: (a registered model) or hub: (a Hugging Face repo)")
        triggers = ("alias", "tag", "version") if self.model else ("branch", "tag")
        given = [word for word in ("alias", "tag", "version", "branch") if getattr(self, word) is not None]
        if self.hub and (self.hub.count("/") != 1 or is_glob(self.hub.partition("/")[0])):
            raise ValueError(
                "hub: write OWNER/REPO; only REPO may be a glob, because the Hub reports events for one owner's repos"
            )
        if len(given) != 1 or given[0] not in triggers:
            raise ValueError(
                f"name one trigger: {', '.join(triggers)}" + (f" (found {', '.join(given)})" if given else "")
            )
        if self.model and self.tag is not None and not re.fullmatch(r"[^=]+=.+", self.tag):
            raise ValueError("tag: write KEY=VALUE (VALUE may be *)")
        if self.model and self.tag is not None and (self.tag.startswith(OWN_TAGS) or "*" in self.tag.partition("=")[0]):
            raise ValueError(
                f"tag: the key may not be a glob nor begin with {OWN_TAGS}, which promotions write themselves"
            )

    def _check_template(self) -> None:
        """Refuse a template that gives two things one name, by which they would overwrite each other for ever."""
        used = fields_of("deployment", self.template)
        if "version" in fields_of("endpoint", self.endpoint or ""):
            raise ValueError("endpoint: {version} would start GPUs for each version and never stop the previous one's")
        wanted = [
            (self.model, {"model"}, "model"),
            (self.alias, {"alias"}, "alias"),
            ((self.hub or "").partition("/")[2], {"repo", "model"}, "repo of hub"),
            (self.branch, {"branch", "version"}, "branch"),
            (self.tag if self.hub else None, {"tag", "version"}, "tag"),
            (None if self.hub else (self.tag or "").partition("=")[2], {"value", "version"}, "tag value"),
        ]
        for pattern, fields, what in wanted:
            if pattern and is_glob(pattern) and not fields & used:
                raise ValueError(
                    f"deployment: '{self.template}' gives the same name to everything that {what} '{pattern}' matches; "
                    f"put {{{min(fields)}}} into it"
                )

    @property
    def template(self) -> str:
        """The template of the deployment's name, its default filled in."""
        return self.deployment or "{model}"

    @property
    def title(self) -> str:
        """Its name, or what it is about."""
        trigger = (
            f"version {self.version}"
            if self.version
            else next(f"{word} {getattr(self, word)}" for word in ("alias", "tag", "branch") if getattr(self, word))
        )
        return self.name or f"{self.model or self.hub} {trigger}"

    @property
    def names_versions(self) -> bool:
        """Whether each version is a deployment of its own."""
        return "{version}" in self.template

    @property
    def meaning(self) -> str:
        """Names what GPUs this rule asks for, for approvals: whose, where, and which.

        Its name, its place in the file and its limits are no part of it: a renamed rule starts nothing new.
        """
        _, options = parse_both(self.config, self.endpoint)
        asked = self.model_dump(mode="json", include={*_ASKS_FOR_GPUS})
        hardware = options.model_dump(mode="json", include={*_COSTS}, exclude_unset=True)
        return name_job("approval", json.dumps([asked, hardware], sort_keys=True))

    def matches(self, subject: Subject) -> bool:
        """Whether a pointer is one that this rule is about."""
        return all(
            is_about(subject) for is_about in (self._is_about_place_of, self._is_about_name_of, self._is_about_ref_of)
        )

    def explain_mismatch(self, subject: Subject) -> str:
        """Which of the things that this rule asks for a pointer is not, in a few words: `asks for alias 'champion'`."""
        if not self._is_about_place_of(subject):
            return f"asks for workspace '{self.workspace or current_workspace()}'"
        if not self._is_about_name_of(subject):
            return f"asks for the Hub repo '{self.hub}'" if self.hub else f"asks for model '{self.model}'"
        return f"asks for {self._trigger}"

    @property
    def _trigger(self) -> str:
        words = {"alias": self.alias, "tag": self.tag, "branch": self.branch}
        return next((f"{word} '{value}'" for word, value in words.items() if value), "new versions")

    def _is_about_place_of(self, subject: Subject) -> bool:
        """Servers without workspaces name none; a rule that names none is about the current one."""
        if subject.is_on_hub or not (self.workspace or subject.workspace):
            return True
        return subject.workspace == (self.workspace or current_workspace())

    def _is_about_name_of(self, subject: Subject) -> bool:
        return fnmatchcase(subject.name, (self.hub if subject.is_on_hub else self.model) or "")

    def _is_about_ref_of(self, subject: Subject) -> bool:
        match subject.kind:
            case "alias":
                return self.alias is not None and fnmatchcase(subject.ref, self.alias)
            case "tag":
                key, _, value = (self.tag or "").partition("=")
                found_key, _, found = subject.ref.partition("=")
                return self.hub is None and key == found_key and fnmatchcase(found, value)
            case "version":
                return self.version is not None
            case "branch":
                return self.branch is not None and fnmatchcase(subject.ref, self.branch)
            case "hub_tag":
                return self.hub is not None and self.tag is not None and fnmatchcase(subject.ref, self.tag)

    def name_deployment(self, subject: Subject, version: str) -> str:
        """The name on Fireworks of what a pointer shows.

        Args:
            subject: The pointer.
            version: The version or commit that it shows; a commit is shortened to 12 digits.
        """
        return suggest_name(fill(self.template, subject, version))

    def name_endpoint(self, subject: Subject) -> EndpointName | None:
        """The name of the endpoint for what a pointer shows; None when the rule has none."""
        return EndpointName(suggest_name(fill(self.endpoint, subject, ""))) if self.endpoint else None

    def outline(self) -> str:
        """Target and name on Fireworks with the globs left in: rules of one outline would overwrite each other."""
        kind = "alias" if self.alias else "version" if self.version else "branch" if self.branch else "tag"
        subject = Subject(
            workspace=self.workspace or "",
            kind="hub_tag" if self.hub and self.tag else kind,  # type: ignore[arg-type]  # one of the four words
            name=self.hub or self.model or "",
            ref=self.alias or self.branch or self.tag or "",
        )
        return f"{self.target} {fill(self.template, subject, '')}"

    def make_job(self, subject: Subject, version: str, job_id: str, cause: str) -> Job:
        """The promotion that this rule asks for when a pointer shows a version."""
        changes = {"workspace": self.workspace or ""}
        if subject.kind == "version" and self.names_versions:
            changes["ref"] = version
        subject = subject.model_copy(update=changes)
        return Job(
            id=job_id,
            rule=self.title,
            subject=subject,
            version=version,
            target=self.target,
            deployment=self.name_deployment(subject, version),
            endpoint=self.name_endpoint(subject),
            cause=cause,
        )


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
        raise InvalidConfigError(f"cannot read the rules {path}: {error.strerror}") from None
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
