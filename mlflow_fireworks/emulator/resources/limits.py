"""What a deployment may ask for, as far as the request alone tells."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_fireworks.emulator.protocol.wire import ApiError, Code, JsonObject
from mlflow_fireworks.emulator.resources.naming import check_texts

MAX_REPLICAS = 1000
_TAG_PREFIX = "custom/"
_MIN_SCALE_TO_ZERO_SECONDS = 300
_MAX_WINDOW_SECONDS = 3600


def check_tags(keys: Iterable[str]) -> None:
    """Refuse annotation keys that only Fireworks may write.

    Raises:
        ApiError: PERMISSION_DENIED.
    """
    bare = next((key for key in keys if not key.startswith(_TAG_PREFIX) or key == _TAG_PREFIX), None)
    if bare is not None:
        raise ApiError(
            Code.PERMISSION_DENIED, f'annotation key "{bare[:100]}" is not customer-writable, use "{_TAG_PREFIX}KEY"'
        )


def check_limits(body: JsonObject) -> None:
    """The rules that are part of the protobuf definition (buf.validate), in its own words where they are known.

    Raises:
        ApiError: INVALID_ARGUMENT.
    """
    least, most = body.get("minReplicaCount", 0), body.get("maxReplicaCount", 1)
    policy = body.get("autoscalingPolicy") or {}
    problem = ""
    if least > most > 0:
        problem = "min_replica_count cannot be greater than max_replica_count"
    elif not least >= 0 or not 0 <= most <= MAX_REPLICAS or body.get("acceleratorCount", 0) < 0:
        problem = f"replica and accelerator counts must be between 0 and {MAX_REPLICAS}"
    elif 0 < seconds(policy.get("scaleToZeroWindow", "0s")) < _MIN_SCALE_TO_ZERO_SECONDS:
        problem = "scale_to_zero_window must be at least 5 minutes"
    elif any(seconds(policy.get(key, "0s")) > _MAX_WINDOW_SECONDS for key in ("scaleUpWindow", "scaleDownWindow")):
        problem = "scale_up_window and scale_down_window must be at most 1 hour"
    if problem:
        raise ApiError(Code.INVALID_ARGUMENT, problem)
    check_texts(body)
    if body.get("placement") is not None and len(body["placement"]) != 1:
        raise ApiError(Code.INVALID_ARGUMENT, "placement must name exactly one of region, multi_region and regions")


def seconds(duration: str) -> float:
    """A protobuf duration such as ``600s`` as a number."""
    return float(duration.removesuffix("s"))
