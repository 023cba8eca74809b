"""The longest input, under all the names and ways of stretching that public configurations have."""

import pytest
from support.checkpoints import edit_json, make_embedder, make_llama
from support.planning import plan

LINEAR = {"type": "linear", "factor": 4.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}
YARN = {"rope_type": "yarn", "factor": 4.0}
# Name: (config.json, what the tokenizer states, the length).
STRETCHED = {
    "vicuna-16k": ({"max_position_embeddings": 4096, "max_sequence_length": 16384, "rope_scaling": LINEAR}, 0, 16384),
    "linear, by transformers 5": ({"max_position_embeddings": 2048, "rope_parameters": LINEAR}, 0, 8192),
    "dynamic": ({"max_position_embeddings": 4096, "rope_scaling": DYNAMIC}, 0, 8192),
    "deepseek-coder, as its tokenizer says": ({"max_position_embeddings": 16384, "rope_scaling": LINEAR}, 16384, 16384),
    "a tokenizer left as it was": ({"max_position_embeddings": 4096, "rope_scaling": LINEAR}, 2048, 16384),
    "Qwen2.5": (
        {
            "max_position_embeddings": 32768,
            "rope_scaling": {**YARN, "original_max_position_embeddings": 32768},
        },
        0,
        131072,
    ),
    "Qwen3": (
        {"max_position_embeddings": 40960, "rope_scaling": {**YARN, "original_max_position_embeddings": 32768}},
        0,
        131072,
    ),
    "yarn without the original": ({"max_position_embeddings": 32768, "rope_scaling": YARN}, 0, 131072),
    "multimodal": ({"text_config": {"max_position_embeddings": 4096, "rope_scaling": LINEAR}}, 0, 16384),
}
STATED = {
    "DeepSeek-V3": {
        "max_position_embeddings": 163840,
        "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
    },
    "Llama 3.1": {
        "max_position_embeddings": 131072,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192},
    },
    "Phi-3-128k": {
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
    },
    "Gemma 3": {
        "model_type": "gemma3_text",
        "max_position_embeddings": 131072,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "Gemma 3 by transformers 5": {
        "model_type": "gemma3_text",
        "max_position_embeddings": 131072,
        "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}, "sliding_attention": {}},
    },
    "Qwen2-VL": {"max_position_embeddings": 32768, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}},
    "no stretching": {"max_position_embeddings": 4096, "rope_scaling": None},
    "a factor of one": {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 1.0}},
    "a factor that is none": {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": "4"}},
    "a factor beyond reason": {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 1e308}},
    "no number": {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": True}},
}


@pytest.mark.parametrize(("config", "tokenizer", "length"), STRETCHED.values(), ids=STRETCHED)
def test_stretched_length_is_told_and_explained(tmp_path, config, tokenizer, length):
    folder = make_llama(tmp_path / "m")
    edit_json(folder / "config.json", max_position_embeddings=None)
    edit_json(folder / "config.json", **config)
    edit_json(folder / "tokenizer_config.json", model_max_length=tokenizer or 10**30)
    manifest = plan(folder)
    assert manifest.facts.context_length == length
    stated = config.get("text_config", config)["max_position_embeddings"]
    said = [warning for warning in manifest.warnings if f"-C context_length={stated}" in warning]
    assert len(said) == (0 if length == stated else 1)


@pytest.mark.parametrize("config", STATED.values(), ids=STATED)
def test_length_that_is_stated_after_stretching_is_left(tmp_path, config):
    manifest = plan(make_llama(tmp_path / "m", **config))
    assert manifest.facts.context_length == config["max_position_embeddings"]
    assert manifest.warnings == ()


@pytest.mark.parametrize(
    "key",
    [
        "n_positions",
        "max_seq_len",
        "max_seq_length",
        "seq_length",
        "seq_len",
        "n_ctx",
        "max_sequence_length",
        "model_max_length",
    ],
)
def test_other_families_have_other_words(tmp_path, key):
    folder = make_llama(tmp_path / "m")
    edit_json(folder / "config.json", max_position_embeddings=None)
    edit_json(folder / "config.json", **{key: 2048})
    assert plan(folder).facts.context_length == 2048


def test_length_beyond_reason_is_none(tmp_path):
    folder = make_llama(tmp_path / "m", max_position_embeddings=10**30)
    assert plan(folder).facts.context_length is None
    edit_json(folder / "config.json", seq_length=2048)
    assert plan(folder).facts.context_length == 2048


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 8194, "pad_token_id": 1}, 8192),
        ({"model_type": "camembert", "max_position_embeddings": 514}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 513, "pad_token_id": 0}, 512),
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "modernbert", "max_position_embeddings": 8192}, 8192),
    ],
)
def test_positions_behind_the_padding_are_not_counted(tmp_path, config, length):
    folder = make_embedder(tmp_path / "m")
    (folder / "sentence_bert_config.json").unlink()
    edit_json(folder / "tokenizer_config.json", model_max_length=10**30)
    edit_json(folder / "config.json", **config)
    assert plan(folder).facts.context_length == length
