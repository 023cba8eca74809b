"""What people hold back: by rule or deployment, for a while or until they resume it; and what is told of it."""

import time
from contextlib import closing

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, generate_latest

from mlflow_fireworks.cli import main
from mlflow_fireworks.hooks.history import Entry
from mlflow_fireworks.hooks.holding import hold_promotions, resume_promotions
from mlflow_fireworks.hooks.holds import Hold
from mlflow_fireworks.hooks.jobs import Job, State, Subject
from mlflow_fireworks.hooks.metrics import JobFigures
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.snapshot import take_snapshot
from mlflow_fireworks.hooks.worker import Worker

RULES = Rules.model_validate({"rules": [{"name": "champions", "model": "chat", "alias": "champion"}]})


class Clock:
    """A time of day that tests can move."""

    ahead = 0.0

    def __call__(self):
        return time.time() + self.ahead


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(tmp_path, clock):
    with closing(open_queue(str(tmp_path / "queue.db"), clock=clock)) as queue:
        yield queue


def job(number=1, **fields):
    chat = Subject(kind="alias", name="chat", ref="champion")
    known = {"rule": "champions", "subject": chat, "version": str(number), "target": "fireworks", "deployment": "chat"}
    return Job.model_validate({"id": f"job-{number}", "created": time.time() + number / 100} | known | fields)


def hold(queue, what, seconds=None, reason="the evaluation is not done"):
    return hold_promotions(queue, what, lambda: RULES, seconds=seconds, reason=reason, by="alice")


@pytest.mark.parametrize("what", ["champions", "chat"])
def test_what_is_held_waits_and_only_the_newest_counts_afterwards(queue, clock, what):
    queue.put(job(0))
    hold(queue, what)
    worker = Worker(queue, RULES, clock=clock)
    for number in (1, 2):
        queue.put(job(number))
    for number in (0, 1, 2):
        worker.work(f"job-{number}")
    states = {item.id: item.state for item in queue.ledger.jobs()}
    assert states == {"job-0": State.SUPERSEDED, "job-1": State.SUPERSEDED, "job-2": State.QUEUED}
    waiting = queue.ledger.find("job-2")
    assert (waiting.attempts, waiting.waits_for) == (0, f"the hold on {what}")
    assert waiting.error == f"{what} is held by alice: the evaluation is not done"
    assert take_snapshot(queue).describe(waiting).startswith(f"waiting for the hold on {what}, next attempt ")
    (resumed,) = resume_promotions(queue, what, lambda: RULES, "bob")
    assert resumed.describe() == f"resumed: {what}; events that arrived in the meantime are acted on now"
    assert queue.ledger.find("job-2").not_before == 0.0
    assert [(line.what, line.by) for line in queue.history.all() if line.who == "person"] == [
        ("hold", "alice"),
        ("resume", "bob"),
    ]


def test_a_hold_ends_by_itself_when_it_was_said_to(queue, clock):
    queue.put(job())
    made = hold(queue, "chat", seconds=7200)
    Worker(queue, RULES, clock=clock).work("job-1")
    assert queue.ledger.find("job-1").not_before <= made.until
    clock.ahead = 7199
    assert queue.holds.find_by_hand(job())
    clock.ahead = 7201
    assert queue.holds.find_by_hand(job()) is None
    assert take_snapshot(queue).holds == ()


def test_others_are_not_held(queue, clock):
    queue.put(job())
    hold(queue, "chat")
    other = job(2, deployment="other", rule="another")
    assert queue.holds.find_by_hand(other) is None


def test_of_several_holds_the_last_one_to_end_counts(queue):
    queue.put(job())
    hold(queue, "chat", seconds=60)
    hold(queue, "champions")
    assert queue.holds.find_by_hand(job()).what == "champions"


def test_what_is_held_is_told_with_its_age_its_reason_and_the_command(queue, tmp_path):
    queue.put(job())
    hold(queue, "chat")
    told = take_snapshot(queue).to_dict()["holds"]
    assert [(item["what"], item["kind"], item["by"]) for item in told] == [("chat", "by hand", "alice")]
    assert 0 <= told[0]["age_seconds"] < 60
    assert told[0]["command"] == f"mlflow-fireworks hooks resume chat --queue {queue.path}"
    metrics = CollectorRegistry()
    metrics.register(JobFigures(queue))
    line = 'mlflow_fireworks_hold_age_seconds{kind="by hand",reason="the evaluation is not done",what="chat"}'
    assert line in generate_latest(metrics).decode()
    shown = CliRunner().invoke(main, ["hooks", "jobs", "--queue", queue.path])
    assert "chat is held by alice: the evaluation is not done; resume it with: " in shown.stderr


def test_what_nobody_can_read_any_more_holds_nothing(queue):
    queue.holds._records._storage.put_data("by hand chat", b"{}")
    assert queue.holds.all() == []


def test_a_hold_by_hand_and_what_somebody_took_off_are_two(queue):
    queue.holds.put(Hold(kind="by hand", what="chat"))
    queue.holds.put(Hold(kind="taken off", what="chat", reason="endpoint 'prod' was deleted", job=job()))
    assert len(queue.holds.all()) == 2
    assert queue.holds.find_by_hand(job()).kind == "by hand"
    assert [gone.kind for gone in queue.holds.keep_taken_off([])] == ["taken off"]


def test_the_history_outlives_the_jobs_it_is_about(queue):

    for number in range(3):
        done = job(number, state=State.DONE)
        queue.history.add(Entry.of_job(done, before=""), f"{done.id} {done.created}")
        queue.history.add(Entry.of_job(done, before=""), f"{done.id} {done.created}")  # told twice
    queue.ledger.prune()
    assert [line.after for line in queue.history.all()] == ["0", "1", "2"]
