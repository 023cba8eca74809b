"""Page, JSON, probe, metrics, log and commands while the queue's storage does not answer, or stands still."""

import logging
import os
import signal
import sqlite3
import time
from contextlib import closing, contextmanager

import httpx
import pytest
import redis
from click.testing import CliRunner
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from starlette.testclient import TestClient
from support.hooks_world import alias_event, answers, wait_until
from support.ports import free_port, silent_server
from support.tcp_proxy import TcpProxy

from mlflow_fireworks.cli import main
from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.hooks.jobs import Job, State, Subject
from mlflow_fireworks.hooks.metrics import DeliveryFigures, JobFigures
from mlflow_fireworks.hooks.queue import OF_PEOPLE, Patience, open_queue
from mlflow_fireworks.hooks.receiver import make_app
from mlflow_fireworks.hooks.snapshot import View, take_snapshot
from mlflow_fireworks.hooks.status import StatusPage

QUICK = Patience(0.3, 0.3, 0.3)
CHAT = Subject(kind="alias", name="chat", ref="champion")


def make_job(name, **fields):
    return Job(id=name, rule="r", subject=CHAT, version="1", target="t", deployment=name, **fields)


@contextmanager
def site_on(queue):
    metrics = CollectorRegistry()
    metrics.register(JobFigures(queue))
    DeliveryFigures(metrics).count("mlflow", 202)
    page = StatusPage(queue, metrics, SecretStr("a token for the people"))
    view = View(queue)
    with TestClient(make_app(page.routes(), lambda: view.look().describe_readiness())) as client:
        yield client


@pytest.fixture
def door(redis_url):
    """A proxy before Redis, and the queue's URL through it."""
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with TcpProxy(port) as door:
        yield door, redis_url.replace(str(port), str(door.port))


def test_redis_that_went_away_is_named_everywhere_with_what_was_known_and_is_back_by_itself(door, caplog):
    door, url = door
    with closing(open_queue(url, patience=QUICK)) as queue, site_on(queue) as client:
        queue.put(make_job("given-up", state=State.DEAD))
        assert "1 promotion failed" in client.get("/").text
        door.refuse()
        for _ in range(3):
            page = client.get("/")
            assert page.status_code == 200
            assert f"Cannot reach the queue&#39;s Redis at 127.0.0.1:{door.port} since " in page.text
            assert "What is shown below was read" in page.text
            assert "given-up" in page.text
            told = client.get("/status.json")
            assert told.status_code == 503
            assert told.json()["away"]["where"] == f"the queue's Redis at 127.0.0.1:{door.port}"
            assert [job["id"] for job in told.json()["failures"]] == ["given-up"]
            ready = client.get("/readyz")
            assert (ready.status_code, ready.json()["ok"]) == (503, False)
            assert "has not answered since" in ready.json()["reason"]
            figures = client.get("/metrics")
            assert figures.status_code == 200
            assert "mlflow_fireworks_queue_up 0.0" in figures.text
            assert 'mlflow_fireworks_deliveries_total{sender="mlflow",status="202"} 1.0' in figures.text
            assert "mlflow_fireworks_failures" not in figures.text
        headers = {"Authorization": "Bearer a token for the people"}
        retried = client.post("/jobs/given-up/retry", headers=headers)
        assert retried.status_code == 503
        assert "has not answered since" in retried.json()["error"]
        door.open()
        wait_until(lambda: client.get("/readyz").status_code == 200, "Redis is back", 10)
        assert client.get("/status.json").json()["away"] is None
        assert "mlflow_fireworks_queue_up 1.0" in client.get("/metrics").text
    told = [record for record in caplog.records if "the queue's Redis" in record.getMessage()]
    assert [record.levelno for record in told] == [logging.WARNING, logging.WARNING]
    assert "does not answer (ConnectionError); waiting for it" in told[0].getMessage()
    assert "answers again, after" in told[1].getMessage()
    assert not any(record.exc_info for record in caplog.records)
    assert "a-password" not in caplog.text


