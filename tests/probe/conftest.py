import secrets

import pytest
from pydantic import SecretStr

from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.probe.session import Session
from mlflow_fireworks.progress import Silent
from mlflow_fireworks.transfer.storage import make_storage_client

KEY = "fw_3ZkQabcdefgh12345"
ACCOUNT = "acme-research"
MORNING = 1_790_000_000.0


class Clock:
    """Time passes only where somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class World:
    """An emulated Fireworks, and probes of it that do not wait."""

    def __init__(self, emulator, clock, monkeypatch):
        self.emulator = emulator
        self.clock = clock
        monkeypatch.setenv("FIREWORKS_BASE_URL", emulator.url)
        monkeypatch.setenv("FIREWORKS_API_KEY", KEY)

    def open(self, stack, reporter=None):
        """A session, as `open_session` makes one, that waits on the made-up clock."""
        key = SecretStr(KEY)
        gateway = stack.enter_context(Gateway(self.emulator.url, key))
        storage = stack.enter_context(make_storage_client(1, Timeouts()))
        quick = Retry(attempts=3, wait_initial=0.0)
        return Session(
            gateway, storage, reporter or Silent(), key, secrets.token_hex(4), quick, self.clock, self.clock.sleep
        )

    def left(self):
        """Names of everything that a probe made and that is still there."""
        with self.emulator._service.store.transaction() as transaction:
            kinds = ("models", "deployments", "deployedModels")
            return [resource.name for kind in kinds for resource in transaction.all(kind, ACCOUNT)]


@pytest.fixture
def make_world(monkeypatch):
    running = []

    def make(**options):
        clock = Clock()
        emulator = Emulator(clock=lambda: MORNING + clock(), accounts=(ACCOUNT,), api_keys={KEY}, **options).start()
        running.append(emulator)
        return World(emulator, clock, monkeypatch)

    yield make
    for emulator in running:
        emulator.stop()


@pytest.fixture
def world(make_world):
    return make_world()
