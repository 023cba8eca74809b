"""What the registry's pointers show now: the truth that events only hint at."""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import mlflow
from huggingface_hub import HfApi
from huggingface_hub import errors as hub_errors
from mlflow.entities.model_registry import RegisteredModel
from mlflow.entities.model_registry.registered_model_search import RegisteredModelSearch
from mlflow.exceptions import MlflowException

from mlflow_fireworks.answers import take
from mlflow_fireworks.errors import CredentialsError, InvalidConfigError, NotFoundError, UnavailableError
from mlflow_fireworks.hooks.jobs import Subject
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.hooks.templates import is_glob
from mlflow_fireworks.names import did_you_mean, enumerate_names
from mlflow_fireworks.registry.advice import unanswered
from mlflow_fireworks.registry.clients import open_client
from mlflow_fireworks.registry.hub_versions import explain
from mlflow_fireworks.registry.lookup import is_gone
from mlflow_fireworks.registry.pointers import Pinned, pin
from mlflow_fireworks.registry.questions import read_pages
from mlflow_fireworks.registry.reach import require_hub, require_mlflow
from mlflow_fireworks.registry.versions import (
    find_registered,
    is_registered,
    list_tagged_versions,
    list_versions,
    search_versions,
)
from mlflow_fireworks.registry.workspaces import in_workspace, is_workspace_named, list_workspaces

_PAGE = 1000  # the most that MLflow gives (3.17, `SEARCH_REGISTERED_MODEL_MAX_RESULTS_THRESHOLD`)


def look_up(subject: Subject) -> Pinned | None:
    """What a pointer shows; None when it is gone. A repo that may not be read does not count as gone.

    Raises:
        CredentialsError: The Hub shows no such repo.
        UnavailableError: The registry or the Hub does not answer.
    """
    with in_workspace(subject.workspace):
        if subject.kind == "tag" or (subject.kind == "version" and not subject.ref):
            version = _newest_version(subject)
            return pin(subject.uri.at(version)) if version else None
        try:
            return pin(subject.uri)
        except NotFoundError:
            return None


def has_home(subject: Subject) -> bool:
    """Whether the model that a pointer was on is still there.

    Where it is not, this may be another registry, or an empty one: nothing is removed for that. A repo of the Hub that
    is not there is an error already when it is looked up.

    Raises:
        UnavailableError: The registry does not answer.
    """
    with in_workspace(subject.workspace):
        return subject.is_on_hub or is_registered(subject.name)


def read_tags(subject: Subject, version: str) -> Mapping[str, str]:
    """The tags of a version; none where there are no such things.

    Raises:
        UnavailableError: The registry does not answer.
    """
    if subject.is_on_hub:
        return {}
    try:
        with in_workspace(subject.workspace):
            tags: Mapping[str, str] = open_client().get_model_version(subject.name, version).tags
    except MlflowException as error:
        if is_gone(error):
            return {}
        raise unanswered(f"the registry did not return the tags of {subject.pin(version)}", error) from None
    return tags


def was_promoted_last(subject: Subject, version: str) -> bool:
    """Whether no other version of a model says that it was brought to the same deployment later.

    Raises:
        UnavailableError: The registry does not answer.
    """
    with in_workspace(subject.workspace):
        found = {str(item.version): item.tags for item in list_tagged_versions(subject.name)}
    deployment = found.get(version, {}).get("fireworks.deployment")
    times = {
        number: tags.get("fireworks.updated", "")
        for number, tags in found.items()
        if tags.get("fireworks.deployment") == deployment
    }
    return bool(times) and times.get(version) == max(times.values())


def require_home(subject: Subject) -> None:
    """Wait a little for the registry or the Hub that a pointer is in, also where it answered before.

    Raises:
        UnavailableError: It does not answer.
    """
    with in_workspace(subject.workspace):
        (require_hub if subject.is_on_hub else require_mlflow)(afresh=True)


def check_workspaces(rules: Iterable[Rule]) -> None:
    """Refuse rules that leave open which workspace of the MLflow server they are about, or name one it does not have.

    Raises:
        InvalidConfigError: Says what to write.
        UnavailableError: The MLflow server does not answer.
    """
    about_models = [rule for rule in rules if rule.model]
    if not about_models:
        return
    there = list_workspaces()
    for rule in about_models:
        known = enumerate_names(there)
        if rule.workspace is None and len(there) > 1 and not is_workspace_named():
            raise InvalidConfigError(
                f"rule '{rule.title}' names no workspace, but the MLflow server has {len(there)} ({known}); add one to "
                f"the rule, for example: workspace: {there[0]}"
            )
        if rule.workspace and not there:
            raise InvalidConfigError(
                f"rule '{rule.title}' names workspace '{rule.workspace}', but the registry has no workspaces; remove "
                "workspace: from the rule, or start the MLflow server with --enable-workspaces"
            )
        if rule.workspace and rule.workspace not in there:
            raise InvalidConfigError(
                f"rule '{rule.title}' names workspace '{rule.workspace}', which the MLflow server does not have; it "
                f"has: {known}; {did_you_mean(rule.workspace, there)}".removesuffix("; ")
            )


