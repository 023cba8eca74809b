"""Which GPUs a new deployment asks for: a shape that Fireworks has tried out, or what the user names."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_fireworks.config import Kind
from mlflow_fireworks.endpoint_config import HARDWARE_OPTIONS, PRESETS
from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment, ShapeVersion
from mlflow_fireworks.gateway.wire import Model
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.embedding_shapes import find_embedding_shapes, says_embedding

DEFAULT_SHAPE = "default"
_WRONG = "Fireworks may return wrong vectors there, without an error"


def choose_hardware(run: Run, model: Model, previous: OnDemandDeployment | None = None) -> dict[str, Any]:
    """The hardware of a new deployment, by Fireworks' names.

    Args:
        run: The account and the options.
        model: What it will serve.
        previous: The deployment whose place it takes; its hardware is kept where the options name none.

    Raises:
        InvalidConfigError: No shape fits.
    """
    config = run.endpoint_config
    if previous and not config.model_fields_set & HARDWARE_OPTIONS:
        return _keep_hardware(run, model, previous)
    placed = {"placement": config.where}
    if config.accelerator_type:
        if _embeds(model):
            run.reporter.warn(
                f"{model.name} is an embedding model, and {config.accelerator_type} is not an embedding shape: {_WRONG}"
            )
        return {"acceleratorCount": model.base_model_details.world_size or 1, **config.hardware, **placed}
    return {**config.hardware, **placed, **_choose_shape(run, model)}


def _keep_hardware(run: Run, model: Model, previous: OnDemandDeployment) -> dict[str, Any]:
    """The hardware of the previous deployment; another shape where that one was tried out for other models only."""
    fields = hardware_of(previous)
    if _embeds(model):
        return _keep_for_embeddings(run, model, previous, fields)
    if not previous.deployment_shape or previous.base_model == model.name:
        return fields
    fitting = run.gateway.deployments.match_shapes(model.name, addons=previous.enable_addons)
    kept = shape_of(previous.deployment_shape)
    if not fitting or any(version.snapshot.name == kept for version in fitting):
        return fields
    return {**fields, "deploymentShape": fitting[0].name if previous.enable_addons else DEFAULT_SHAPE}


def _keep_for_embeddings(
    run: Run, model: Model, previous: OnDemandDeployment, fields: dict[str, Any]
) -> dict[str, Any]:
    """As `_keep_hardware`; an embedding model leaves hardware that is not meant for it."""
    kept = shape_of(previous.deployment_shape)
    if kept and says_embedding(kept) and previous.base_model == model.name:
        return fields
    names = [shape.name for shape in find_embedding_shapes(run, model)]
    if kept and kept in names:
        return fields
    if names:
        named = ("acceleratorType", "acceleratorCount", "precision")
        return {**{key: value for key, value in fields.items() if key not in named}, "deploymentShape": names[0]}
    run.reporter.warn(f"no embedding shape is known for {model.name}, so it keeps the hardware it had: {_WRONG}")
    return fields


def shape_of(name: str) -> str:
    """The shape of a version of it; Fireworks puts the version in place of the shape that was asked for."""
    return name.partition("/versions/")[0]


def compare_shape(fields: Mapping[str, Any], made: OnDemandDeployment) -> str:
    """What differs between the shape that was asked for and the one that came back, in words; empty when nothing does.

    Args:
        fields: What was asked for, by Fireworks' names.
        made: What came back.
    """
    asked, got = shape_of(fields.get("deploymentShape", "")), shape_of(made.deployment_shape)
    if not asked or got == asked or (got and asked == DEFAULT_SHAPE):
        return ""
    hardware = f"{made.accelerator_count} x {made.accelerator_type}" if made.accelerator_type else "GPUs of its choice"
    return f"{made.name} requested the shape {asked}, but Fireworks gave it {got or 'none'} ({hardware})"


def hardware_of(deployment: OnDemandDeployment) -> dict[str, Any]:
    """The hardware of a deployment, as fields for another one like it."""
    fields: dict[str, Any] = {
        "enableAddons": deployment.enable_addons,
        "draftModel": deployment.draft_model,
        "draftTokenCount": deployment.draft_token_count,
        "maxContextLength": deployment.max_context_length,
        "placement": deployment.placement.model_dump(by_alias=True, exclude_defaults=True),
    }
    if deployment.deployment_shape:
        fields["deploymentShape"] = deployment.deployment_shape
    else:
        fields |= {
            "acceleratorType": deployment.accelerator_type,
            "acceleratorCount": deployment.accelerator_count,
            "precision": deployment.precision,
        }
    return {name: value for name, value in fields.items() if value}


def scaling_of(deployment: OnDemandDeployment) -> dict[str, Any]:
    """The replicas and windows of a deployment, as fields for another one like it."""
    policy = deployment.autoscaling_policy.model_dump(by_alias=True, exclude_defaults=True)
    fields: Mapping[str, Any] = {
        "minReplicaCount": deployment.min_replica_count,
        "maxReplicaCount": deployment.max_replica_count,
        "displayName": deployment.display_name,
        "autoscalingPolicy": policy,
    }
    return {name: value for name, value in fields.items() if value}


def describe_shapes(versions: Sequence[ShapeVersion]) -> str:
    """Shapes in words, with what to write to get each."""
    return ", ".join(
        f"{version.snapshot.preset_type} ({version.snapshot.accelerator_count} x {version.snapshot.accelerator_type}, "
        f"{version.snapshot.precision}{', accepts adapters' if version.snapshot.enable_addons else ''}: "
        f"{version.snapshot.name})"
        for version in versions
    )


def _choose_shape(run: Run, model: Model) -> dict[str, Any]:
    wanted = run.endpoint_config.deployment_shape or DEFAULT_SHAPE
    if wanted.startswith("accounts/"):
        if _embeds(model) and not says_embedding(wanted) and not _is_among(run, model, wanted):
            run.reporter.warn(f"{wanted} does not seem to be for embedding models such as {model.name}: {_WRONG}")
        return {"deploymentShape": wanted}
    preset = wanted.upper()
    if preset != DEFAULT_SHAPE.upper() and preset not in PRESETS:
        raise InvalidConfigError(
            f"-C deployment_shape={wanted}: needs default, a preset ({', '.join(PRESETS)}) or a full name"
        )
    if _embeds(model):
        return _choose_embedding_shape(run, model, preset)
    fitting = run.gateway.deployments.match_shapes(model.name, addons=bool(run.endpoint_config.enable_addons))
    if preset in PRESETS:
        fitting_all, fitting = fitting, tuple(item for item in fitting if item.snapshot.preset_type == preset)
        if not fitting:
            known = describe_shapes(fitting_all) or "none"
            raise InvalidConfigError(f"no shape {preset} fits {model.name}; these do: {known}")
        return {"deploymentShape": fitting[0].name}
    if fitting:
        # `default` is chosen by Fireworks; whether it minds that adapters are wanted is not documented.
        return {"deploymentShape": fitting[0].name if run.endpoint_config.enable_addons else DEFAULT_SHAPE}
    takes = " that accepts adapters" if run.endpoint_config.enable_addons else ""
    raise InvalidConfigError(
        f"Fireworks has no validated shape for {model.name}{takes}; choose the "
        "GPUs: -C accelerator_type=H100 -C accelerator_count=1"
    )


def _choose_embedding_shape(run: Run, model: Model, preset: str) -> dict[str, Any]:
    """A shape by its name: `default` may be one for generative models."""
    shapes = find_embedding_shapes(run, model)
    fitting = [shape for shape in shapes if preset in (DEFAULT_SHAPE.upper(), shape.preset_type)]
    if fitting:
        return {"deploymentShape": fitting[0].name}
    if run.endpoint_config.force:
        run.reporter.warn(f"no embedding shape is known for {model.name}, and it is started without one: {_WRONG}")
        return {}  # an error text of Fireworks says that embedding engines need no accelerator_type
    known = f" (there are {enumerate_names(shape.name for shape in shapes)})" if shapes else ""
    raise InvalidConfigError(
        f"no {'' if preset == DEFAULT_SHAPE.upper() else preset + ' '}embedding shape fits {model.name}{known}, and "
        "on other hardware its vectors would be wrong without an error; choose one with "
        "-C deployment_shape=accounts/fireworks/deploymentShapes/NAME, or start it anyway with -C force=true"
    )


def _is_among(run: Run, model: Model, wanted: str) -> bool:
    return shape_of(wanted) in [shape.name for shape in find_embedding_shapes(run, model)]


def _embeds(model: Model) -> bool:
    return model.kind == Kind.EMBEDDING.value
