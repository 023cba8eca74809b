"""The shapes of Fireworks' serving half that this plugin relies on, each field once.

Source: the OpenAPI description of Fireworks' Gateway API (2026-09) and the official SDK `fireworks-ai` 1.2. Reading is
tolerant, as in `wire`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from mlflow_fireworks.gateway.wire import Page, Status, Wire

CREATING = "CREATING"
UPDATING = "UPDATING"
DELETING = "DELETING"
DELETED = "DELETED"
DEPLOYED = "DEPLOYED"
DEPLOYING = "DEPLOYING"
UNDEPLOYING = "UNDEPLOYING"


class Specified(Wire):
    """A Wire that reads `…_UNSPECIFIED`, as protobuf writes an enum that was not set, as unset."""

    @model_validator(mode="before")
    @classmethod
    def _drop_unspecified(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        return {name: value for name, value in data.items() if not str(value).endswith("_UNSPECIFIED")}


class ReplicaStats(Wire):
    """How far the replicas of a deployment are; all zero where it sleeps, and where the service does not tell."""

    pending_scheduling_replica_count: int = 0
    downloading_model_replica_count: int = 0
    initializing_replica_count: int = 0
    ready_replica_count: int = 0

    @property
    def is_starting(self) -> bool:
        """Whether none is ready yet, and some are on the way."""
        to_come = self.pending_scheduling_replica_count, self.downloading_model_replica_count
        return not self.ready_replica_count and any((*to_come, self.initializing_replica_count))


class AutoscalingPolicy(Wire):
    """When replicas are added and removed; windows are protobuf durations such as `600s`."""

    scale_up_window: str = ""
    scale_down_window: str = ""
    scale_to_zero_window: str = ""
    load_targets: Mapping[str, float] = {}


class Placement(Specified):
    """Where replicas may run; one of the three is set."""

    region: str = ""
    multi_region: str = ""
    regions: tuple[str, ...] = ()


class OnDemandDeployment(Specified):
    """GPUs that serve a model. Fireworks calls it a deployment, MLflow an endpoint."""

    name: str
    display_name: str = ""
    description: str = ""
    create_time: str = ""
    update_time: str = ""
    delete_time: str = ""
    purge_time: str = ""
    state: str = "STATE_UNSPECIFIED"
    status: Status = Status()
    base_model: str = ""
    min_replica_count: int = 0
    max_replica_count: int = 0
    desired_replica_count: int = 0
    replica_count: int = 0
    replica_stats: ReplicaStats = ReplicaStats()
    autoscaling_policy: AutoscalingPolicy = AutoscalingPolicy()
    accelerator_type: str = ""
    accelerator_count: int = 0
    precision: str = ""
    deployment_shape: str = ""
    enable_addons: bool = False
    enable_hot_reload_latest_addon: bool = False
    draft_model: str = ""
    draft_token_count: int = 0
    max_context_length: int = 0
    placement: Placement = Placement()
    region: str = ""

    @property
    def deployment_id(self) -> str:
        """The last part of the resource name."""
        return self.name.rpartition("/")[2]

    @property
    def is_gone(self) -> bool:
        """Whether it was deleted; a soft delete keeps it readable for seven days."""
        return self.state in (DELETED, DELETING)


class DeployedModel(Wire):
    """A model on a deployment: an adapter that was loaded, or the entry of the deployment's own model."""

    name: str
    description: str = ""
    create_time: str = ""
    model: str = ""
    deployment: str = ""
    default: bool = False
    state: str = "STATE_UNSPECIFIED"
    status: Status = Status()


class Router(Specified):
    """A stable name in front of deployments.

    Source: Fireworks' api-reference, "create router", and its SDK of November 2025, which is not on PyPI. No field but
    the display name holds a text of one's own.
    """

    name: str
    display_name: str = ""
    create_time: str = ""
    state: str = "STATE_UNSPECIFIED"
    deployments: tuple[str, ...] = ()
    even_load: Mapping[str, Any] | None = None
    auto_generated: bool = False

    @property
    def router_id(self) -> str:
        """The last part of the resource name."""
        return self.name.rpartition("/")[2]


class Shape(Specified):
    """Hardware and settings that Fireworks has tried out for a model."""

    name: str = ""
    base_model: str = ""
    model_type: str = ""
    parameter_count: int = 0
    accelerator_type: str = ""
    accelerator_count: int = 0
    precision: str = ""
    preset_type: str = ""
    enable_addons: bool = False


class ShapeVersion(Wire):
    """One version of a shape."""

    name: str
    latest_validated: bool = False
    snapshot: Shape = Shape()


class DeploymentPage(Page):
    """One page of a list."""

    deployments: tuple[OnDemandDeployment, ...] = ()


class DeployedModelPage(Page):
    """One page of a list."""

    deployed_models: tuple[DeployedModel, ...] = ()


class RouterPage(Page):
    """One page of a list."""

    routers: tuple[Router, ...] = ()


class ShapePage(Page):
    """One page of a list."""

    deployment_shapes: tuple[Shape, ...] = ()


class ShapeVersions(Wire):
    """Answer of `:match`."""

    deployment_shape_versions: tuple[ShapeVersion, ...] = ()
