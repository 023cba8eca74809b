"""Figures for Prometheus, in its text format or OpenMetrics, by its conventions for names and units."""

import hashlib
import platform
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from itertools import accumulate

from mlflow.version import VERSION as MLFLOW_VERSION
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.hooks.jobs import State
from mlflow_fireworks.hooks.queue import Queue
from mlflow_fireworks.hooks.snapshot import Snapshot, View
from mlflow_fireworks.hooks.totals import BUCKETS_SECONDS, Total
from mlflow_fireworks.printable import make_printable

_PREFIX = "mlflow_fireworks"


class JobFigures(Collector):
    """Read from the queue when they are asked for, so every process on one queue tells the same.

    Args:
        queue: The queue.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._view = View(queue)

    def describe(self) -> Iterator[Metric]:
        """Nothing before it is asked: the names are no other collector's."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        yield _describe_build()
        snapshot = self._view.look()
        yield GaugeMetricFamily(
            f"{_PREFIX}_queue_up",
            "Whether the queue's storage answers; if not, only this process's own figures are reported.",
            not snapshot.away,
        )
        if snapshot.away:
            return
        yield from _describe_queue(snapshot)
        yield from _describe_deployments(snapshot)
        with suppress(UnavailableError), self._queue.outage.watch():
            yield from _describe_totals(self._queue.totals.all())


def _describe_build() -> Metric:
    versions = {
        "version": version("mlflow-fireworks"),
        "python": platform.python_version(),
        "mlflow": MLFLOW_VERSION,  # as a package it may be mlflow-skinny
    }
    return InfoMetricFamily(f"{_PREFIX}_build", "Versions of the software that this process runs.", versions)


def _describe_queue(snapshot: Snapshot) -> Iterator[Metric]:
    def gauge(name: str, text: str, value: float) -> Metric:
        return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value)

    tally = Tally(job.state for job in snapshot.jobs)
    jobs = GaugeMetricFamily(f"{_PREFIX}_jobs", "Jobs on record, by state.", labels=["state"])
    for state in State:
        jobs.add_metric([state.value], tally[state])
    yield jobs
    yield gauge("unreadable_jobs", "Jobs that cannot be read.", len(snapshot.unreadable))
    ages = GaugeMetricFamily(
        f"{_PREFIX}_hold_age_seconds",
        "How long a rule or deployment has been on hold, or taken off by a person.",
        labels=["what", "kind", "reason"],
    )
    for hold in snapshot.holds:
        ages.add_metric([hold.what, hold.kind, hold.reason], max(0.0, snapshot.taken - hold.since))
    yield ages
    yield gauge("retrying_jobs", "Unfinished jobs that have failed at least once.", len(snapshot.retried))
    yield gauge("queue_length", "Jobs waiting for a worker.", snapshot.waiting)
    yield gauge(
        "queue_age_seconds",
        "How long the oldest job that a worker could start has been waiting; 0 if there is none.",
        max(0.0, snapshot.longest_wait_seconds),
    )
    oldest = min((job.created for job in snapshot.unfinished), default=snapshot.taken)
    age = max(0.0, snapshot.taken - oldest)
    yield gauge("oldest_job_age_seconds", "Age of the oldest unfinished job; 0 if there is none.", age)
    yield gauge("workers", "Live worker processes.", len(snapshot.workers))
    yield gauge("worker_slots", "Promotions that these workers can run at the same time.", snapshot.slots)
    if snapshot.comparison:
        yield gauge(
            "last_comparison_timestamp_seconds",
            "When the registry was last compared with Fireworks successfully; 0 means never.",
            snapshot.comparison.succeeded,
        )


def _describe_deployments(snapshot: Snapshot) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        f"{_PREFIX}_failed_deployments",
        "Deployments whose last promotion failed and will not be retried.",
        len(snapshot.dead),
    )
    labels = ["target", "deployment"]
    success = GaugeMetricFamily(
        f"{_PREFIX}_last_success_timestamp_seconds", "When a deployment was last promoted.", labels=labels
    )
    for job in snapshot.promoted:
        success.add_metric([_label(job.target), _label(job.deployment)], job.updated)
    yield success
    moved = GaugeMetricFamily(f"{_PREFIX}_moved_bytes", "Bytes transferred so far by running jobs.", labels=labels)
    for job in snapshot.unfinished:
        moved.add_metric([_label(job.target), _label(job.deployment)], job.progress.moved)
    yield moved


def _describe_totals(totals: list[Total]) -> Iterator[Metric]:
    labels = ["rule", "model"]
    outcomes = CounterMetricFamily(
        f"{_PREFIX}_promotions", "Finished jobs, by rule, registered model and outcome.", labels=[*labels, "outcome"]
    )
    tries = CounterMetricFamily(f"{_PREFIX}_failed_tries", "Failed attempts at promotions.", labels=labels)
    durations = HistogramMetricFamily(
        f"{_PREFIX}_promotion_duration_seconds",
        "Time from the event to the end of a successful promotion, including waiting and retries.",
        labels=labels,
    )
    bounds = [*(str(bound) for bound in BUCKETS_SECONDS), "+Inf"]
    for total in totals:
        names = [_label(total.rule), _label(total.model)]
        for outcome, count in sorted(total.outcomes.items()):
            outcomes.add_metric([*names, outcome], count)
        tries.add_metric(names, total.failed_tries)
        durations.add_metric(names, list(zip(bounds, accumulate(total.durations), strict=True)), total.seconds)
    yield from (outcomes, tries, durations)


def _label(text: str) -> str:
    """A name, made printable; two names that look alike then still have figures of their own."""
    shown = make_printable(text)
    return shown if shown == text else f"{shown} #{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


class DeliveryFigures:
    """Counts the webhooks that this process answered.

    Args:
        registry: Tells them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            f"{_PREFIX}_deliveries",
            "Webhooks received, by sender and HTTP status.",
            ["sender", "status"],
            registry=registry,
        )

    def count(self, sender: str, status: int) -> None:
        """Count one.

        Args:
            sender: `mlflow` or `huggingface`.
            status: The HTTP status it was answered with.
        """
        self._answers.labels(sender, str(status)).inc()
