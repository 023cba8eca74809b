"""Moves while somebody asks all the time, and moves that are killed: no request fails, nothing is forgotten.

The default is short. ENDPOINT_MOVES=50 is the long form.
"""

import multiprocessing
import os
import random
import re
import threading
import time
from contextlib import suppress

import httpx
import pytest
from emulator.raw_client import Api
from support.movers import move as move_in_time

from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.serving.endpoints import create_endpoint, get_endpoint
from mlflow_fireworks.serving.rollout import serve_deployment

ROUTER = "accounts/acme/routers/prod"
REVISIONS = ["chat", *(f"chat-r{number}" for number in range(2, 8))]
SIBLINGS = {f"accounts/acme/models/{name}" for name in REVISIONS}


MOVES = int(os.environ.get("ENDPOINT_MOVES", "12"))


class DiedError(BaseException):
    """As a process that is killed: nothing is cleaned up."""


class Death:
    """Ends a run at its n-th request, or the n-th that changes something: not sent, or its answer not read."""

    def __init__(self, http, number, when, counted="changes"):
        self.left = number
        self.counted = counted
        self.hooks = http.event_hooks
        self.http = http
        http.event_hooks = {when: [self.count]}

    def count(self, message):
        request = getattr(message, "request", message)
        changes = request.method != "GET" and "/inference/" not in request.url.path
        self.left -= changes or self.counted == "all"
        if self.left < 0:
            raise DiedError

    def lift(self):
        self.http.event_hooks = self.hooks
        return self.left < 0


def where(text):
    """The model and the deployment that an answer comes from."""
    return re.search(r"models/(?P<model>[a-z0-9-]+)#accounts/acme/deployments/(?P<deployment>[a-z0-9-]+) ", text)


def ask(api):
    answer = api.http.post("/inference/v1/completions", json={"model": ROUTER, "prompt": "x"})
    assert answer.status_code == 200, answer.text
    return where(answer.text)["model"]


@pytest.mark.parametrize("when", ["request", "response"])
@pytest.mark.parametrize(
    ("counted", "routing", "least"),
    [
        ("changes", "at-once", 4),
        pytest.param("all", "at-once", 20, marks=pytest.mark.slow),
        pytest.param("all", "slow:2", 20, marks=pytest.mark.slow),
    ],
)
def test_a_move_that_dies_at_any_request_ends_right_when_it_is_run_again(world, when, counted, routing, least):
    first, second = world.base("chat"), world.base("chat-r2")
    create_endpoint(world.run(model="chat", min_replicas=1), "prod")
    world.emulator.behave(f"router-changes={routing}")
    current, goal, deaths = first, second, 0
    for number in range(200):
        death = Death(world.gateway.transport.http, number, when, counted)
        try:
            serve_deployment(world.run(), "prod", goal, SIBLINGS, live_merge=False, moving=True)
        except DiedError:
            deaths += 1
            death.lift()
            assert ask(world.api) in (current.model_id, goal.model_id)
            serve_deployment(world.run(), "prod", goal, SIBLINGS, live_merge=False, moving=True)
        if not death.lift():
            break
        shown = get_endpoint(world.run(), "prod")
        assert (shown["address"], shown["model"], shown["others"]) == (ROUTER, goal.name, [])
        assert list(world.deployments().values()) == [goal.model_id]
        assert ask(world.api) == goal.model_id
        current, goal = goal, current
    assert deaths >= least


@pytest.mark.parametrize("when", ["request", "response"])
def test_what_is_billed_after_a_death_is_in_the_list_with_what_removes_it(world, when):
    first, second = world.base("chat"), world.base("chat-r2")
    create_endpoint(world.run(model="chat", min_replicas=1), "prod")
    number, died = 0, True
    while died:
        death = Death(world.gateway.transport.http, number, when)
        with suppress(DiedError):
            serve_deployment(world.run(), "prod", second, SIBLINGS, live_merge=False, moving=True)
        died, number = death.lift(), number + 1
        shown = get_endpoint(world.run(), "prod")
        listed = {shown["deployment"], *shown["others"]}
        assert {name.rpartition("/")[2] for name in listed} == set(world.deployments())
        assert bool(shown["others"]) == bool(shown["remove_others"])
        serve_deployment(world.run(), "prod", first, SIBLINGS, live_merge=False, moving=True)


