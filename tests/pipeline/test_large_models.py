"""One large file that goes up as shards, through the whole pipeline to the local Fireworks."""

import pytest
from support.checkpoints import llama_tensors, make_llama

from mlflow_fireworks.errors import ConflictError, TransferError
from mlflow_fireworks.pipeline.plan import Action


def test_shards_of_one_file_become_ready(account, tmp_path):
    folder = make_llama(tmp_path / "llama", layers=4)
    outcome = account.run(shard_size="10KB").create("chat", str(folder))

    assert outcome.to_dict()["state"] == "READY"
    assert outcome.model.base_model_details.parameter_count == sum(t.size for t in llama_tensors(layers=4).values())
    assert not outcome.warnings
    sent = [request.path for request in account.emulator.calls("put_object")]
    assert sum(path.endswith(".safetensors") for path in sent) > 3
    assert not any(path.endswith("/model.safetensors") for path in sent)
    assert account.run(shard_size=10_000).create("chat", str(folder)).action is Action.NOTHING


def test_another_division_of_the_same_bytes_is_other_content(account, tmp_path):
    """Fireworks fixes the names of a model's files when it is created."""
    folder = make_llama(tmp_path / "llama")
    account.run(shard_size="10KB").create("chat", str(folder))
    with pytest.raises(ConflictError, match="different content"):
        account.run(shard_size="off").create("chat", str(folder))
    assert account.run(shard_size="off").update("chat", str(folder)).action is Action.UPDATE


def test_upload_of_shards_goes_on_where_it_stopped(account, tmp_path):
    folder = make_llama(tmp_path / "llama", layers=4)
    account.emulator.fault("put_object", skip=8, status=400)
    with pytest.raises(TransferError):
        account.run(shard_size="10KB", max_workers=1).create("chat", str(folder))
    before = len(account.emulator.calls("put_object"))

    outcome = account.run(shard_size="10KB").create("chat", str(folder))
    assert outcome.to_dict()["state"] == "READY"
    assert 0 < len(account.emulator.calls("put_object")) - before < len(outcome.manifest.files)
