"""What a person took off stays off, through an hour of comparing and of events that are older than that."""

import json
import time

import pytest
from click.testing import CliRunner
from support.local_registry import fill_registry, use_copy

from mlflow_fireworks.cli import main
from mlflow_fireworks.hooks.events import Event
from mlflow_fireworks.hooks.jobs import State, Subject
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.receiver import plan_jobs
from mlflow_fireworks.hooks.reconcile import reconcile
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.snapshot import take_snapshot
from mlflow_fireworks.hooks.worker import Worker
from mlflow_fireworks.opening import open_deployments
from mlflow_fireworks.promotion import promote
from mlflow_fireworks.target import parse_target

pytestmark = pytest.mark.slow
H100 = {"accelerator_type": "H100", "accelerator_count": 1}
CHAMPION = Subject(kind="alias", name="chat", ref="champion")
QUIET = {"progress": "none"}
EVERY_SECONDS = 600.0


@pytest.fixture(scope="module")
def filled_registry(tmp_path_factory):
    """A registry with three versions of one model."""
    return fill_registry(tmp_path_factory.mktemp("registry"), "chat", versions=3, champion=None)


@pytest.fixture
def local_registry(filled_registry, tmp_path, monkeypatch):
    return use_copy(filled_registry, tmp_path, monkeypatch)


class Days:
    """The hooks of one queue, with a clock of their own."""

    def __init__(self, folder, registry, **rule):
        self.folder, self.registry = folder, registry
        self.ahead = 0.0
        rule = {"name": "r", "model": "chat", "alias": "champion", "endpoint": "prod", "config": H100} | rule
        self.rules = Rules.model_validate({"rules": [rule]})
        (folder / "hooks.yaml").write_text(json.dumps({"rules": [rule]}))
        self.queue = open_queue(str(folder / "queue.db"), clock=self.clock)

    def clock(self):
        return time.time() + self.ahead

    def set_alias(self, version, at=None):
        """As MLflow tells it: at once, or late, about what happened before."""
        if at is None:
            self.registry.set_registered_model_alias("chat", "champion", str(version))
        event = Event(f"event-{version}-{time.time()}", CHAMPION, str(version), at=at or time.time())
        for job in plan_jobs(self.rules, event):
            self.queue.put(job)
        return self.work()

    def work(self):
        for job in reversed(self.queue.ledger.jobs()):
            Worker(self.queue, self.rules, clock=self.clock).work(job.id)
        return next(iter(self.queue.ledger.jobs()), None)

    def compare(self):
        found = reconcile(self.queue, self.rules, dead_too=True, approve=True)
        self.work()
        return found

    def pass_an_hour(self, old_event=None):
        """Comparisons every ten minutes; and late deliveries of an old event."""
        for _ in range(6):
            self.ahead += EVERY_SECONDS
            self.compare()
            if old_event:
                self.set_alias(*old_event)
        return take_snapshot(self.queue)

    def command(self, *words):
        how = ["--queue", self.queue.path] + (
            ["--rules", str(self.folder / "hooks.yaml")] if words[0] != "history" else []
        )
        ran = CliRunner().invoke(main, ["hooks", *words, *how])
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    def history(self):
        return [(line["what"], line["who"], line["outcome"]) for line in json.loads(self.command("history", "--json"))]


@pytest.fixture
def days(fireworks, local_registry, tmp_path):
    made = []

    def days(**rule):
        made.append(Days(tmp_path, local_registry, **rule))
        return made[-1]

    yield days
    for each in made:
        each.queue.close()


def served(client):
    return {item["name"]: item["model"].rpartition("/")[2] for item in client.list_endpoints()}


def roll_back(client):
    client.update_deployment("chat", endpoint="prod", config={"revision": 1, **QUIET})


def delete_endpoint(client):
    client.delete_endpoint("prod", QUIET)


def delete_deployment(client):
    client.delete_deployment("chat", {"cascade": True, **QUIET})


def deploy_another(client):
    """A version that no pointer shows: what somebody does who has a correction at hand."""
    client.update_deployment("chat", "models:/chat/3", endpoint="prod", config=QUIET)


def promote_another(client):
    promote("models:/chat/3", name="chat", endpoint="prod", config=H100 | QUIET)


def roll_back_elsewhere(client):
    """With another tool, as far as the hooks can see: no stamp and no tag tells of it."""
    client.update_endpoint("prod", {"model": "accounts/acme/models/chat", **QUIET})


