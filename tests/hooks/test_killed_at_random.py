"""Receiver and workers die by SIGKILL at random moments while aliases move; the queue alone makes it right.

The default is short. HOOKS_PROMOTIONS=200 is the long form; the figures are printed with `pytest -s`.
"""

import os
import random
import subprocess
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing

import httpx
import pytest
from support.checkpoints import make_llama
from support.hooks_world import COMMAND, alias_event, answers, wait_until

from mlflow_fireworks.gateway.stamps import RevisionStamp
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.plugin import FireworksDeploymentClient

PROMOTIONS = int(os.environ.get("HOOKS_PROMOTIONS", "10"))
SEED = int(os.environ.get("HOOKS_SEED", "7"))
ALIASES = [f"a{number}" for number in range(4)]
LEASE = ["--lease", "3s"]
HOW = ["--reconcile-every", "0", "--retry-after", "0.5s"]


class Killer:
    """Kills one process after the other, each at a random moment of its life, and starts it again."""

    def __init__(self, lives, chance):
        self.lives = lives
        self.chance = chance
        self.kills = 0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.keep_killing, args=(life,)) for life in lives]
        self.failed = []

    def __enter__(self):
        for life in self.lives:
            life.start()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()
        for life in self.lives:
            life.end()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def keep_killing(self, life):
        chance = random.Random(self.chance.random())
        try:
            while not self.over.wait(chance.uniform(0.5, 8)):
                life.end()
                life.start()
                self.kills += 1
        except (AssertionError, OSError) as error:
            self.failed.append(error)


class Receiving:
    """The receiver, and in the small setup the workers in it."""

    def __init__(self, hooks, *options):
        self.hooks = hooks
        self.options = options

    def start(self):
        self.hooks.start(*self.options)

    def end(self):
        self.hooks.kill()


class Working:
    """A worker process; it is up when it looks into the queue, a moment after `start`."""

    def __init__(self, hooks):
        self.hooks = hooks
        self.process = None

    def start(self):
        command = [COMMAND, "hooks", "worker", "--rules", str(self.hooks.folder / "hooks.yaml"), "--workers", "1"]
        with (self.hooks.folder / "hooks.log").open("ab") as log:
            self.process = subprocess.Popen([*command, *HOW, *LEASE], env=self.hooks.environ, stdout=log, stderr=log)
        time.sleep(3)  # as long as a program takes to start; a shorter life does nothing at all

    def end(self):
        self.process.kill()
        self.process.wait(30)


@pytest.fixture
def versions(registry, runs, tmp_path):
    """Enough versions for the long form: content that a deployment has had is not uploaded again."""
    count = max(4, PROMOTIONS // 5)
    for seed in range(len(runs), count):
        folder = make_llama(tmp_path / f"llama-{seed}", seed=seed)
        registry.client.log_artifacts(runs[0], str(folder), f"more-{registry.name}-{seed}")
        registry.client.create_model_version(registry.name, f"runs:/{runs[0]}/more-{registry.name}-{seed}", runs[0])
    return list(range(1, count + 1))


def deliver(hooks, body, delivery_id):
    """Like a sender that does not give up: until the receiver has it, whichever of its lives that is."""

    def accepted():
        try:
            answer = hooks.deliver(body, delivery_id=delivery_id)
        except httpx.TransportError:
            return None
        assert answer.status_code in {200, 202, 503}, answer.text
        return answer.json()["jobs"] if answer.status_code != 503 else None

    return wait_until(accepted, f"{delivery_id} is accepted")


@pytest.fixture(params=["sqlite-one-process", "redis-three-workers"])
def lives(hooks, registry, tmp_path, request):
    """The processes that are killed."""
    (tmp_path / "hooks.yaml").write_text(
        f"rules:\n- {{name: all, model: {registry.name}, alias: 'a*', deployment: 'd-{{alias}}'}}\n"
    )
    if request.param == "sqlite-one-process":
        return [Receiving(hooks, *HOW)]
    hooks.environ["MLFLOW_FIREWORKS_QUEUE"] = request.getfixturevalue("redis_url")
    return [Receiving(hooks, "--workers", "0", *HOW, *LEASE), *(Working(hooks) for _ in range(3))]


@pytest.mark.slow
def test_every_alias_ends_where_it_points_and_nothing_is_lost_or_deployed_twice(
    lives, fireworks, registry, hooks, versions
):
    chance = random.Random(SEED)
    points, taken = {}, []
    began = time.monotonic()
    with ExitStack() as stack:
        killer = stack.enter_context(Killer(lives, chance))
        for number in range(PROMOTIONS):
            alias, version = chance.choice(ALIASES), chance.choice(versions)
            points[alias] = version
            registry.promote(version, alias)
            taken += deliver(hooks, alias_event(registry, version, alias), f"promotion {number}")
            time.sleep(chance.uniform(0, 2))
        killer.stop()
        assert not killer.failed
        url = hooks.environ.get("MLFLOW_FIREWORKS_QUEUE") or str(hooks.folder / "hooks.db")
        queue = stack.enter_context(closing(open_queue(url)))
        wait_until(lambda: all(job.state.is_final for job in queue.ledger.jobs()), "all work is done", 300)
        jobs = {job.id: job for job in queue.ledger.jobs()}
        assert answers(f"http://127.0.0.1:{hooks.port}/healthz")
    assert len(set(taken)) == PROMOTIONS
    states = Counter(jobs[job_id].state.value for job_id in taken)
    assert set(states) <= {"done", "superseded"}, [job.error for job in jobs.values() if job.error]
    client = FireworksDeploymentClient("fireworks")
    for alias, version in points.items():
        found = client.get_deployment(f"d-{alias}")
        assert (found["state"], found["source"]) == ("READY", f"models:/{registry.name}/{version}")
    models = models_of(fireworks)
    made = [call for call in fireworks.calls("create_model") if call.status == 200]
    assert len(made) == len(models) == len(set(models))
    print(  # noqa: T201 - the figures of the long form
        f"\n{len(lives)} processes, {killer.kills} kills, {PROMOTIONS} promotions: {dict(states)},",
        f"{len(models)} models made, {sum(job.crashes for job in jobs.values())} tries cut off,",
        f"{time.monotonic() - began:.0f} s",
    )


def models_of(fireworks):
    """Deployment and content of every model that is there, by the stamps in their descriptions."""
    models, token = [], ""
    while True:
        answer = httpx.get(
            f"{fireworks.url}/v1/accounts/acme/models",
            params={"pageSize": 100, "pageToken": token},
            headers={"Authorization": "Bearer fw_key"},
        ).json()
        models += [RevisionStamp.read(model["description"]) for model in answer["models"]]
        token = answer.get("nextPageToken", "")
        if not token:
            return [(stamp.deployment, stamp.fingerprint) for stamp in models]
