"""Figures for Prometheus."""

import time
from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mlflow_fireworks.hooks.jobs import State
from mlflow_fireworks.hooks.queue import Queue
from mlflow_fireworks.hooks.snapshot import View

_PREFIX = "mlflow_fireworks"


class JobFigures(Collector):
    """Read from the queue when they are asked for, so every process on one queue tells the same.

    Args:
        queue: The queue.
    """

    def __init__(self, queue: Queue) -> None:
        self._view = View(queue)

    def describe(self) -> Iterator[Metric]:
        """Nothing before it is asked: the names are no other collector's."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        snapshot = self._view.look()
        yield GaugeMetricFamily(
            f"{_PREFIX}_queue_up",
            "Whether the queue's storage answers; without it these figures are left out.",
            not snapshot.away,
        )
        if snapshot.away:
            return
        yield GaugeMetricFamily(f"{_PREFIX}_jobs_unreadable", "Jobs that cannot be read.", len(snapshot.unreadable))
        tally = Tally(job.state for job in snapshot.jobs)
        jobs = GaugeMetricFamily(f"{_PREFIX}_jobs", "Jobs that are remembered, by state.", labels=["state"])
        for state in State:
            jobs.add_metric([state.value], tally[state])
        yield jobs
        yield GaugeMetricFamily(f"{_PREFIX}_failures", "Deployments whose last promotion failed.", len(snapshot.dead))
        yield GaugeMetricFamily(f"{_PREFIX}_retried", "Jobs that failed and are tried again.", len(snapshot.retried))
        yield GaugeMetricFamily(f"{_PREFIX}_queue_waiting", "Ids that wait for a worker.", snapshot.waiting)
        yield GaugeMetricFamily(f"{_PREFIX}_workers", "Jobs that the living workers can do at once.", snapshot.slots)
        yield GaugeMetricFamily(
            f"{_PREFIX}_oldest_waiting_seconds",
            "How long the oldest job has waited that a worker could take up; 0 = none waits.",
            snapshot.longest_wait_seconds,
        )
        oldest = min((job.created for job in snapshot.unfinished), default=time.time())
        yield GaugeMetricFamily(
            f"{_PREFIX}_oldest_unfinished_seconds", "Age of the oldest unfinished job.", max(0.0, time.time() - oldest)
        )
        success = GaugeMetricFamily(
            f"{_PREFIX}_last_success_timestamp_seconds",
            "When a deployment was last promoted.",
            labels=["target", "deployment"],
        )
        for job in snapshot.promoted:
            success.add_metric([job.target, job.deployment], job.updated)
        yield success
        if snapshot.comparison:
            yield GaugeMetricFamily(
                f"{_PREFIX}_last_comparison_timestamp_seconds",
                "When the registry was last compared with Fireworks without an error; 0 = never.",
                snapshot.comparison.succeeded,
            )
        moved = GaugeMetricFamily(
            f"{_PREFIX}_moved_bytes", "Bytes moved by the running jobs.", labels=["target", "deployment"]
        )
        for job in snapshot.unfinished:
            moved.add_metric([job.target, job.deployment], job.progress.moved)
        yield moved


class DeliveryFigures:
    """Counts the webhooks that this process answered.

    Args:
        registry: Tells them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answers = Counter(
            f"{_PREFIX}_deliveries", "Webhooks, by sender and HTTP status.", ["sender", "status"], registry=registry
        )

    def count(self, sender: str, status: int) -> None:
        """Count one.

        Args:
            sender: `mlflow` or `huggingface`.
            status: The HTTP status it was answered with.
        """
        self._answers.labels(sender, str(status)).inc()