def find_subjects(rule: Rule) -> Iterator[tuple[Subject, str]]:
    """Every pointer that a rule is about, with the version it shows.

    Of a rule about new versions only the newest of each model counts: what lies before the rule is history.

    Raises:
        CredentialsError: The Hub shows no such repo.
        UnavailableError: The registry or the Hub does not answer.
    """
    if not rule.workspace:
        yield from _find_subjects(rule)
        return
    with in_workspace(rule.workspace):  # all of it: who asked may go on in another one
        found = tuple(_find_subjects(rule.model_copy(update={"workspace": None})))
    for subject, version in found:
        yield subject.model_copy(update={"workspace": rule.workspace}), version


def _find_subjects(rule: Rule) -> Iterator[tuple[Subject, str]]:
    (require_hub if rule.hub else require_mlflow)(afresh=True)
    if rule.hub:
        yield from _find_refs(rule)
        return
    if rule.tag:
        yield from _find_tagged(rule)
        return
    for model in _find_models(rule.model or ""):
        if rule.version:
            # An MLflow server tells the newest of each stage with the model.
            versions = model.latest_versions if _takes_filters() else list_versions(model.name)
            if versions:
                yield Subject(kind="version", name=model.name), str(max(int(version.version) for version in versions))
            continue
        for alias, version in model.aliases.items():
            subject = Subject(kind="alias", name=model.name, ref=alias)
            if rule.matches(subject):
                yield subject, str(version)


def _find_tagged(rule: Rule) -> Iterator[tuple[Subject, str]]:
    key, _, value = (rule.tag or "").partition("=")
    pattern = rule.model or ""
    if is_glob(pattern) and _takes_filters():  # one question, not one for each of thousands of models
        versions = iter(search_versions(f"{_like('name', pattern)} AND {_like(f'tags.`{key}`', value)}"))
    else:
        versions = (version for model in _find_models(pattern) for version in list_tagged_versions(model.name))
    seen: set[Subject] = set()
    for version in versions:
        subject = Subject(kind="tag", name=version.name, ref=f"{key}={version.tags.get(key)}")
        if key in version.tags and subject not in seen and rule.matches(subject):
            seen.add(subject)
            yield subject, str(version.version)


def _newest_version(subject: Subject) -> str | None:
    if subject.kind == "version":
        return next((str(version.version) for version in list_versions(subject.name)), None)
    key, _, value = subject.ref.partition("=")
    tagged = (version for version in list_tagged_versions(subject.name) if version.tags.get(key) == value)
    return next((str(version.version) for version in tagged), None)


def _find_models(pattern: str) -> Iterator[RegisteredModel]:
    try:
        if not is_glob(pattern):
            if exact := find_registered(pattern):
                yield exact
            return
        wanted: dict[str, Any] = {}
        if _takes_filters():
            wanted = {"filter_string": _like("name", pattern), "max_results": _PAGE}
        client = open_client()
        for listed in read_pages(lambda token: client.search_registered_models(**wanted, page_token=token)):
            if fnmatchcase(listed.name, pattern):
                # What Unity Catalog lists is without aliases (MLflow 3.17, `registered_model_search.py`).
                model = find_registered(listed.name) if isinstance(listed, RegisteredModelSearch) else listed
                if model:
                    yield model
    except MlflowException as error:
        raise unanswered("the registry did not list its models", error) from None


def _takes_filters() -> bool:
    """Whether the registry is MLflow's own. Those of Databricks take fewer filters or none (3.17, `rest_store.py`)."""
    return not mlflow.get_registry_uri().startswith(("databricks", "uc:"))


def _like(field: str, pattern: str) -> str:
    """A filter for at least all that a glob matches: what it begins with, as far as a filter can say it."""
    beginning = re.split(r"""[*?\[%\\'"]""", pattern, maxsplit=1)[0]
    return f"{field} LIKE '{beginning}%'"


def _find_refs(rule: Rule) -> Iterator[tuple[Subject, str]]:
    owner, _, name = (rule.hub or "").partition("/")
    api = HfApi()
    try:
        repos = [item.id for item in take(api.list_models(author=owner))] if is_glob(name) else [rule.hub or ""]
        for repo in repos:
            if not fnmatchcase(repo, rule.hub or ""):
                continue
            refs = api.list_repo_refs(repo)
            for kind, listed in (("branch", refs.branches), ("hub_tag", refs.tags)):
                for ref in listed:
                    subject = Subject.model_validate({"kind": kind, "name": repo, "ref": ref.name})
                    if rule.matches(subject):
                        yield subject, ref.target_commit
    except hub_errors.RepositoryNotFoundError:
        raise CredentialsError(
            f"{rule.hub} is not on the Hugging Face Hub, or cannot be read with this token; check its name and HF_TOKEN"
        ) from None
    except Exception as error:  # noqa: BLE001 - huggingface_hub passes on what its HTTP client raises
        raise UnavailableError(
            f"the Hugging Face Hub did not list the repos for '{rule.hub}': {explain(error)}"
        ) from None
