"""Which GPUs a new deployment asks for: a shape that Fireworks has tried out, or what the user names."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_fireworks.config import Kind
from mlflow_fireworks.endpoint_config import HARDWARE_OPTIONS, PRESETS
from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment, ShapeVersion
from mlflow_fireworks.gateway.wire import Model
from mlflow_fireworks.run import Run

DEFAULT_SHAPE = "default"


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
        return {"acceleratorCount": model.base_model_details.world_size or 1, **config.hardware, **placed}
    return {**config.hardware, **placed, **_choose_shape(run, model)}


def _keep_hardware(run: Run, model: Model, previous: OnDemandDeployment) -> dict[str, Any]:
    """The hardware of the previous deployment; another shape where that one was tried out for other models only."""
    fields = hardware_of(previous)
    if not previous.deployment_shape or previous.base_model == model.name:
        return fields
    fitting = run.gateway.deployments.match_shapes(model.name, addons=previous.enable_addons)
    kept = previous.deployment_shape.partition("/versions/")[0]  # Fireworks puts the version in place of the shape
    if not fitting or any(version.snapshot.name == kept for version in fitting):
        return fields
    return {**fields, "deploymentShape": fitting[0].name if previous.enable_addons else DEFAULT_SHAPE}


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
        f"{version.snapshot.precision}{', takes adapters' if version.snapshot.enable_addons else ''}: "
        f"{version.snapshot.name})"
        for version in versions
    )


def _choose_shape(run: Run, model: Model) -> dict[str, Any]:
    wanted = run.endpoint_config.deployment_shape or DEFAULT_SHAPE
    if wanted.startswith("accounts/"):
        return {"deploymentShape": wanted}
    preset = wanted.upper()
    if preset != DEFAULT_SHAPE.upper() and preset not in PRESETS:
        raise InvalidConfigError(
            f"-C deployment_shape={wanted}: needs default, a preset ({', '.join(PRESETS)}) or a full name"
        )
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
    if model.kind == Kind.EMBEDDING.value:
        return {}  # an error text of Fireworks says that embedding engines need no accelerator_type
    takes = " that takes adapters" if run.endpoint_config.enable_addons else ""
    raise InvalidConfigError(
        f"Fireworks has no tried shape for {model.name}{takes}; name the GPUs: "
        "-C accelerator_type=H100 -C accelerator_count=1"
    )
