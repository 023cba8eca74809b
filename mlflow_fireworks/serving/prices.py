"""What GPUs cost, as far as it is known.

Source: Fireworks' list prices for on-demand GPUs from 2026-09-01, in US dollars for one GPU for one hour, as quoted by
users; https://fireworks.ai/pricing is what counts. Start-up time is not billed, idle replicas are. Placements that
are restricted to a region cost half as much again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.names import enumerate_names
from mlflow_fireworks.progress import format_seconds

PRICES_OF = "2026-09-01"
DOLLARS_PER_GPU_HOUR = {
    "NVIDIA_H100_80GB": 8.0,
    "NVIDIA_H200_141GB": 8.0,
    "NVIDIA_B200_180GB": 13.0,
    "NVIDIA_B300_288GB": 15.0,
    "NVIDIA_GB300": 20.0,
}
_PRICE_PAGE = "https://fireworks.ai/pricing"
LIST_PRICES = f"list prices of {PRICES_OF}, see {_PRICE_PAGE}"
_RESTRICTED_FACTOR = 1.5
_HOURS_PER_DAY = 24


def dollars_per_hour(deployment: OnDemandDeployment) -> float | None:
    """What one replica costs in an hour, in US dollars; None when its price is not known here."""
    price = DOLLARS_PER_GPU_HOUR.get(deployment.accelerator_type)
    if price is None or not deployment.accelerator_count:
        return None
    restricted = deployment.placement.multi_region not in ("", "GLOBAL") or deployment.placement.region
    factor = _RESTRICTED_FACTOR if restricted or deployment.placement.regions else 1.0
    return price * deployment.accelerator_count * factor


def most_dollars_per_hour(deployment: OnDemandDeployment) -> float | None:
    """What all replicas that it may have cost in an hour, in US dollars; None when that is not known here."""
    price = dollars_per_hour(deployment)
    return None if price is None else price * count_replicas(deployment)


def count_replicas(deployment: OnDemandDeployment) -> int:
    """How many replicas it may have at most; 0 when it is switched off."""
    return max(
        deployment.max_replica_count,
        deployment.min_replica_count,
        deployment.desired_replica_count,
        deployment.replica_count,
    )


@dataclass(frozen=True)
class Bill:
    """What several endpoints cost together.

    Args:
        prices: By the name of each, what it costs at most in an hour, in US dollars; None when that is not known here.
    """

    prices: Mapping[str, float | None]

    @property
    def dollars(self) -> float:
        """What is known of the sum, in US dollars for an hour."""
        return sum(price for price in self.prices.values() if price is not None)

    @property
    def unknown(self) -> list[str]:
        """The endpoints whose price is not known."""
        return [name for name, price in self.prices.items() if price is None]

    def describe(self) -> str:
        """`2 endpoints (chat-prod, sum-prod), up to $16.00 an hour`, with how many have no known price."""
        count = len(self.prices)
        if not count:
            return "no endpoint"
        about = f"{count} endpoint{'s' if count > 1 else ''} ({enumerate_names(self.prices)})"
        parts = [f"up to {format_dollars(self.dollars)} an hour"] if len(self.unknown) < count else []
        parts += [f"{len(self.unknown)} of unknown price"] if self.unknown else []
        return f"{about}, {' and '.join(parts)}"


def format_dollars(dollars: float) -> str:
    """`$1,234.50`."""
    return f"${dollars:,.2f}"


def describe_cost(deployment: OnDemandDeployment) -> str:
    """One sentence about what an endpoint costs while it is up, and when that ends by itself."""
    gpus = f"{deployment.accelerator_count or '?'} x {deployment.accelerator_type or 'GPUs'}"
    price = dollars_per_hour(deployment)
    if price is None:
        cost = f"each replica ({gpus}) is billed by the second while it is up; for prices see {_PRICE_PAGE}"
    else:
        cost = (
            f"each replica ({gpus}) costs about ${price:,.2f} an hour, ${price * _HOURS_PER_DAY:,.0f} a day, while it "
            f"is up (list price of {PRICES_OF}; see {_PRICE_PAGE})"
        )
    return f"{cost}; {_describe_end(deployment)}"


def _describe_end(deployment: OnDemandDeployment) -> str:
    most = max(deployment.max_replica_count, deployment.min_replica_count)
    upto = f"up to {most} replicas" if most > 1 else "one replica"
    least = deployment.min_replica_count
    if least:
        return f"{least} of {upto} never scale down by themselves" if most > 1 else "it never scales down by itself"
    window = deployment.autoscaling_policy.scale_to_zero_window.removesuffix("s")
    idle = format_seconds(float(window)) if window.replace(".", "", 1).isdigit() else "a while"
    return f"{upto}, none after {idle} without a request"
