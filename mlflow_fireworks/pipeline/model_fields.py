"""The Model resource, by Fireworks' names: what a new one says, and what the options change on one that exists."""

from dataclasses import dataclass
from typing import Any

from mlflow_fireworks.artifacts.lineage import to_url
from mlflow_fireworks.artifacts.manifest import Manifest
from mlflow_fireworks.config import Config, Kind
from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.gateway.stamps import RevisionStamp, text_of
from mlflow_fireworks.gateway.wire import Model, drop_unset

_EXACT_BELOW = 10_000_000  # longer contexts than this are not known


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


def find_differences(manifest: Manifest, model: Model) -> tuple[str, ...]:
    """What Fireworks found in the files of a model that is READY, where it is not what was found in them here.

    It shows files that were mixed up on the way, such as `1_Pooling/config.json` taken for `config.json`.

    Args:
        manifest: What was sent.
        model: As Fireworks has it; what it does not tell is compared with nothing.
    """
    facts, details = manifest.facts, model.base_model_details
    pairs = {
        "model type": (facts.model_type, details.model_type),
        "context length": (facts.context_length, model.context_length),
        "parameters": (facts.parameter_count, details.parameter_count),
    }
    return tuple(
        f"{what}: Fireworks says {theirs}, the files say {ours}"
        for what, (ours, theirs) in pairs.items()
        if ours and theirs and not _are_alike(ours, theirs)
    )


def _are_alike(ours: object, theirs: object) -> bool:
    """Equal; of counts, within two in a hundred, as tied weights and buffers are counted in more than one way."""
    if isinstance(ours, int) and isinstance(theirs, int) and ours > _EXACT_BELOW:
        return abs(ours - theirs) <= ours / 50
    return ours == theirs


@dataclass(frozen=True)
class Change:
    """One piece of metadata that an option asks for and a model does not have.

    Args:
        option: Name of the option.
        field: Name of the field on the wire.
        value: What is asked for.
    """

    option: str
    field: str
    value: Any


def find_changes(config: Config, model: Model) -> tuple[Change, ...]:
    """What the user's options ask for that an existing model does not have; options that were not given ask nothing."""
    held = {
        "display_name": ("displayName", model.display_name),
        "github_url": ("githubUrl", model.github_url),
        "public": ("public", model.public),
        "context_length": ("contextLength", model.context_length),
        "supports_tools": ("supportsTools", model.supports_tools),
        "supports_image_input": ("supportsImageInput", model.supports_image_input),
    }
    changes = [
        Change(option, field, getattr(config, option))
        for option, (field, value) in held.items()
        if option in config.model_fields_set and getattr(config, option) != value
    ]
    text = config.description or ""
    if "description" in config.model_fields_set and text != text_of(model.description):
        stamp = RevisionStamp.read(model.description)
        changes.append(Change("description", "description", stamp.describe(text) if stamp else text))
    if config.hugging_face_url is not None and (url := to_url(config.hugging_face_url) or "") != model.hugging_face_url:
        changes.append(Change("hugging_face_url", "huggingFaceUrl", url))
    return tuple(changes)


def refuse_immutable(config: Config, model: Model) -> None:
    """Refuse options that ask for what Fireworks fixes when a model is created (a PATCH of it does nothing).

    Raises:
        InvalidConfigError: An option asks for something else than the model has.
    """
    held = {
        "world_size": (config.world_size, model.base_model_details.world_size or 1),
        "base_model": (config.base_model, model.peft_details.base_model),
    }
    for option, (wanted, value) in held.items():
        asked = option in config.model_fields_set and wanted is not None
        if asked and str(wanted).rpartition("/")[2] != str(value).rpartition("/")[2]:
            raise InvalidConfigError(
                f"-C {option}={wanted}: {model.name} was created with {value or 'none'}, which cannot be changed; "
                "omit the option, or deploy under another name"
            )
