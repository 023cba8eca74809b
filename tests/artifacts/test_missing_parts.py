"""Whole models that lack a part, hold too much, or are named as no loader expects; and good ones that look so."""

import gzip
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.checkpoints import edit_json, llama_tensors, make_adapter, make_llama, save_weights
from support.planning import RemoteStore, names, plan, read_file, source_of

from mlflow_fireworks.errors import CheckpointError, PreflightError

LONE = "model.safetensors"


def save(folder, change, **config):
    """A tiny Llama whose tensors are changed before they are saved."""
    make_llama(folder, **config)
    (folder / LONE).unlink()
    save_weights(folder, change(llama_tensors()))
    return folder


def without(part):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def renamed(old, new):
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def added(prefix, **extra):
    return lambda tensors: {f"{prefix}{name}": tensor for name, tensor in tensors.items()} | extra


def injected(tensors):
    """As a model is saved into which PEFT put an adapter that was not merged."""
    half = {f"model.layers.0.self_attn.q_proj.lora_{side}.default.weight": np.ones((8, 8)) for side in "AB"}
    return renamed("0.self_attn.q_proj.", "0.self_attn.q_proj.base_layer.")(tensors) | half


def experts(*counts):
    """So many experts in each layer."""

    def change(tensors):
        kept = {name: tensor for name, tensor in tensors.items() if ".mlp." not in name}
        return kept | {
            f"model.layers.{layer}.mlp.experts.{number}.up_proj.weight": np.ones((32, 16), np.float16)
            for layer, count in enumerate(counts)
            for number in range(count)
        }

    return change


def problems(folder, **options):
    with pytest.raises(PreflightError) as caught:
        plan(folder, verify="headers", **options)
    return " ".join(caught.value.problems)


@pytest.mark.parametrize(
    ("change", "config", "said"),
    [
        (dict, {"num_hidden_layers": 4}, "num_hidden_layers=4 and the weights hold 2 of these layers (not 2, 3)"),
        (dict, {"num_hidden_layers": 10**9}, "(not 2, 3, 4, 5, 6, …)"),
        (without("layers.0."), {}, "hold 1 of these layers (not 0)"),
        (renamed("model.", "language_model.model."), {"num_hidden_layers": 3}, "(not 2)"),
        (without("embed_tokens"), {}, "no input embeddings"),
        (without("lm_head"), {"tie_word_embeddings": False}, "hold no head (lm_head.weight)"),
        (injected, {}, "a LoRA that was not merged"),
        (without("1.self_attn.o_proj"), {}, "1 tensors are missing that other layers have (layer.name): 1.self_attn.o"),
        (without("model.norm"), {}, "the final norm is missing"),
        (without("1.self_attn.o_proj"), {"model_type": "jamba"}, None),
        (renamed("1.self_attn.o_proj.weight", "1.self_attn.o_proj.packed"), {}, None),
        (
            experts(3, 4),
            {"model_type": "x", "num_local_experts": 4},
            "says 4 experts and model.layers.0.mlp.experts has 3",
        ),
        (experts(0, 3), {"model_type": "x", "num_experts": 4}, "says 4 experts and model.layers.1.mlp.experts has 3"),
        (experts(0, 4), {"model_type": "x", "n_routed_experts": 4}, None),
        (renamed("self_attn.q_proj", "attention.wq"), {}, None),
        (lambda _: {"layers.0.attention.wq.weight": np.ones((4, 4))}, {}, "Meta's and Mistral's own format"),
        (without("lm_head"), {"tie_word_embeddings": True}, None),
        (dict, {"num_hidden_layers": 1}, None),
        (without("layers.1."), {"block_configs": [{}, {"no_op": True}]}, None),
        (without("layers.1."), {"auto_map": {"AutoModelForCausalLM": "modeling_x.X"}}, None),
    ],
)
def test_weights_that_lack_a_part_are_refused(tmp_path, change, config, said):
    folder = save(tmp_path / "m", change, **config)
    (folder / "modeling_x.py").write_text("pass")
    if said is None:
        assert LONE in names(plan(folder, verify="headers", trust_remote_code="true"))
    else:
        assert said in problems(folder)


def test_missing_layers_show_in_the_index_where_headers_are_not_read(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3, num_hidden_layers=3)
    assert "hold 2 of these layers" in problems(source_of(folder, RemoteStore(folder, tmp_path), identity="s3://b/m"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (added("policy.module."), "begin with policy.module."),
        (added("state_dict.", epoch=np.ones(1)), "21 of 22 tensors in model.safetensors begin with state_dict."),
        (added("pretrained_model.", **{"v_head.summary.weight": np.ones((1, 16))}), "begin with pretrained_model."),
        (renamed("q_proj.weight", "q_proj.parametrizations.weight.original"), "contain parametrizations"),
        (lambda _: {"_flat_param": np.ones(64), "_handle": np.ones(1)}, "contain _flat_param"),
        (lambda tensors: {name: tensor.reshape(-1) for name, tensor in tensors.items()}, "lm_head.weight is flat"),
    ],
)
def test_more_wrappers_are_told(tmp_path, change, said):
    assert said in problems(save(tmp_path / "m", change))


