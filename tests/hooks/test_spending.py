"""GPUs by rules: none start unasked, and none beyond what a rule allows."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from click.testing import CliRunner
from support.hooks_world import wait_until
from support.local_registry import fill_registry, use_copy

from mlflow_fireworks.cli import main
from mlflow_fireworks.errors import NotFoundError
from mlflow_fireworks.hooks.consent import approve_rules
from mlflow_fireworks.hooks.events import Event
from mlflow_fireworks.hooks.holding import resume_promotions
from mlflow_fireworks.hooks.jobs import State, Subject
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.receiver import plan_jobs
from mlflow_fireworks.hooks.reconcile import reconcile
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.snapshot import take_snapshot
from mlflow_fireworks.hooks.worker import Worker, work_now
from mlflow_fireworks.plugin import FireworksDeploymentClient

pytestmark = pytest.mark.slow
H100 = {"accelerator_type": "H100", "accelerator_count": 1}
MODELS = ("chat-a", "chat-b", "chat-c")


@pytest.fixture(scope="module")
def filled_registry(tmp_path_factory):
    """A registry with three models of two versions each; the first of each is the champion."""
    return fill_registry(tmp_path_factory.mktemp("registry"), *MODELS, versions=2)


@pytest.fixture
def store(filled_registry, tmp_path, monkeypatch):
    return use_copy(filled_registry, tmp_path, monkeypatch)


@pytest.fixture
def queue(tmp_path):
    with closing(open_queue(str(tmp_path / "queue.db"))) as queue:
        yield queue


def make_rules(**fields):
    rule = {"name": "r", "model": "chat-*", "alias": "champion", "endpoint": "{model}-prod", "config": H100} | fields
    return Rules.model_validate({"rules": [rule]})


def work(queue, rules):
    """Do what is in the queue, each job once."""
    for job in reversed(queue.ledger.jobs()):
        Worker(queue, rules).work(job.id)
    return {job.deployment: job for job in queue.ledger.jobs()}


def endpoints():
    return {item["name"]: item["model"] for item in FireworksDeploymentClient("fireworks").list_endpoints()}


def move(rules, model, version="1"):
    """The jobs of a webhook that tells that somebody set the alias."""
    return plan_jobs(
        rules, Event(f"event-{model}-{version}", Subject(kind="alias", name=model, ref="champion"), version)
    )


def test_the_first_comparison_of_a_new_rule_waits_for_an_approval_and_is_told_once(fireworks, store, queue, caplog):
    rules = make_rules(max_endpoints=3)
    found = reconcile(queue, rules, dead_too=True)
    assert found.enqueued == []
    (held,) = found.held
    assert held.endpoints == ["chat-a-prod", "chat-b-prod", "chat-c-prod"]
    assert (
        "3 endpoints (chat-a-prod, chat-b-prod, chat-c-prod), up to $24.00 an hour at list prices of 2026" in held.cost
    )
    reconcile(queue, rules, dead_too=True)
    told = [record.getMessage() for record in caplog.records if "is waiting for approval" in record.getMessage()]
    assert len(told) == 1
    assert told[0].endswith(f"approve it with: mlflow-fireworks hooks approve r --queue {queue.path}")
    snapshot = take_snapshot(queue)
    assert snapshot.describe_retried() == "1 rule waits for approval to start GPUs"
    assert snapshot.to_dict()["held"][0]["command"] in told[0]
    assert not fireworks.calls("create_deployment")


@pytest.mark.parametrize("which", [pytest.param(None, marks=pytest.mark.slow), "r"])
def test_what_waited_is_done_once_it_is_approved_and_the_approval_outlives_a_restart(
    fireworks, store, queue, tmp_path, which
):
    rules = make_rules(max_endpoints=3)
    reconcile(queue, rules, dead_too=True)
    (approved,) = approve_rules(queue, which, lambda: rules)
    assert approved.endpoints == ("chat-a-prod", "chat-b-prod", "chat-c-prod")
    assert all(job.state is State.DONE for job in work(queue, rules).values())
    assert sorted(endpoints()) == ["chat-a-prod", "chat-b-prod", "chat-c-prod"]
    with closing(open_queue(str(tmp_path / "queue.db"))) as later:
        assert reconcile(later, rules, dead_too=True).describe(None) == "nothing to do"
        assert take_snapshot(later).held == ()


def test_promotions_without_gpus_and_moves_of_endpoints_that_are_up_wait_for_nobody(fireworks, store, queue):
    without = make_rules(endpoint=None, config={})
    assert len(reconcile(queue, without, dead_too=True).enqueued) == 3
    assert all(job.state is State.DONE for job in work(queue, without).values())
    FireworksDeploymentClient("fireworks").create_endpoint("chat-a-prod", {"model": "chat-a", **H100})
    store.set_registered_model_alias("chat-a", "champion", "2")
    rules = make_rules()
    found = reconcile(queue, rules, dead_too=True)
    assert [job.deployment for job in found.enqueued] == ["chat-a"]
    assert found.held[0].endpoints == ["chat-b-prod", "chat-c-prod"]
    work(queue, rules)
    assert endpoints() == {"chat-a-prod": "accounts/acme/models/chat-a-r2"}


def test_an_alias_that_somebody_moves_now_waits_for_no_approval(fireworks, store, queue):
    rules = make_rules()
    for job in move(rules, "chat-b"):
        queue.put(job)
    assert work(queue, rules)["chat-b"].state is State.DONE
    assert list(endpoints()) == ["chat-b-prod"]


def test_a_job_of_a_comparison_starts_nothing_that_is_not_approved_however_it_came_into_the_queue(
    fireworks, store, queue
):
    """As after a kill between two writes, by another release, or by a rule that was edited since."""
    rules = make_rules()
    (job,) = move(rules, "chat-a")
    queue.put(job.model_copy(update={"cause": "reconcile"}))
    waiting = work(queue, rules)["chat-a"]
    assert (waiting.state, waiting.waits_for) == (State.QUEUED, "approval")
    assert waiting.error.startswith("endpoint 'chat-a-prod' was not started: rule 'r'")
    assert not fireworks.calls("create_model")  # found out before anything is sent
    assert not fireworks.calls("create_deployment")


@pytest.mark.parametrize(
    "change",
    [
        {"model": "chat-[abc]"},
        {"endpoint": "{model}-other"},
        {"target": "fireworks:/acme"},
        {"alias": "champion*"},
        {"config": H100 | {"accelerator_count": 8}},
        {"config": H100 | {"max_replicas": 8}},
    ],
)
def test_a_rule_that_asks_for_other_gpus_is_a_new_rule(change):
    alias = {"deployment": "{model}-{alias}"} if "alias" in change else {}
    assert next(iter(make_rules(**change, **alias))).meaning != next(iter(make_rules())).meaning


@pytest.mark.parametrize(
    "change",
    [
        {"name": "renamed"},
        {"max_endpoints": 7},
        {"config": H100 | {"timeout": "2h"}},
        {"config": {"accelerator_type": "NVIDIA_H100_80GB", "accelerator_count": "1"}},
        {"when_removed": "release"},
    ],
)
def test_a_rule_that_asks_for_the_same_gpus_needs_no_new_approval(change):
    assert next(iter(make_rules(**change))).meaning == next(iter(make_rules())).meaning


def test_yes_approves_for_good(fireworks, store, queue):
    rules = make_rules()
    found = reconcile(queue, rules, dead_too=True, approve=True)
    assert (len(found.enqueued), found.held) == (3, [])
    assert queue.approvals.allow(next(iter(rules)).meaning)


def test_an_endpoint_that_somebody_took_down_is_not_started_again_by_comparing(fireworks, store, queue):
    rules = make_rules(model="chat-a")
    reconcile(queue, rules, dead_too=True, approve=True)
    work(queue, rules)
    client = FireworksDeploymentClient("fireworks")
    client.delete_endpoint("chat-a-prod")
    for approve in (False, True):
        (hold,) = reconcile(queue, rules, dead_too=True, approve=approve).holds
        assert hold.describe().startswith("chat-a was taken off by ")
        assert hold.reason == "endpoint 'chat-a-prod' was deleted"
    assert endpoints() == {}
    resume_promotions(queue, "r", lambda: rules, "alice")
    work(queue, rules)
    assert list(endpoints()) == ["chat-a-prod"]


def test_no_more_endpoints_than_a_rule_allows_and_the_rest_waits_for_room(fireworks, store, queue):
    rules = make_rules(max_endpoints=2)
    reconcile(queue, rules, dead_too=True, approve=True)
    jobs = work(queue, rules).values()
    assert len(endpoints()) == 2
    (waiting,) = [job for job in jobs if job.state is not State.DONE]
    assert (waiting.state, waiting.waits_for) == (State.QUEUED, "room in max_endpoints")
    left = sorted(endpoints())
    assert waiting.error == (
        f"endpoint '{waiting.endpoint}' was not started: rule 'r' allows 2 endpoints (max_endpoints: 2), and 2 are up: "
        f"{left[0]}, {left[1]}; raise max_endpoints in the rule file, or take one down with: mlflow-fireworks endpoint "
        f"delete -t fireworks --name {left[0]}"
    )
    assert len(fireworks.calls("create_model")) == 2  # nothing of the third was sent
    FireworksDeploymentClient("fireworks").delete_endpoint(left[0])
    queue.ledger.save(waiting, not_before=0.0)
    Worker(queue, rules).work(waiting.id)
    assert sorted(endpoints()) == sorted([left[1], waiting.endpoint])


def test_one_endpoint_is_allowed_where_a_rule_says_nothing(fireworks, store, queue):
    rules = make_rules()
    for model in MODELS:
        for job in move(rules, model):
            queue.put(job)
    work(queue, rules)
    assert list(endpoints()) == ["chat-a-prod"]


def test_an_endpoint_that_follows_its_alias_counts_once_while_it_moves(fireworks, store, queue):
    rules = make_rules(max_price_per_hour=8)
    for version in ("1", "2"):
        store.set_registered_model_alias("chat-a", "champion", version)
        for job in move(rules, "chat-a", version):
            queue.put(job)
        assert work(queue, rules)["chat-a"].state is State.DONE
    assert endpoints() == {"chat-a-prod": "accounts/acme/models/chat-a-r2"}


def test_no_dearer_endpoints_than_a_rule_allows(fireworks, store, queue):
    rules = make_rules(max_endpoints=3, max_price_per_hour=20, config=H100)
    reconcile(queue, rules, dead_too=True, approve=True)
    (waiting,) = [job for job in work(queue, rules).values() if job.state is not State.DONE]
    assert len(endpoints()) == 2
    up = ", ".join(sorted(endpoints()))
    assert waiting.error == (
        f"endpoint '{waiting.endpoint}' was not started: rule 'r' allows $20.00 an hour (max_price_per_hour: 20), and "
        f"already has running: 2 endpoints ({up}), up to $16.00 an hour; it would add up to $8.00 "
        "(1 x NVIDIA_H100_80GB), by list prices of 2026-09-01, see https://fireworks.ai/pricing; raise "
        "max_price_per_hour in the rule file, or take an endpoint down"
    )
    assert len(fireworks.calls("create_model")) == 2


def test_all_replicas_that_may_run_are_counted(fireworks, store, queue):
    rules = make_rules(max_price_per_hour=20, config=H100 | {"max_replicas": 3})
    for job in move(rules, "chat-a"):
        queue.put(job)
    waiting = work(queue, rules)["chat-a"]
    assert "it would add up to $24.00 (1 x NVIDIA_H100_80GB, up to 3 replicas)" in waiting.error


@pytest.mark.parametrize("config", [{"accelerator_type": "A10G", "accelerator_count": 1}, {"accelerator_type": "A10G"}])
def test_a_price_that_nobody_knows_is_refused_where_there_is_a_ceiling(fireworks, store, queue, config):
    rules = make_rules(max_price_per_hour=20, config=config)
    for job in move(rules, "chat-a"):
        queue.put(job)
    waiting = work(queue, rules)["chat-a"]
    assert waiting.waits_for == "room in max_price_per_hour"
    assert (
        "the list price of chat-a-prod (1 x NVIDIA_A10G_24GB) is not known; remove max_price_per_hour" in waiting.error
    )
    assert endpoints() == {}
    free = make_rules(config=config)
    queue.ledger.save(waiting, not_before=0.0)
    Worker(queue, free).work(waiting.id)
    assert list(endpoints()) == ["chat-a-prod"]


def test_limits_hold_in_a_ci_job_which_needs_no_approval_and_ends_at_once(fireworks, store):
    rules = make_rules()
    jobs = [job for model in ("chat-a", "chat-b") for job in move(rules, model)]
    first, second = work_now(rules, jobs)
    assert (first.state, second.state, second.attempts) == (State.DONE, State.DEAD, 1)
    assert "(max_endpoints: 1), and 1 is up: chat-a-prod" in second.error
    assert list(endpoints()) == ["chat-a-prod"]


def test_check_counts_endpoints_and_adds_up_prices(fireworks, store, queue, tmp_path):
    (tmp_path / "hooks.yaml").write_text(
        json.dumps(make_rules(max_price_per_hour=10).model_dump(mode="json", exclude_unset=True))
    )
    for job in move(make_rules(), "chat-a"):
        queue.put(job)
    work(queue, make_rules())

    def check(*options):
        ran = CliRunner().invoke(
            main, ["hooks", "check", "--rules", str(tmp_path / "hooks.yaml"), "--queue", queue.path, *options]
        )
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    told = check()
    assert (
        "chat-b-prod on fireworks, by rule 'r': there is no deployment 'chat-b'; starts GPUs: 1 x NVIDIA_H100_80GB, up"
        in told
    )
    assert (
        "GPUs that would start now: 2 endpoints (chat-b-prod, chat-c-prod), up to $16.00 an hour; already up by "
        "these rules: 1 endpoint (chat-a-prod), up to $8.00 an hour (list prices of 2026-09-01, see https://fireworks.ai/pricing)"
    ) in told
    assert "rule 'r' allows 1 at once (max_endpoints) and needs 3; the others will wait" in told
    assert "rule 'r' allows $10.00 an hour (max_price_per_hour) and needs $24.00; the rest will wait" in told
    assert f"approve it with: mlflow-fireworks hooks approve r --queue {queue.path}" in told
    found = json.loads(check("--json"))
    assert found["gpus"]["would_start"] == {"endpoints": 2, "dollars_per_hour": 16.0, "price_unknown": []}
    assert found["gpus"]["already_up"]["dollars_per_hour"] == 8.0
    assert [item["waits_for_approval"] for item in found["findings"]] == [False, True, True]
    approve_rules(queue, None, make_rules)
    assert "approve" not in check()


def test_check_asks_fireworks_what_it_would_choose(fireworks, store, queue, tmp_path):
    work_now(make_rules(endpoint=None, config={}), move(make_rules(endpoint=None, config={}), "chat-a"))
    rules = make_rules(config={})
    (tmp_path / "hooks.yaml").write_text(json.dumps(rules.model_dump(mode="json", exclude_unset=True)))
    told = CliRunner().invoke(main, ["hooks", "check", "--rules", str(tmp_path / "hooks.yaml"), "--json"])
    costs = {item["deployment"]: item["dollars_per_hour"] for item in json.loads(told.stdout)["findings"]}
    assert costs["chat-a"] > 0
    assert costs["chat-b"] is None  # not on Fireworks yet
    assert not endpoints()


def test_approving_what_is_not_there_names_what_is(queue):
    with pytest.raises(
        NotFoundError, match="there is no rule 'rr' that starts GPUs; those that do: r; did you mean 'r'"
    ):
        approve_rules(queue, "rr", make_rules)
    with pytest.raises(NotFoundError, match="no rule has endpoint:"):
        approve_rules(queue, None, lambda: make_rules(endpoint=None, config={}))


def test_approve_and_jobs_as_commands(fireworks, store, queue):
    rules = make_rules(model="chat-a")
    reconcile(queue, rules, dead_too=True)
    listed = CliRunner().invoke(main, ["hooks", "jobs", "--queue", queue.path])
    assert f"approve it with: mlflow-fireworks hooks approve r --queue {queue.path}" in listed.stderr
    told = CliRunner().invoke(main, ["hooks", "approve", "r", "--queue", queue.path])
    assert told.stdout == "approved: rule 'r' may start GPUs within its limits; queued: chat-a-prod\n"
    assert CliRunner().invoke(main, ["hooks", "jobs", "--queue", queue.path]).stderr == ""


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.slow)])
def url(request, tmp_path):
    return request.getfixturevalue("redis_url") if request.param == "redis" else str(tmp_path / "queue.db")


def test_workers_at_the_same_time_start_no_more_than_one_after_the_other_would(fireworks, store, url):
    rules = make_rules()
    fireworks.fault("create_deployment", stall_seconds=0.5, times=3)
    with ExitStack() as stack:
        queues = [stack.enter_context(closing(open_queue(url))) for _ in MODELS]
        for model in MODELS:
            for job in move(rules, model):
                queues[0].put(job)
        with ThreadPoolExecutor(len(MODELS)) as pool:
            jobs = queues[0].ledger.jobs()
            list(pool.map(lambda queue, job: Worker(queue, rules).work(job.id), queues, jobs))
        states = sorted(job.state.value for job in queues[0].ledger.jobs())
    assert states == ["done", "queued", "queued"]
    assert len(endpoints()) == 1


def test_approvals_and_what_waits_are_the_same_for_all_processes_on_one_queue(fireworks, store, url):
    rules = make_rules(model="chat-a")
    with closing(open_queue(url)) as one, closing(open_queue(url)) as other:
        assert reconcile(one, rules, dead_too=True).held
        assert [held.rule for held in take_snapshot(other).held] == ["r"]
        assert reconcile(other, rules, dead_too=True).held[0].since == take_snapshot(one).held[0].since
        approve_rules(other, "r", lambda: rules)
        assert one.approvals.allow(next(iter(rules)).meaning)
        assert take_snapshot(one).held == ()
        assert [job.cause for job in one.ledger.jobs()] == ["approval"]


@pytest.mark.slow
def test_processes_that_are_killed_at_any_moment_start_nothing_unapproved_and_nothing_beyond_a_limit(
    fireworks, registry, hooks, request
):
    chance = random.Random(7)
    hooks.environ["MLFLOW_FIREWORKS_QUEUE"] = request.getfixturevalue("redis_url")
    (hooks.folder / "hooks.yaml").write_text(
        f"rules:\n- {{name: r, model: {registry.name}, alias: 'a*', deployment: 'd-{{alias}}', "
        "endpoint: '{alias}-prod', max_endpoints: 2, config: {accelerator_type: H100, accelerator_count: 1}}\n"
    )
    for number in (1, 2, 3):
        registry.promote(number, f"a{number}")
    how = ("--reconcile-every", "0.5s", "--retry-after", "0.5s", "--lease", "2s")

    def live_and_die(times):
        for _ in range(times):
            hooks.start(*how)
            time.sleep(chance.uniform(0.1, 3))
            hooks.kill()

    live_and_die(3)
    assert not fireworks.calls("create_deployment")
    told = hooks.command("approve", "r")
    assert told.stdout.startswith("approved: rule 'r' may start GPUs within its limits; queued: a1-prod, a2-prod")
    live_and_die(3)
    hooks.start(*how)
    wait_until(lambda: len(endpoints()) == 2, "as many endpoints as the rule allows are up")
    wait_until(lambda: "(max_endpoints: 2), and 2 are up" in hooks.log, "the third is told to wait")
    time.sleep(2)
    assert len(endpoints()) == 2
