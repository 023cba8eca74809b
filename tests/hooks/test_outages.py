"""Outages that are longer than anybody's patience, and what comparing says about what was given up."""

import time
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from support.ports import free_port
from support.tcp_proxy import TcpProxy

from mlflow_fireworks.errors import ConflictError, UnavailableError
from mlflow_fireworks.hooks.jobs import Job, State, Subject
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.reconcile import reconcile
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.snapshot import take_snapshot
from mlflow_fireworks.hooks.worker import Worker, work_now
from mlflow_fireworks.promotion import promote


@pytest.fixture
def queue(tmp_path):
    with closing(open_queue(str(tmp_path / "queue.db"))) as queue:
        yield queue


@pytest.fixture
def impatient(monkeypatch):
    """MLflow's own tries would outlast the test."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def make_rules(model):
    return Rules.model_validate({"rules": [{"name": "r", "model": model, "alias": "champion", "deployment": "chat"}]})


def make_job(model, **fields):
    subject = Subject(kind="alias", name=model, ref="champion")
    return Job(id="0123", rule="r", subject=subject, version="1", target="fireworks", deployment="chat", **fields)


@pytest.mark.slow
def test_an_outage_of_any_length_ends_without_a_person(fireworks, registry, queue, impatient, monkeypatch):
    registry.promote(1)
    job = make_job(registry.name)
    with TcpProxy(urlsplit(registry.url).port) as door:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{door.port}")
        door.refuse()
        queue.put(job)
        for _ in range(8):
            Worker(queue, make_rules(registry.name), first_pause_seconds=0).work(job.id)
        waiting = queue.ledger.find(job.id)
        assert (waiting.state, waiting.attempts) == (State.QUEUED, 8)
        assert take_snapshot(queue).describe(waiting) == "waiting for a worker, 9th attempt"
        door.open()
        Worker(queue, make_rules(registry.name)).work(job.id)
    assert queue.ledger.find(job.id).state is State.DONE


@pytest.mark.slow
def test_fireworks_that_is_away_is_named_with_the_next_try(fireworks, registry, queue):
    registry.promote(1)
    fireworks.fault("get_model", status=503, times=1000)
    fireworks.fault("list_models", status=503, times=1000)
    job = make_job(registry.name, attempts=5)
    queue.put(job)
    Worker(queue, make_rules(registry.name), first_pause_seconds=100).work(job.id)
    waiting = queue.ledger.find(job.id)
    at = time.strftime("%H:%M UTC", time.gmtime(waiting.not_before))
    assert take_snapshot(queue).describe(waiting) == f"waiting for Fireworks (503), next attempt {at}, 7th attempt"
    assert 800 < waiting.not_before - time.time() <= 900


def test_weeks_of_tries_are_still_fifteen_minutes_apart(queue, impatient, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    job = make_job("chat", attempts=100_000)
    queue.put(job)
    Worker(queue, make_rules("chat")).work(job.id)
    waiting = queue.ledger.find(job.id)
    assert (waiting.state, waiting.attempts) == (State.QUEUED, 100_001)
    assert waiting.not_before - time.time() <= 900


def test_an_event_that_is_worked_off_in_a_ci_job_ends_after_five_tries(impatient, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    (done,) = work_now(make_rules("chat"), [make_job("chat")], first_pause_seconds=0)
    assert (done.state, done.attempts) == (State.DEAD, 5)


@pytest.mark.slow
def test_comparing_names_what_was_given_up_and_what_waits(fireworks, registry, queue):
    registry.promote(1)
    rules, job = make_rules(registry.name), make_job(registry.name)
    queue.put(job)
    waiting = reconcile(queue, rules, dead_too=False)
    assert waiting.describe(queue.path) == "in progress or waiting: chat"
    queue.ledger.save(job, state=State.DEAD, attempts=1)
    told = reconcile(queue, rules, dead_too=False).describe(queue.path)
    assert told == f"given up: chat (retry with mlflow-fireworks hooks retry 0123 --queue {queue.path})"
    queue.dismiss(job.id)
    told = reconcile(queue, rules, dead_too=True).describe(queue.path)
    assert told.startswith("dismissed: chat (retry with mlflow-fireworks hooks retry 0123")
    assert take_snapshot(queue).dead == []
    registry.promote(2)
    assert reconcile(queue, rules, dead_too=False).describe(None) == "to do: chat"


def test_what_waits_can_be_tried_at_once_or_dismissed_but_not_while_a_worker_is_at_it(queue):
    job = make_job("chat", attempts=3, not_before=time.time() + 900)
    queue.put(job)
    with queue.locks.hold(job.key), pytest.raises(ConflictError, match="a worker is running job 0123 now"):
        queue.dismiss(job.id)
    retried = queue.retry(job.id)
    Worker(queue, make_rules("chat")).work(job.id)
    assert queue.ledger.find(job.id).state is State.SUPERSEDED
    assert (retried.attempts, retried.not_before) == (0, 0)
    with pytest.raises(ConflictError, match="only failed jobs can be dismissed"):
        queue.dismiss(retried.id)


@pytest.mark.slow
def test_a_failure_that_no_rule_asks_for_any_more_ends_by_comparing(fireworks, registry, queue):
    registry.promote(1)
    rules, job = make_rules(registry.name), make_job(registry.name, state=State.DEAD, attempts=5, error="why")
    queue.put(job)
    reconcile(queue, rules, dead_too=False)
    assert take_snapshot(queue).dead == [queue.ledger.find(job.id)]  # it is still asked for
    elsewhere = Rules.model_validate(
        {"rules": [rules.rules[0].model_dump(exclude_unset=True) | {"deployment": "elsewhere"}]}
    )
    reconcile(queue, elsewhere, dead_too=False)
    found = queue.ledger.find(job.id)
    assert (found.state, found.error) == (State.SUPERSEDED, "no rule requires it any more (why)")
    assert take_snapshot(queue).dead == []
    # Who asks for it again gets it: this is no dismissal.
    assert "to do: chat" in reconcile(queue, rules, dead_too=False).describe(None)


@pytest.mark.slow
def test_a_failure_ends_with_its_alias_and_not_while_the_registry_is_away(
    fireworks, registry, queue, impatient, monkeypatch
):
    rules, job = make_rules(registry.name), make_job(registry.name, state=State.DEAD, attempts=5)
    queue.put(job)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
        with pytest.raises(UnavailableError):
            reconcile(queue, rules, dead_too=False)
    assert queue.ledger.find(job.id).state is State.DEAD
    reconcile(queue, rules, dead_too=False)
    assert queue.ledger.find(job.id).state is State.SUPERSEDED


@pytest.mark.slow
def test_a_failure_ends_when_somebody_brought_it_right(fireworks, registry, queue):
    registry.promote(1)
    rules = make_rules(registry.name)
    promote(f"models:/{registry.name}@champion", name="chat")
    queue.put(make_job(registry.name, state=State.DEAD, attempts=5, error="why"))
    assert reconcile(queue, rules, dead_too=False).describe(None) == "nothing to do"
    assert queue.ledger.find("0123").error == "Fireworks is up to date by now (why)"


def test_what_cannot_be_reached_is_named_in_the_headline_since_the_first_comparison(queue, impatient, monkeypatch):
    monkeypatch.setenv("FIREWORKS_API_KEY", "fw_key")
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:a-password@127.0.0.1:{port}")
    rules = Rules.model_validate(
        {
            "rules": [
                {"model": "chat", "alias": "champion", "target": "fireworks://local"},
                {"model": "chat", "alias": "prod", "target": "fireworks://local", "deployment": "prod"},
            ]
        }
    )
    for _ in range(2):
        with pytest.raises(UnavailableError) as caught:
            reconcile(queue, rules, dead_too=False)
        assert caught.value.message.startswith("rules 'chat alias champion', 'chat alias prod': the MLflow server at ")
    comparison = queue.ledger.comparison()
    since = time.strftime("%H:%M UTC", time.gmtime(comparison.failing_since))
    assert take_snapshot(queue).troubles == [f"Cannot reach the MLflow server at http://127.0.0.1:{port} since {since}"]
    assert "a-password" not in comparison.error
