"""The queue on a real Redis server: a receiver and three workers, some of them killed."""

import random
import shutil
import subprocess
import time

import pytest
from hooks_world import COMMAND, free_port, wait_until

from mlflow_fireworks.errors import InvalidConfigError, UnavailableError
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.plugin import FireworksDeploymentClient

redis = pytest.importorskip("redis")
pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


@pytest.fixture
def redis_url(tmp_path):
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""]
    process = subprocess.Popen([*command, "--requirepass", "a-password"], stdout=subprocess.DEVNULL)
    url = f"redis://:a-password@127.0.0.1:{port}/0"
    client = redis.Redis.from_url(url)

    def is_up():
        try:
            return client.ping()
        except redis.RedisError:
            return False

    try:
        wait_until(is_up, "Redis answers")
        yield url
    finally:
        client.close()
        process.terminate()
        process.wait(30)


def test_three_workers_of_which_some_are_killed_bring_every_alias_where_it_points(
    fireworks, registry, hooks, redis_url, tmp_path
):
    chance = random.Random(7)
    aliases = [f"a{number}" for number in range(4)]
    (tmp_path / "hooks.yaml").write_text(
        f"rules:\n- {{name: all, model: {registry.name}, alias: 'a*', deployment: 'd-{{alias}}'}}\n"
    )
    hooks.environ["MLFLOW_FIREWORKS_QUEUE"] = redis_url
    hooks.start("--workers", "0", "--reconcile-every", "0", "--lease", "3s")
    command = [COMMAND, "hooks", "worker", "--rules", str(tmp_path / "hooks.yaml"), "--lease", "3s"]
    command += ["--workers", "1", "--reconcile-every", "0", "--retry-after", "0.5s"]
    log = (tmp_path / "hooks.log").open("ab")
    workers = [None, None, None]

    def start(place):
        workers[place] = subprocess.Popen(command, env=hooks.environ, stdout=log, stderr=log)

    try:
        for place in range(3):
            start(place)
        points = {}
        for turn in range(12):
            alias, version = chance.choice(aliases), chance.randint(1, 4)
            points[alias] = version
            registry.promote(version, alias)
            answer = hooks.deliver(alias_event(registry, version, alias), delivery_id=f"turn {turn}")
            assert answer.status_code == 202
            time.sleep(chance.uniform(0, 1.5))
            if turn % 3 == 2:
                place = chance.randrange(3)
                workers[place].kill()
                workers[place].wait(30)
                start(place)
        queue = open_queue(redis_url)
        wait_until(lambda: all(job.state.is_final for job in queue.ledger.jobs()), "all work is done", 120)
        assert {job.state.value for job in queue.ledger.jobs()} <= {"done", "superseded"}
        queue.close()
        client = FireworksDeploymentClient("fireworks")
        for alias, version in points.items():
            found = client.get_deployment(f"d-{alias}")
            assert (found["state"], found["source"]) == ("READY", f"models:/{registry.name}/{version}")
        stamps = [(model["name"], revision) for model in client.list_deployments() for revision in model["revisions"]]
        assert len(stamps) == len(set(stamps))
    finally:
        for worker in workers:
            if worker:
                worker.kill()
                worker.wait(30)
        log.close()
    assert "a-password" not in hooks.log


def alias_event(registry, version, alias):
    data = f'{{"name": "{registry.name}", "alias": "{alias}", "version": "{version}"}}'
    return f'{{"entity": "model_version_alias", "action": "created", "data": {data}}}'.encode()


def test_a_redis_that_is_away_or_a_url_that_is_none_is_told_without_its_password():
    with pytest.raises(UnavailableError) as caught:
        open_queue(f"redis://:a-password@127.0.0.1:{free_port()}/0")
    assert "a-password" not in caught.value.message
    with pytest.raises(InvalidConfigError) as caught:
        open_queue("ftp://:a-password@host/0")
    assert "a-password" not in caught.value.message
