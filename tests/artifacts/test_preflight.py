"""Faults of a checkpoint, found before anything is sent: all of them, and without reading the weights."""

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.checkpoints import (
    edit_json,
    llama_tensors,
    make_embedder,
    make_llama,
    make_transformers_model,
    read_json,
    save_weights,
    write_json,
)
from support.planning import CountingStore, RemoteStore, names, plan, source_of

from mlflow_fireworks.artifacts.safetensors import Header, read_header
from mlflow_fireworks.errors import PreflightError

SHARD = "model-00002-of-00003.safetensors"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"


def problems(folder, **options) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        plan(folder, **options)
    return list(caught.value.problems)


def test_all_faults_come_in_one_error(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3, quantization_config={"quant_method": "gptq"})
    (folder / SHARD).unlink()
    (folder / "tokenizer.json").unlink()
    edit_json(folder / "config.json", architectures=None, model_type=None)
    (folder / "special_tokens_map.json").write_bytes(b"")
    found = problems(folder)
    for said in (
        "architectures",
        "model_type",
        "tokenizer is missing",
        SHARD,
        "gptq",
        "special_tokens_map.json is empty",
    ):
        assert sum(said in problem for problem in found) >= 1, said
    with pytest.raises(PreflightError, match=rf"{len(found)} problems: "):
        plan(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b'{"architectures": ["Lla', "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (LFS, "Git LFS pointer"),
        (b'{"model_type": "llama"}', "no architectures"),
        (b'{"architectures": ["X"], "model_type": 7}', "no model_type"),
    ],
)
def test_config_that_cannot_be_used_is_named(tmp_path, content, said):
    folder = make_llama(tmp_path / "m")
    (folder / "config.json").write_bytes(content)
    assert any(problem.startswith("config.json ") and said in problem for problem in problems(folder))


def test_fault_is_told_with_the_place_in_the_artifacts(tmp_path):
    folder = make_transformers_model(tmp_path / "m")
    (folder / "components" / "tokenizer" / "tokenizer.json").write_bytes(b'{"truncated')
    assert any("components/tokenizer/tokenizer.json is not valid JSON" in problem for problem in problems(folder))


def test_missing_config_is_a_fault(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "config.json").unlink()
    assert problems(folder) == ["config.json is missing"]


def test_missing_shards_are_named(tmp_path):
    folder = make_llama(tmp_path / "m", shards=9)
    for number in range(2, 10):
        (folder / f"model-0000{number}-of-00009.safetensors").unlink()
    (found,) = problems(folder)
    assert "8 of the 9 files" in found
    assert "and 3 more" in found


def test_tensors_missing_from_their_shard_are_named(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    index = folder / "model.safetensors.index.json"
    weight_map = read_json(index)["weight_map"]
    edit_json(index, weight_map={**weight_map, "model.layers.9.mlp.up_proj.weight": SHARD})
    (found,) = problems(folder)
    assert SHARD in found
    assert "model.layers.9.mlp.up_proj.weight" in found


def test_index_without_a_map_is_a_fault(tmp_path):
    folder = make_llama(tmp_path / "m", shards=2)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}})
    assert any("no weight_map" in problem for problem in problems(folder))


def test_shards_without_an_index_are_a_fault(tmp_path):
    folder = make_llama(tmp_path / "m", shards=2)
    (folder / "model.safetensors.index.json").unlink()
    (found,) = problems(folder)
    assert "no index that says" in found


def test_index_may_not_name_files_elsewhere(tmp_path):
    folder = make_llama(tmp_path / "m", shards=2)
    index = folder / "model.safetensors.index.json"
    edit_json(index, weight_map={**read_json(index)["weight_map"], "x": "../../secrets.safetensors"})
    assert any("../../secrets.safetensors" in problem for problem in problems(folder))


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, 5_000, -1])
def test_truncated_weights_are_found_wherever_they_end(tmp_path, kept):
    folder = make_llama(tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    (found,) = problems(folder)
    assert "model.safetensors" in found


def test_truncation_says_how_much_is_missing(tmp_path):
    folder = make_llama(tmp_path / "m")
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[:-10])
    assert problems(folder) == [
        f"model.safetensors is truncated: {size - 10} bytes, but its header says {size} (10 B missing)"
    ]


def test_weights_longer_than_their_header_says_are_a_fault(tmp_path):
    folder = make_llama(tmp_path / "m")
    with (folder / "model.safetensors").open("ab") as weights:
        weights.write(b"\0")
    assert "but its header says" in problems(folder)[0]


