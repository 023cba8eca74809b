"""Parameters are counted once, though tools save tied weights twice."""

import importlib.util

import numpy as np
import pytest
from support.checkpoints import edit_json, llama_tensors, make_llama, read_json, save_weights
from support.planning import RemoteStore, plan, source_of

from mlflow_fireworks.artifacts.parameters import _TIED_BY_DEFAULT

LLAMA = llama_tensors()
ALL = sum(tensor.size for tensor in LLAMA.values())
ONCE = ALL - LLAMA["lm_head.weight"].size


def rename(**names):
    renamed = {old.replace("__", "."): new for old, new in names.items()}
    return {renamed.get(name, name): tensor for name, tensor in LLAMA.items()}


TIED = {
    "stated": ({"tie_word_embeddings": True}, LLAMA),
    "stated in the language model": (
        {"text_config": {"tie_word_embeddings": True}, "tie_word_embeddings": None},
        LLAMA,
    ),
    "multimodal names": (
        {"tie_word_embeddings": True},
        rename(lm_head__weight="language_model.lm_head.weight", model__embed_tokens__weight="l.embed_tokens.weight"),
    ),
    "GPT-NeoX's names": (
        {"tie_word_embeddings": True},
        rename(lm_head__weight="embed_out.weight", model__embed_tokens__weight="gpt_neox.embed_in.weight"),
    ),
    "Bloom's default": (
        {"model_type": "bloom", "tie_word_embeddings": None},
        rename(model__embed_tokens__weight="transformer.word_embeddings.weight"),
    ),
    "Gemma's default": ({"model_type": "gemma3_text", "tie_word_embeddings": None}, LLAMA),
}
UNTIED = {
    "stated": ({"tie_word_embeddings": False}, LLAMA),
    "Llama's default": ({"tie_word_embeddings": None}, LLAMA),
    "stated against the default": ({"model_type": "gemma2", "tie_word_embeddings": False}, LLAMA),
    "another shape": (
        {"tie_word_embeddings": True, "vocab_size": 16},
        {**LLAMA, "lm_head.weight": np.zeros((16, 259), np.float16)},
    ),
}


def count(folder, config, tensors):
    make_llama(folder)
    edit_json(folder / "config.json", **config)
    save_weights(folder, tensors)
    return plan(folder).facts.parameter_count


@pytest.mark.parametrize(("config", "tensors"), TIED.values(), ids=TIED)
def test_tied_head_is_counted_once(tmp_path, config, tensors):
    assert count(tmp_path / "m", config, tensors) == ONCE


@pytest.mark.parametrize(("config", "tensors"), UNTIED.values(), ids=UNTIED)
def test_head_of_its_own_is_counted(tmp_path, config, tensors):
    assert count(tmp_path / "m", config, tensors) == ALL


def test_copies_of_shared_embeddings_are_counted_once(tmp_path):
    words = np.zeros((259, 16), np.float16)
    names = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"]
    assert (
        count(tmp_path / "m", {"model_type": "t5", "tie_word_embeddings": None}, dict.fromkeys(names, words))
        == 259 * 16
    )


@pytest.mark.parametrize(("tied", "expected"), [(True, ONCE), (False, ALL)])
def test_index_that_lists_a_tied_head_is_corrected(tmp_path, tied, expected):
    folder = make_llama(tmp_path / "m", shards=2, tie_word_embeddings=tied)
    index = read_json(folder / "model.safetensors.index.json")
    assert "lm_head.weight" in index["weight_map"]
    (folder / "model.safetensors").unlink(missing_ok=True)
    source = source_of(folder, RemoteStore(folder, tmp_path), identity="s3://bucket/m")
    assert plan(source).facts.parameter_count == expected


@pytest.mark.torch
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs transformers")
@pytest.mark.parametrize("family", sorted(_TIED_BY_DEFAULT))
def test_transformers_ties_these_by_default(family):
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[family]()
    assert config.get_text_config().tie_word_embeddings or config.tie_word_embeddings
