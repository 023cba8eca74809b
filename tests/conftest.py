"""What every test stands on: a clean environment and a state folder of its own."""

import os
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import click.testing
import pytest

if TYPE_CHECKING:
    from mlflow.deployments import BaseDeploymentClient

    from mlflow_fireworks.emulator import Emulator

# Read by MLflow and huggingface_hub when they are imported, so they are set before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"

if version("click").startswith("8.1."):  # newer ones keep stderr apart without being asked
    click.testing.CliRunner = partial(click.testing.CliRunner, mix_stderr=False)

_CLEARED = (
    "FIREWORKS_API_KEY",
    "FIREWORKS_ACCOUNT_ID",
    "FIREWORKS_BASE_URL",
    "CREDENTIALS_DIRECTORY",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_DEPLOYMENTS_TARGET",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, for `-n auto`: a third of the time goes by waiting for servers and programs."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority: httpx reads all of certifi's for each client, which takes longer than most tests."""
    path = tmp_path_factory.mktemp("authorities") / "one.pem"
    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----")
    path.write_text(f"{first}{end}\n")
    return path


@pytest.fixture(autouse=True)
def _own_environment(
    tmp_path_factory: pytest.TempPathFactory, one_authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test sees the developer's keys, proxies or state; none talks to a public server."""
    for name in _CLEARED:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(one_authority))
    home: Path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MLFLOW_FIREWORKS_HOME", str(home / "state"))


@pytest.fixture
def fireworks(monkeypatch: pytest.MonkeyPatch) -> Iterator["Emulator"]:
    """An emulated Fireworks that the target `fireworks` leads to."""
    from mlflow_fireworks.emulator import Emulator

    with Emulator() as emulator:
        monkeypatch.setenv("FIREWORKS_BASE_URL", emulator.url)
        monkeypatch.setenv("FIREWORKS_API_KEY", "fw_key")
        monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", "acme")
        yield emulator
        assert not emulator.failures


@pytest.fixture
def client(fireworks: "Emulator") -> "BaseDeploymentClient":
    """MLflow's client of it."""
    from mlflow.deployments import get_deploy_client

    return get_deploy_client("fireworks")
