"""What the receiver writes down, when it dies between two writes."""

import json
from contextlib import closing

import pytest
from click.testing import CliRunner
from huey.storage import SqliteStorage

from mlflow_fireworks.cli import main
from mlflow_fireworks.hooks.jobs import Job, State, Subject
from mlflow_fireworks.hooks.ledger import Ledger
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.snapshot import take_snapshot


class DiesOnWrite(SqliteStorage):
    dies = False

    def put_data(self, *arguments, **options):
        if self.dies:
            raise KeyboardInterrupt
        super().put_data(*arguments, **options)


def make_job(name, created):
    subject = Subject(kind="alias", name="chat", ref="champion")
    return Job(id=name, rule="r", subject=subject, version="1", target="t", deployment="chat", created=created)


def test_a_job_whose_receiver_died_before_it_was_made_the_newest_is_not_taken_for_an_older_one(tmp_path):
    path = str(tmp_path / "queue.db")
    heads = DiesOnWrite("heads", filename=path)
    with closing(heads), closing(SqliteStorage("jobs", filename=path)) as jobs:
        ledger = Ledger(jobs, heads)
        older, newer = make_job("older", 1.0), make_job("newer", 2.0)
        assert ledger.accept(older)
        heads.dies = True
        with pytest.raises(KeyboardInterrupt):
            ledger.accept(newer)
        assert ledger.find("newer")
        assert ledger.is_newest(newer)
        heads.dies = False
        assert ledger.accept(make_job("newest", 3.0))
        assert [ledger.is_newest(job) for job in (older, newer)] == [False, False]


def test_a_known_id_is_taken_again_only_where_it_may_recur_and_what_it_named_has_passed(tmp_path):
    with closing(open_queue(str(tmp_path / "queue.db"))) as queue:
        ledger = queue.ledger
        push = make_job("push", 1.0).model_copy(update={"recurs": True})
        assert [ledger.accept(push), ledger.accept(push)] == [True, False]
        ledger.save(push, state=State.DONE)
        assert not ledger.accept(push)  # a replay: nothing happened since
        assert ledger.accept(make_job("back", 2.0))
        assert ledger.accept(push.model_copy(update={"created": 3.0}))
        assert ledger.newest(push.key).state is State.QUEUED
        delivery = ledger.save(make_job("delivery", 4.0), state=State.DEAD)
        assert not ledger.accept(delivery)


@pytest.mark.parametrize(
    "record",
    [
        b"\x80\x04not JSON at all",
        b"[]",
        b'{"id": "strange", "rule": "r"}',
        b'{"id": "strange", "state": "a state of the next release"}',
    ],
)
def test_a_job_that_cannot_be_read_is_counted_told_once_and_hinders_nothing(tmp_path, record, caplog):
    path = str(tmp_path / "queue.db")
    with closing(open_queue(path)) as queue:
        queue.put(make_job("good", 1.0))
        queue.put(make_job("strange", 2.0))
        queue.ledger._jobs._storage.put_data("strange", record)
        for _ in range(3):
            snapshot = take_snapshot(queue)
            queue.sweep()
            queue.ledger.prune()
        assert [job.id for job in snapshot.jobs] == ["good"]
        assert snapshot.to_dict()["unreadable"] == ("strange",)
        assert [record.getMessage() for record in caplog.records] == [
            "job strange cannot be read: it is damaged, or from another release"
        ]
        listed = CliRunner().invoke(main, ["hooks", "jobs", "--queue", path])
        assert listed.exit_code == 0
        assert "1 job cannot be read (strange)" in listed.stderr
        assert len(json.loads(CliRunner().invoke(main, ["hooks", "jobs", "--json", "--queue", path]).stdout)) == 1
        assert queue.put(make_job("strange", 3.0))  # its event came again
        assert take_snapshot(queue).unreadable == ()
