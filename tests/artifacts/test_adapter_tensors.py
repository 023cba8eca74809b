"""Adapters whose tensors are not what `adapter_config.json` says: PEFT would leave them out without a word."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import edit_json, make_adapter
from support.planning import plan

from mlflow_fireworks.errors import PreflightError

WEIGHTS = "adapter_model.safetensors"
LAYER = "base_model.model.model.layers.0.self_attn"


def problems(folder, **options) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        plan(folder, **options)
    return list(caught.value.problems)


def rewrite(folder, change):
    """Change the names of the tensors; None takes one away."""
    tensors = {change(name): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file({name: tensor for name, tensor in tensors.items() if name is not None}, folder / WEIGHTS)
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda name: name.removeprefix("base_model.model."), "without base_model.model. in front"),
        (lambda name: name.removeprefix("base_model."), "without base_model.model. in front"),
        (lambda name: name.removeprefix("base_model.model.model."), "without base_model.model. in front"),
        (lambda name: f"base_model.model.{name}", "base_model.model. twice"),
        (lambda name: name.replace(".weight", ".sft.weight"), "an adapter's name (sft)"),
        (lambda name: name.replace(".weight", ".default.weight"), "an adapter's name (default)"),
        (lambda name: f"_orig_mod.{name}", "_orig_mod."),
        (lambda name: name.replace("model.layers", "_orig_mod.model.layers"), "_orig_mod."),
        (lambda name: f"module.{name}", "module."),
        (lambda name: None if "lora_B" in name else name, "lora_A without lora_B"),
        (lambda name: None if "v_proj.lora_A" in name else name, "lora_B without lora_A"),
        (lambda name: name.replace("q_proj", "o_proj"), "does not name (target_modules=q_proj,v_proj)"),
        (lambda name: name.replace("layers.1.self_attn.q_proj", "layers.1.mlp.x_q_proj"), "1 of 4 layers"),
        (lambda name: name.replace(".lora_A.", ".ia3_l.").replace(".lora_B.", ".ia3_m."), "no LoRA tensors"),
    ],
)
def test_tensors_under_other_names_are_refused(tmp_path, change, said):
    found = problems(rewrite(make_adapter(tmp_path), change))
    assert any(said in problem for problem in found), found


def test_rank_of_the_file_must_be_that_of_the_config(tmp_path):
    folder = make_adapter(tmp_path, r=8)
    edit_json(folder / "adapter_config.json", r=16, lora_alpha=64)
    (found,) = problems(folder)
    assert "8 tensors whose rank is not that" in found
    assert "r=16" in found


@pytest.mark.parametrize(
    "pattern", [{"q_proj": 16}, {"self_attn.q_proj": 16}, {"^model.layers.0.self_attn.q_proj": 16}, {".*q_pro[j]": 16}]
)
def test_rank_pattern_counts(tmp_path, pattern):
    folder = make_adapter(tmp_path)
    tensors = load_file(folder / WEIGHTS)
    names = [name for name in tensors if "q_proj" in name and ("layers.0" in name or "^" not in next(iter(pattern)))]
    tensors |= {name: np.ones((16, 16), np.float32) for name in names}
    save_file(tensors, folder / WEIGHTS)
    edit_json(folder / "adapter_config.json", rank_pattern=pattern)
    assert plan(folder).adapter.r == 8

    edit_json(folder / "adapter_config.json", rank_pattern={"k_proj": 16})
    assert "rank is not that" in problems(folder)[0]


def test_alpha_says_nothing_about_the_rank(tmp_path):
    assert plan(make_adapter(tmp_path, lora_alpha=5, alpha_pattern={"q_proj": 99})).adapter.r == 8


@pytest.mark.parametrize(
    ("settings", "fits"),
    [
        ({"layers_to_transform": [0, 1]}, True),
        ({"layers_to_transform": [0]}, False),
        ({"layers_to_transform": 1}, False),
        ({"layers_to_transform": [0, 1], "layers_pattern": "layers"}, True),
        ({"layers_to_transform": [1], "layers_pattern": ["layers"]}, False),
        ({"exclude_modules": ["k_proj"]}, True),
        ({"exclude_modules": ["v_proj"]}, False),
        ({"exclude_modules": ["model.layers.1.self_attn.v_proj"]}, False),
        ({"exclude_modules": ".*vision.*"}, True),
    ],
)
def test_layers_that_the_config_leaves_out_are_refused(tmp_path, settings, fits):
    folder = make_adapter(tmp_path, **settings)
    if fits:
        assert plan(folder)
    else:
        assert any("does not name" in problem for problem in problems(folder))


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.lm_head.weight",
        "base_model.model.model.embed_tokens.weight",
        f"{LAYER}.q_proj.base_layer.weight",
        f"{LAYER}.q_proj.bias",
    ],
)
def test_whole_layers_inside_an_adapter_are_refused(tmp_path, name):
    folder = make_adapter(tmp_path)
    save_file({**load_file(folder / WEIGHTS), name: np.ones((259, 16), np.float32)}, folder / WEIGHTS)
    (found,) = problems(folder)
    assert name.removeprefix("base_model.model.") in found
    assert "merge" in found
    assert problems(folder, force_adapter="true") == [found]


def test_layers_that_the_config_says_were_saved_are_told_once_and_can_be_forced(tmp_path):
    folder = make_adapter(tmp_path, modules_to_save=["lm_head"])
    name = "base_model.model.lm_head.weight"
    save_file({**load_file(folder / WEIGHTS), name: np.ones((259, 16), np.float32)}, folder / WEIGHTS)
    (found,) = problems(folder)
    assert "modules_to_save" in found
    assert plan(folder, force_adapter="true")


@pytest.mark.parametrize(
    "extra",
    [
        {f"{LAYER}.o_proj.lora_A.weight": (8, 16), f"{LAYER}.o_proj.lora_B.weight": (16, 8)},
        {"base_model.model.lm_head.lora_embedding_A": (8, 259), "base_model.model.lm_head.lora_embedding_B": (16, 8)},
        {
            "base_model.model.model.layers.0.mlp.experts.3.up_proj.lora_A.weight": (8, 16),
            "base_model.model.model.layers.0.mlp.experts.3.up_proj.lora_B.weight": (16, 8),
        },
    ],
)
def test_other_forms_of_lora_are_taken(tmp_path, extra):
    folder = make_adapter(tmp_path)
    tensors = {name: np.ones(shape, np.float32) for name, shape in extra.items()}
    save_file({**load_file(folder / WEIGHTS), **tensors}, folder / WEIGHTS)
    targets = ["q_proj", "v_proj", "o_proj", "up_proj", "lm_head"]
    edit_json(folder / "adapter_config.json", target_modules=targets)
    assert plan(folder)
