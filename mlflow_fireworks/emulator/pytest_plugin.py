"""A local Fireworks for your own tests, as a pytest fixture.

Opt in from a ``conftest.py``::

    pytest_plugins = ["mlflow_fireworks.emulator.pytest_plugin"]

and then::

    def test_our_model_gets_deployed(local_fireworks):
        client = get_deploy_client(local_fireworks.target)
        client.create_deployment("chat", "models:/chat/1")
        assert local_fireworks.calls("validate_upload")

The fixture is empty at the start of each test, with the default behaviours; ``local_fireworks.behave(...)`` and
``local_fireworks.fault(...)`` change that for the test. The server behind it runs once per session. At the end of
a test it fails the test if the client did what no correct client does (unknown routes or fields, an API key sent to
storage). Where that was the point of the test, end it with ``local_fireworks.reset()``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlflow_fireworks.emulator import Emulator


class LocalFireworks(Emulator):
    """An `Emulator` that also knows how this package addresses it."""

    @property
    def target(self) -> str:
        """Target URI for MLflow, such as ``fireworks://127.0.0.1:40123/local``."""
        return f"fireworks://{self.url.removeprefix('http://')}/local"


@pytest.fixture(scope="session")
def _local_fireworks_server() -> Iterator[LocalFireworks]:
    with LocalFireworks() as server:
        yield server


@pytest.fixture
def local_fireworks(
    _local_fireworks_server: LocalFireworks, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalFireworks]:
    """An empty local Fireworks; any API key is good, so one is set for the time of the test."""
    _local_fireworks_server.reset()
    monkeypatch.setenv("FIREWORKS_API_KEY", "local")
    monkeypatch.delenv("FIREWORKS_BASE_URL", raising=False)
    yield _local_fireworks_server
    failures = _local_fireworks_server.failures
    if failures:
        pytest.fail("the client did what Fireworks refuses: " + "; ".join(map(str, failures)), pytrace=False)