class Asker:
    """An `openai` client that keeps asking one address, and remembers who answered when, and what failed."""

    def __init__(self, url, rate=20):
        import openai

        self.client = openai.OpenAI(base_url=f"{url}/inference/v1", api_key="k", max_retries=0, timeout=20)
        self.pause, self.over = 1 / rate, threading.Event()
        self.answers, self.failed = [], []
        self.thread = threading.Thread(target=self.keep_asking)

    def keep_asking(self):
        question = [{"role": "user", "content": "Hello"}]
        while not self.over.wait(self.pause):
            self.ask(question)

    def ask(self, question):
        try:
            said = self.client.chat.completions.create(model=ROUTER, messages=question)
            self.answers.append(where(said.choices[0].message.content)["model"])
        except Exception as error:  # noqa: BLE001 - whatever a user would see
            self.failed.append(repr(error))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.client.close()


@pytest.fixture
def busy():
    """An emulator in real time whose routers follow after two seconds, and an account with seven revisions."""
    with Emulator(seed=3) as emulator:
        api = Api(emulator.url)
        for name in REVISIONS:
            api.ready(name)
        move_in_time(emulator.url, "chat", SIBLINGS, min_replicas=1)
        emulator.behave("router-changes=slow:2s", "routing=404-first:1s")
        time.sleep(1.1)
        yield emulator, api
        api.close()
        assert not emulator.failures


def up(api):
    found = api.call("GET", "/deployments").json()["deployments"]
    return sorted(item["baseModel"].rpartition("/")[2] for item in found if item["state"] != "DELETING")


@pytest.mark.slow
@pytest.mark.parametrize("told", ["told", "untold"])
def test_nobody_notices_five_updates_a_failed_one_and_two_rollbacks(busy, told):
    emulator, api = busy
    emulator.behave(f"answering-deployment={told}")
    steps = ["chat-r2", "chat-r3", "chat-r4", "chat-r7", "chat-r3", "chat-r5", "chat-r6", "chat-r5"]
    with Asker(emulator.url) as asker:
        for step in steps:
            emulator.set_transition("deployments", seconds=0.5, fails_with="no memory" if step == "chat-r7" else "")
            try:
                move_in_time(emulator.url, step, SIBLINGS, routing_lag="3s")
                assert step != "chat-r7"
            except FireworksError:
                assert step == "chat-r7"
            time.sleep(0.5)
    assert asker.failed == []
    assert set(asker.answers) == {"chat", *steps} - {"chat-r7"}
    assert len(asker.answers) > 100
    assert up(api) == ["chat-r5"]


@pytest.mark.slow
def test_moves_that_are_killed_at_random_moments_end_right(busy):
    emulator, api = busy
    emulator.behave("router-changes=slow:0s", "routing=at-once")
    emulator.set_transition("deployments", seconds=0.2)
    chance, context, killed, current = random.Random(11), multiprocessing.get_context("forkserver"), 0, "chat"
    context.set_forkserver_preload(["support.movers"])
    with Asker(emulator.url) as asker:
        for _ in range(MOVES):
            goal = chance.choice([name for name in REVISIONS if name != current])
            mover = context.Process(target=move_in_time, args=(emulator.url, goal, SIBLINGS))
            mover.start()
            mover.join(chance.uniform(0.05, 2.0))
            if mover.is_alive():
                mover.kill()
                killed += 1
            mover.join()
            move_in_time(emulator.url, goal, SIBLINGS)
            assert up(api) == [goal]
            current = goal
    assert asker.failed == []
    assert set(asker.answers) <= set(REVISIONS)
    assert killed > MOVES / 5
    assert httpx.get(f"{emulator.url}/v1/accounts/acme/routers/prod", headers={"Authorization": "Bearer k"}).json()[
        "deployments"
    ]
