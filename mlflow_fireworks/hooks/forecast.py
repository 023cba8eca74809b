"""What the rules would do to the registry as it is now, and what their GPUs would cost; `hooks check` shows it."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.hooks.costs import Cost, bill_of, estimate_starts
from mlflow_fireworks.hooks.findings import Finding
from mlflow_fireworks.hooks.holds import Hold
from mlflow_fireworks.hooks.queue import Queue
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.hooks.taken_off import hold_of
from mlflow_fireworks.hooks.wording import describe_age
from mlflow_fireworks.names import EndpointName
from mlflow_fireworks.serving.places import Endpoint
from mlflow_fireworks.serving.prices import LIST_PRICES, PRICES_OF, Bill, format_dollars


@dataclass(frozen=True)
class Item:
    """One finding.

    Args:
        finding: The pointer, and what is missing.
        cost: Of the endpoint that would be started; None when none would.
        waits: Whether that waits for an approval.
        hold: What keeps it from being promoted for now; None for nothing.
    """

    finding: Finding
    cost: Cost | None = None
    waits: bool = False
    hold: Hold | None = None

    def tell(self) -> dict[str, Any]:
        """For scripts, beside what is known of the job."""
        return {
            "starts_endpoint": self.cost is not None,
            "gpus": self.cost.describe() if self.cost else None,
            "dollars_per_hour": self.cost.dollars if self.cost else None,
            "waits_for_approval": self.waits,
            "held": self._describe_hold(),
        }

    def _describe_hold(self) -> str | None:
        """Why nothing is done, for how long already, and what lifts it."""
        if self.hold is None:
            return None
        age = describe_age(time.time() - self.hold.since)
        return f"{self.hold.describe()}, {age}; resume it with: {self.hold.command}"


@dataclass(frozen=True)
class Forecast:
    """All findings, and what their GPUs cost.

    Args:
        items: The findings.
    """

    items: Sequence[Item]

    @property
    def starting(self) -> Bill:
        """What would be started."""
        return _bill(self.items)

    @property
    def up(self) -> Bill:
        """What is up already of the endpoints that the rules ask for."""
        return bill_of(_up(self.items))

    def tell(self) -> dict[str, Any]:
        """For scripts; dollars are for an hour with all replicas that may run."""
        return {
            "prices_of": PRICES_OF,
            **{
                name: {"endpoints": len(bill.prices), "dollars_per_hour": bill.dollars, "price_unknown": bill.unknown}
                for name, bill in (("would_start", self.starting), ("already_up", self.up))
            },
        }

    def describe(self, queue: str | None) -> Iterator[str]:
        """For people, some lines; none when no rule asks for an endpoint.

        Args:
            queue: The queue's file, for the commands; None where the environment names it, or it is the default.
        """
        if not any(item.finding.job.endpoint for item in self.items):
            return
        yield (
            f"GPUs that would start now: {self.starting.describe()}; already up by these rules: "
            f"{self.up.describe()} ({LIST_PRICES})"
        )
        for rule in {item.finding.rule.title: item.finding.rule for item in self.items}.values():
            yield from self._describe_rule(rule, queue)

    def _describe_rule(self, rule: Rule, queue: str | None) -> Iterator[str]:
        items = [item for item in self.items if item.finding.rule is rule]
        starting, up = _bill(items), bill_of(_up(items))
        count, most = len(starting.prices) + len(up.prices), rule.max_price_per_hour
        if starting.prices and count > rule.max_endpoints:
            yield (
                f"rule '{rule.title}' allows {rule.max_endpoints} at once (max_endpoints) and needs {count}; the "
                "others will wait"
            )
        if starting.prices and most is not None and (starting.unknown or up.unknown):
            yield (
                f"rule '{rule.title}' allows {format_dollars(most)} an hour (max_price_per_hour); GPUs without a "
                "known price are not started"
            )
        elif starting.prices and most is not None and (total := starting.dollars + up.dollars) > most:
            yield (
                f"rule '{rule.title}' allows {format_dollars(most)} an hour (max_price_per_hour) and needs "
                f"{format_dollars(total)}; the rest will wait"
            )
        if any(item.waits for item in items):
            yield (
                f"rule '{rule.title}' needs approval before a comparison may start GPUs; approve it with: "
                + Commands.approve(rule.title, queue)
            )


def make_forecast(findings: Iterable[Finding], queue: Queue | None) -> Forecast:
    """Add to findings what GPUs would cost; asks Fireworks, and starts nothing.

    Args:
        findings: Of a comparison.
        queue: Knows what is approved and held; None when there is none yet.

    Raises:
        UnavailableError: As `compare`.
    """
    found = list(findings)
    rules = {finding.rule.title: finding.rule for finding in found}
    costs: dict[str, Cost] = {}
    for rule in rules.values():
        jobs = [finding.job for finding in found if finding.rule is rule and finding.starts_endpoint]
        if jobs:
            costs |= {job.id: cost for job, cost in zip(jobs, estimate_starts(rule, jobs), strict=True)}
    approved = {title for title, rule in rules.items() if queue and queue.approvals.allow(rule.meaning)}
    return Forecast(
        [
            Item(
                finding,
                costs.get(finding.job.id),
                finding.starts_endpoint and finding.rule.title not in approved,
                _find_hold(finding, queue),
            )
            for finding in found
        ]
    )


def _find_hold(finding: Finding, queue: Queue | None) -> Hold | None:
    path = queue.path if queue else None
    if finding.taken_off:
        return hold_of(finding.job, finding.taken_off, path)
    return queue.holds.find_by_hand(finding.job) if queue and finding.missing else None


def _bill(items: Iterable[Item]) -> Bill:
    return Bill({_name(item.finding): item.cost.dollars for item in items if item.cost})


def _up(items: Iterable[Item]) -> dict[EndpointName, Endpoint]:
    return {EndpointName(_name(item.finding)): endpoint for item in items if (endpoint := item.finding.endpoint)}


def _name(finding: Finding) -> str:
    """Of an endpoint; two accounts may have one of the same name."""
    target = finding.job.target
    return f"{finding.job.endpoint}" + ("" if target == "fireworks" else f" on {target}")
