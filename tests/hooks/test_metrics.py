"""What Prometheus reads, by its own parsers, and that its counters only grow."""

import hashlib
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from mlflow_fireworks.hooks import ledger as ledger_module
from mlflow_fireworks.hooks import totals as totals_module
from mlflow_fireworks.hooks.heartbeats import Heartbeat
from mlflow_fireworks.hooks.holds import Hold
from mlflow_fireworks.hooks.jobs import Job, Progress, State, Subject
from mlflow_fireworks.hooks.metrics import DeliveryFigures, JobFigures
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.worker import Worker

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
UNITS_NOT_BASE = re.compile(r"_(milliseconds|ms|minutes|hours|days|kilobytes|kib|mb|mib|gib|percent)(_|$)")


@pytest.fixture(params=["sqlite", "redis"])
def queue(request, tmp_path):
    url = request.getfixturevalue("redis_url") if request.param == "redis" else str(tmp_path / "queue.db")
    with closing(open_queue(url)) as queue:
        yield queue


def make_job(job_id, model="chat", **fields):
    subject = Subject(kind="alias", name=model, ref="champion")
    known = {"rule": "champions", "version": "7", "target": "fireworks:/acme", "deployment": model}
    return Job(id=job_id, subject=subject, **(known | fields))


def fill(queue):
    queue.ledger.accept(make_job("d", state=State.DONE, result={"revision": 2}))
    queue.ledger.accept(make_job("r", "embed", state=State.RUNNING, progress=Progress(size=9, moved=3)))
    queue.ledger.accept(make_job("w", "rerank", created=time.time() - 600))
    queue.ledger.save_comparison("")
    queue.heartbeats.beat(Heartbeat(slots=3))
    queue.totals.add(make_job("d"), "done", seconds=42.0)
    queue.totals.add(make_job("x", 'a\nb\\c"d'), "dead", failed_tries=5)


def read(queue, accept="", parse=parse_text):
    registry = CollectorRegistry()
    registry.register(JobFigures(queue))
    DeliveryFigures(registry).count("mlflow", 202)
    encode, media_type = choose_encoder(accept)
    assert media_type.startswith("application/openmetrics-text" if accept else "text/plain")
    return list(parse(encode(registry).decode()))


def figures(queue):
    return {
        (sample.name.removeprefix("mlflow_fireworks_"), *(value for _, value in sorted(sample.labels.items()))): (
            sample.value
        )
        for family in read(queue)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("", parse_text), (OPENMETRICS, parse_openmetrics), (PROMETHEUS_3, parse_openmetrics)],
)
def test_the_official_parsers_read_names_and_units_by_the_conventions(queue, accept, parse):
    fill(queue)
    families = read(queue, accept, parse)
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    kinds = {family.type for family in families}
    assert {"gauge", "counter", "histogram"} <= kinds
    for family in families:
        assert re.fullmatch(r"mlflow_fireworks_[a-z]+(_[a-z]+)*", family.name), family.name
        assert not UNITS_NOT_BASE.search(family.name), family.name
        assert family.name.endswith("_created") or re.fullmatch(r"[A-Z][^\n]*\.", family.documentation), family
        for sample in family.samples:
            is_total = sample.name.endswith("_total")
            assert is_total == (family.type == "counter" and not sample.name.endswith("_created")), sample
            assert set(sample.labels) <= {
                *("state", "target", "deployment", "rule", "model", "outcome", "le", "sender", "status"),
                *("version", "python", "mlflow"),
            }


def test_figures_of_queue_workers_build_and_promotions(queue):
    fill(queue)
    told = figures(queue)
    assert (told["workers",], told["worker_slots",], told["queue_length",]) == (1, 3, 0)
    assert 600 <= told["queue_age_seconds",] < 700
    assert (told["jobs", "done"], told["jobs", "running"], told["failed_deployments",]) == (1, 1, 0)
    assert told["moved_bytes", "embed", "fireworks:/acme"] == 3
    assert told["promotions_total", "chat", "done", "champions"] == 1
    strange = 'a b\\c"d #' + hashlib.sha256(b'a\nb\\c"d').hexdigest()[:8]
    assert told["promotions_total", strange, "dead", "champions"] == 1
    assert told["failed_tries_total", strange, "champions"] == 5
    buckets = [told["promotion_duration_seconds_bucket", le, "chat", "champions"] for le in ("30.0", "60.0", "+Inf")]
    assert buckets == [0, 1, 1]
    assert told["promotion_duration_seconds_sum", "chat", "champions"] == 42
    (build,) = (family for family in read(queue) if family.name == "mlflow_fireworks_build_info")
    (sample,) = build.samples
    assert (sample.value, set(sample.labels)) == (1, {"version", "python", "mlflow"})


def test_an_empty_queue_has_no_age(queue):
    told = figures(queue)
    assert (told["queue_age_seconds",], told["oldest_job_age_seconds",], told["workers",]) == (0, 0, 0)


def test_counters_do_not_go_down_when_jobs_are_forgotten_or_retried(queue, monkeypatch):
    monkeypatch.setattr(ledger_module, "_KEPT_JOBS", 0)
    monkeypatch.setattr(ledger_module, "_KEPT_SECONDS", -1.0)
    for number in range(5):
        job = make_job(str(number), state=State.DEAD, created=float(number))
        queue.ledger.accept(job)
        queue.totals.add(job, "dead")
    queue.retry("4")
    queue.ledger.prune()
    told = figures(queue)
    assert told["jobs", "dead"] == 0
    assert told["promotions_total", "chat", "dead", "champions"] == 5


@pytest.mark.slow
def test_a_worker_counts_what_becomes_of_its_jobs(queue):
    rules = Rules.model_validate({"rules": [{"name": "other", "model": "chat", "alias": "champion"}]})
    queue.put(make_job("gone"))
    Worker(queue, rules).work("gone")
    queue.put(make_job("bad", "embed", crashes=20, state=State.RUNNING))
    Worker(queue, rules).work("bad")
    told = figures(queue)
    assert told["promotions_total", "chat", "superseded", "champions"] == 1
    assert told["promotions_total", "embed", "dead", "champions"] == 1


def test_workers_that_end_jobs_at_once_lose_no_count(tmp_path):
    url = str(tmp_path / "queue.db")
    with closing(open_queue(url)) as one, closing(open_queue(url)) as other, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: (one, other)[number % 2].totals.add(make_job("j"), "done", seconds=1), range(60)))
        (total,) = one.totals.all()
    assert (total.outcomes, sum(total.durations), total.seconds) == ({"done": 60}, 60, 60)


def test_models_without_end_are_forgotten_oldest_first(tmp_path, monkeypatch):
    monkeypatch.setattr(totals_module, "_MOST", 3)
    with closing(open_queue(str(tmp_path / "queue.db"))) as queue:
        for number in range(5):
            queue.totals.add(make_job("j", f"model-{number}"), "done")
            queue.totals.add(make_job("j", "model-0"), "done")
        assert [total.model for total in queue.totals.all()] == ["model-0", "model-3", "model-4"]


def test_the_runbook_names_every_state_and_only_metrics_that_there_are(queue):
    fill(queue)
    queue.holds.put(Hold(kind="by hand", what="chat"))
    runbook = (Path(__file__).parents[2] / "examples" / "hooks" / "RUNBOOK.md").read_text(encoding="utf-8")
    told = {sample.name for family in read(queue) for sample in family.samples}
    named = set(re.findall(r"\bmlflow_fireworks_\w+", runbook))
    assert named <= told
    assert all(f"| `{state.value}` |" in runbook for state in State)
