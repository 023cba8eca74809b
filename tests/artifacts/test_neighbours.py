"""Odd layouts that MLflow's users leave: what a checkpoint lacks and a folder near it has."""

import json
import shutil

import mlflow
import pytest
from support.checkpoints import (
    edit_json,
    make_adapter,
    make_embedder,
    make_llama,
    make_tokenizer,
    make_transformers_model,
    write_mlmodel,
)
from support.planning import names, plan, read_file

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import CheckpointError, PreflightError

FLAT = ["config.json", "generation_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
WHOLE = [*FLAT, "model.safetensors"]


class _Plain(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return model_input


def log(folder, **artifacts):
    """A pyfunc with these artifacts, saved by the real mlflow."""
    mlflow.pyfunc.save_model(
        str(folder),
        python_model=_Plain(),
        artifacts={key: str(path) for key, path in artifacts.items()},
        pip_requirements=[],
    )
    return folder


def divide(folder, *groups):
    """Move files of one checkpoint into folders of their own: (folder, the names that begin so)."""
    for target, starts in groups:
        target.mkdir(parents=True, exist_ok=True)
        for path in list(folder.iterdir()):
            if path.is_file() and path.name.startswith(starts):
                shutil.move(path, target / path.name)
    return folder


TOKENIZER = ("tokenizer", "special_tokens")


def test_weights_and_tokenizer_as_two_artifacts_are_one_model(tmp_path):
    weights = divide(make_llama(tmp_path / "weights"), (tmp_path / "words", TOKENIZER))
    manifest = plan(log(tmp_path / "m", model=weights, tokenizer=tmp_path / "words"))
    assert (names(manifest), manifest.kind, manifest.location) == (WHOLE, Kind.BASE, "artifacts/weights")
    assert manifest.facts.has_chat_template
    assert any("the tokenizer is taken from artifacts/words/" in note for note in manifest.notes)


def test_three_artifacts_and_single_files_are_one_model_too(tmp_path):
    whole = make_llama(tmp_path / "whole")
    divide(whole, (tmp_path / "words", TOKENIZER), (tmp_path / "settings", ("config", "generation")))
    parts = {"weights": whole, "tokenizer": tmp_path / "words", "config": tmp_path / "settings"}
    assert names(plan(log(tmp_path / "m", **parts))) == WHOLE
    files = {"weights": whole / "model.safetensors", "config": tmp_path / "settings" / "config.json"}
    manifest = plan(log(tmp_path / "n", tokenizer=tmp_path / "words", **files))
    assert names(manifest) == [name for name in WHOLE if name != "generation_config.json"]


def test_two_tokenizers_beside_the_weights_need_a_choice(tmp_path):
    weights = divide(make_llama(tmp_path / "weights"), (tmp_path / "one", TOKENIZER))
    two = make_tokenizer(tmp_path / "two")
    folder = log(tmp_path / "m", model=weights, one=tmp_path / "one", two=two)
    with pytest.raises(CheckpointError, match=r"has no tokenizer.*artifacts/one/, artifacts/two/; .*=artifacts/one$"):
        plan(folder)
    assert names(plan(folder, tokenizer_path="artifacts/one")) == WHOLE


def test_tokenizer_that_is_named_replaces_the_one_beside_the_weights(tmp_path):
    """All of it: what only the other one has (`chat_template.jinja`) would change what the named one says."""
    whole = make_llama(tmp_path / "whole")
    (whole / "chat_template.jinja").write_text("of the weights")
    (whole / "preprocessor_config.json").write_text("{}")
    words = make_tokenizer(tmp_path / "words", chat_template="of the words")
    (words / "config.json").write_text("{}")
    folder = log(tmp_path / "m", model=whole, words=words)
    manifest = plan(folder, tokenizer_path="artifacts/words")
    assert names(manifest) == [*sorted([*FLAT, "preprocessor_config.json"]), "model.safetensors"]
    assert json.loads(read_file(manifest, "tokenizer_config.json"))["chat_template"] == "of the words"
    assert manifest.facts.model_type == "llama"
    assert "the tokenizer is taken from artifacts/words/, as tokenizer_path says" in manifest.notes
    for where, said in [("artifacts/whole/..", "inside the artifacts"), ("artifacts/wrods", "has no tokenizer")]:
        with pytest.raises(CheckpointError, match=said):
            plan(folder, tokenizer_path=where)


def test_tokenizer_of_a_transformers_model_can_be_exchanged(tmp_path):
    folder = make_transformers_model(tmp_path / "m")
    make_tokenizer(folder / "extra", chat_template="of the extra")
    manifest = plan(folder, tokenizer_path="extra")
    assert json.loads(read_file(manifest, "tokenizer_config.json"))["chat_template"] == "of the extra"


def test_cache_folder_that_is_logged_as_an_artifact_is_read_at_its_snapshot(tmp_path):
    """Its files are links into `blobs/`; mlflow copies what they point to, and the blobs too."""
    repo = tmp_path / "hub" / "models--acme--chat"
    snapshot = repo / "snapshots" / ("d" * 40)
    for folder in (snapshot, repo / "blobs", repo / "refs"):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text("d" * 40)
    for number, path in enumerate(sorted(make_llama(tmp_path / "whole").iterdir())):
        shutil.move(path, repo / "blobs" / f"{number:040}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040}")
    manifest = plan(log(tmp_path / "m", model=repo))
    assert names(manifest) == WHOLE
    assert (manifest.lineage.repo, manifest.lineage.confidence) == ("acme/chat", "high")


@pytest.fixture
def cached(tmp_path):
    """A repository in a cache of the Hub with two commits, logged as an artifact."""

    def make(ref):
        repo = tmp_path / "models--acme--chat"
        for number, revision in enumerate("ab"):
            make_llama(repo / "snapshots" / (revision * 40), num_hidden_layers=2, rope_theta=1000 + number)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(ref)
        return log(tmp_path / "m", model=repo)

    return make


@pytest.mark.parametrize("revision", ["a" * 40, "b" * 40])
def test_of_several_snapshots_the_one_of_the_main_branch_is_taken(cached, revision):
    manifest = plan(cached(f"{revision}\n"))
    assert manifest.location == f"artifacts/models--acme--chat/snapshots/{revision}"
    assert any("is the snapshot that refs/main names" in note for note in manifest.notes)
    assert manifest.lineage.repo == "acme/chat"


def test_snapshots_without_a_main_branch_need_a_choice(cached):
    folder = cached("c" * 40)
    with pytest.raises(CheckpointError, match=r"several checkpoints: .*snapshots/aaa.*snapshots/bbb"):
        plan(folder)
    chosen = f"artifacts/models--acme--chat/snapshots/{'b' * 40}"
    assert plan(folder, checkpoint_path=chosen).location == chosen


def test_main_branch_of_one_repository_says_nothing_of_another(cached, tmp_path):
    folder = cached("b" * 40)
    make_llama(folder / "artifacts" / "models--acme--other" / "snapshots" / ("a" * 40))
    with pytest.raises(CheckpointError, match=r"several checkpoints: [^,]*chat/snapshots/bbb[^,]*, .*[^,]*other"):
        plan(folder)


def test_checkpoint_that_lacks_nothing_takes_nothing(tmp_path):
    whole = make_llama(tmp_path / "whole")
    other = make_tokenizer(tmp_path / "other", chat_template="other")
    manifest = plan(log(tmp_path / "m", model=whole, tokenizer=other))
    assert names(manifest) == WHOLE
    assert not any("taken from" in note for note in manifest.notes)


def test_tokenizer_of_another_checkpoint_is_not_taken(tmp_path):
    large = divide(make_llama(tmp_path / "large"), (tmp_path / "gone", TOKENIZER))
    folder = log(tmp_path / "m", large=large, small=make_llama(tmp_path / "small"))
    with pytest.raises(PreflightError, match="tokenizer is missing"):
        plan(folder, checkpoint_path="artifacts/large")


def test_adapter_and_embedding_model_take_nothing(tmp_path):
    adapter = make_adapter(tmp_path / "adapter")
    assert names(plan(log(tmp_path / "m", adapter=adapter, tokenizer=make_tokenizer(tmp_path / "words")))) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    embedder = make_embedder(tmp_path / "embedder")
    assert plan(log(tmp_path / "n", model=embedder, tokenizer=tmp_path / "words")).kind is Kind.EMBEDDING


@pytest.mark.parametrize("shards", [1, 2])
def test_shards_in_a_folder_called_like_a_file_belong_to_the_configuration_above(tmp_path, shards):
    folder = make_llama(tmp_path / "m", shards=shards)
    inner = folder / "pytorch_model.bin"
    divide(folder, (inner, ("model",)))
    for path in list(inner.glob("*.safetensors")):
        path.unlink()
    for number in range(shards):
        (inner / f"pytorch_model-0000{number + 1}-of-0000{shards}.bin").write_bytes(b"\x80\x02}q\x00.")
    if shards > 1:
        index = inner / "model.safetensors.index.json"
        index.rename(inner / "pytorch_model.bin.index.json")
        names_of = {f"t{n}": f"pytorch_model-0000{n + 1}-of-0000{shards}.bin" for n in range(shards)}
        edit_json(inner / "pytorch_model.bin.index.json", weight_map=names_of, metadata={"total_size": 4})
    manifest = plan(folder)
    assert set(FLAT) <= set(names(manifest))
    assert manifest.location == "pytorch_model.bin"
    assert any("config.json is taken from the top" in note for note in manifest.notes)


@pytest.mark.parametrize("step", ["checkpoint-500", "global_step500"])
def test_single_training_checkpoint_is_taken(tmp_path, step):
    make_llama(tmp_path / step)
    (tmp_path / step / "optimizer.pt").write_bytes(b"x")
    manifest = plan(tmp_path)
    assert (names(manifest), manifest.location) == (WHOLE, step)
    assert any(f"training run's {step}/" in note for note in manifest.notes)


def test_training_checkpoint_takes_the_tokenizer_above_it(tmp_path):
    step = divide(make_llama(tmp_path / "out" / "checkpoint-500"), (tmp_path / "out", TOKENIZER))
    assert step.is_dir()
    assert names(plan(tmp_path / "out")) == WHOLE


def test_what_the_trainers_callback_logs_is_taken(tmp_path):
    """transformers' MLflowCallback logs each checkpoint as a pyfunc of its name."""
    step = make_llama(tmp_path / "out" / "checkpoint-500")
    log(tmp_path / "run" / "checkpoint-500", model_path=step)
    for folder, options in (
        (tmp_path / "run" / "checkpoint-500", {}),
        (tmp_path / "run", {}),
        (tmp_path / "run", {"checkpoint_path": "checkpoint-500"}),
    ):
        manifest = plan(folder, **options)
        assert names(manifest) == WHOLE
        assert manifest.location.endswith("artifacts/checkpoint-500")


def test_several_of_them_need_a_choice_that_works(tmp_path):
    for step in (500, 1000):
        log(tmp_path / "run" / f"checkpoint-{step}", model_path=make_llama(tmp_path / "out" / f"checkpoint-{step}"))
    with pytest.raises(CheckpointError) as caught:
        plan(tmp_path / "run")
    path = str(caught.value).rpartition("checkpoint_path=")[2]
    assert path == "checkpoint-1000/artifacts/checkpoint-1000"
    assert names(plan(tmp_path / "run", checkpoint_path=path)) == WHOLE


def test_adapter_in_a_single_training_checkpoint_is_taken(tmp_path):
    make_adapter(tmp_path / "checkpoint-7")
    assert plan(tmp_path).kind is Kind.ADDON


def test_final_model_is_preferred_to_what_training_left(tmp_path):
    folder = make_llama(tmp_path / "m")
    make_llama(folder / "checkpoint-500", seed=1)
    assert plan(folder).location == ""


@pytest.mark.parametrize("content", ["{}", "[]", "not json", '{"model": 1}'])
def test_configuration_of_something_else_is_not_taken(tmp_path, content):
    weights = divide(make_llama(tmp_path / "weights"), (tmp_path / "gone", ("config",)))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(content)
    with pytest.raises(PreflightError, match=r"config\.json is missing"):
        plan(log(tmp_path / "m", model=weights, settings=tmp_path / "other"))


def test_flavor_logged_on_windows_is_read(tmp_path):
    folder = make_transformers_model(tmp_path / "m")
    (folder / "data").mkdir()
    (folder / "model").rename(folder / "data" / "model")
    mlmodel = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(mlmodel.replace("model_binary: model", "model_binary: data\\model"))
    assert plan(folder).location == "data/model"


def test_plain_folder_beside_an_mlmodel_of_its_own_is_not_searched(tmp_path):
    weights = divide(make_llama(tmp_path / "run" / "weights"), (tmp_path / "run" / "logged" / "words", TOKENIZER))
    assert weights.is_dir()
    write_mlmodel(tmp_path / "run" / "weights", {"python_function": {"loader_module": "x"}})
    with pytest.raises(PreflightError, match="tokenizer is missing"):
        plan(tmp_path / "run" / "weights")
