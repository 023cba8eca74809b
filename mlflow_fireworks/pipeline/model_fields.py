"""The Model resource, by Fireworks' names: what a new one says, and what the options change on one that exists."""

from typing import Any

from mlflow_fireworks.artifacts.lineage import to_url
from mlflow_fireworks.artifacts.manifest import Manifest
from mlflow_fireworks.config import Config, Kind
from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.gateway.revisions import Revision
from mlflow_fireworks.gateway.stamps import RevisionStamp
from mlflow_fireworks.gateway.wire import drop_unset


def describe_model(manifest: Manifest, config: Config, stamp: RevisionStamp, base_model: str | None) -> dict[str, Any]:
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
        model["baseModelDetails"] = drop_unset(
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
    return drop_unset(model)


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
