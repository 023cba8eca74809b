"""Fireworks' rules for LoRA adapters."""

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.checkpoints import edit_json, make_adapter, make_peft_model
from support.planning import plan

from mlflow_fireworks.errors import PreflightError


def problems(folder, **options) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        plan(folder, **options)
    return list(caught.value.problems)


@pytest.mark.parametrize("r", [4, 8, 64])
def test_ranks_within_the_limits_are_taken(tmp_path, r):
    assert plan(make_adapter(tmp_path, r=r)).adapter.r == r


@pytest.mark.parametrize("r", [1, 3, 65, 128])
def test_ranks_beyond_the_limits_are_refused(tmp_path, r):
    assert problems(make_adapter(tmp_path, r=r)) == [
        f"adapter_config.json has r={r}; Fireworks accepts ranks from 4 to 64: retrain it with a rank in that range"
    ]


@pytest.mark.parametrize("r", [None, "8", 8.0, True])
def test_rank_must_be_a_whole_number(tmp_path, r):
    folder = make_adapter(tmp_path)
    edit_json(folder / "adapter_config.json", r=r)
    assert "has r=" in problems(folder)[0]


@pytest.mark.parametrize(
    "modules",
    [
        ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"],
        ["w1", "w2", "w3", "block_sparse_moe.gate"],
        ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "self_attn.v_proj"],
    ],
)
def test_allowed_modules_are_taken(tmp_path, modules):
    short = {name if name == "block_sparse_moe.gate" else name.split(".")[-1] for name in modules}
    folder = make_adapter(tmp_path, target_modules=sorted(short))
    edit_json(folder / "adapter_config.json", target_modules=modules)
    assert set(plan(folder).adapter.target_modules) == short


@pytest.mark.parametrize("module", ["embed_tokens", "in_proj", "experts", "gate", "fc1"])
def test_other_modules_are_refused(tmp_path, module):
    folder = make_adapter(tmp_path, target_modules=["q_proj", module])
    assert f"changes {module};" in problems(folder)[0]


def test_all_linear_is_refused_with_the_list_to_write_instead(tmp_path):
    (found,) = problems(make_adapter(tmp_path, target_modules="all-linear"))
    assert '"all-linear"' in found
    assert "['q_proj', 'v_proj']" in found


@pytest.mark.parametrize("modules", [None, [], {}])
def test_missing_modules_are_refused(tmp_path, modules):
    folder = make_adapter(tmp_path)
    edit_json(folder / "adapter_config.json", target_modules=modules)
    assert "target_modules" in problems(folder)[0]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("use_rslora", True),
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("trainable_token_indices", [1]),
        ("peft_type", "IA3"),
    ],
)
def test_options_that_change_what_the_weights_mean_are_refused(tmp_path, option, value):
    folder = make_adapter(tmp_path, **{option: value})
    assert any("adapter_config.json" in problem for problem in problems(folder))


@pytest.mark.parametrize(
    ("kind", "name", "settings"),
    [
        ("LOHA", "hada_w1_a", {}),
        ("LOKR", "lokr_w1", {}),
        ("VERA", "vera_lambda_b", {}),
        ("IA3", "ia3_l", {"r": None}),
        ("OFT", "oft_R.weight", {"r": 0}),
        ("LN_TUNING", "ln_tuning_layers.weight", {"r": None, "target_modules": ["norm"]}),
    ],
)
def test_adapter_of_another_kind_is_told_its_kind_only(tmp_path, kind, name, settings):
    """As peft 0.21 saves them: no rank, other targets, and tensors that are no LoRA's and yet no wrapper's."""
    folder = make_adapter(tmp_path)
    edit_json(folder / "adapter_config.json", peft_type=kind, **settings)
    layers = [f"base_model.model.model.layers.{number}.self_attn.q_proj" for number in range(2)]
    save_file({f"{layer}.{name}": np.ones(4, np.float32) for layer in layers}, folder / "adapter_model.safetensors")
    (found,) = problems(folder)
    assert f"is of type {kind}; Fireworks serves LoRA adapters only: merge it" in found


@pytest.mark.parametrize("option", ["rank_pattern", "alpha_pattern"])
def test_values_for_single_layers_are_warned_about(tmp_path, option):
    manifest = plan(make_adapter(tmp_path, **{option: {"q_proj": 16}}))
    assert any(option in warning for warning in manifest.warnings)


def test_lm_head_depends_on_the_family(tmp_path):
    llama = make_peft_model(tmp_path / "llama", target_modules=["q_proj", "lm_head"])
    assert "lm_head" in plan(llama).adapter.target_modules
    gemma = make_peft_model(tmp_path / "gemma", target_modules=["q_proj", "lm_head"])
    edit_json(gemma / "model" / "config.json", model_type="gemma")
    assert "not for gemma" in problems(gemma)[0]
    alone = plan(make_adapter(tmp_path / "alone", target_modules=["q_proj", "lm_head"]))
    assert any("lm_head" in warning for warning in alone.warnings)


def test_truncated_adapter_is_a_fault(tmp_path):
    folder = make_adapter(tmp_path)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "truncated" in problems(folder)[0]


def test_all_faults_of_an_adapter_come_at_once(tmp_path):
    folder = make_adapter(tmp_path, r=128, use_dora=True, target_modules=["embed_tokens"])
    save_file({"x": np.zeros(3)}, folder / "adapter_model.safetensors")
    assert len(problems(folder)) == 4


def test_base_revision_is_kept(tmp_path):
    adapter = plan(make_adapter(tmp_path, base="acme/base", revision="e" * 40)).adapter
    assert (adapter.base_repo, adapter.base_revision) == ("acme/base", "e" * 40)


def test_local_base_is_looked_up_in_the_mlmodel(tmp_path):
    folder = make_peft_model(tmp_path / "m", base="acme/base")
    edit_json(folder / "peft" / "adapter_config.json", base_model_name_or_path="/home/me/base")
    assert plan(folder).adapter.base_repo == "acme/base"


def test_unknown_base_is_warned_about(tmp_path):
    folder = make_adapter(tmp_path, base="/home/me/base")
    (folder / "README.md").unlink()
    manifest = plan(folder)
    assert manifest.adapter.base_repo is None
    assert any("-C base_model=" in warning for warning in manifest.warnings)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"bias": "lora_only"},
        {"target_modules": ["q_proj", "experts"]},
        {"target_modules": ["embed_tokens"], "modules_to_save": ["lm_head"]},
    ],
)
def test_what_is_doubted_goes_with_a_warning_when_it_is_forced(tmp_path, settings):
    folder = make_adapter(tmp_path, **settings)
    found = problems(folder)
    assert all(problem.endswith(", or send it as it is with -C force_adapter=true") for problem in found)

    warnings = plan(folder, force_adapter="true").warnings

    assert {problem.partition(", or send it")[0] for problem in found} <= set(warnings)


@pytest.mark.parametrize("settings", [{"r": 128}, {"peft_type": "IA3"}, {"target_modules": "all-linear"}])
def test_what_is_documented_is_refused_though_it_is_forced(tmp_path, settings):
    found = problems(make_adapter(tmp_path, **settings), force_adapter="true")
    assert not any("force_adapter" in problem for problem in found)
