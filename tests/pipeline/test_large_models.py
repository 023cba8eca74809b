"""One large file that goes up as shards, through the whole pipeline to the local Fireworks."""

import pytest
from pydantic import SecretStr
from support.checkpoints import llama_tensors, make_llama

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.config import parse_config
from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.errors import ConflictError, TransferError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry
from mlflow_fireworks.pipeline.pipeline import Pipeline
from mlflow_fireworks.pipeline.plan import Action
from mlflow_fireworks.progress import Silent
from mlflow_fireworks.run import Run
from mlflow_fireworks.waiting import Waiter

QUICK = Retry(attempts=3, wait_initial=0.01, wait_max=0.02)


@pytest.fixture
def emulator():
    with Emulator() as emulator:
        yield emulator
        assert not emulator.failures


@pytest.fixture
def gateway(emulator):
    with Gateway(emulator.url, SecretStr("fw_key"), "acme", retry=QUICK) as gateway:
        yield gateway


@pytest.fixture
def run(gateway, tmp_path):
    def pipeline(**options):
        reporter = Silent()
        return Pipeline(
            Run(
                gateway,
                Commands("fireworks"),
                reporter,
                Waiter(reporter),
                tmp_path / "state",
                parse_config(options),
                retry=QUICK,
            )
        )

    return pipeline


def test_shards_of_one_file_become_ready(run, gateway, emulator, tmp_path):
    folder = make_llama(tmp_path / "llama", layers=4)
    outcome = run(shard_size="10KB").create("chat", str(folder))

    assert outcome.to_dict()["state"] == "READY"
    assert outcome.model.base_model_details.parameter_count == sum(t.size for t in llama_tensors(layers=4).values())
    assert not outcome.warnings
    sent = [request.path for request in emulator.calls("put_object")]
    assert sum(path.endswith(".safetensors") for path in sent) > 3
    assert not any(path.endswith("/model.safetensors") for path in sent)
    assert run(shard_size=10_000).create("chat", str(folder)).action is Action.NOTHING


def test_another_division_of_the_same_bytes_is_other_content(run, tmp_path):
    """Fireworks fixes the names of a model's files when it is created."""
    folder = make_llama(tmp_path / "llama")
    run(shard_size="10KB").create("chat", str(folder))
    with pytest.raises(ConflictError, match="different content"):
        run(shard_size="off").create("chat", str(folder))
    assert run(shard_size="off").update("chat", str(folder)).action is Action.UPDATE


def test_upload_of_shards_goes_on_where_it_stopped(run, emulator, tmp_path):
    folder = make_llama(tmp_path / "llama", layers=4)
    emulator.fault("put_object", skip=8, status=400)
    with pytest.raises(TransferError):
        run(shard_size="10KB", max_workers=1).create("chat", str(folder))
    before = len(emulator.calls("put_object"))

    outcome = run(shard_size="10KB").create("chat", str(folder))
    assert outcome.to_dict()["state"] == "READY"
    assert 0 < len(emulator.calls("put_object")) - before < len(outcome.manifest.files)
