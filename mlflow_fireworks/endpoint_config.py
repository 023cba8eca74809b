"""Every option of an endpoint, once: parsing, defaults, help and what goes over the wire come from `EndpointConfig`.

To add an option, add a field with a description, and its wire name to a table below.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mlflow_fireworks.config import Config, parse_config
from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.option_values import AutoBool, Bool, Options, Seconds, parse_options

# Fireworks' Gateway API (2026-09), AcceleratorType, Precision, MultiRegion and PresetType.
ACCELERATORS = (
    "NVIDIA_A100_80GB", "NVIDIA_H100_80GB", "NVIDIA_H200_141GB", "NVIDIA_B200_180GB", "NVIDIA_B300_288GB",
    "NVIDIA_GB200", "NVIDIA_GB300", "NVIDIA_A100_40GB", "NVIDIA_A10G_24GB", "NVIDIA_L4_24GB", "AMD_MI300X_192GB",
    "AMD_MI325X_256GB", "AMD_MI350X_288GB",
)  # fmt: skip
PRECISIONS = (
    "FP16", "BF16", "FP8", "FP8_MM", "FP8_AR", "FP8_MM_KV_ATTN", "FP8_KV", "FP8_MM_V2", "FP8_V2", "FP8_MM_KV_ATTN_V2",
    "NF4", "FP4", "FP4_BLOCKSCALED_MM", "FP4_MX_MOE",
)  # fmt: skip
MULTI_REGIONS = ("GLOBAL", "US", "EUROPE", "APAC")
PRESETS = ("MINIMAL", "FAST", "THROUGHPUT", "FULL_PRECISION", "AGENTIC_CODING", "CHAT", "SUMMARIZATION")


def _read_accelerator(value: object) -> object:
    word = re.sub(r"[\s-]+", "_", str(value).strip()).upper()
    if word in ACCELERATORS:
        return word
    close = [name for name in ACCELERATORS if word in name.split("_") or name.split("_", 1)[1] == word]
    if len(close) == 1:
        return close[0]
    raise ValueError(f"needs one of {', '.join(close or ACCELERATORS)}")


def _read_precision(value: object) -> object:
    word = str(value).strip().upper()
    if word in PRECISIONS:
        return word
    raise ValueError(f"needs one of {', '.join(PRECISIONS)}")


def _read_placement(value: object) -> object:
    given = value if isinstance(value, list | tuple) else re.split(r"[,\s]+", str(value).strip())
    words = tuple(str(word).strip().upper() for word in given if str(word).strip())
    if not words or (len(words) > 1 and set(words) & set(MULTI_REGIONS)):
        raise ValueError(f"needs one of {', '.join(MULTI_REGIONS)}, or regions such as US_IOWA_1,US_TEXAS_2")
    return words


def _read_load_targets(value: object) -> object:
    try:
        targets = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        targets = None
    if not isinstance(targets, Mapping) or not targets:
        raise ValueError('needs JSON such as {"concurrent_requests": 8}')
    return dict(targets)


Accelerator = Annotated[str, BeforeValidator(_read_accelerator)]
Precision = Annotated[str, BeforeValidator(_read_precision)]
Regions = Annotated[tuple[str, ...], BeforeValidator(_read_placement)]
LoadTargets = Annotated[dict[str, float], BeforeValidator(_read_load_targets)]


class EndpointConfig(Options):
    """The options of one endpoint, checked. Field descriptions are the users' help text."""

    model: str | None = Field(
        default=None,
        description="what it serves: a deployment (its current revision), a model id such as chat-r2, or a full name",
    )
    deployment_shape: str | None = Field(
        default=None,
        description="hardware that Fireworks has validated for the model: default, a preset such as FAST or THROUGHPUT,"
        " or a full name; default when no accelerator_type is given",
    )
    accelerator_type: Accelerator | None = Field(
        default=None, description="GPUs of your choice instead of a shape: H100, H200, B200 or a full type name"
    )
    accelerator_count: int | None = Field(default=None, ge=1, description="GPUs per replica")
    precision: Precision | None = Field(default=None, description="number format of the weights: BF16, FP8, …")
    min_replicas: int | None = Field(
        default=None, ge=0, description="replicas that are always running and billed; Fireworks' default is 0"
    )
    max_replicas: int | None = Field(
        default=None,
        ge=0,
        description="maximum number of replicas, 0 = switched off; Fireworks' default is 1, or min_replicas",
    )
    scale_up_window: Seconds | None = Field(
        default=None,
        description="how long the load must stay high before a replica is added; Fireworks' default is 30s",
    )
    scale_down_window: Seconds | None = Field(
        default=None,
        description="how long the load must stay low before a replica is removed; Fireworks' default is 10m",
    )
    scale_to_zero_window: Seconds | None = Field(
        default=None,
        description="how long without a request before all replicas are removed, at least 5m; Fireworks' default is 1h",
    )
    load_targets: LoadTargets | None = Field(
        default=None,
        description='what counts as high load, as JSON: {"concurrent_requests": 8}; Fireworks\' default is 0.8',
    )
    placement: Regions = Field(
        default=("GLOBAL",),
        description="GLOBAL, US, EUROPE or APAC, or regions: US_IOWA_1,US_TEXAS_2; cannot be changed later",
    )
    router: AutoBool = Field(
        default="auto",
        description="put a Fireworks router in front of it, so that its address never changes; auto = if the placement"
        " is multi-region, such as GLOBAL, and the service has routers",
    )
    routing_lag: Seconds | None = Field(
        default=None,
        description="how long requests to a router may still reach its previous target, which is kept running for "
        "that long; 5m when not given (0 on the local Fireworks)",
    )
    enable_addons: Bool | None = Field(default=None, description="accept LoRA adapters; needs BF16 or FP16")
    draft_model: str | None = Field(
        default=None, description="full name of a smaller draft model for speculative decoding"
    )
    draft_token_count: int | None = Field(
        default=None, ge=1, description="tokens that the draft model proposes at a time"
    )
    max_context_length: int | None = Field(
        default=None, ge=1, description="maximum context length in tokens; the model's own when not given"
    )
    display_name: str | None = Field(default=None, max_length=63, description="name shown in the Fireworks console")
    description: str | None = Field(
        default=None, max_length=600, description="text before the line that records which endpoint it is"
    )
    wait: Bool = Field(
        default=True, description="wait until it is READY and answers; false = return once Fireworks has accepted it"
    )
    ready_timeout: Seconds = Field(default=3600.0, description="longest wait for READY and for the first answer")
    keep_previous: Bool = Field(
        default=False, description="when it moves to another model: keep the previous one's GPUs running"
    )
    unused: Bool = Field(
        default=False,
        description="for delete: only its deployments that get no requests (kept by keep_previous, or left behind by "
        "an interrupted move)",
    )
    hard: Bool = Field(
        default=False, description="for delete: free its name immediately; otherwise it can be restored for seven days"
    )
    registry_tags: Bool = Field(
        default=True,
        description="for delete: remove it from the fireworks.* tags of the model versions in the registry",
    )
    dry_run: Bool = Field(
        default=False, description="let Fireworks check it and show the price, without starting anything"
    )
    progress: Literal["auto", "bar", "lines", "none"] = Field(default="auto", description="as for deployments")
    force: Bool = Field(
        default=False,
        description="also change or delete an endpoint that this plugin did not create, start one without the "
        "shape that its model or adapters need, and accept vectors whose length differs from the checkpoint's",
    )

    @property
    def hardware(self) -> dict[str, Any]:
        """What is given of the hardware, by Fireworks' names."""
        return self._given(_HARDWARE)

    @property
    def scaling(self) -> dict[str, Any]:
        """What is given of the replicas, the windows and the texts, by Fireworks' names; may change at any time."""
        windows = {wire: f"{seconds:g}s" for wire, seconds in self._given(_WINDOWS).items()}
        policy = windows | ({"loadTargets": self.load_targets} if self.load_targets else {})
        return self._given(_SCALING) | ({"autoscalingPolicy": policy} if policy else {})

    @property
    def where(self) -> dict[str, Any]:
        """The placement by Fireworks' names."""
        if self.placement[0] in MULTI_REGIONS:
            return {"multiRegion": self.placement[0]}
        return {"region": self.placement[0]} if len(self.placement) == 1 else {"regions": list(self.placement)}

    def _given(self, names: Mapping[str, str]) -> dict[str, Any]:
        return {wire: getattr(self, option) for option, wire in names.items() if getattr(self, option) is not None}