def test_lfs_pointer_in_place_of_weights_is_told(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(LFS)
    assert "git lfs pull" in problems(folder)[0]


def encode(entries: dict, data: int = 0) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(data)


def tensor(begin: int, end: int, shape=(4,), dtype="F16") -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        encode({"a": tensor(0, 8), "b": tensor(4, 12)}, 12),
        encode({"a": tensor(0, 8), "b": tensor(16, 24)}, 24),
        encode({"a": tensor(0, 6)}, 6),
        encode({"a": tensor(0, 8, dtype="Q4")}, 8),
        encode({"a": tensor(8, 0)}, 8),
        encode({"a": tensor(0, 8, shape=(-4,))}, 8),
        encode({"a": {"dtype": "F16"}}),
        encode({"a": tensor(0, 8, shape=("x",))}, 8),
        encode({"a": [1]}),
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 20) + b'{"a": 1',
        struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
        struct.pack("<Q", 4) + b"{\xff\xff}",
        b"PK\x03\x04 not safetensors at all",
    ],
)
def test_damaged_header_is_a_fault_and_no_crash(tmp_path, content):
    folder = make_llama(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(content)
    (found,) = problems(folder)
    assert found.startswith("model.safetensors ")


def test_header_larger_than_the_first_read_is_read_whole(tmp_path):
    tensors = {f"model.layers.{number}.{'x' * 100}": np.zeros(1, np.float16) for number in range(2_000)}
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    header = read_header(lambda count: path.read_bytes()[:count], path.stat().st_size)
    assert isinstance(header, Header)
    assert set(header.shapes) == set(tensors)
    assert header.elements() == {"F16": 2_000}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LFS, "git lfs pull"),
        (b"<html>", "not a PyTorch weights file"),
        (b"PK\x03\x04half", "truncated"),
        (b"", "empty"),
    ],
)
def test_bin_weights_that_are_none_are_found(tmp_path, content, said):
    folder = make_llama(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    assert any("pytorch_model.bin" in problem and said in problem for problem in problems(folder))


@pytest.mark.parametrize("holder", ["quantization_config", "compression_config", "text_config"])
def test_quantised_checkpoint_is_refused_with_the_reason(tmp_path, holder):
    settings = {"quant_method": "awq", "bits": 4}
    value = {"quantization_config": settings} if holder == "text_config" else settings
    (found,) = problems(make_llama(tmp_path / "m", **{holder: value}))
    assert "awq" in found
    assert "FP16 or BF16" in found


def test_packed_weights_without_a_config_are_refused_too(tmp_path):
    folder = make_llama(tmp_path / "m")
    save_weights(folder, {name: tensor.astype(np.int8) for name, tensor in llama_tensors().items()})
    assert "stored as I8" in problems(folder)[0]


QUANTISED = {
    "fp8, as DeepSeek": {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    "mxfp4, as gpt-oss": {"quantization_config": {"quant_method": "mxfp4"}},
    "nvfp4, as fireworks-prequant": {"quantization_config": {"quant_method": "nvfp4"}},
    "in the language model": {"text_config": {"quantization_config": {"quant_method": "gptq"}}},
    "compressed-tensors": {"compression_config": {"quant_method": "compressed-tensors"}},
}


@pytest.mark.parametrize("config", QUANTISED.values(), ids=QUANTISED)
def test_quantised_checkpoint_goes_when_it_is_asked_for(tmp_path, config):
    folder = make_llama(tmp_path / "m", **config)
    (refusal,) = problems(folder)
    assert "fireworks-prequant" in refusal
    assert refusal.endswith("-C allow_quantized=true")

    manifest = plan(folder, allow_quantized="true")

    assert "model.safetensors" in names(manifest)
    assert sum("so validation may refuse it" in warning for warning in manifest.warnings) == 1
    assert manifest.facts.parameter_count is None


@pytest.mark.parametrize("shard_size", ["auto", "10KB"])
def test_packed_weights_go_when_it_is_asked_for(tmp_path, shard_size):
    folder = make_llama(tmp_path / "m")
    save_weights(folder, {name: tensor.astype(np.int8) for name, tensor in llama_tensors().items()})

    manifest = plan(folder, allow_quantized="true", shard_size=shard_size)

    assert sum("most weights are stored as I8" in warning for warning in manifest.warnings) == 1


def test_plain_checkpoint_is_called_quantised_by_nobody(tmp_path):
    manifest = plan(make_llama(tmp_path / "m"), allow_quantized="true")
    assert not any("quantis" in warning for warning in manifest.warnings)
    assert manifest.facts.parameter_count


def test_missing_tokenizer_is_a_fault(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    assert "tokenizer is missing" in problems(folder)[0]


@pytest.mark.parametrize("vocabulary", ["tokenizer.model", "vocab.txt", "qwen.tiktoken"])
def test_any_kind_of_tokenizer_is_enough(tmp_path, vocabulary):
    folder = make_embedder(tmp_path / "m")
    (folder / "tokenizer.json").rename(folder / vocabulary)
    assert vocabulary in names(plan(folder))


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "3"])
def test_list_of_modules_must_be_one(tmp_path, content):
    folder = make_embedder(tmp_path / "m")
    (folder / "modules.json").write_text(content)
    assert any("modules.json is not a list of modules" in problem for problem in problems(folder))


def test_pooling_that_is_named_must_be_there(tmp_path):
    folder = make_embedder(tmp_path / "m")
    (folder / "1_Pooling" / "config.json").unlink()
    assert problems(folder) == ["modules.json names 1_Pooling/, and 1_Pooling/config.json is missing"]


def test_zero_byte_file_is_a_fault(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "merges.txt").write_bytes(b"")
    assert problems(folder) == ["merges.txt is empty"]


@pytest.mark.parametrize("name", ["tokenizer\n.json", "vocab\\.json", f"vocab{'x' * 250}.json", " .model"])
def test_unsafe_names_are_a_fault(tmp_path, name):
    """Written under a harmless name and listed under the unsafe one, which not every file system could hold."""

    class Renaming(CountingStore):
        def _read(self, asked, size):
            return super()._read("renamed" if asked == name else asked, size)

    folder = make_llama(tmp_path / "m")
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / "renamed").write_text("{}")
    source = source_of(folder, Renaming(folder), files={**files, name: 2})
    assert problems(source) == [f"{name!r} is not a safe file name"]


