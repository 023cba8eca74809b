"""Python files that a checkpoint's configuration says it is made by."""

import json

import pytest
from support.checkpoints import edit_json, make_embedder, make_llama, make_transformers_model
from support.planning import names, plan, read_file

from mlflow_fireworks.errors import PreflightError

AUTO_MAP = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.X"}
CODE = ("configuration_x.py", "modeling_x.py")


def make_coded(folder, code=CODE, **config):
    make_llama(folder, **{"auto_map": AUTO_MAP, "model_type": "acme_x", **config})
    for name in code:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("class X: ...")
    return folder


def problems(folder, **options):
    with pytest.raises(PreflightError) as caught:
        plan(folder, **options)
    return list(caught.value.problems)


def test_code_goes_up_only_where_a_config_names_it(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "modeling_x.py").write_text("class X: ...")
    assert "modeling_x.py" not in names(plan(folder))
    manifest = plan(make_coded(tmp_path / "n"), trust_remote_code="true")
    assert set(CODE) <= set(names(manifest))
    assert any("trust_remote_code" in note for note in manifest.notes)


def test_code_needs_a_decision_before_anything_leaves(tmp_path):
    (problem,) = problems(make_coded(tmp_path / "m"))
    assert "configuration_x.py, modeling_x.py" in problem
    assert "-C trust_remote_code=true" in problem
    assert problem.endswith("if transformers supports acme_x without it, omit the code with -C trust_remote_code=false")


@pytest.mark.parametrize("family", ["phi3", "deepseek_v3", "llama"])
@pytest.mark.parametrize("code", [CODE, ()], ids=["with its code", "without"])
def test_family_that_transformers_knows_needs_no_decision(tmp_path, family, code):
    """A fine-tune of Phi-3 or DeepSeek keeps `auto_map` though transformers has the class itself."""
    auto_map = AUTO_MAP if code else {"AutoConfig": "acme/x--configuration_x.XConfig"}
    manifest = plan(make_coded(tmp_path / "m", code=code, model_type=family, auto_map=auto_map))
    assert set(code) <= set(names(manifest))
    assert any(f"not used for a {family} model unless -C trust_remote_code=true" in note for note in manifest.notes)


def test_model_that_is_known_without_its_code_goes_up_without_it(tmp_path):
    folder = make_coded(tmp_path / "m", code=(), auto_map={"AutoConfig": "acme/x--configuration_x.XConfig"})
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.X", None]})
    before = (folder / "config.json").read_bytes()
    manifest = plan(folder, trust_remote_code="false")
    config = json.loads(read_file(manifest, "config.json"))
    assert "auto_map" not in config
    assert config["model_type"] == "acme_x"
    assert "auto_map" not in json.loads(read_file(manifest, "tokenizer_config.json"))
    assert not any(name.endswith(".py") for name in names(manifest))
    assert any("without auto_map" in note for note in manifest.notes)
    assert (folder / "config.json").read_bytes() == before


@pytest.mark.parametrize("options", [{}, {"trust_remote_code": "true"}])
@pytest.mark.parametrize(
    ("code", "config", "said"),
    [
        (["configuration_x.py"], {}, "modeling_x.py (auto_map), which is missing"),
        (["code/configuration_x.py", "code/modeling_x.py"], {}, "which is in code/modeling_x.py; move it"),
        ([], {"auto_map": {"AutoModel": "acme/x--modeling_x.X"}}, "from the repository acme/x (auto_map)"),
        (CODE, {"auto_map": {"AutoModel": "acme/x--modeling_x.X"}}, "name it without acme/x--"),
        ([], {"auto_map": {"AutoTokenizer": [None, "fast_x.X"]}}, "fast_x.py (auto_map), which is missing"),
    ],
)
def test_code_that_no_loader_would_find_is_named(tmp_path, code, config, said, options):
    found = problems(make_coded(tmp_path / "m", code=code, **config), **options)
    assert any(said in problem and "trust_remote_code=true" in problem for problem in found)


@pytest.mark.parametrize("auto_map", [{}, None, [], {"AutoModel": None}, {"AutoModel": 3}, {"AutoModel": "odd"}, "x.Y"])
def test_map_that_names_no_code_needs_none(tmp_path, auto_map):
    assert "config.json" in names(plan(make_llama(tmp_path / "m", auto_map=auto_map)))


def test_code_that_only_the_tokenizer_needs_is_asked_about(tmp_path):
    folder = make_llama(tmp_path / "m", model_type="acme_x")
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.X", None]})
    assert "tokenizer_config.json names tokenization_x.py" in problems(folder)[0]
    (folder / "tokenization_x.py").write_text("class X: ...")
    assert "tokenization_x.py" in names(plan(folder, trust_remote_code="true"))


def test_code_beside_mlflows_weights_goes_up(tmp_path):
    folder = make_transformers_model(tmp_path / "m", auto_map=AUTO_MAP)
    for name in CODE:
        (folder / "model" / name).write_text("class X: ...")
    assert set(CODE) <= set(names(plan(folder, trust_remote_code="true")))


def test_page_in_place_of_code_is_a_fault(tmp_path):
    folder = make_coded(tmp_path / "m")
    (folder / "modeling_x.py").write_text("<!DOCTYPE html><html>")
    assert problems(folder, trust_remote_code="true") == [
        "modeling_x.py is a web page, not the file itself; download it again and log the model again"
    ]


def make_custom_embedder(folder, kind="custom_st.Transformer"):
    make_embedder(folder)
    listed = json.loads((folder / "modules.json").read_text())
    listed[0]["type"] = kind
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def test_module_of_its_own_needs_its_code_and_trust(tmp_path):
    folder = make_custom_embedder(tmp_path / "m")
    assert "modules.json names custom_st.py" in problems(folder, trust_remote_code="true")[0]
    (folder / "custom_st.py").write_text("class Transformer: ...")
    for options in ({}, {"trust_remote_code": "false"}):
        assert "trust_remote_code=true" in problems(folder, **options)[0]
        assert "=false" not in problems(folder, **options)[0]
    manifest = plan(folder, trust_remote_code="true")
    assert "custom_st.py" in names(manifest)
    assert any("compare the vectors it returns" in warning for warning in manifest.warnings)


def test_module_of_another_repository_is_named(tmp_path):
    folder = make_custom_embedder(tmp_path / "m", "acme/st--custom_st.Transformer")
    assert "repository acme/st" in problems(folder, trust_remote_code="true")[0]


@pytest.mark.parametrize(
    ("code", "lacking"),
    [
        ("from .attention import X", "attention.py"),
        ("if True:\n    from . import attention", "attention.py"),
        ("from .layers.attention import X", "layers/attention.py"),
        ("from .tools import X", "more.py"),  # tools.py is there, and imports what is not
        ("from .configuration_x import XConfig\nimport torch\nfrom .modeling_x import X", None),
        ("x = f'{", None),  # a newer Python may read it
    ],
)
def test_modules_that_the_code_imports_must_be_beside_it(tmp_path, code, lacking):
    """What transformers would copy with it; a folder below is not. Files that nothing imports may lack anything."""
    folder = make_coded(tmp_path / "m")
    (folder / "modeling_x.py").write_text(code)
    (folder / "tools.py").write_text("from .more import X")
    (folder / "layers").mkdir()
    (folder / "layers" / "attention.py").write_text("X = 1")
    if lacking is None:
        assert "modeling_x.py" in names(plan(folder, trust_remote_code="true"))
        return
    (problem,) = problems(folder, trust_remote_code="true")
    assert f"and {lacking} is not beside it" in problem