_HARDWARE = {
    "accelerator_type": "acceleratorType",
    "accelerator_count": "acceleratorCount",
    "precision": "precision",
    "enable_addons": "enableAddons",
    "draft_model": "draftModel",
    "draft_token_count": "draftTokenCount",
    "max_context_length": "maxContextLength",
}
_SCALING = {"min_replicas": "minReplicaCount", "max_replicas": "maxReplicaCount", "display_name": "displayName"}
_WINDOWS = {
    "scale_up_window": "scaleUpWindow",
    "scale_down_window": "scaleDownWindow",
    "scale_to_zero_window": "scaleToZeroWindow",
}
# What decides which GPUs there are: changing any of it means new ones.
HARDWARE_OPTIONS = frozenset({*_HARDWARE, "deployment_shape", "placement"})
_SHARED_BY_BOTH = frozenset({"dry_run", "progress", "force", "keep_previous"})


def parse_endpoint_config(options: Mapping[str, Any] | None) -> EndpointConfig:
    """Check the options of one call about an endpoint.

    Raises:
        InvalidConfigError: An unknown name (with the nearest known one), a value that does not fit, or two options
            that contradict each other.
    """
    config = parse_options(options, EndpointConfig)
    if config.accelerator_type and config.deployment_shape:
        raise InvalidConfigError(
            "-C deployment_shape and -C accelerator_type are mutually exclusive: a shape determines its GPUs"
        )
    if config.accelerator_count and not config.accelerator_type:
        raise InvalidConfigError("-C accelerator_count needs -C accelerator_type; a shape determines its GPUs")
    return config


def parse_both(options: Mapping[str, Any] | None, endpoint: str | None) -> tuple[Config, EndpointConfig]:
    """Check the options of a create or update that may also put the model on an endpoint.

    Args:
        options: One flat table, as `-C` gives it. What both tables know is meant for the model.
        endpoint: The endpoint; None when there is none.

    Raises:
        InvalidConfigError: As `parse_endpoint_config`; or an endpoint's option without an endpoint.
    """
    given = {str(key).strip(): value for key, value in (options or {}).items()}
    only_endpoint = {key: value for key, value in given.items() if key in EndpointConfig.model_fields}
    only_endpoint = {key: value for key, value in only_endpoint.items() if key not in Config.model_fields}
    if only_endpoint and not endpoint:
        raise InvalidConfigError(f"-C {next(iter(only_endpoint))} is an endpoint option; add --endpoint NAME")
    config = parse_config(
        {key: value for key, value in (options or {}).items() if str(key).strip() not in only_endpoint}
    )
    shared = {key: value for key, value in given.items() if key in _SHARED_BY_BOTH}
    return config, parse_endpoint_config(only_endpoint | shared)
