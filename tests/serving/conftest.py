"""Serving on an emulated account whose time is the test's: waiting costs none, and is counted."""

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest
from emulator.raw_client import ADDON, Api, adapter_files
from pydantic import SecretStr
from support.source_world import Remembers

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.endpoint_config import parse_endpoint_config
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry
from mlflow_fireworks.run import Run
from mlflow_fireworks.waiting import Waiter

QUICK = Retry(attempts=3, wait_initial=0.001, wait_max=0.002)


class World:
    """An account, the raw API beside it, and a clock that both sides read."""

    def __init__(self, emulator, gateway, api, clock):
        self.emulator = emulator
        self.gateway = gateway
        self.api = api
        self.clock = clock
        self.told = Remembers()

    def sleep(self, seconds):
        self.clock[0] += seconds

    def run(self, **options):
        waiter = Waiter(self.told, lambda: self.clock[0], self.sleep)
        return Run(
            self.gateway,
            Commands("fireworks"),
            self.told,
            waiter,
            Path(),
            endpoint_config=parse_endpoint_config(options),
            retry=QUICK,
            now=lambda: datetime.fromtimestamp(self.clock[0], timezone.utc),
        )

    def impatient(self, seconds, **options):
        return replace(self.run(**options), total_timeout=seconds)

    def deployments(self):
        """What is up, by id: its model."""
        found = self.api.call("GET", "/deployments").json()["deployments"]
        return {item["name"].rpartition("/")[2]: item["baseModel"].rpartition("/")[2] for item in found}

    def base(self, model_id="chat", **model):
        self.api.ready(model_id)
        return self.gateway.models.find(model_id)

    def adapter(self, model_id="lora"):
        self.api.ready(model_id, ADDON, adapter_files())
        return self.gateway.models.find(model_id)


@pytest.fixture
def open_world():
    opened = []

    def open_world(**options):
        clock = [1_790_000_000.0]
        emulator = Emulator(clock=lambda: clock[0], **options).start()
        opened.append(emulator.stop)
        gateway = Gateway(emulator.url, SecretStr("k"), "acme", retry=QUICK)
        opened.append(gateway.__exit__)
        api = Api(emulator.url)
        opened.append(api.close)
        world = World(emulator, gateway, api, clock)
        opened.append(lambda: check(emulator))
        return world

    def check(emulator):
        assert not emulator.failures

    yield open_world
    for close in reversed(opened):
        close()


@pytest.fixture
def world(open_world):
    return open_world()
