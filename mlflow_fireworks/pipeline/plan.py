"""What is to be done, decided from what the account already has; no request, no side effect."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from mlflow_fireworks.artifacts.lineage import to_url
from mlflow_fireworks.artifacts.manifest import Manifest
from mlflow_fireworks.config import Config, Kind
from mlflow_fireworks.errors import ConflictError, InvalidConfigError
from mlflow_fireworks.gateway.revisions import Deployment, Revision, Stamp, model_id_of
from mlflow_fireworks.gateway.wire import FAILED
from mlflow_fireworks.target import check_name


class Action(str, Enum):
    """What a run does to the account."""

    NOTHING = "unchanged"
    RESUME = "resumed"
    CREATE = "created"
    UPDATE = "updated"
    RESTORE = "restored"


@dataclass(frozen=True)
class Plan:
    """One decision.

    Args:
        action: What is done.
        stamp: Deployment, revision, source and content of the model it is done to.
    """

    action: Action
    stamp: Stamp

    @property
    def model_id(self) -> str:
        """The Fireworks model id."""
        return model_id_of(self.stamp.deployment, self.stamp.revision)


def plan_create(stamp: Stamp, deployments: Mapping[str, Deployment], again: str) -> Plan:
    """Decide what `create` does: new, nothing, or go on with what was asked for last; going back is for `update`.

    Args:
        stamp: What is to be deployed, as revision 1.
        deployments: What the account has, by name.
        again: The update command that would replace other content, for the message.

    Raises:
        ConflictError: The name is taken by other content or by a model that the plugin did not make.
    """
    existing = deployments.get(stamp.deployment)
    if existing is None:
        _refuse_foreign_id(stamp.deployment, deployments)
        return Plan(Action.CREATE, stamp)
    _refuse_unmanaged(existing)
    same = _find_same((existing.current, existing.latest), stamp)
    if same:
        return _plan_same(existing, same, stamp)
    held = existing.current
    raise ConflictError(
        f"deployment '{existing.name}' already exists with other content "
        f"({held.stamp.source if held.stamp else 'unknown source'}, {held.model.state}); "
        f"to make this its next revision: {again}"
    )


def plan_update(stamp: Stamp, existing: Deployment, taken: set[str]) -> Plan:
    """Decide what `update` with a model does.

    Nothing, go back to an earlier revision, go on with an unfinished one, or make the next one.

    Args:
        stamp: What is to be deployed.
        existing: The deployment as it is.
        taken: All model ids of the account.
    """
    _refuse_unmanaged(existing)
    newest = existing.newest  # only a newest one that is FAILED is tried again, which quotes the reason
    same = _find_same((item for item in existing.revisions if item is newest or item.model.state != FAILED), stamp)
    if same:
        return _plan_same(existing, same, stamp)
    number = newest.number + 1
    while model_id_of(existing.name, number) in taken:
        number += 1
    check_name(model_id_of(existing.name, number))
    turn = existing.latest.turn + 1
    return Plan(Action.UPDATE, replace(stamp, revision=number, turn=None if number >= turn else turn))


def settle_conflict(plan: Plan, found: Revision) -> Plan:
    """What to do when create answers "already exists": the first try's reply was lost, or somebody was faster.

    Raises:
        ConflictError: The model that is there has other content.
    """
    if found.stamp is None or found.stamp.fingerprint != plan.stamp.fingerprint:
        raise ConflictError(
            f"{found.model.name} was made by somebody else at the same moment; run the same command again"
        )
    return Plan(Action.NOTHING if found.is_ready else plan.action, plan.stamp)


def describe_model(manifest: Manifest, config: Config, stamp: Stamp, base_model: str | None) -> dict[str, Any]:
    """The Model resource to create, by Fireworks' names.

    Args:
        manifest: What goes up.
        config: The user's options, which win over what was found.
        stamp: Written into the description.
        base_model: For an addon, the full name of the Fireworks model it belongs to.
    """
    facts = manifest.facts
    model: dict[str, Any] = {
        "kind": manifest.kind.value,
        "displayName": config.display_name,
        "description": stamp.describe(config.description or ""),
        "huggingFaceUrl": manifest.lineage.url,
        "githubUrl": config.github_url,
        "public": config.public or None,
        "supportsTools": config.supports_tools,
    }
    if manifest.kind is Kind.ADDON:
        adapter = manifest.adapter
        if adapter is None or base_model is None:
            raise InvalidConfigError("a LoRA adapter needs its adapter_config.json and a base model")
        model["peftDetails"] = {
            "baseModel": base_model,
            "r": adapter.r,
            "targetModules": list(adapter.target_modules),
        }
    else:
        model["contextLength"] = config.context_length or facts.context_length
        model["supportsImageInput"] = (
            facts.supports_image_input or None if config.supports_image_input is None else config.supports_image_input
        )
        model["baseModelDetails"] = _set_only(
            {
                "checkpointFormat": "HUGGINGFACE",
                "worldSize": config.world_size,
                "huggingfaceFiles": [file.name for file in manifest.files],
                "modelType": facts.model_type,
                # int64 travels as text in protobuf's JSON.
                "parameterCount": None if facts.parameter_count is None else str(facts.parameter_count),
                "moe": facts.moe or None,
            }
        )
    return _set_only(model)


def describe_changes(config: Config, revision: Revision) -> dict[str, Any]:
    """The metadata that the user's options change on an existing model, by Fireworks' names; may be empty."""
    given = config.model_fields_set
    names = {
        "display_name": "displayName",
        "github_url": "githubUrl",
        "public": "public",
        "context_length": "contextLength",
        "supports_tools": "supportsTools",
        "supports_image_input": "supportsImageInput",
    }
    changes = {wire: getattr(config, option) for option, wire in names.items() if option in given}
    if "description" in given:
        text = config.description or ""
        changes["description"] = revision.stamp.describe(text) if revision.stamp else text
    if config.hugging_face_url is not None:
        changes["huggingFaceUrl"] = to_url(config.hugging_face_url) or ""
    return changes


def _find_same(revisions: Iterable[Revision], stamp: Stamp) -> Revision | None:
    """The revision with the same content: a READY one before an unfinished one, the one asked for last first."""
    same = [item for item in revisions if item.stamp and item.stamp.fingerprint == stamp.fingerprint]
    return max(same, key=lambda item: (item.is_ready, item.turn, item.number), default=None)


def _plan_same(existing: Deployment, same: Revision, stamp: Stamp) -> Plan:
    action = Action.NOTHING if same is existing.current else Action.RESTORE
    return Plan(action if same.is_ready else Action.RESUME, replace(stamp, revision=same.number))


def _refuse_unmanaged(existing: Deployment) -> None:
    if not existing.is_managed:
        raise ConflictError(
            f"a model '{existing.name}' exists that this plugin did not make; choose another name, or delete it with: "
            f"mlflow deployments delete -C force=true --name {existing.name} -t …"
        )


def _refuse_foreign_id(model_id: str, deployments: Mapping[str, Deployment]) -> None:
    """A name like `chat-r2` may be free as a deployment and taken as a revision of `chat`."""
    for deployment in deployments.values():
        if any(revision.model.model_id == model_id for revision in deployment.revisions):
            raise ConflictError(
                f"'{model_id}' is already a revision of deployment '{deployment.name}'; choose another name"
            )


def _set_only(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
