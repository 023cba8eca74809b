"""What the receiver writes down, when it dies between two writes."""

from contextlib import closing

import pytest
from huey.storage import SqliteStorage

from mlflow_fireworks.hooks.jobs import Job, Ledger, State, Subject
from mlflow_fireworks.hooks.queue import open_queue


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
    with closing(Ledger(SqliteStorage("jobs", filename=path), heads)) as ledger:
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
