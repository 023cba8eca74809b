"""Weights that are quantised already, wherever it shows; and settings that are left over from such."""

import json

import numpy as np
import pytest
from support.checkpoints import llama_tensors, make_adapter, make_llama, save_weights
from support.planning import RemoteStore, plan, source_of

from mlflow_fireworks.errors import PreflightError


def problems(folder, **options):
    with pytest.raises(PreflightError) as caught:
        plan(folder, **options)
    return list(caught.value.problems)


def pack(suffixes, kept=()):
    """Llama's tensors with the layers' matrices packed: each becomes these (suffix, dtype)."""
    tensors = {}
    for name, tensor in llama_tensors().items():
        stem = name.removesuffix(".weight")
        if "layers" in name and tensor.ndim == 2 and not stem.endswith(tuple(kept)):
            tensors |= {f"{stem}.{suffix}": np.zeros((4, 4), dtype) for suffix, dtype in suffixes.items()}
        else:
            tensors[name] = tensor
    return tensors


PACKED = {
    "GPTQ": {"qweight": np.int32, "qzeros": np.int32, "scales": np.float16, "g_idx": np.int32},
    "AWQ": {"qweight": np.int32, "qzeros": np.int32, "scales": np.float16},
    "compressed-tensors": {"weight_packed": np.int32, "weight_scale": np.float16},
    "fp8": {"weight": np.uint8, "weight_scale_inv": np.float32},
    "bitsandbytes 4 bits": {"weight": np.uint8, "weight.absmax": np.float32, "weight.quant_map": np.float32},
    "bitsandbytes 8 bits": {"weight": np.int8, "SCB": np.float32},
    "MLX": {"weight": np.uint32, "scales": np.float16, "biases": np.float16},
}


@pytest.mark.parametrize("suffixes", PACKED.values(), ids=PACKED)
def test_packed_layers_are_seen_though_most_elements_are_plain(tmp_path, suffixes):
    folder = make_llama(tmp_path / "m")
    save_weights(folder, pack(suffixes))
    (problem,) = problems(folder)
    assert "its weights are packed (model.layers.0" in problem
    assert problem.endswith("-C allow_quantized=true")
    assert any("are packed" in warning for warning in plan(folder, allow_quantized="true").warnings)


def test_one_packed_layer_is_enough(tmp_path):
    folder = make_llama(tmp_path / "m")
    save_weights(folder, pack(PACKED["GPTQ"], kept=("q_proj", "k_proj", "v_proj", "up_proj", "gate_proj", "down_proj")))
    assert "o_proj" in problems(folder)[0]


def test_names_in_an_index_are_enough(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    save_weights(folder, pack(PACKED["AWQ"]), shards=2)
    source = source_of(folder, RemoteStore(folder, tmp_path), identity="s3://bucket/m")
    assert "its weights are packed" in problems(source)[0]


SIDE_FILES = {
    "quantize_config.json": ({"bits": 4, "group_size": 128, "desc_act": False}, "4 bits"),
    "quant_config.json": ({"w_bit": 4, "q_group_size": 128, "version": "GEMM"}, "GEMM, 4 bits"),
    "hf_quant_config.json": ({"quantization": {"quant_algo": "FP8"}}, "FP8"),
    "quanto_qmap.json": ({"lm_head": {"weights": "none"}}, "unknown method"),
}


def make_unread(folder):
    """Weights in a format that tells nothing of its tensors."""
    make_llama(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02}q\x00.")
    return folder


@pytest.mark.parametrize("name", SIDE_FILES)
def test_file_beside_the_weights_tells_it(tmp_path, name):
    content, said = SIDE_FILES[name]
    folder = make_unread(tmp_path / "m")
    (folder / name).write_text(json.dumps(content))
    assert f"{name} says that its weights are quantised ({said})" in problems(folder)[0]
    assert plan(folder, allow_quantized="true").facts.parameter_count is None


@pytest.mark.parametrize(
    ("name", "content"),
    [("hf_quant_config.json", {"quantization": {"quant_algo": None}}), ("notes.json", {"bits": 4})],
)
def test_file_that_says_otherwise_is_no_sign(tmp_path, name, content):
    folder = make_unread(tmp_path / "m")
    (folder / name).write_text(json.dumps(content))
    assert plan(folder).warnings == ()


def test_file_left_over_beside_plain_weights_is_no_sign(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "quantize_config.json").write_text('{"bits": 4}')
    assert plan(folder).facts.parameter_count == 13_488


@pytest.mark.parametrize(
    "config",
    [
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"quantization": {"bits": 4, "group_size": 64}},
        {"quantization_config": {}},
    ],
)
def test_settings_left_over_beside_plain_weights_are_to_be_removed(tmp_path, config):
    (problem,) = problems(make_llama(tmp_path / "m", **config))
    assert "its weights are plain F16" in problem
    assert "remove that key from config.json" in problem


def test_settings_that_fit_the_weights_are_not_called_left_over(tmp_path):
    folder = make_llama(tmp_path / "m", quantization_config={"quant_method": "gptq", "bits": 4})
    save_weights(folder, pack(PACKED["GPTQ"]))
    assert "config.json has a quantization_config (gptq, 4 bits); Fireworks documents" in problems(folder)[0]


@pytest.mark.parametrize("value", [None, False, {"note": "none"}])
def test_other_values_are_no_settings(tmp_path, value):
    key = "quantization" if isinstance(value, dict) else "quantization_config"
    assert plan(make_llama(tmp_path / "m", **{key: value})).facts.parameter_count


def test_masks_and_positions_are_no_packed_weights(tmp_path):
    folder = make_llama(tmp_path / "m")
    buffers = {
        "embeddings.position_ids": np.zeros((1, 512), np.int64),
        "model.layers.0.attn.bias": np.zeros((1, 1, 8, 8), np.uint8),
        "model.layers.0.relative_position_index": np.zeros((8, 8), np.int64),
        "model.norm.num_batches_tracked": np.zeros((), np.int64),
    }
    save_weights(folder, {**llama_tensors(), **buffers})
    assert plan(folder).warnings == ()


def test_adapter_is_judged_by_its_own_tensors(tmp_path):
    folder = make_adapter(tmp_path / "m")
    (folder / "quantize_config.json").write_text('{"bits": 4}')
    assert plan(folder).adapter is not None
