"""Tensors that no loader could use, told by names and shapes alone; and good ones that look odd."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import (
    edit_json,
    llama_tensors,
    make_adapter,
    make_embedder,
    make_llama,
    read_json,
    save_weights,
    write_json,
)
from support.planning import RemoteStore, names, plan, source_of

from mlflow_fireworks.errors import PreflightError

LONE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
INDEX = "model.safetensors.index.json"


def problems(folder, **options) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        plan(folder, **options)
    return list(caught.value.problems)


def emptied(tensors, ending=""):
    return {name: np.zeros(0, np.float16) if name.endswith(ending) else tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("ending", ["", "proj.weight", "lm_head.weight"])
@pytest.mark.parametrize("shards", [1, 3])
def test_parameters_that_zero3_did_not_gather_are_refused(tmp_path, ending, shards):
    """Small parameters (norms) are never divided, so they are saved whole beside the empty ones."""
    folder = make_llama(tmp_path / "m")
    (folder / LONE).unlink()
    save_weights(folder, emptied(llama_tensors(), ending), shards=shards)
    (found,) = problems(folder)
    assert "ZeRO-3" in found
    assert "[0]" in found


def test_empty_lora_is_refused(tmp_path):
    folder = make_adapter(tmp_path)
    save_file(emptied(load_file(folder / ADAPTER)), folder / ADAPTER)
    assert any("ZeRO-3" in problem for problem in problems(folder))


@pytest.mark.parametrize("make", [make_llama, make_adapter, make_embedder])
def test_file_without_tensors_is_refused(tmp_path, make):
    folder = make(tmp_path / "m")
    for weights in folder.glob("*.safetensors"):
        save_file({}, weights, metadata={"format": "pt"})
    (found,) = problems(folder)
    assert "holds no tensors" in found


@pytest.mark.parametrize(
    ("rename", "said"),
    [
        (lambda name: f"_orig_mod.{name}", "_orig_mod."),
        (lambda name: f"module.{name}", "module."),
        (lambda name: f"module._orig_mod.{name}", "_orig_mod."),
        (lambda name: name.replace(".self_attn.", "._orig_mod.self_attn."), "_orig_mod."),
        (lambda name: f"_fsdp_wrapped_module.{name}", "_fsdp_wrapped_module."),
        (lambda name: name.replace(".mlp.", ".mlp._checkpoint_wrapped_module."), "_checkpoint_wrapped_module."),
        (lambda name: f"_forward_module.{name}", "_forward_module."),
        (lambda name: f"pretrained_model.{name}", "pretrained_model."),
        (lambda name: f"base_model.model.{name}", "base_model."),
        (lambda name: f"policy.{name}", "policy."),
        (lambda name: f"model.{name}", "model."),
    ],
)
@pytest.mark.parametrize("shards", [1, 2])
def test_names_that_a_wrapper_changed_are_refused(tmp_path, rename, said, shards):
    folder = make_llama(tmp_path / "m")
    (folder / LONE).unlink()
    save_weights(folder, {rename(name): tensor for name, tensor in llama_tensors().items()}, shards=shards)
    (found,) = problems(folder)
    assert said in found
    assert "unwrap_model" in found


def test_wrapper_shows_in_the_index_where_headers_are_not_read(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / LONE).unlink()
    save_weights(folder, {f"_orig_mod.{name}": tensor for name, tensor in llama_tensors().items()}, shards=2)
    (found,) = problems(source_of(folder, RemoteStore(folder, tmp_path), identity="s3://bucket/m"))
    assert "_orig_mod." in found


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        lambda name: f"language_model.{name}",
        lambda name: f"thinker.{name}",
        lambda name: name.replace("model.", "transformer."),
        lambda name: name.replace("model.", "model.language_model."),
        lambda name: name.replace("model.", "gpt_neox.").replace("lm_head", "embed_out"),
        lambda name: name.removeprefix("model."),
    ],
)
def test_names_of_other_families_are_no_wrappers(tmp_path, rename):
    folder = make_llama(tmp_path / "m")
    save_weights(folder, {rename(name): tensor for name, tensor in llama_tensors().items()})
    assert LONE in names(plan(folder, verify="headers"))


@pytest.mark.parametrize(("vocabulary", "fits"), [(258, True), (259, True), (260, False), (32000, False)])
@pytest.mark.parametrize("nested", [False, True])
def test_fewer_rows_than_tokens_are_refused(tmp_path, vocabulary, fits, nested):
    """More are usual: they are padded to a multiple of 64 or 128."""
    folder = make_llama(tmp_path / "m", vocab_size=vocabulary)
    if nested:
        edit_json(folder / "config.json", vocab_size=None, text_config={"vocab_size": vocabulary})
    if fits:
        assert plan(folder, verify="headers")
    else:
        found = problems(folder, verify="headers")
        assert [problem.partition(" has ")[0] for problem in found] == [
            "model.safetensors: lm_head.weight",
            "model.safetensors: model.embed_tokens.weight",
        ]
        assert all(f"vocab_size={vocabulary}" in problem for problem in found)


def test_rows_of_other_senses_are_not_compared(tmp_path):
    folder = make_llama(tmp_path / "m")
    sound = {"model.audio_tower.embed_tokens.weight": np.ones((8, 4), np.float16)}
    save_weights(folder, llama_tensors() | sound)
    assert plan(folder, verify="headers")


def add_lone(folder, tensors) -> None:
    save_file(dict(tensors), folder / LONE, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "lone",
    [
        pytest.param(llama_tensors(seed=1), id="stale"),
        pytest.param(llama_tensors(layers=1), id="smaller"),
        pytest.param({**llama_tensors(), "lm_head.weight": np.ones((259, 16), np.float16)}, id="one tensor"),
        pytest.param(emptied(llama_tensors()), id="stubs"),
        pytest.param({}, id="no tensors"),
    ],
)
def test_lone_file_that_differs_from_complete_shards_is_refused(tmp_path, lone):
    folder = make_llama(tmp_path / "m", shards=3)
    add_lone(folder, lone)
    assert any("the 3 shards of a complete index are both present" in problem for problem in problems(folder))


def test_lone_file_with_the_same_tensors_as_the_shards_goes_up(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    add_lone(folder, llama_tensors())
    assert LONE in names(plan(folder))


def test_lone_file_wins_over_what_is_left_of_shards(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    add_lone(folder, llama_tensors(seed=1))
    assert LONE in names(plan(folder))


def test_lone_file_and_shards_that_cannot_be_compared_are_refused(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    add_lone(folder, llama_tensors())
    store = RemoteStore(folder, tmp_path)
    assert "may be stale" in problems(source_of(folder, store, identity="s3://bucket/m"))[0]


@pytest.mark.parametrize("shard_size", ["auto", "2KB"])
def test_tensor_in_two_shards_is_refused(tmp_path, shard_size):
    folder = make_llama(tmp_path / "m", shards=3)
    first, second = (folder / f"model-0000{number}-of-00003.safetensors" for number in (1, 2))
    name, tensor = next(iter(load_file(first).items()))
    save_file({**load_file(second), name: tensor + 1}, second)
    (found,) = problems(folder, shard_size=shard_size)
    assert name in found
    assert f"in {first.name} and {second.name}" in found


def test_other_modules_may_hold_tensors_of_the_same_names(tmp_path):
    folder = make_embedder(tmp_path / "m")
    for number, module in enumerate(("2_Dense", "3_Dense"), start=2):
        (folder / module).mkdir()
        write_json(folder / module / "config.json", {"in_features": 16, "out_features": 16})
        save_file({"linear.weight": np.ones((16, 16), np.float32)}, folder / module / LONE)
        modules = [*read_modules(folder), {"idx": number, "name": str(number), "path": module, "type": DENSE}]
        (folder / "modules.json").write_text(str(modules).replace("'", '"'))
    assert {"2_Dense/model.safetensors", "3_Dense/model.safetensors"} <= set(names(plan(folder)))


DENSE = "sentence_transformers.models.Dense"


def read_modules(folder) -> list:
    return read_json(folder / "modules.json")


@pytest.mark.parametrize("config", [{"tie_word_embeddings": True}, {"tie_word_embeddings": None}])
def test_tied_head_that_is_listed_and_absent_is_fine(tmp_path, config):
    """Hugging Face's converter to safetensors lists the copies that it leaves out."""
    folder = make_llama(tmp_path / "m")
    (folder / LONE).unlink()
    leave_out_head(folder)
    edit_json(folder / "config.json", **config)
    assert INDEX in names(plan(folder, verify="headers"))
    divided = plan(folder, verify="headers", shard_size="5KB")
    assert INDEX in names(divided)