def delete_endpoint_elsewhere(client):
    with open_deployments(parse_target("fireworks")) as deployments:
        for endpoint in deployments.list_endpoints().values():
            for deployment in endpoint.deployments:
                deployments.run.gateway.deployments.delete(deployment.name, ignore_checks=True)


def delete_model_elsewhere(client):
    delete_endpoint_elsewhere(client)
    with open_deployments(parse_target("fireworks")) as deployments:
        for model in list(deployments.run.gateway.models.list()):
            deployments.run.gateway.models.delete(model.model_id)


# By whom what is done, what is up afterwards, and what people are told.
HANDS = [
    pytest.param(roll_back, {"prod": "chat"}, "endpoint 'prod' was rolled back from revision 2 to 1", id="rollback"),
    pytest.param(delete_endpoint, {}, "endpoint 'prod' was deleted", id="endpoint deleted"),
    pytest.param(delete_deployment, {}, "deployment 'chat' was deleted", id="deployment deleted"),
    pytest.param(deploy_another, {"prod": "chat-r3"}, "revision 2 was replaced by revision 3", id="another version"),
    pytest.param(promote_another, {"prod": "chat-r3"}, "revision 2 was replaced by revision 3", id="another promoted"),
    pytest.param(
        roll_back_elsewhere, {"prod": "chat"}, "endpoint 'prod' was moved to accounts/acme/models/chat", id="moved"
    ),
    pytest.param(
        delete_endpoint_elsewhere,
        {},
        "by Fireworks, which deletes deployments that had no requests for seven days",
        id="idle",
    ),
    pytest.param(delete_model_elsewhere, {}, "deployment 'chat' was deleted, not with this plugin", id="models"),
]


@pytest.mark.parametrize(("hand", "after", "reason"), HANDS)
@pytest.mark.parametrize("fresh_queue", [False, True], ids=["same queue", "other machine"])
def test_what_a_person_took_off_stays_off_for_an_hour_and_the_next_promotion_brings_it_back(  # noqa: PLR0917
    days, client, tmp_path, local_registry, hand, after, reason, fresh_queue
):
    hooks = days()
    hooks.set_alias(1)
    set_at = time.time()
    assert hooks.set_alias(2).state is State.DONE
    assert served(client) == {"prod": "chat-r2"}
    time.sleep(1.1)  # what a person does is written down to the second
    hand(client)
    if fresh_queue:
        hooks.queue.close()
        (tmp_path / "queue.db").unlink()
        hooks = days()
    shown = hooks.pass_an_hour((2, set_at))
    assert served(client) == after
    (hold,) = shown.holds
    assert reason in hold.reason
    assert hold.command == f"mlflow-fireworks hooks resume chat --queue {hooks.queue.path}"
    assert reason in local_registry.get_model_version("chat", "2").tags["fireworks.taken_off"]
    assert "1 hold by hand" in shown.describe_retried()
    assert reason in hooks.command("check")
    assert [what for what, who, _ in hooks.history() if who == "person"] in (["rollback"], ["removal"], ["replacement"])
    # The alias moves on, which nobody tells but the registry: that is a promotion.
    local_registry.set_registered_model_alias("chat", "champion", "3")
    hooks.compare()
    assert served(client)["prod"].startswith("chat")
    assert client.get_deployment("chat")["version"] == "3"
    assert take_snapshot(hooks.queue).holds == () or hooks.compare().holds == []
    # And back to the version that was taken off before: one more.
    local_registry.set_registered_model_alias("chat", "champion", "2")
    hooks.compare()
    assert client.get_deployment("chat")["version"] == "2"
    assert "fireworks.taken_off" not in local_registry.get_model_version("chat", "2").tags
    assert hooks.compare().describe(None) == "nothing to do"


@pytest.mark.parametrize(("hand", "after", "reason"), HANDS[:4])
def test_who_sets_the_alias_again_gets_it_back(days, client, hand, after, reason):
    hooks = days()
    hooks.set_alias(1)
    hooks.set_alias(2)
    time.sleep(1.1)
    hand(client)
    hooks.compare()
    assert served(client) == after
    time.sleep(1.1)
    assert hooks.set_alias(2).state is State.DONE
    assert client.get_deployment("chat")["version"] == "2"
    assert "taken_off" not in client.get_deployment("chat")
    assert hooks.compare().holds == []


