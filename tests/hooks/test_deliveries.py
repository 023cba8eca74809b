"""Why did nothing happen? What is logged, kept and shown about each webhook."""

import json
import sqlite3
from contextlib import closing, contextmanager

import httpx
import pytest
from huey.storage import SqliteStorage
from support.hooks_world import alias_event, wait_until

from mlflow_fireworks.hooks.deliveries import Deliveries, Delivery
from mlflow_fireworks.hooks.events import Event
from mlflow_fireworks.hooks.jobs import Subject
from mlflow_fireworks.hooks.locks import Locks
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.rules import Rules


def note(deliveries, number, status=202, outcome="accepted"):
    deliveries.note(Delivery(received=number, sender="mlflow", id=f"d-{number}", status=status, outcome=outcome))


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    return request.getfixturevalue("redis_url") if request.param == "redis" else str(tmp_path / "queue.db")


def test_the_last_are_kept_for_all_receivers_and_strangers_push_out_none(url):
    with closing(open_queue(url)) as one, closing(open_queue(url)) as other:
        for number in range(300):
            note((one, other)[number % 2].deliveries, number)
            if number % 10 == 9:
                one.deliveries.save()
                other.deliveries.save()
        for number in range(300, 600):
            note(one.deliveries, number, 401, "refused")
        one.deliveries.save()
        kept = other.deliveries.last()
    assert len(kept) == 100
    assert [delivery.id for delivery in kept[:20]] == [f"d-{number}" for number in range(599, 579, -1)]
    assert [delivery.id for delivery in kept[20:]] == [f"d-{number}" for number in range(299, 219, -1)]


class Away(SqliteStorage):
    is_away = True

    def put_data(self, *arguments, **options):
        if self.is_away:
            raise sqlite3.OperationalError("database is locked")
        super().put_data(*arguments, **options)


class Free(Locks):
    @contextmanager
    def hold(self, name):
        yield True


def test_what_a_storage_that_is_away_does_not_take_is_written_later(tmp_path):
    storage = Away("deliveries", filename=str(tmp_path / "q.db"))
    with closing(storage):
        deliveries = Deliveries(storage, Free())
        note(deliveries, 1)
        deliveries.save()
        assert [delivery.id for delivery in deliveries.last()] == ["d-1"]
        storage.is_away = False
        note(deliveries, 2)
        deliveries.save()
        assert [delivery.id for delivery in Deliveries(storage, Free()).last()] == ["d-2", "d-1"]


def test_what_strangers_write_is_one_short_line(tmp_path, caplog):
    with closing(open_queue(str(tmp_path / "q.db"))) as queue:
        queue.deliveries.note(
            Delivery(sender="mlflow", id="a\nfaked line\x1b[31m" + "x" * 500, status=401, outcome="x")
        )
        (kept,) = queue.deliveries.last()
    assert len(kept.id) == 64
    assert kept.id.startswith("a faked line\\x1b[31mx")
    assert "\n" not in caplog.records[-1].getMessage()


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        (
            {"kind": "alias", "name": "chat", "ref": "staging"},
            (
                "no rule applies to alias 'staging' of 'chat' ('champions' asks for alias 'champion'; "
                "'coders' asks for model 'coder*'; 'hub' asks for the Hub repo 'acme/chat')"
            ),
        ),
        (
            {"kind": "version", "name": "coder-7b"},
            (
                "no rule applies to versions of 'coder-7b' ('champions' asks for model 'chat'; "
                "'coders' asks for tag 'stage=prod'; 'hub' asks for the Hub repo 'acme/chat')"
            ),
        ),
        (
            {"kind": "branch", "name": "acme/chat", "ref": "dev"},
            (
                "no rule applies to branch 'dev' of 'acme/chat' ('champions' asks for model 'chat'; "
                "'coders' asks for model 'coder*'; 'hub' asks for branch 'main')"
            ),
        ),
    ],
)
def test_an_event_that_no_rule_matches_says_what_was_compared(subject, told):
    rules = [
        {"name": "champions", "model": "chat", "alias": "champion"},
        {"name": "coders", "model": "coder*", "tag": "stage=prod"},
        {"name": "hub", "hub": "acme/chat", "branch": "main", "deployment": "hub"},
    ]
    event = Event("e", Subject.model_validate(subject), "1")
    assert Rules.model_validate({"rules": rules}).explain_nothing(event) == told


def test_a_pointer_whose_removal_its_rule_outlives_is_explained():
    rules = Rules.model_validate({"rules": [{"name": "champions", "model": "chat", "alias": "champion"}]})
    event = Event("e", Subject(kind="alias", name="chat", ref="champion"), "", removed=True)
    assert rules.explain_nothing(event) == (
        "alias 'champion' of 'chat' was removed, and its deployment is kept on Fireworks by 'champions' "
        "(when_removed: keep)"
    )


@pytest.mark.slow
def test_every_webhook_has_one_line_in_log_page_and_command(fireworks, registry, hooks):
    hooks.start("--reconcile-every", "0", "--workers", "0", "--max-queue", "1")
    registry.promote(1)
    accepted = hooks.deliver(alias_event(registry, 1), delivery_id="first").json()
    hooks.deliver(alias_event(registry, 1), delivery_id="forged", secret="not the secret")
    ignored = hooks.deliver(alias_event(registry, 1, "staging"), delivery_id="other")
    hooks.deliver(alias_event(registry, 1), delivery_id="late")
    about = f"models:/{registry.name}@champion = 1"
    reason = f"no rule applies to alias 'staging' of '{registry.name}' ('champions' asks for alias 'champion')"
    assert ignored.json() == {"status": "ignored", "jobs": [], "reason": reason}
    lines = [line.partition("webhook from ")[2] for line in hooks.log.splitlines() if "webhook from " in line]
    assert lines == [
        f"mlflow, delivery first: accepted (202): {about}; job {accepted['jobs'][0]}",
        (
            "mlflow, delivery forged: refused (401): the signature is missing or wrong; does the webhook use the same "
            "secret as this receiver?"
        ),
        f"mlflow, delivery other: ignored (200): models:/{registry.name}@staging = 1; {reason}",
        f"mlflow, delivery late: busy (503): {about}; the queue is full",
    ]
    base = f"http://127.0.0.1:{hooks.port}"
    told = httpx.get(f"{base}/status.json").json()["deliveries"]
    assert [delivery["id"] for delivery in told] == ["late", "other", "forged", "first"]
    assert "asks for alias &#39;champion&#39;" in httpx.get(base).text

    def kept():
        return json.loads(hooks.command("events", "--json").stdout)

    wait_until(lambda: len(kept()) == 4, "all four are written down", 30)
    listed = hooks.command("events").stdout.splitlines()
    assert listed[0].endswith(f"mlflow       late  busy (503): {about}; the queue is full")