def test_link_that_leaves_the_folder_is_a_fault(tmp_path):
    folder = make_llama(tmp_path / "m")
    (tmp_path / "elsewhere").mkdir()
    (folder / "tokenizer.json").rename(tmp_path / "elsewhere" / "tokenizer.json")
    (folder / "tokenizer.json").symlink_to(tmp_path / "elsewhere" / "tokenizer.json")
    assert any("tokenizer.json is a symbolic link that leads outside" in problem for problem in problems(folder))


def test_broken_link_in_place_of_weights_is_a_fault(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    (folder / SHARD).unlink()
    (folder / SHARD).symlink_to(tmp_path / "gone")
    assert any(f"{SHARD} is a broken symbolic link" in problem for problem in problems(folder))


def test_link_that_nobody_needs_is_no_fault(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "latest").symlink_to(tmp_path / "gone")
    (folder / "pytorch_model.bin").symlink_to(tmp_path / "gone")
    assert "latest" not in names(plan(folder))


def test_only_headers_of_local_weights_are_read(tmp_path):
    """A thousand shards of 5 GB each plan from their headers; the files here are sparse."""
    folder = make_llama(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    shards, weight_map, tensor_bytes = 40, {}, 5 * 10**9
    for number in range(shards):
        shard, name = f"model-{number:05d}-of-{shards:05d}.safetensors", f"blocks.{number}.weight"
        start = encode({name: tensor(0, tensor_bytes, (tensor_bytes // 2,))})
        with (folder / shard).open("wb") as file:
            file.write(start)
            file.truncate(len(start) + tensor_bytes)
        weight_map[name] = shard
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    store = CountingStore(folder)
    manifest = plan(source_of(folder, store, identity="m-1"))
    assert manifest.facts.parameter_count == shards * tensor_bytes // 2
    assert store.beginning_bytes <= shards * 64 * 1024
    assert store.staged_names == []


def test_remote_shards_are_not_fetched_where_an_index_tells_enough(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    store = RemoteStore(folder, tmp_path)
    manifest = plan(source_of(folder, store, identity="s3://bucket/m"))
    assert store.fetched == []
    assert manifest.facts.parameter_count == 13_488
    assert manifest.facts.dtype == "float16"


def test_remote_truncation_shows_in_the_sum_of_the_sizes(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:5_000])
    source = source_of(folder, RemoteStore(folder, tmp_path), identity="s3://bucket/m")
    assert "at least one file is truncated" in problems(source)[0]


def test_single_remote_file_is_looked_into(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
    source = source_of(folder, RemoteStore(folder, tmp_path), identity="s3://bucket/m")
    assert "is truncated" in problems(source)[0]


def test_fetched_file_is_checked_again_before_it_goes_up(tmp_path):
    """The listing was right; what arrived is not."""
    folder = make_llama(tmp_path / "m", shards=3)
    source = source_of(folder, RemoteStore(folder, tmp_path), identity="s3://bucket/m")
    manifest = plan(source)
    (folder / SHARD).write_bytes((folder / SHARD).read_bytes()[:-1])
    content = next(file.content for file in manifest.files if file.name == SHARD)
    with pytest.raises(PreflightError, match=f"{SHARD} is truncated"), content.staged():
        pass


def test_small_file_that_changed_is_noticed_before_it_goes_up(tmp_path):
    folder = make_llama(tmp_path / "m")
    manifest = plan(folder)
    (folder / "tokenizer.json").write_text("{}")
    content = next(file.content for file in manifest.files if file.name == "tokenizer.json")
    with pytest.raises(PreflightError, match=r"tokenizer\.json has 2 bytes"), content.staged():
        pass


def test_file_that_does_not_fit_on_the_disk_is_a_fault(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    store = RemoteStore(folder, tmp_path)
    source = source_of(folder, store, identity="s3://bucket/m", files={**files, SHARD: 10**18})
    assert "free up some space or set TMPDIR" in problems(source)[0]
