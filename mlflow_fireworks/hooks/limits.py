"""The bounds of a rule: GPUs start only within its `max_endpoints` and `max_price_per_hour`, and once it is approved.

The last look is taken where the GPUs are asked for, under a lock, at what Fireworks says is up: whatever was written
into a queue, by whomever, and whoever died meanwhile, nothing starts beyond a bound.

An endpoint that moves to another model counts once: for the minutes in which both models are up it costs twice, which
no bound forbids, since the alternative is a gap. Afterwards it may not cost more than the bound, unless that is no more
than before.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.errors import HeldError, LimitError, UnavailableError
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment
from mlflow_fireworks.hooks.costs import bill_of, is_up
from mlflow_fireworks.hooks.jobs import Job, show_time
from mlflow_fireworks.hooks.queue import Queue
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.hooks.subjects import find_subjects
from mlflow_fireworks.names import EndpointName, enumerate_names
from mlflow_fireworks.run import Permit, Run
from mlflow_fireworks.serving.estimates import describe_hardware, preview_options
from mlflow_fireworks.serving.places import Endpoint, list_endpoints
from mlflow_fireworks.serving.prices import LIST_PRICES, format_dollars, most_dollars_per_hour

_LOCK_TRIES = 120
_LOCK_PAUSE_SECONDS = 0.5


@dataclass(frozen=True)
class Limits(Permit):
    """What a promotion by a rule may start.

    Args:
        rule: The rule.
        job: The promotion.
        queue: Knows what is approved, and what the rule has put on Fireworks before.
        pause: Waits so many seconds for another promotion by the same rule that starts GPUs just now.
        clock: Unix time in seconds.
    """

    rule: Rule
    job: Job
    queue: Queue
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time

    def admit(self, run: Run, endpoint: EndpointName | None) -> None:  # noqa: ARG002 - as in the base class
        """As in the base class."""
        if hold := self.queue.holds.find_by_hand(self.job):
            command = Commands.resume(hold.what, self.queue.path)
            raise HeldError(f"{hold.describe()}; lift it with: {command}", f"the hold on {hold.what}", hold.until)
        until = self.rule.windows.closed_until(self.clock()) if endpoint else None
        if until:
            raise HeldError(
                f"endpoint '{endpoint}' does not move before {show_time(until)}, because of windows: in rule "
                f"'{self.rule.title}'",
                "the end of the window",
                until,
            )

    def check(self, run: Run, endpoint: EndpointName) -> None:
        """As in the base class."""
        self._refuse_unapproved(endpoint)
        up = self._endpoints_of_rule(run)
        self._refuse_one_more(run, endpoint, up)
        if self.rule.max_price_per_hour is None:
            return
        would_be = preview_options(run.endpoint_config)
        if would_be:
            self._refuse_price(endpoint, up, would_be, None)
        elif (bill := bill_of(up)).unknown or bill.dollars >= self.rule.max_price_per_hour:
            self._refuse_price(endpoint, up, None, None)

    @contextmanager
    def hold(self, run: Run, endpoint: EndpointName, preview: Callable[[], OnDemandDeployment]) -> Iterator[None]:
        """As in the base class."""
        for _ in range(_LOCK_TRIES):
            with self.queue.locks.hold(f"GPUs of {self.rule.title}") as held:
                if held:
                    self._check_start(run, endpoint, preview)
                    yield
                    return
            self.pause(_LOCK_PAUSE_SECONDS)
        raise UnavailableError(
            f"endpoint '{endpoint}' was not started: another promotion by rule '{self.rule.title}' has been starting "
            "GPUs for a minute; this one will be retried"
        )

    def _check_start(self, run: Run, endpoint: EndpointName, preview: Callable[[], OnDemandDeployment]) -> None:
        up = self._endpoints_of_rule(run)
        replaced = up.pop(endpoint, None)
        if replaced is None:
            self._refuse_unapproved(endpoint)
            self._refuse_one_more(run, endpoint, up)
        if self.rule.max_price_per_hour is None:
            return
        if replaced and run.endpoint_config.keep_previous:
            up[endpoint] = replaced
            replaced = None
        self._refuse_price(endpoint, up, preview(), replaced)

    def _refuse_unapproved(self, endpoint: EndpointName) -> None:
        if self.job.is_asked_for or self.queue.approvals.allow(self.rule.meaning):
            return
        raise LimitError(
            f"endpoint '{endpoint}' was not started: rule '{self.rule.title}' has not been approved to start "
            f"GPUs yet; approve it with: {Commands.approve(self.rule.title, self.queue.path)}",
            waits_for="approval",
        )

    def _refuse_one_more(self, run: Run, endpoint: EndpointName, up: Mapping[EndpointName, Endpoint]) -> None:
        others = [name for name in up if name != endpoint]
        most = self.rule.max_endpoints
        if len(others) < most:
            return
        count = f"{len(others)} {'is' if len(others) == 1 else 'are'}"
        raise LimitError(
            f"endpoint '{endpoint}' was not started: rule '{self.rule.title}' allows {most} endpoint"
            f"{'s' if most > 1 else ''} (max_endpoints: {most}), and {count} up: {enumerate_names(others)}; raise "
            f"max_endpoints in the rule file, or take one down with: {run.commands.delete_endpoint(others[0])}",
            waits_for="room in max_endpoints",
        )

    def _refuse_price(
        self,
        endpoint: EndpointName,
        up: Mapping[EndpointName, Endpoint],
        would_be: OnDemandDeployment | None,
        replaced: Endpoint | None,
    ) -> None:
        """Refuse what would cost too much, or nobody knows how much.

        Args:
            endpoint: What would be started, or moved.
            up: What remains up beside it.
            would_be: Its GPUs, as far as they are known yet.
            replaced: What it is now, when that goes.
        """
        most, bill = self.rule.max_price_per_hour, bill_of(up)
        price = most_dollars_per_hour(would_be) if would_be else 0.0
        if most is None or (would_be and replaced and _costs_no_more(would_be, replaced)):
            return
        begin = (
            f"endpoint '{endpoint}' was not {'moved' if replaced else 'started'}: rule '{self.rule.title}' allows "
            f"{format_dollars(most)} an hour (max_price_per_hour: {most:g}), "
        )
        waits_for, own = "room in max_price_per_hour", describe_hardware(would_be)
        if price is None or bill.unknown:
            unknown = f"{endpoint} ({own})" if price is None else enumerate_names(bill.unknown)
            raise LimitError(
                f"{begin}and the list price of {unknown} is not known; remove max_price_per_hour from the rule, "
                "or choose GPUs of known price in its config: {accelerator_type: H100, accelerator_count: 1}",
                waits_for,
            )
        if bill.dollars + price <= most and would_be:
            return
        more = f"; it would add up to {format_dollars(price)} ({own})" if would_be else ""
        raise LimitError(
            f"{begin}and already has running: {bill.describe()}{more}, by {LIST_PRICES}; raise "
            "max_price_per_hour in the rule "
            "file, or take an endpoint down",
            waits_for,
        )

    def _endpoints_of_rule(self, run: Run) -> dict[EndpointName, Endpoint]:
        names = name_endpoints(self.rule, self.queue.ledger.jobs())
        found = list_endpoints(run.gateway)
        return {name: endpoint for name, endpoint in found.items() if name in names and is_up(endpoint)}


def name_endpoints(rule: Rule, jobs: list[Job]) -> set[EndpointName]:
    """The endpoints of a rule: of what its pointers show now, and of what they showed, as far as that is remembered.

    Args:
        rule: The rule.
        jobs: What is remembered.

    Raises:
        UnavailableError: The registry does not answer.
    """
    if rule.endpoint and "{" not in rule.endpoint:
        return {EndpointName(rule.endpoint)}
    pointers = {subject for subject, _ in find_subjects(rule)}
    pointers |= {job.subject for job in jobs if job.target == rule.target and rule.matches(job.subject)}
    return {name for subject in pointers if (name := rule.name_endpoint(subject))}


def _costs_no_more(would_be: OnDemandDeployment, replaced: Endpoint) -> bool:
    """Whether a move makes an endpoint no dearer; the same GPUs do not, whatever they cost."""
    current = replaced.current
    price, before = most_dollars_per_hour(would_be), most_dollars_per_hour(current)
    if price is not None and before is not None:
        return price <= before
    return describe_hardware(would_be) == describe_hardware(current) and bool(current.accelerator_type)
