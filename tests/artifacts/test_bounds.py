"""Files from strangers take no more memory than the largest real ones, from folders, stores and the Hub alike."""

import json
import tracemalloc
from contextlib import closing, contextmanager

import pytest
from huggingface_hub import constants
from support.checkpoints import make_adapter, make_embedder, make_llama, read_files, write_mlmodel
from support.hub_server import HubServer
from support.planning import RemoteStore, plan, source_of

from mlflow_fireworks.artifacts.documents import MOST_BYTES_OF_CARD, most_bytes
from mlflow_fireworks.artifacts.sources.hub_source import open_hub_source
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.progress import Silent

MIB, GIB = 1 << 20, 1 << 30


def swell(path, size):
    """Make a file so long without writing it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.truncate(size)


@contextmanager
def little_memory(most=64 * MIB):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tokenizer.json", 3 * GIB),
        ("tokenizer.model", 2 * GIB),
        ("vocab.txt", GIB),
        ("model.safetensors.index.json", GIB),
        ("config.json", 9 * MIB),
        ("tokenizer_config.json", 9 * MIB),
        ("generation_config.json", GIB),
        ("chat_template.jinja", GIB),
        ("special_tokens_map.json", GIB),
    ],
)
@pytest.mark.parametrize("where", ["folder", "store"])
def test_a_small_file_that_is_too_large_is_refused_unread(tmp_path, name, size, where):
    folder = make_llama(tmp_path / "model")
    swell(folder / name, size)
    store = RemoteStore(folder, tmp_path) if where == "store" else None
    with little_memory(), pytest.raises(FireworksError, match=f"{name} is .* too large for a file of this kind"):
        plan(source_of(folder, store))


@pytest.mark.parametrize("name", ["1_Pooling/config.json", "modules.json", "sentence_bert_config.json"])
def test_so_is_one_of_an_embedding_model(tmp_path, name):
    folder = make_embedder(tmp_path / "model")
    swell(folder / name, GIB)
    with little_memory(), pytest.raises(FireworksError, match="too large for a file of this kind"):
        plan(folder)


def test_so_is_one_of_an_adapter_and_mlflows_own(tmp_path):
    adapter = make_adapter(tmp_path / "adapter")
    swell(adapter / "adapter_config.json", GIB)
    with little_memory(), pytest.raises(FireworksError, match="too large for a file of this kind"):
        plan(adapter)
    model = write_mlmodel(make_llama(tmp_path / "model"), {"python_function": {"loader_module": "x"}})
    swell(model / "MLmodel", GIB)
    with little_memory(), pytest.raises(FireworksError, match="too large for one of MLflow's"):
        plan(model)


def test_many_files_that_are_large_together_are_refused_unread(tmp_path):
    folder = make_llama(tmp_path / "model")
    for number in range(5):
        swell(folder / f"tokenizer_{number}.json", 120 * MIB)
    with little_memory(), pytest.raises(FireworksError, match="add up to"):
        plan(folder)


def test_of_a_model_card_only_the_front_matter_is_read(tmp_path):
    folder = make_llama(tmp_path / "model")
    (folder / "README.md").write_text("---\nbase_model: acme/base\n---\n# A model\n")
    swell(folder / "README.md", 2 * GIB)
    with little_memory():
        assert plan(folder).lineage.url == "https://huggingface.co/acme/base"
    store = RemoteStore(folder, tmp_path)  # where all of it would have to be fetched, it is left
    with little_memory():
        assert plan(source_of(folder, store)).lineage.url is None
    assert "README.md" not in store.fetched


def test_front_matter_that_does_not_end_is_none(tmp_path):
    folder = make_llama(tmp_path / "model")
    (folder / "README.md").write_text("---\nbase_model: acme/base\n")
    swell(folder / "README.md", GIB)
    with little_memory():
        plan(folder)


def test_a_file_that_grew_after_it_was_listed_is_not_read_whole(tmp_path):
    folder = make_llama(tmp_path / "model")
    source = source_of(folder)
    swell(folder / "config.json", GIB)
    with little_memory(), pytest.raises(FireworksError, match=r"config.json grew while it was being read"):
        plan(source)


def test_a_file_of_the_hub_that_is_too_large_is_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    files = read_files(make_llama(tmp_path / "model"))
    files["config.json"] += b" " * most_bytes("config.json")
    files["README.md"] = b"---\nbase_model: acme/base\n---\n" + b"x" * (2 * MOST_BYTES_OF_CARD)
    with HubServer("acme/chat", files).running() as hub:
        source = open_hub_source("hf:/acme/chat", reporter=Silent(), cache=tmp_path / "cache", endpoint=hub.url)
        with (
            closing(source.store),
            pytest.raises(FireworksError, match=r"config.json is .* too large for a file of this kind"),
        ):
            plan(source)
        assert not [request for request in hub.requests if str(request[1]).endswith("/config.json")]


def test_what_the_largest_real_models_have_is_taken(tmp_path):
    folder = make_llama(tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer) + " " * 40_000_000)  # Gemma 3 has 34 MB
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings) + " " * 2_000_000)  # Gemma 3 has 1.2 MB
    assert plan(folder).files
    assert most_bytes("model.safetensors.index.json") > 9 * 10**6  # DeepSeek V3
