"""A running emulator and a raw client for it."""

import pytest
from emulator.raw_client import Api, base_files

from mlflow_fireworks.emulator import Emulator


@pytest.fixture
def start():
    """Start emulators and clients that the fixture stops; returns (emulator, api)."""
    opened = []

    def start(*args, account="acme", key="a-key", **options):
        emulator = Emulator(*args, **options).start()
        opened.append(emulator)
        api = Api(emulator.url, account, key)
        opened.append(api)
        return emulator, api

    yield start
    for item in reversed(opened):
        item.close() if isinstance(item, Api) else item.stop()


@pytest.fixture(scope="session")
def shared():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(shared):
    """An empty emulator with default options; one server for all tests that ask for nothing else."""
    shared.reset()
    return shared


@pytest.fixture
def api(emulator):
    api = Api(emulator.url)
    yield api
    api.close()


@pytest.fixture
def files():
    return base_files()
