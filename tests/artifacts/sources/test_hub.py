"""The Hugging Face Hub (a small one on loopback) and its cache on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import stamina
from support.hub_server import SHA, HubServer, fill_cache
from support.sleeping import replace_sleep
from support.source_world import Remembers, picture

from mlflow_fireworks.artifacts.sources.hub_source import open_hub_source
from mlflow_fireworks.errors import InvalidConfigError, SourceError

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": bytes(range(256)) * 4096,
    "1_Pooling/config.json": b"{}",
    "empty.txt": b"",
}
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _online_without_waiting(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture
def hub():
    with HubServer("org/name", dict(FILES), old_names=["old-org/old-name"]).running() as server:
        yield server


@pytest.fixture
def reporter():
    return Remembers()


@pytest.fixture
def look_up(hub, reporter, tmp_path):
    opened = []

    def look_up(uri, endpoint=hub.url):
        (tmp_path / "work").mkdir(exist_ok=True)
        opened.append(
            open_hub_source(
                uri, reporter=reporter, workspace=tmp_path / "work", cache=tmp_path / "cache", endpoint=endpoint
            )
        )
        return opened[-1]

    yield look_up
    for source in opened:
        source.store.close()
    assert not (tmp_path / "work").exists() or list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    "uri", ["hf:/org/name", "hf://org/name", "hf:org/name/", "hf:/org/name@main", f"hf:/org/name@{SHA}"]
)
def test_branch_is_pinned_to_its_commit(look_up, uri):
    source = look_up(uri)

    assert source.asked == uri
    assert source.resolved == f"hf:/org/name@{SHA}"
    assert source.identity == f"hf:org/name@{SHA}"
    assert source.files == {name: len(content) for name, content in FILES.items()}
    assert source.registered is None
    assert source.mlmodel == {}


def test_revision_with_slashes_is_understood(look_up):
    assert look_up("hf:/org/name@refs/pr/1").resolved == f"hf:/org/name@{SHA}"


def test_renamed_repo_is_followed(look_up):
    assert look_up("hf:/old-org/old-name").identity == f"hf:org/name@{SHA}"


def test_head_reads_a_range_only(look_up, hub):
    store = look_up("hf:/org/name").store

    assert store.beginnings_are_cheap
    assert store.read_beginning("model.safetensors", 8) == FILES["model.safetensors"][:8]
    assert store.read_beginning("config.json", 1_000_000) == FILES["config.json"]
    assert store.read("1_Pooling/config.json") == b"{}"
    assert store.read("empty.txt") == b""
    assert [ranged for _, path, ranged in hub.requests if "/resolve/" in path] == [
        "bytes=1-1",  # whether it can be had
        "bytes=1-1",
        "bytes=0-7",
        "bytes=0-22",
        "bytes=0-1",
    ]


def test_head_is_right_from_a_mirror_that_knows_no_ranges(look_up, hub):
    hub.knows_ranges = False

    assert look_up("hf:/org/name").store.read_beginning("model.safetensors", 8) == FILES["model.safetensors"][:8]


def test_head_that_fails_twice_comes_the_third_time(look_up, hub, reporter):
    store = look_up("hf:/org/name").store
    hub.failures = 2

    assert store.read_beginning("config.json", 2) == b'{"'
    assert len(reporter.warnings) == 2


def test_hub_that_stays_ill_is_explained(look_up, hub, monkeypatch):
    store = look_up("hf:/org/name").store
    replace_sleep(monkeypatch, lambda seconds: None)  # the Hub's client waits for a minute in all
    hub.status = 503

    with pytest.raises(SourceError, match=r"cannot fetch config\.json from hf:/org/name@.*503.*run the same command"):
        store.read_beginning("config.json", 8)


def test_staged_file_is_fetched_and_neither_kept_nor_cached(look_up, tmp_path):
    store = look_up("hf:/org/name").store

    assert store.path("model.safetensors") is None
    with store.staged("model.safetensors") as path:
        assert path.read_bytes() == FILES["model.safetensors"]
    assert not path.exists()
    assert not (tmp_path / "cache").exists()


def test_cached_file_is_used_in_place(look_up, hub, tmp_path):
    fill_cache(tmp_path / "cache", "org/name", {"model.safetensors": FILES["model.safetensors"]})
    before = picture(tmp_path / "cache")
    source = look_up("hf:/org/name")
    hub.requests.clear()

    assert source.store.path("model.safetensors").is_relative_to(tmp_path / "cache")
    assert source.store.read_beginning("model.safetensors", 4) == b"\x00\x01\x02\x03"
    with source.store.staged("model.safetensors") as path:
        assert path.is_relative_to(tmp_path / "cache")
    assert hub.requests == []
    assert picture(tmp_path / "cache") == before


def test_cached_file_of_the_wrong_size_is_fetched_instead(look_up, tmp_path):
    fill_cache(tmp_path / "cache", "org/name", {"model.safetensors": b"cut short"})

    with look_up("hf:/org/name").store.staged("model.safetensors") as path:
        assert path.read_bytes() == FILES["model.safetensors"]


def test_file_that_fails_twice_comes_the_third_time(look_up, hub, reporter):
    store = look_up("hf:/org/name").store
    hub.failures = 2

    with store.staged("config.json") as path:
        assert path.read_bytes() == FILES["config.json"]
    assert hub.failures == 0
    assert len(reporter.warnings) <= 2


def test_hub_that_cannot_be_reached_is_told_and_the_cache_used(look_up, reporter, tmp_path):
    snapshot = fill_cache(tmp_path / "cache", "org/name", FILES)
    before = picture(tmp_path / "cache")

    source = look_up("hf:/org/name", endpoint=NOWHERE)

    assert source.resolved == f"hf:/org/name@{SHA}"
    assert source.identity == f"hf:org/name@{SHA}"
    assert source.files == {name: len(content) for name, content in FILES.items()}
    assert source.outside_links == ()
    assert "cannot read org/name from the Hugging Face Hub" in reporter.notes[0]
    assert SHA in reporter.notes[0]
    with source.store.staged("model.safetensors") as path:
        assert path == snapshot / "model.safetensors"
    assert picture(tmp_path / "cache") == before


@pytest.mark.parametrize("uri", [f"hf:/org/name@{SHA}", "hf:/org/name@v1"])
def test_cached_tag_or_commit_is_found_without_the_hub(look_up, tmp_path, uri):
    fill_cache(tmp_path / "cache", "org/name", FILES, revision="v1")

    assert look_up(uri, endpoint=NOWHERE).identity == f"hf:org/name@{SHA}"


def test_hub_that_is_ill_is_like_one_that_cannot_be_reached(look_up, hub, reporter, tmp_path):
    fill_cache(tmp_path / "cache", "org/name", FILES)
    hub.status = 503

    assert look_up("hf:/org/name").identity == f"hf:org/name@{SHA}"
    assert "503" in reporter.notes[0]


@pytest.mark.parametrize("uri", ["hf:/org/other", "hf:/org/name@v2"])
def test_what_is_neither_reachable_nor_cached_is_explained(look_up, tmp_path, uri):
    fill_cache(tmp_path / "cache", "org/name", FILES)

    with pytest.raises(SourceError, match=r"cannot read .* Hub \(.*\), and the cache .* no .*hf download") as caught:
        look_up(uri, endpoint=NOWHERE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("hf:/org/nobody", r"no repo org/nobody on the Hugging Face Hub.*HF_TOKEN"),
        ("hf:/org/name@nowhere", "org/name has no revision 'nowhere'"),
    ],
)
def test_repo_or_revision_that_does_not_exist_is_explained(look_up, uri, says, tmp_path):
    fill_cache(tmp_path / "cache", "org/nobody", FILES)  # a Hub that answers is believed

    with pytest.raises(SourceError, match=says) as caught:
        look_up(uri)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "use", [lambda store: store.read_beginning("config.json", 8), lambda store: store.staged("config.json")]
)
def test_gated_repo_is_explained_at_once(look_up, hub, use):
    store = look_up("hf:/org/name").store
    hub.gated = True

    with pytest.raises(SourceError, match="org/name is gated on the Hugging Face Hub: accept its terms") as caught:
        use(store).__enter__()
    assert "\n" not in str(caught.value)


def test_file_that_left_the_commit_is_explained(look_up, hub):
    store = look_up("hf:/org/name").store
    del hub.files["config.json"]

    with pytest.raises(SourceError, match=r"cannot read config\.json of org/name on the Hugging Face Hub: "):
        store.read("config.json")


@pytest.mark.parametrize("uri", ["hf:", "hf:/", "hf:/a/b/c", "hf:/org//name", "hf:/org/na me", "hf:/org/name@"])
def test_malformed_uri_is_a_configuration_error(look_up, uri):
    with pytest.raises(InvalidConfigError, match="is not a Hub URI"):
        look_up(uri)


@pytest.mark.slow
def test_offline_mode_of_the_environment_is_honoured(tmp_path):
    fill_cache(tmp_path / "hub", "org/name", FILES)
    program = """
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.progress import Silent
class Prints(Silent):
    def note(self, text):
        print(text)
print(open_source("hf:/org/name", reporter=Prints()).identity)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60, env=environment
    )

    note, identity = ran.stdout.splitlines()
    assert "(offline mode)" in note
    assert identity == f"hf:org/name@{SHA}"
