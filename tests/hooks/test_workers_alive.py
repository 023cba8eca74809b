"""Who works: what page, JSON, probe, metrics and commands tell while workers live, die, or were never started."""

import json
import time
from contextlib import closing

import httpx
import pytest
from huey.storage import SqliteStorage
from support.hooks_world import alias_event, wait_until

from mlflow_fireworks.hooks.heartbeats import Heartbeat, Heartbeats
from mlflow_fireworks.hooks.jobs import Job, State, Subject
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.snapshot import take_snapshot

CHAT = Subject(kind="alias", name="chat", ref="champion")


def make_job(name, **fields):
    return Job(id=name, rule="r", subject=CHAT, version="1", target="t", deployment=name, **fields)


@pytest.fixture(params=["sqlite", "redis"])
def queue(request, tmp_path):
    url = request.getfixturevalue("redis_url") if request.param == "redis" else str(tmp_path / "queue.db")
    with closing(open_queue(url)) as queue:
        yield queue


def test_a_worker_that_misses_two_heartbeats_is_gone_and_its_job_waits_for_another(queue):
    worker = Heartbeat(slots=2, every_seconds=0.5)
    queue.heartbeats.beat(worker)
    queue.put(make_job("a", state=State.RUNNING, worker=worker.id, taken_up=time.time()))
    alive = take_snapshot(queue)
    assert (alive.slots, alive.describe(alive.jobs[0])) == (2, "running")
    assert [told["jobs"][0]["id"] for told in alive.to_dict()["workers"]] == ["a"]
    wait_until(lambda: not queue.heartbeats.living(), "the worker is gone", 10)
    gone = take_snapshot(queue)
    assert gone.describe(gone.jobs[0]) == "running (its worker is gone; will be restarted when a worker is running)"
    assert gone.tell(gone.jobs[0])["worker_is_gone"]
    assert list(gone.left_waiting) == ["a"]


def test_no_more_heartbeats_are_kept_than_workers_have_just_lived(tmp_path):
    now = 1000.0
    with closing(SqliteStorage("workers", filename=str(tmp_path / "q.db"))) as storage:
        heartbeats = Heartbeats(storage, lambda: now)
        for _ in range(50):  # starts, dies, is started again
            heartbeats.beat(Heartbeat(every_seconds=10))
            now += 15
        assert 1 <= len(heartbeats.living()) <= 2
        assert storage.result_store_size() <= 2


def test_work_that_waits_for_nobody_is_not_ready_and_a_queue_without_work_is(queue):
    idle = take_snapshot(queue).describe_readiness()
    assert idle["ok"]
    assert idle["reason"].startswith("no worker is running yet; start one on the same queue: mlflow-fireworks")
    queue.put(make_job("soon"))
    assert take_snapshot(queue).describe_readiness()["ok"]  # the workers may be starting
    queue.put(make_job("later", not_before=time.time() + 60))
    queue.put(make_job("old", created=time.time() - 300))
    told = take_snapshot(queue).describe_readiness()
    assert (told["ok"], told["workers"], told["waiting"]) == (False, 0, 2)
    assert told["reason"].startswith("no worker is alive; 2 jobs wait, the oldest for 5m 0s; start one")
    queue.heartbeats.beat(Heartbeat())
    assert take_snapshot(queue).describe_readiness()["ok"]


@pytest.mark.slow
def test_a_receiver_whose_only_worker_was_killed_says_so_everywhere(fireworks, registry, hooks):
    base = f"http://127.0.0.1:{hooks.port}"
    fireworks.fault("put_object", stall_seconds=60)
    hooks.start("--reconcile-every", "0", "--lease", "1s")
    registry.promote(1)
    hooks.deliver(alias_event(registry, 1))
    wait_until(lambda: fireworks.calls("get_upload_endpoint"), "the upload begins")
    assert httpx.get(f"{base}/readyz").json() == {"ok": True, "workers": 2, "waiting": 0, "longest_wait_seconds": 0.0}
    hooks.kill()
    hooks.start("--reconcile-every", "0", "--workers", "0", "--lease", "1s")
    assert "this process runs no worker" in hooks.log
    wait_until(lambda: httpx.get(f"{base}/readyz").status_code == 503, "the receiver is not ready", 40)
    told = httpx.get(f"{base}/readyz").json()
    assert told["reason"].startswith("no worker is alive; 1 job waits for ")
    page = httpx.get(base).text
    for text in ("No worker is alive", "its worker is gone; will be restarted when a worker is running"):
        assert text in page, text
    assert "Healthy" not in page
    status = httpx.get(f"{base}/status.json").json()
    assert (status["workers"], status["queue"][0]["worker_is_gone"]) == ([], True)
    assert "mlflow_fireworks_workers 0.0" in httpx.get(f"{base}/metrics").text
    listed = hooks.command("jobs")
    assert "running (its worker is gone; will be restarted when a worker is running)" in listed.stdout
    assert "no worker is alive" in listed.stderr
    (job,) = json.loads(hooks.command("jobs", "--json").stdout)
    assert job["doing"] == "running (its worker is gone; will be restarted when a worker is running)"