@pytest.mark.parametrize(("hand", "after", "reason"), [*HANDS[:2], HANDS[3], HANDS[6]])
@pytest.mark.parametrize("compared", [True, False], ids=["found by comparing", "not looked at yet"])
def test_resume_brings_it_back(  # noqa: PLR0917
    days, client, hand, after, reason, compared
):
    hooks = days()
    hooks.set_alias(1)
    hooks.set_alias(2)
    hand(client)
    if compared:
        hooks.compare()
    told = hooks.command("resume", "chat")
    assert told.startswith("resumed: chat; queued: models:/chat@champion = 2 (job ")
    assert hooks.work().state is State.DONE
    assert served(client) == {"prod": "chat-r2"}
    assert take_snapshot(hooks.queue).holds == ()
    assert hooks.history()[-2:] == [("resume", "person", "resumed"), ("promotion", "person", "done")]


def test_an_endpoint_that_was_scaled_to_zero_is_left_so_and_shown_until_somebody_asks_for_it_again(days, client):
    hooks = days()
    hooks.set_alias(1)
    client.update_endpoint("prod", {"max_replicas": 0, "min_replicas": 0, **QUIET})
    assert client.get_deployment("chat")["taken_off"].startswith("endpoint 'prod' was scaled to zero")
    (hold,) = hooks.pass_an_hour().holds
    assert hold.reason == "endpoint 'prod' was scaled to zero"
    assert client.get_endpoint("prod")["max_replicas"] == 0
    hooks.command("resume", "chat")
    assert hooks.work().state is State.DONE
    assert client.get_endpoint("prod")["max_replicas"] == 1
    assert hooks.compare().holds == []
    client.update_endpoint("prod", {"max_replicas": 0, "min_replicas": 0, **QUIET})
    time.sleep(1.1)
    assert hooks.set_alias(2).state is State.DONE
    assert (client.get_endpoint("prod")["max_replicas"], served(client)) == (1, {"prod": "chat-r2"})


def test_a_rule_that_asks_for_no_replicas_is_paused_by_nobody(days, client):
    hooks = days(config=H100 | {"max_replicas": 0})
    assert hooks.set_alias(1).state is State.DONE
    assert hooks.compare().holds == []


def test_what_was_asked_for_before_a_person_deleted_the_endpoint_does_not_start_it_when_its_turn_comes(days, client):
    """A version that waited for its try, and was never up: the GPUs that a person switched off stay off."""
    hooks = days()
    hooks.set_alias(1)
    asked = time.time()
    time.sleep(1.1)
    delete_endpoint(client)
    hooks.registry.set_registered_model_alias("chat", "champion", "2")
    late = hooks.set_alias(2, asked)
    assert (late.state, late.version) == (State.HELD, "2")
    assert "endpoint 'prod' was deleted, by " in late.error
    shown = hooks.pass_an_hour()
    assert served(client) == {}
    assert [hold.job.version for hold in shown.holds] == ["2"]
    assert ("promotion", "event", "held") in hooks.history()


def test_what_nobody_took_off_is_still_brought_where_its_pointer_shows(days, client, local_registry):
    hooks = days()
    local_registry.set_registered_model_alias("chat", "champion", "1")
    hooks.compare()
    assert served(client) == {"prod": "chat"}
    local_registry.set_registered_model_alias("chat", "champion", "2")  # whose event is lost
    hooks.compare()
    assert served(client) == {"prod": "chat-r2"}
    assert hooks.history() == [("promotion", "reconcile", "done")] * 2


def test_the_history_tells_who_asked_for_what(days, client):
    hooks = days()
    for version in (1, 2):
        done = hooks.set_alias(version)
        assert done.state is State.DONE, done.error
    time.sleep(1.1)  # what a person does is written down to the second
    roll_back(client)
    hooks.compare()
    lines = json.loads(hooks.command("history", "--json"))
    assert [(line["from"], line["to"]) for line in lines[:2]] == [(None, "1"), ("1", "2")]
    assert all(line["seconds"] > 0 and line["endpoint"] == "prod" for line in lines[:2])
    rolled = lines[2]
    assert (rolled["what"], rolled["who"], rolled["to"]) == ("rollback", "person", "2")
    assert rolled["by"]
    told = hooks.command("history")
    assert f"by person ({rolled['by']}): endpoint 'prod' was rolled back from revision 2 to 1" in told
    assert "promotion done chat on prod 1 -> 2 by event" in " ".join(told.split())


