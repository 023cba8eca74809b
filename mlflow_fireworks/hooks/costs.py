"""What the endpoints of rules cost: those that are up, and those that would be started."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlflow_fireworks.endpoint_config import parse_both
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.gateway.wire import FAILED
from mlflow_fireworks.hooks.jobs import Job
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.names import DeploymentName, EndpointName
from mlflow_fireworks.opening import open_deployments
from mlflow_fireworks.progress import Silent
from mlflow_fireworks.serving.estimates import describe_hardware, estimate
from mlflow_fireworks.serving.places import Endpoint
from mlflow_fireworks.serving.prices import LIST_PRICES, Bill, format_dollars, most_dollars_per_hour
from mlflow_fireworks.target import parse_target


@dataclass(frozen=True)
class Cost:
    """What one endpoint would be.

    Args:
        gpus: Its GPUs, in words.
        dollars: What it costs at most in an hour, in US dollars; None when that is not known here.
    """

    gpus: str
    dollars: float | None

    def describe(self) -> str:
        """`1 x NVIDIA_H100_80GB, up to $8.00 an hour`."""
        return f"{self.gpus}, " + (
            "price unknown" if self.dollars is None else f"up to {format_dollars(self.dollars)} an hour"
        )


def estimate_starts(rule: Rule, jobs: Iterable[Job]) -> list[Cost]:
    """What the endpoints would be that promotions would start; nothing is started.

    Of a model that is not on Fireworks yet only the rule's own options tell it.

    Args:
        rule: The rule of all of them.
        jobs: The promotions.
    """
    options, endpoint_options = parse_both(rule.config, rule.endpoint)
    jobs = list(jobs)
    try:
        with open_deployments(parse_target(rule.target), options, endpoint_options, Silent()) as deployments:
            existing = deployments.list_existing()
            found: list[OnDemandDeployment | None] = []
            for job in jobs:
                known = existing.get(DeploymentName(job.deployment))
                model = known.current.model if known else None
                found.append(estimate(deployments.run, EndpointName(job.endpoint or job.deployment), model))
    except FireworksError:  # it is about figures only
        found = [None] * len(jobs)
    return [Cost(describe_hardware(item), most_dollars_per_hour(item) if item else None) for item in found]


def describe_starts(rule: Rule, jobs: Iterable[Job]) -> str:
    """What would be started and what that costs, in a few words, with how many of it the rule allows."""
    jobs = list(jobs)
    costs = estimate_starts(rule, jobs)
    bill = Bill({str(job.endpoint): cost.dollars for job, cost in zip(jobs, costs, strict=True)})
    told = f"{bill.describe()} at {LIST_PRICES}"
    most = rule.max_endpoints
    return told + (f"; the rule allows {most} at once (max_endpoints)" if len(bill.prices) > most else "")


def is_up(endpoint: Endpoint) -> bool:
    """Whether it has GPUs, or gets them when it is asked; what is FAILED has none."""
    return any(deployment.state != FAILED for deployment in endpoint.deployments)


def bill_of(endpoints: Mapping[EndpointName, Endpoint]) -> Bill:
    """What endpoints cost at most, all of their deployments counted."""
    return Bill({name: _price(endpoint) for name, endpoint in endpoints.items()})


def _price(endpoint: Endpoint) -> float | None:
    prices = [most_dollars_per_hour(deployment) for deployment in endpoint.deployments if deployment.state != FAILED]
    known = [price for price in prices if price is not None]
    return sum(known) if len(known) == len(prices) else None
