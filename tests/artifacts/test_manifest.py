"""What is found out about a model, and the fingerprint of its content."""

import os
import re
import shutil

import numpy as np
import pytest
from support.checkpoints import (
    edit_json,
    llama_tensors,
    make_adapter,
    make_embedder,
    make_llama,
    make_tokenizer,
    make_transformers_model,
    save_weights,
)
from support.planning import CountingStore, names, plan, read_file, source_of


def test_facts_of_a_llama(tmp_path):
    facts = plan(make_llama(tmp_path / "m")).facts
    assert facts.architectures == ("LlamaForCausalLM",)
    assert facts.model_type == "llama"
    assert facts.parameter_count == sum(tensor.size for tensor in llama_tensors().values())
    assert (facts.dtype, facts.context_length) == ("float16", 256)
    assert (facts.moe, facts.has_chat_template, facts.supports_image_input) == (False, True, False)


def test_facts_of_an_adapter_are_its_own(tmp_path):
    facts = plan(make_adapter(tmp_path / "m", r=4)).facts
    assert facts.parameter_count == 2 * 2 * (4 * 16 + 16 * 4)
    assert (facts.model_type, facts.context_length) == (None, None)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"n_positions": 1024}, 1024),
        ({"max_sequence_length": 2048}, 2048),
        ({"seq_length": 8192}, 8192),
        ({"n_ctx": 512}, 512),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": "many"}, None),
        ({}, None),
    ],
)
def test_context_length_has_many_names(tmp_path, config, length):
    folder = make_llama(tmp_path / "m")
    edit_json(folder / "config.json", max_position_embeddings=None)
    edit_json(folder / "config.json", **config)
    assert plan(folder).facts.context_length == length


def test_length_of_an_embedding_model_is_where_it_cuts(tmp_path):
    folder = make_embedder(tmp_path / "m")
    assert plan(folder).facts.context_length == 64
    (folder / "sentence_bert_config.json").unlink()
    assert plan(folder).facts.context_length == 128
    edit_json(folder / "tokenizer_config.json", model_max_length=32)
    assert plan(folder).facts.context_length == 32


def test_yarn_that_stretches_the_stated_length_is_pointed_out(tmp_path):
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
    manifest = plan(make_llama(tmp_path / "m", rope_scaling=rope))
    assert any("context_length=1024" in warning for warning in manifest.warnings)
    stretched = plan(make_llama(tmp_path / "n", rope_scaling=rope, max_position_embeddings=1024))
    assert stretched.warnings == ()


@pytest.mark.parametrize(
    "config",
    [{"num_experts": 8}, {"num_local_experts": 8}, {"n_routed_experts": 64}, {"text_config": {"num_experts": 4}}],
)
def test_mixture_of_experts_is_seen(tmp_path, config):
    assert plan(make_llama(tmp_path / "m", **config)).facts.moe is True


def test_image_input_is_seen_and_a_missing_preprocessor_warned_about(tmp_path):
    folder = make_llama(tmp_path / "m", vision_config={"hidden_size": 8})
    manifest = plan(folder)
    assert manifest.facts.supports_image_input
    assert any("preprocessor_config.json" in warning for warning in manifest.warnings)


def test_missing_chat_template_is_warned_about(tmp_path):
    folder = make_llama(tmp_path / "m")
    make_tokenizer(folder, chat_template=None)
    manifest = plan(folder)
    assert manifest.facts.has_chat_template is False
    assert any("chat template" in warning for warning in manifest.warnings)


def test_classifier_is_warned_about(tmp_path):
    manifest = plan(make_llama(tmp_path / "m", architectures=["LlamaForSequenceClassification"]))
    assert any("does not generate text" in warning for warning in manifest.warnings)


def test_buffers_and_tied_copies_are_no_parameters(tmp_path):
    folder = make_llama(tmp_path / "m", tie_word_embeddings=True)
    tensors = llama_tensors()
    expected = sum(tensor.size for tensor in tensors.values()) - tensors["lm_head.weight"].size
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(4, np.float32)
    tensors["model.embeddings.position_ids"] = np.zeros(512, np.int64)
    save_weights(folder, tensors)
    assert plan(folder).facts.parameter_count == expected


