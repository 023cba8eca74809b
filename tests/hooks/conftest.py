"""Real programs for the tests of the hooks: `mlflow server` on a database, and `mlflow-fireworks hooks serve`."""

import os
import re
import shutil
import subprocess

import mlflow
import pytest
import redis
from support.checkpoints import make_llama
from support.hooks_world import SECRET, VERSIONS, Hooks, Registry, wait_until
from support.mlflow_server import running_server, sends_webhooks
from support.ports import free_port


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory):
    """The address of an MLflow server that sends webhooks to loopback."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    with running_server(folder, str(folder / "kept"), **sends_webhooks()) as url:
        yield url


@pytest.fixture(scope="session")
def runs(mlflow_server, tmp_path_factory):
    """Runs on the server, each with another checkpoint below `model`."""
    client = mlflow.MlflowClient(mlflow_server)
    folder = tmp_path_factory.mktemp("checkpoints")
    experiment = client.create_experiment("hooks")
    found = [client.create_run(experiment).info.run_id for _ in range(VERSIONS)]
    for seed, run_id in enumerate(found):
        client.log_artifacts(run_id, str(make_llama(folder / f"llama-{seed}", seed=seed)), "model")
    return found


@pytest.fixture
def registry(mlflow_server, runs, request, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    client = mlflow.MlflowClient(mlflow_server)
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[-50:].strip("-")
    client.create_registered_model(name)
    for run_id in runs:
        client.create_model_version(name, f"runs:/{run_id}/model", run_id)
    yield Registry(client, mlflow_server, name)
    for webhook in client.list_webhooks():
        client.delete_webhook(webhook.webhook_id)


@pytest.fixture
def hooks(fireworks, registry, tmp_path):
    """Not started yet; the rule file follows the alias champion of the test's model."""
    environ = os.environ | {"MLFLOW_FIREWORKS_WEBHOOK_SECRET": SECRET}
    (tmp_path / "hooks.yaml").write_text(f"rules:\n- {{name: champions, model: {registry.name}, alias: champion}}\n")
    hooks = Hooks(tmp_path, environ)
    yield hooks
    hooks.close()
    assert SECRET not in hooks.log
    assert "fw_key" not in hooks.log


@pytest.fixture
def redis_url(tmp_path):
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""]
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
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
