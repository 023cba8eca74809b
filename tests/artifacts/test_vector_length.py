"""How long vectors are, in the layouts that sentence-transformers 2 to 6 save, and where that stays open."""

import json

import pytest
from support.checkpoints import edit_json, make_embedder, make_llama, minilm_folder, write_json
from support.planning import plan

OLD = "sentence_transformers.models"
NEW = "sentence_transformers.sentence_transformer.modules"
OFF = {f"pooling_mode_{mode}": False for mode in ("cls_token", "max_tokens", "mean_tokens", "lasttoken")}
POOLING = {
    "the mean": (OFF | {"pooling_mode_mean_tokens": True}, 16),
    "the first token": (OFF | {"pooling_mode_cls_token": True}, 16),
    "two of them": (OFF | {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, 32),
    "none named": ({}, 16),
    "by name": ({"pooling_mode": "lasttoken", "include_prompt": True}, 16),
    "by names": ({"pooling_mode": ["cls", "mean", "max"]}, 48),
    "no names": ({"pooling_mode": []}, None),
    "what versions read differently": ({"pooling_mode_cls_token": True}, None),
}
WIDTHS = {
    "word_embedding_dimension": ({"word_embedding_dimension": 16}, 16),
    "embedding_dimension": ({"embedding_dimension": 16}, 16),
    "another than the transformer's": ({"word_embedding_dimension": 24}, None),
    "none": ({}, None),
    "text": ({"word_embedding_dimension": "16"}, None),
}


def length_of(folder):
    return plan(folder).facts.vector_length


def set_modules(folder, *modules):
    """`modules.json` with these after the transformer and the pooling: class and settings of each."""
    entries = json.loads((folder / "modules.json").read_text())[:2]
    for number, (kind, settings) in enumerate(modules, 2):
        path = f"{number}_{kind.rpartition('.')[2]}"
        entries.append({"idx": number, "name": str(number), "path": path, "type": kind})
        write_json(folder / path / "config.json", settings)
        (folder / path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "modules.json").write_text(json.dumps(entries))


@pytest.mark.parametrize("kind", POOLING)
def test_pooling_gives_the_width_for_each_of_its_modes(tmp_path, kind):
    settings, length = POOLING[kind]
    folder = make_embedder(tmp_path / "m")
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, **settings})
    assert length_of(folder) == length


@pytest.mark.parametrize("kind", WIDTHS)
def test_the_width_of_a_pooling(tmp_path, kind):
    settings, length = WIDTHS[kind]
    folder = make_embedder(tmp_path / "m")
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True, **settings})
    assert length_of(folder) == length


def test_a_transformer_that_calls_its_width_otherwise(tmp_path):
    """As T5 and DistilBERT do; then the pooling's word counts."""
    folder = make_embedder(tmp_path / "m")
    edit_json(folder / "config.json", hidden_size=None, dim=16)
    assert length_of(folder) == 16


@pytest.mark.parametrize("home", [OLD, NEW])
def test_a_projection_sets_the_length_and_the_others_keep_it(tmp_path, home):
    folder = make_embedder(tmp_path / "m")
    dense = {"in_features": 16, "out_features": 8, "bias": True}
    set_modules(folder, (f"{home}.Dense", dense), (f"{home}.LayerNorm", {"dimension": 8}), (f"{home}.Normalize", {}))
    assert length_of(folder) == 8


@pytest.mark.parametrize("key", ["module_input_name", "module_output_name"])
def test_a_projection_of_something_else_leaves_it_open(tmp_path, key):
    folder = make_embedder(tmp_path / "m")
    set_modules(folder, (f"{OLD}.Dense", {"in_features": 16, "out_features": 8, key: "token_embeddings"}))
    assert length_of(folder) is None


@pytest.mark.parametrize("home", ["custom_st", "mine.models"])
def test_a_module_of_the_checkpoints_own_leaves_it_open(tmp_path, home):
    folder = make_embedder(tmp_path / "m")
    set_modules(folder, (f"{home}.Dense", {"out_features": 8}))
    for name in ("custom_st.py", "mine.py"):
        (folder / name).write_text("class Dense: pass\n")
    (folder / "mine").mkdir()
    (folder / "mine" / "models.py").write_text("class Dense: pass\n")
    assert plan(folder, trust_remote_code="true").facts.vector_length is None


def test_a_transformer_in_a_folder_of_its_own(tmp_path):
    """As sentence-transformers 1 and 2 saved it."""
    folder = make_embedder(tmp_path / "m")
    below = folder / "0_Transformer"
    below.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file() and path.name != "modules.json"]:
        path.rename(below / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert length_of(folder) == 16


@pytest.mark.parametrize(
    ("changes", "length"), [({}, 16), ({"projection_dim": 8}, None), ({"hidden_size": None}, None)]
)
def test_an_encoder_without_modules_has_its_transformers_length(tmp_path, changes, length):
    folder = make_embedder(tmp_path / "m")
    (folder / "modules.json").unlink()
    edit_json(folder / "config.json", **changes)
    assert plan(folder, kind="embedding", verify="headers").facts.vector_length == length


def test_a_language_model_has_none(tmp_path):
    assert length_of(make_llama(tmp_path / "m")) is None


def test_a_real_model():
    assert length_of(minilm_folder()) == 384
