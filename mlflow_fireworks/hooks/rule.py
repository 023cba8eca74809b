"""One rule: which pointers it is about, and what it makes of one of them."""

import json
import re
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlflow_fireworks.endpoint_config import HARDWARE_OPTIONS, parse_both
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.hooks.events import OWN_TAGS
from mlflow_fireworks.hooks.jobs import Job, Subject, name_job
from mlflow_fireworks.hooks.templates import fields_of, fill, is_glob
from mlflow_fireworks.hooks.windows import Windows
from mlflow_fireworks.names import EndpointName, check_name, suggest_name
from mlflow_fireworks.registry.workspaces import current_workspace, in_workspace
from mlflow_fireworks.target import parse_target

_LIMITS = {"max_endpoints", "max_price_per_hour"}
_ASKS_FOR_GPUS = ("model", "hub", "alias", "tag", "version", "branch", "target", "endpoint")
_COSTS = HARDWARE_OPTIONS | {"min_replicas", "max_replicas"}
_NOT_IN_RULES = ("dry_run", "synchronous", "revision", "version", "cascade", "force", "progress")


class Rule(BaseModel):
    """One rule. The fields are the keys of the file; see `rules`.

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