def test_what_somebody_deployed_without_the_hooks_is_in_the_history_once_a_pointer_shows_it(days, client):
    hooks = days()
    hooks.set_alias(1)
    time.sleep(1.1)
    deploy_another(client)
    hooks.registry.set_registered_model_alias("chat", "champion", "3")
    hooks.compare()
    assert hooks.compare().describe(None) == "nothing to do"
    assert hooks.history() == [("promotion", "event", "done"), ("promotion", "person", "done")]
    assert "revision 1 was replaced by revision 2" in hooks.command("history")
    hooks.registry.set_registered_model_alias("chat", "champion", "1")  # whose event is lost
    hooks.compare()
    assert served(client) == {"prod": "chat"}


def test_what_was_asked_for_before_somebody_deployed_another_version_is_not_promoted(days, client):
    hooks = days()
    hooks.set_alias(1)
    asked = time.time()
    time.sleep(1.1)
    deploy_another(client)
    hooks.registry.set_registered_model_alias("chat", "champion", "2")
    assert hooks.set_alias(2, asked).state is State.HELD
    hooks.pass_an_hour()
    assert client.get_deployment("chat")["version"] == "3"
    time.sleep(1.1)
    assert hooks.set_alias(2).state is State.DONE
    assert client.get_deployment("chat")["version"] == "2"


def test_a_hold_of_what_is_not_there_is_refused_with_what_is(days):
    hooks = days()
    hooks.registry.set_registered_model_alias("chat", "champion", "1")
    told = CliRunner().invoke(
        main, ["hooks", "hold", "chatt", "--queue", hooks.queue.path, "--rules", str(hooks.folder / "hooks.yaml")]
    )
    assert told.exit_code == 1
    assert "there is no rule or deployment 'chatt'; there are: r, chat; did you mean 'chat'" in told.stderr
    assert hooks.queue.holds.all() == []
    assert "chat is held" in hooks.command("hold", "chat")  # known to the registry alone


def test_what_is_held_by_hand_is_promoted_afterwards_the_newest_only(days, client):
    hooks = days()
    hooks.set_alias(1)
    hooks.command("hold", "r", "--until", "2h", "--reason", "load test")
    hooks.set_alias(2)
    hooks.set_alias(3)
    hooks.pass_an_hour()
    assert served(client) == {"prod": "chat"}
    assert "r is held by " in hooks.command("check")
    assert hooks.command("resume", "r").startswith("resumed: r; events that arrived in the meantime are acted on now")
    hooks.work()
    assert client.get_deployment("chat")["version"] == "3"
    assert served(client) == {"prod": "chat-r2"}  # nothing was made of version 2


def test_an_endpoint_does_not_move_inside_a_window_and_the_model_is_ready_when_it_ends(days, client):
    hooks = days(windows={"endpoint": ["daily 00:00-12:00 UTC", "daily 12:00-24:00 UTC"]})
    waiting = hooks.set_alias(1)
    assert (waiting.state, waiting.attempts, waiting.waits_for) == (State.QUEUED, 0, "the end of the window")
    assert "endpoint 'prod' does not move before " in waiting.error
    assert client.get_deployment("chat")["state"] == "READY"
    assert served(client) == {}
    assert hooks.registry.get_model_version("chat", "1").tags["fireworks.state"] == "WAITING"
    hooks.rules = Rules.model_validate({"rules": [next(iter(hooks.rules)).model_dump(exclude={"windows"})]})
    hooks.ahead += 2 * EVERY_SECONDS
    assert hooks.work().state is State.DONE
    assert served(client) == {"prod": "chat"}
    assert hooks.registry.get_model_version("chat", "1").tags["fireworks.state"] == "READY"


def test_a_rollback_to_what_was_kept_up_behind_a_router_stays(days, client):
    hooks = days(config=H100 | {"keep_previous": True})
    hooks.set_alias(1)
    hooks.set_alias(2)
    time.sleep(1.1)
    roll_back(client)
    (hold,) = hooks.pass_an_hour().holds
    assert hold.reason == "endpoint 'prod' was rolled back from revision 2 to 1"
    assert served(client) == {"prod": "chat"}
    assert [line[0] for line in hooks.history() if line[1] == "person"] == ["rollback"]
    hooks.command("resume", "chat")
    assert hooks.work().state is State.DONE
    assert served(client) == {"prod": "chat-r2"}
