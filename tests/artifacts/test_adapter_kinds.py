"""Adapters in unusual places, of unusual kinds, and with files beside them that are a part of neither or of both."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.checkpoints import make_adapter, make_llama, make_transformers_model, write_json
from support.planning import names, plan

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import CheckpointError, PreflightError

FILES = ["adapter_config.json", "adapter_model.safetensors"]


def problems(folder, **options) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        plan(folder, **options)
    return list(caught.value.problems)


def test_adapter_alone_in_the_place_of_the_model_goes_up(tmp_path):
    folder = make_transformers_model(tmp_path / "m")
    shutil.rmtree(folder / "model")
    make_adapter(folder / "model")
    for options in ({}, {"kind": "lora"}, {"checkpoint_path": "model"}):
        manifest = plan(folder, **options)
        assert (manifest.kind, names(manifest), manifest.location) == (Kind.ADDON, FILES, "model")
    with pytest.raises(CheckpointError, match="holds only a LoRA adapter"):
        plan(folder, kind="base")


@pytest.mark.parametrize(
    "settings",
    [{"init_lora_weights": way} for way in ("pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga", "OLoRA")],
)
def test_adapter_of_a_changed_base_is_refused(tmp_path, settings):
    folder = make_adapter(tmp_path, **settings)
    (found,) = problems(folder)
    assert f"init_lora_weights={settings['init_lora_weights']}" in found
    assert "path_initial_model_for_weight_conversion" in found
    assert any("does not fit the original" in warning for warning in plan(folder, force_adapter="true").warnings)


@pytest.mark.parametrize("way", [True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_ways_to_begin_that_leave_the_base_alone_are_taken(tmp_path, way):
    assert names(plan(make_adapter(tmp_path, init_lora_weights=way))) == FILES


def test_converted_copy_beside_is_named_and_can_be_taken(tmp_path):
    """The adapter's beginning is kept as well, and its config looks converted, too."""
    folder = make_adapter(tmp_path / "m", init_lora_weights="pissa", r=8)
    make_adapter(folder / "pissa_backup", init_lora_weights="pissa", r=8)
    make_adapter(folder / "a_pissa_init", init_lora_weights=True, r=8)
    make_adapter(folder / "pissa_converted", init_lora_weights=True, r=16)
    (found,) = problems(folder)
    assert "use that one with -C checkpoint_path=pissa_converted" in found
    assert plan(folder, checkpoint_path="pissa_converted").adapter.r == 16
    shutil.rmtree(folder / "pissa_converted")
    assert "a_pissa_init" not in problems(folder)[0]


def test_activated_lora_is_refused(tmp_path):
    (found,) = problems(make_adapter(tmp_path / "a", alora_invocation_tokens=[1, 2, 3]))
    assert "alora_invocation_tokens" in found
    assert plan(make_adapter(tmp_path / "b", alora_invocation_tokens=None))


@pytest.mark.parametrize(
    "name", ["value_head.safetensors", "value_head.bin", "v_head.safetensors", "pytorch_model_fsdp.bin"]
)
def test_what_trainers_leave_beside_an_adapter_does_not_make_it_a_model(tmp_path, name):
    folder = make_adapter(tmp_path)
    save_file({"v_head.summary.weight": np.ones((1, 16), np.float32)}, folder / name)
    manifest = plan(folder)
    assert (manifest.kind, names(manifest)) == (Kind.ADDON, FILES)
    assert any(name in note for note in manifest.notes)


def test_value_head_beside_a_model_stays(tmp_path):
    folder = make_llama(tmp_path)
    save_file({"v_head.summary.weight": np.ones((1, 16), np.float32)}, folder / "value_head.safetensors")
    manifest = plan(folder)
    assert "model.safetensors" in names(manifest)
    assert "value_head.safetensors" not in names(manifest)


@pytest.mark.parametrize("name", ["non_lora_trainables.bin", "mm_projector.bin"])
def test_layers_that_were_trained_beside_the_lora_are_not_dropped_silently(tmp_path, name):
    folder = make_adapter(tmp_path)
    (folder / name).write_bytes(b"PK\x03\x04")
    (found,) = problems(folder)
    assert name in found
    assert any(name in warning for warning in plan(folder, force_adapter="true").warnings)


def test_adapter_of_mlx_is_named(tmp_path):
    write_json(tmp_path / "adapter_config.json", {"fine_tune_type": "lora", "lora_parameters": {"rank": 8}})
    save_file({"model.layers.0.self_attn.q_proj.lora_a": np.ones((16, 8))}, tmp_path / "adapters.safetensors")
    with pytest.raises(CheckpointError, match=r"adapter of MLX .* mlx_lm.fuse"):
        plan(tmp_path)
    (tmp_path / "adapters.safetensors").rename(tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="adapter of MLX"):
        plan(tmp_path)


def test_adapter_of_diffusers_is_named(tmp_path):
    save_file({"unet.down_blocks.0.lora_A.weight": np.ones((8, 16))}, tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(CheckpointError, match="LoRA of diffusers"):
        plan(tmp_path)