@pytest.mark.parametrize(
    "change",
    [
        added("", **{"v_head.summary.weight": np.ones((1, 16))}),
        added("", **{"encoder.pos_conv_embed.conv.parametrizations.weight.original0": np.ones((1, 1, 8))}),
        added("llm."),
        added("talker."),
    ],
)
def test_what_a_family_calls_its_tensors_is_no_wrapper(tmp_path, change):
    assert LONE in names(plan(save(tmp_path / "m", change), verify="headers"))


def test_integers_under_any_name_are_packed_weights(tmp_path):
    """Marlin's `B`, one-bit and other forms; masks and positions are integers too."""

    def pack(tensors):
        return {n: np.ones((4, 4), np.int32) if n.endswith("q_proj.B") else tensor for n, tensor in tensors.items()}

    folder = save(tmp_path / "m", lambda tensors: pack(renamed("q_proj.weight", "q_proj.B")(tensors)))
    assert "its weights are packed (model.layers.0.self_attn.q_proj.B, I32)" in problems(folder)
    masks = {"h.0.attn.bias": np.ones((1, 1, 4, 4), np.uint8), "position_ids": np.ones((1, 4), np.int64)}
    assert plan(save(tmp_path / "n", added("", **masks, causal=np.ones((4, 4), np.bool_))), verify="headers")


@pytest.mark.parametrize("name", ["my_model.safetensors", "Model.safetensors", "model-00001-of-00001.safetensors"])
def test_lone_weights_get_the_name_that_loaders_look_for(tmp_path, name):
    folder = make_llama(tmp_path / "m")
    (folder / LONE).rename(folder / name)
    manifest = plan(folder)
    assert LONE in names(manifest)
    assert read_file(manifest, LONE) == (folder / name).read_bytes()
    assert f"{name} is uploaded as {LONE}, the name that loaders look for" in manifest.notes
    assert not any("left out" in note for note in manifest.notes)


def test_one_shard_of_several_keeps_its_name(tmp_path):
    folder = make_llama(tmp_path / "m", num_hidden_layers=4)
    (folder / LONE).rename(folder / "model-00001-of-00002.safetensors")
    assert "hold 2 of these layers" in problems(folder)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", b"{}", "holds no tokenizer"),
        ("tokenizer.json", b'{"tokenizer_class": "LlamaTokenizer"}', "holds no tokenizer"),
        ("tokenizer.model", gzip.compress(bytes(1000), mtime=0), "is packed (gzip)"),
        ("tokenizer.model", b"PK\x03\x04" + bytes(1000), "is packed (zip)"),
        ("tokenizer.model", b'{"message": "Not Found", "documentation_url": "u"}', "a server's reply"),
        ("vocab.json", b'{"detail": "Not authenticated"}', "a server's reply"),
        ("merges.txt", "é a".encode("latin-1"), "is not UTF-8 text (byte 0)"),
        ("chat_template.jinja", "{{ 'é' }}".encode("cp1252"), "is not UTF-8 text (byte 4)"),
        ("merges.txt", "é a".encode(), None),
        ("vocab.json", b'{"message": 0, "a": 1}', None),
    ],
)
def test_files_that_no_tokenizer_can_read_are_refused(tmp_path, name, content, said):
    folder = make_llama(tmp_path / "m")
    (folder / name).write_bytes(content)
    if said is None:
        assert name in names(plan(folder))
    else:
        assert f"{name} " in problems(folder)
        assert said in problems(folder)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["pytorch_model_fsdp_0/__0_0.distcp"], "FSDP's own checkpoint"),
        (["global_step500/mp_rank_00_model_states.pt", "zero_to_fp32.py", "latest"], "run its zero_to_fp32.py"),
        (["model.nemo"], r"weights only as model\.nemo"),
    ],
)
def test_checkpoints_of_trainers_are_named(tmp_path, files, said):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    shutil.copy(make_llama(tmp_path / "whole") / "config.json", tmp_path)
    shutil.rmtree(tmp_path / "whole")
    with pytest.raises(CheckpointError, match=said):
        plan(tmp_path)


def test_files_that_only_the_index_places_elsewhere_are_told_once(tmp_path):
    folder = make_llama(tmp_path / "m", shards=2)
    index = json.loads((folder / f"{LONE}.index.json").read_text())
    weight_map = {name: f"/home/me/{shard}" for name, shard in index["weight_map"].items()}
    edit_json(folder / f"{LONE}.index.json", weight_map=weight_map)
    assert "holds no tensors" not in problems(folder)


def test_half_of_an_adapter_that_is_empty_is_told_once(tmp_path):
    folder = make_adapter(tmp_path / "m")
    weights = load_file(folder / "adapter_model.safetensors")
    emptied = {name: np.zeros(0) if "lora_B" in name else tensor for name, tensor in weights.items()}
    (folder / "adapter_model.safetensors").unlink()
    save_weights(folder, emptied)
    (folder / LONE).rename(folder / "adapter_model.safetensors")
    assert "has None" not in problems(folder)
