"""The base model that MLflow saves beside a LoRA adapter holds that adapter too; it goes up without it."""

import json

import numpy as np
import pytest
from safetensors.numpy import load
from support.checkpoints import (
    edit_json,
    llama_tensors,
    make_peft_model,
    make_transformers_model,
    read_files,
    save_weights,
)
from support.misbehaving_store import MisbehavingStore, running
from support.planning import RemoteStore, names, plan, read_file, source_of

from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.errors import PreflightError


def wrapped_tensors() -> dict[str, np.ndarray]:
    """The tiny Llama's weights under the names that PEFT 0.21 gives those of a model it has changed."""
    tensors = {}
    for name, tensor in llama_tensors().items():
        layer = name.removesuffix(".weight")
        if "q_proj" in name:
            tensors[f"{layer}.base_layer.weight"] = tensor
            tensors[f"{layer}.lora_A.default.weight"] = np.ones((8, 16), np.float16)
            tensors[f"{layer}.lora_B.default.weight"] = np.ones((16, 8), np.float16)
        elif "lm_head" in name:
            tensors["lm_head.original_module.weight"] = tensor
            tensors["lm_head.modules_to_save.default.weight"] = tensor + 1
        else:
            tensors[name] = tensor
    return tensors


def make_wrapped_model(folder, *, shards: int):
    make_peft_model(folder)
    (folder / "model" / "model.safetensors").unlink()
    save_weights(folder / "model", wrapped_tensors(), shards=shards)
    return folder


def read_weights(manifest) -> dict[str, np.ndarray]:
    loaded = {}
    for name in names(manifest):
        if name.endswith(".safetensors"):
            loaded |= load(read_file(manifest, name))
    return loaded


@pytest.mark.parametrize("shards", [1, 3])
def test_base_goes_up_as_the_plain_model_it_was(tmp_path, shards):
    manifest = plan(make_wrapped_model(tmp_path / "m", shards=shards), kind="base")
    loaded, expected = read_weights(manifest), llama_tensors()
    assert set(loaded) == set(expected)
    assert all(np.array_equal(loaded[name], expected[name]) for name in expected)
    assert manifest.facts.parameter_count == sum(tensor.size for tensor in expected.values())
    assert any("LoRA adapter" in note and "was removed" in note for note in manifest.notes)


def test_index_names_what_goes_up(tmp_path):
    manifest = plan(make_wrapped_model(tmp_path / "m", shards=3), kind="base")
    index = json.loads(read_file(manifest, "model.safetensors.index.json"))
    for name, shard in index["weight_map"].items():
        assert name in load(read_file(manifest, shard))
    assert set(index["weight_map"]) == set(llama_tensors())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in llama_tensors().values())


def test_sizes_and_seeking_are_those_of_an_ordinary_file(tmp_path):
    manifest = plan(make_wrapped_model(tmp_path / "m", shards=1), kind="base")
    file = manifest.files[-1]
    whole = read_file(manifest, file.name)
    assert len(whole) == file.size
    with file.content.staged() as open_file, open_file() as opened:
        for begin in (0, 5, 700, file.size - 3, file.size):
            assert opened.seek(begin) == begin
            assert opened.read(1_000) == whole[begin : begin + 1_000]
        assert opened.seek(0, 2) == file.size


def test_plain_base_is_left_as_it_is(tmp_path):
    folder = make_transformers_model(tmp_path / "m")
    assert read_file(plan(folder), "model.safetensors") == (folder / "model" / "model.safetensors").read_bytes()


def test_model_that_carries_adapters_as_a_part_of_itself_keeps_them(tmp_path):
    """Phi-4-multimodal is published with its speech and vision adapters inside."""
    folder = make_transformers_model(tmp_path / "m")
    save_weights(folder / "model", wrapped_tensors())
    with pytest.raises(PreflightError, match=r"a LoRA that was not merged .*merge_and_unload"):
        plan(folder)
    edit_json(folder / "model" / "config.json", model_type="phi4mm")
    assert set(read_weights(plan(folder))) == set(wrapped_tensors())


def test_fingerprint_of_an_unwrapped_base_holds_on(tmp_path):
    folder = make_wrapped_model(tmp_path / "m", shards=3)
    assert plan(folder, kind="base").fingerprint == plan(folder, kind="base").fingerprint
    pinned = [plan(source_of(folder, identity=name), kind="base").fingerprint for name in ("m-1", "m-1", "m-2")]
    assert pinned[0] == pinned[1] != pinned[2]


def test_remote_shards_that_hold_an_adapter_are_refused(tmp_path):
    """Their headers are not read, so the adapter shows only in the index."""
    folder = make_wrapped_model(tmp_path / "m", shards=3)
    with pytest.raises(PreflightError, match="the weights contain a LoRA adapter"):
        plan(source_of(folder, RemoteStore(folder, tmp_path), identity="s3://bucket/m"), kind="base")


def test_adapter_is_taken_out_of_remote_shards(tmp_path):
    folder = make_wrapped_model(tmp_path / "m", shards=3)
    with running(MisbehavingStore(read_files(folder))) as served:
        served.knows_ranges = True
        source = open_source(served.url, workspace=tmp_path)
        assert names(plan(source, kind="base")) == names(plan(folder, kind="base"))
        source.store.close()