def test_head_of_its_own_that_is_listed_and_absent_is_refused(tmp_path):
    folder = make_llama(tmp_path / "m", tie_word_embeddings=False)
    (folder / LONE).unlink()
    leave_out_head(folder)
    (found,) = problems(folder)
    assert "lm_head.weight" in found


def leave_out_head(folder) -> None:
    tensors = llama_tensors()
    head = tensors.pop("lm_head.weight")
    save_weights(folder, tensors, shards=2)
    weight_map = read_json(folder / INDEX)["weight_map"]
    total = sum(tensor.nbytes for tensor in tensors.values()) + head.nbytes
    weight_map["lm_head.weight"] = "model-00002-of-00002.safetensors"
    edit_json(folder / INDEX, weight_map=weight_map, metadata={"total_size": total})


def test_paths_with_a_dot_in_an_index_are_cleaned(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    before = read_json(folder / INDEX)["weight_map"]
    edit_json(folder / INDEX, weight_map={name: f"./{shard}" for name, shard in before.items()})
    manifest = plan(folder)
    (index,) = [file for file in manifest.files if file.name == INDEX]
    assert b'"./' not in index.content.read()
    assert set(before.values()) <= set(names(manifest))
    assert read_json(folder / INDEX)["weight_map"] != before  # the original is left as it was