def test_dtype_is_what_most_weights_are_stored_as(tmp_path):
    folder = make_llama(tmp_path / "m", dtype="bfloat16")
    tensors = llama_tensors()
    tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(np.float32)
    save_weights(folder, tensors)
    assert plan(folder).facts.dtype == "float16"


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_parameters_of_bin_weights_are_counted_by_their_index(tmp_path, key):
    folder = make_llama(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    edit_json(folder / "config.json", dtype=None)
    edit_json(folder / "config.json", **{key: "bfloat16"})
    (folder / "pytorch_model-00001-of-00001.bin").write_bytes(b"\x80" * 30_000)
    index = {"metadata": {"total_size": 26_976.0}, "weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}
    edit_path = folder / "pytorch_model.bin.index.json"
    edit_path.write_text("{}")
    edit_json(edit_path, **index)
    assert plan(folder).facts.parameter_count == 13_488
    edit_json(edit_path, metadata={"total_size": 26_976, "total_parameters": 7})
    assert plan(folder).facts.parameter_count == 7


def test_fingerprint_is_sixteen_digits_and_the_same_anywhere(tmp_path):
    folder = make_transformers_model(tmp_path / "m")
    copy = shutil.copytree(folder, tmp_path / "far" / "away")
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    one, other = plan(folder).fingerprint, plan(copy).fingerprint
    assert one == other
    assert re.fullmatch(r"[0-9a-f]{16}", one)


def test_fingerprint_does_not_depend_on_the_order_of_the_listing(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    source = source_of(folder)
    reverse = source_of(folder, files=dict(reversed(source.files.items())))
    assert plan(source).fingerprint == plan(reverse).fingerprint


def test_flat_and_merged_checkpoints_of_one_content_have_one_fingerprint(tmp_path):
    merged = plan(make_transformers_model(tmp_path / "m"))
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in names(merged):
        (flat / name).write_bytes(read_file(merged, name))
    assert plan(flat).fingerprint == merged.fingerprint


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_edited_small_file_changes_the_fingerprint(tmp_path, name):
    folder = make_llama(tmp_path / "m")
    before = plan(folder).fingerprint
    edit_json(folder / name, extra=1)
    assert plan(folder).fingerprint != before
    assert plan(source_of(folder, identity="m-1")).fingerprint != plan(source_of(folder, identity="m-2")).fingerprint


def test_weights_edited_in_place_change_the_fingerprint_of_a_plain_folder(tmp_path):
    """Same size, same time of change, one bit."""
    folder = make_llama(tmp_path / "m")
    weights = folder / "model.safetensors"
    before, stat = plan(folder).fingerprint, weights.stat()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert plan(folder).fingerprint != before


def test_weights_of_a_source_that_cannot_change_are_not_read(tmp_path):
    store = CountingStore(make_llama(tmp_path / "m", shards=2))
    plan(source_of(tmp_path / "m", store, identity="m-1"))
    assert store.staged_names == []


def test_file_that_does_not_go_up_does_not_count(tmp_path):
    folder = make_llama(tmp_path / "m")
    before = plan(folder).fingerprint
    (folder / "README.md").write_text("# New words\n")
    assert plan(folder).fingerprint == before


def test_nothing_is_written_into_the_artifacts(tmp_path):
    folder = make_transformers_model(tmp_path / "m")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    manifest = plan(folder)
    for name in names(manifest):
        read_file(manifest, name)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_content_opens_from_the_start_each_time(tmp_path):
    manifest = plan(make_transformers_model(tmp_path / "m"))
    for file in manifest.files:
        with file.content.staged() as open_file:
            with open_file() as first:
                assert len(first.read()) == file.size
            with open_file() as second:
                assert len(second.read()) == file.size
