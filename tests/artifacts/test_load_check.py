"""The check against an architecture, from the plan's side: asked for, not possible, or the verdict itself."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.checkpoints import (
    edit_json,
    llama_tensors,
    make_adapter,
    make_embedder,
    make_llama,
    make_peft_model,
    save_weights,
)
from support.planning import RemoteStore, plan, source_of

from mlflow_fireworks.artifacts.checkpoint import make_checkpoint
from mlflow_fireworks.artifacts.layout import find_layout
from mlflow_fireworks.artifacts.load_check import _limited_environment, check_loading
from mlflow_fireworks.artifacts.preflight import read_headers
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.config import parse_config
from mlflow_fireworks.errors import InvalidConfigError, PreflightError
from mlflow_fireworks.installing import install

HAS_TORCH = importlib.util.find_spec("torch") is not None
without_torch = pytest.mark.skipif(HAS_TORCH, reason="says what happens where torch is not installed")
with_torch = pytest.mark.torch
LONE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"


def problems(folder, **options) -> list[str]:
    with pytest.raises(PreflightError) as caught:
        plan(folder, **options)
    return list(caught.value.problems)


def checked(manifest) -> str:
    (note,) = [note for note in manifest.notes if note.startswith("checked")]
    return note


def test_headers_only_asks_nobody(tmp_path):
    note = checked(plan(make_llama(tmp_path / "m"), verify="headers"))
    assert note == "checked the names and shapes of 21 tensors by general rules (-C verify=headers)"


def test_unknown_way_to_verify_is_refused(tmp_path):
    with pytest.raises(InvalidConfigError, match="verify"):
        plan(make_llama(tmp_path / "m"), verify="always")


@without_torch
def test_plan_says_that_torch_would_check_more(tmp_path):
    note = checked(plan(make_llama(tmp_path / "m")))
    assert f"torch and transformers are not installed here ({install('mlflow-fireworks[local]')})" in note
    assert "peft" in checked(plan(make_adapter(tmp_path / "a")))


@without_torch
def test_check_that_is_demanded_and_impossible_is_a_problem(tmp_path):
    (found,) = problems(make_llama(tmp_path / "m"), verify="load")
    assert found.startswith("-C verify=load")
    assert "pip install" in found


def test_program_gets_no_secrets_and_no_network(monkeypatch, tmp_path):
    for name in ("FIREWORKS_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "s3cret")
    environment = _limited_environment(str(tmp_path))
    assert "s3cret" not in str(environment)
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "PYTHONPATH" not in environment


@with_torch
def test_the_search_path_of_the_caller_decides_nothing(tmp_path, monkeypatch):
    trap, mark = tmp_path / "trap", tmp_path / "mark"
    trap.mkdir()
    for name in ("json", "tokenizers", "sitecustomize"):
        (trap / f"{name}.py").write_text(f"open({str(mark)!r}, 'w')")
    monkeypatch.setenv("PYTHONPATH", str(trap))
    monkeypatch.syspath_prepend(trap)
    monkeypatch.chdir(trap)
    note = checked(plan(make_llama(tmp_path / "m"), verify="load"))
    assert "against LlamaForCausalLM" in note
    assert not mark.exists()


@with_torch
@pytest.mark.parametrize("shards", [1, 20])
def test_good_model_is_checked_against_its_class(tmp_path, shards):
    note = checked(plan(make_llama(tmp_path / "m", shards=shards), verify="load"))
    assert note.startswith("checked the names and shapes of 21 tensors against LlamaForCausalLM in transformers ")


@with_torch
def test_missing_renamed_and_reshaped_tensors_are_told_at_once(tmp_path):
    folder = make_llama(tmp_path / "m")
    tensors = llama_tensors()
    for layer in ("model.layers.0.mlp", "model.layers.1.mlp"):
        tensors[f"{layer}.up_projection.weight"] = tensors.pop(f"{layer}.up_proj.weight")
    tensors["model.norm.weight"] = np.ones(17, np.float16)
    save_weights(folder, tensors)
    missing, reshaped = problems(folder)
    assert "2 of the 21 tensors of LlamaForCausalLM are missing" in missing
    assert "model.layers.1.mlp.up_proj.weight" in missing
    assert "ignore model.layers.0.mlp.up_projection.weight" in missing
    assert "model.norm.weight is [17], not [16]" in reshaped
    assert plan(folder, verify="headers")


@with_torch
def test_tensors_that_nothing_reads_are_a_warning(tmp_path):
    folder = make_llama(tmp_path / "m")
    edit_json(folder / "config.json", num_hidden_layers=1)
    (warning,) = [warning for warning in plan(folder).warnings if "would ignore" in warning]
    assert "9 tensors" in warning


@with_torch
def test_rows_beyond_the_vocabulary_are_refused_as_transformers_would(tmp_path):
    (found,) = problems(make_llama(tmp_path / "m", vocab_size=200))
    assert "lm_head.weight is [259, 16], not [200, 16]" in found


@with_torch
def test_embedding_model_needs_no_pooler(tmp_path):
    folder = make_embedder(tmp_path / "m")
    tensors = {name: tensor for name, tensor in load_file(folder / LONE).items() if "pooler" not in name}
    save_file(tensors, folder / LONE)
    assert "BertModel" in checked(plan(folder, verify="load"))
    tensors.pop("encoder.layer.0.output.dense.bias")
    save_file(tensors, folder / LONE)
    assert "encoder.layer.0.output.dense.bias" in problems(folder)[0]


@with_torch
@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"architectures": ["AcmeForCausalLM"]}, "has no AcmeForCausalLM"),
        ({"model_type": "acme"}, "acme"),
    ],
)
def test_architecture_that_is_unknown_falls_back_unless_it_was_demanded(tmp_path, config, reason):
    folder = make_llama(tmp_path / "m", **config)
    note = checked(plan(folder))
    assert note.startswith("checked the names and shapes of 21 tensors by general rules")
    assert reason in note
    assert reason in problems(folder, verify="load")[0]


@with_torch
@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"num_hidden_layers": 10**6, "auto_map": {"AutoConfig": "acme/x--y.Z"}},
            "describes more than 50021 tensors, not 21",
        ),
        ({"num_hidden_layers": "two"}, "'num_hidden_layers' expected int"),
        ({"num_attention_heads": 3}, "not a multiple of the number of attention heads"),
        ({"hidden_act": "nope"}, "KeyError: 'nope'"),
    ],
)
def test_config_that_makes_no_model_is_refused(tmp_path, config, said):
    (found,) = problems(make_llama(tmp_path / "m", **config))
    assert "cannot build LlamaForCausalLM from it: config.json" in found
    assert said in found


@with_torch
def test_config_that_takes_too_much_memory_is_told_from_a_fault(tmp_path):
    """transformers makes two dictionaries of the labels, beyond what the program may take."""
    folder = make_llama(tmp_path / "m", num_labels=10**8)
    assert "takes more memory than a model of so many tensors" in checked(plan(folder))
    assert "takes more memory" in problems(folder, verify="load")[0]


@with_torch
def test_check_that_does_not_end_is_ended(tmp_path):
    """PEFT takes the keys of `rank_pattern` as regular expressions, and this one never comes to an end."""
    folder = make_peft_model(tmp_path / "m")
    edit_json(folder / "peft" / "adapter_config.json", rank_pattern={"(([a-z._0-9])*)*!": 8})
    config = parse_config({})
    layout = find_layout(open_source(str(folder)), config, open_source)
    checkpoint = make_checkpoint(layout, None, "the model")
    began = time.monotonic()
    check = check_loading(checkpoint, read_headers(checkpoint), "load", is_quantised=False, seconds=5)
    assert time.monotonic() - began < 30
    assert "it took longer than 5 seconds" in check.note
    (problem,) = check.problems
    assert problem.endswith("which is not possible here: it took longer than 5 seconds")


@with_torch
def test_code_of_the_checkpoint_is_not_run(tmp_path):
    """Not for its verdict; a class of transformers whose tensors it does not have is not held against it."""
    folder = make_llama(tmp_path / "m", auto_map={"AutoModelForCausalLM": "modeling_x.X", "AutoConfig": "modeling_x.C"})
    (folder / "modeling_x.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "LlamaForCausalLM" in checked(plan(folder, verify="load", trust_remote_code="true"))
    save_weights(folder, {name.replace("model.", "own."): tensor for name, tensor in llama_tensors().items()})
    assert "has its own code" in checked(plan(folder))
    assert not (tmp_path / "ran").exists()


@with_torch
def test_weights_that_are_not_read_are_no_verdict(tmp_path):
    folder = make_llama(tmp_path / "m", shards=3)
    source = source_of(folder, RemoteStore(folder, tmp_path), identity="s3://bucket/m")
    assert "headers of its weights were not read" in checked(plan(source))
    assert "headers of its weights were not read" in problems(source, verify="load")[0]


@with_torch
def test_quantised_weights_are_no_verdict(tmp_path):
    folder = make_llama(tmp_path / "m", quantization_config={"quant_method": "fp8"})
    assert "quantised weights" in checked(plan(folder, allow_quantized="true"))


@with_torch
def test_adapter_is_checked_against_its_base(tmp_path):
    folder = make_peft_model(tmp_path / "m")
    note = checked(plan(folder, verify="load"))
    assert "8 tensors against an adapter of LlamaForCausalLM in peft " in note


@with_torch
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": 32}, "have different shapes"),
        ({"num_hidden_layers": 1}, "does not have"),
        ({"num_hidden_layers": 3}, "4 of the 12 tensors"),
    ],
)
def test_adapter_of_another_base_is_refused(tmp_path, change, said):
    folder = make_peft_model(tmp_path / "m")
    edit_json(folder / "model" / "config.json", **change)
    assert said in " ".join(problems(folder))


@with_torch
def test_adapter_of_an_unknown_base_is_checked_by_general_rules(tmp_path):
    assert "the config.json of its base model" in checked(plan(make_adapter(tmp_path)))


@with_torch
def test_base_of_an_adapter_is_looked_up_in_the_cache_of_the_hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    commit = "c" * 40
    cached = tmp_path / "hub" / "models--acme--base"
    make_llama(cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    folder = make_adapter(tmp_path / "a", base="acme/base")
    assert "LlamaForCausalLM" in checked(plan(folder, verify="load"))


STARTER = """
import subprocess, sys, time
program = [sys.executable, "-m", "mlflow_fireworks.artifacts.meta_model", sys.argv[1]]
print(subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end it")
def test_the_check_ends_when_its_starter_is_killed(tmp_path):
    question = tmp_path / "question.json"
    os.mkfifo(question)  # the program waits at it
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, env=environ)
    try:
        child = Path("/proc", starter.stdout.readline().decode().strip())
        writer = os.open(question, os.O_WRONLY)  # returns once it has begun to read
    finally:
        starter.kill()
        starter.communicate()
    try:
        deadline = time.monotonic() + 10
        while is_alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not is_alive(child)
    finally:
        os.close(writer)


def is_alive(process):
    """A process that nobody has waited for is a zombie, in a container whose first process waits for none."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