@pytest.mark.slow
def test_redis_that_accepts_and_then_stands_still_keeps_nobody_waiting(redis_url):
    with closing(open_queue(redis_url, patience=OF_PEOPLE)) as queue, site_on(queue) as client:
        server = redis.Redis.from_url(redis_url).info("server")["process_id"]
        os.kill(server, signal.SIGSTOP)
        try:
            began = time.monotonic()
            for address in ("/", "/status.json", "/metrics", "/readyz"):
                client.get(address)
            assert time.monotonic() - began < 8
            began = time.monotonic()
            assert client.get("/status.json").json()["away"]["reason"] == "TimeoutError"
            assert time.monotonic() - began < 4
        finally:
            os.kill(server, signal.SIGCONT)


def test_a_locked_file_is_told_by_page_and_commands_and_stays_what_it_was(tmp_path):
    path = str(tmp_path / "queue.db")
    with closing(open_queue(path, patience=QUICK)) as queue, site_on(queue) as client:
        queue.put(make_job("given-up", state=State.DEAD))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin exclusive")
        with pytest.raises(UnavailableError, match="database is locked"):
            queue.dismiss("given-up")
        told = CliRunner().invoke(main, ["hooks", "retry", "given-up", "--queue", path])
        assert (told.exit_code, told.output.count("\n")) == (1, 1)
        assert "database is locked" in told.output
        assert client.get("/").status_code == 200  # reading goes on
        other.rollback()
        other.close()
        assert queue.dismiss("given-up").state is State.DISMISSED


def test_a_file_that_is_no_database_any_more_is_told(tmp_path):
    path = tmp_path / "queue.db"
    with closing(open_queue(str(path), patience=QUICK)) as queue:
        take_snapshot(queue)
    for beside in tmp_path.glob("queue.db-*"):
        beside.unlink()
    queue = open_queue(str(path), patience=QUICK)
    queue.close()
    path.write_bytes(b"overwritten " * 1000)
    with site_on(queue) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert f"Cannot reach the queue {path} since" in page.text
        assert client.get("/status.json").status_code == 503
    queue.close()
    told = CliRunner().invoke(main, ["hooks", "jobs", "--queue", str(path)])
    assert (told.exit_code, told.output.count("\n")) == (1, 1)
    assert "file is not a database" in told.output


@pytest.mark.parametrize("command", [["jobs"], ["events"], ["retry", "0123"], ["dismiss", "0123"]])
def test_commands_say_in_one_line_that_redis_is_away(command):
    assert_told(command, free_port())


@pytest.mark.slow
@pytest.mark.parametrize("command", [["jobs"], ["dismiss", "0123"]])
def test_commands_say_within_seconds_that_redis_accepts_and_never_answers(command):
    with silent_server() as port:
        began = time.monotonic()
        assert_told(command, port)
        assert time.monotonic() - began < 8


def assert_told(command, port):
    told = CliRunner().invoke(main, ["hooks", *command, "--queue", f"redis://:a-password@127.0.0.1:{port}/0"])
    assert (told.exit_code, told.output.count("\n")) == (1, 1)
    assert f"the queue's Redis at 127.0.0.1:{port} does not answer" in told.output
    assert "a-password" not in told.output


@pytest.mark.slow
def test_hooks_serve_goes_through_an_outage_of_redis_with_two_lines_in_its_log(fireworks, registry, hooks, door):
    door, url = door
    base = f"http://127.0.0.1:{hooks.port}"
    hooks.environ["MLFLOW_FIREWORKS_QUEUE"] = url
    hooks.start("--reconcile-every", "0", "--lease", "3s")
    door.refuse()
    wait_until(lambda: "does not answer" in hooks.log, "the log names it", 20)
    assert hooks.deliver(alias_event(registry, 1)).status_code == 503
    began = time.monotonic()
    page = httpx.get(base).text
    assert "Cannot reach the queue" in page
    assert "the queue is unavailable (ConnectionError)" in page  # the webhook that was refused
    assert httpx.get(f"{base}/readyz").status_code == 503
    assert time.monotonic() - began < 8
    time.sleep(8)  # workers, clock and heartbeats try again and again
    door.open()
    wait_until(lambda: answers(f"{base}/readyz"), "Redis is back", 30)
    assert hooks.log.count("Traceback") == 0, hooks.log
    assert hooks.log.count("does not answer (") == 1, hooks.log
    assert hooks.log.count("answers again, after") == 1
    registry.promote(1)
    assert hooks.deliver(alias_event(registry, 1), delivery_id="d-2").status_code == 202
    wait_until(lambda: registry.tags(1).get("fireworks.state") == "READY", "version 1 is READY")
    assert "a-password" not in hooks.log
