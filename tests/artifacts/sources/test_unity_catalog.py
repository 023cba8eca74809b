"""Models in Databricks' Unity Catalog, by MLflow's real client: a stand-in answers; the bucket is on a real S3."""

from contextlib import contextmanager, nullcontext

import mlflow
import pytest
from support.checkpoints import make_llama, read_files
from support.planning import plan
from support.s3_server import running_s3
from support.threaded_server import serving
from support.unity_catalog import TOKEN, Model, UnityCatalog, Version, Workspace

from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.errors import SourceError
from mlflow_fireworks.registry.uri_types import RegisteredUri

NAME = "main.prod.chat"
SHARDS = 3


@contextmanager
def workspace(monkeypatch, storage, folder, s3_url=""):
    """A workspace whose model `main.prod.chat` has one version, with the alias champion."""
    catalog = UnityCatalog(storage)
    catalog.models[NAME] = Model([Version("s3://unity/chat/1", read_files(folder))], {"champion": "1"})
    with serving(Workspace, catalog=catalog) as catalog.url:
        for name, value in {**catalog.environ, "MLFLOW_S3_ENDPOINT_URL": s3_url}.items():
            monkeypatch.setenv(name, value)
        mlflow.set_tracking_uri(None)  # as the environment says
        mlflow.set_registry_uri(None)
        yield catalog


@contextmanager
def s3_with(files):
    """The address of an S3 server whose bucket holds the files of a version."""
    with running_s3("unity") as (url, client):
        for name, content in files.items():
            client.put_object(Bucket="unity", Key=f"chat/1/{name}", Body=content)
        yield url


@pytest.fixture
def folder(tmp_path):
    made = make_llama(tmp_path / "llama", hidden=256, shards=SHARDS)
    (made / "notes").mkdir()
    (made / "notes" / "today.txt").write_text("of a folder")
    return made


@pytest.fixture(params=["s3", "signed", "files"])
def catalog(request, monkeypatch, folder):
    bucket = s3_with(read_files(folder)) if request.param == "s3" else nullcontext("")
    with bucket as url, workspace(monkeypatch, request.param, folder, url) as found:
        yield found


def test_version_is_found_by_its_alias_and_its_files_are_fetched(catalog, folder, tmp_path):
    source = open_source(f"models:/{NAME}@champion", workspace=tmp_path)
    assert source.registered == RegisteredUri(NAME, "1")
    assert source.files == {name: len(content) for name, content in read_files(folder).items()}
    assert plan(source).facts == plan(folder).facts
    assert source.store.beginnings_are_cheap  # so no shard was fetched for its header
    for name, content in read_files(folder).items():
        with source.store.staged(name) as staged:
            assert staged.read_bytes() == content
    source.store.close()


def test_keys_that_last_for_an_hour_are_fresh_for_each_file(monkeypatch, folder, tmp_path):
    with s3_with(read_files(folder)) as url, workspace(monkeypatch, "s3", folder, url) as catalog:
        source = open_source(f"models:/{NAME}/1", workspace=tmp_path)
        for number in range(1, SHARDS + 1):
            catalog.asked.clear()
            with source.store.staged(f"model-0000{number}-of-0000{SHARDS}.safetensors"):
                assert catalog.asked.count("GenerateTemporaryModelVersionCredentialsRequest") == 1
        source.store.close()


@pytest.mark.parametrize("storage", ["signed", "files"])
def test_file_that_is_gone_is_not_asked_for_again(monkeypatch, folder, tmp_path, storage):
    with workspace(monkeypatch, storage, folder) as catalog:
        source = open_source(f"models:/{NAME}/1", workspace=tmp_path)
        catalog.models[NAME].versions[0].files.clear()
        catalog.asked.clear()
        with pytest.raises(SourceError, match=f"cannot fetch config.json from models:/{NAME}/1") as gone:
            source.store.read("config.json")
        assert "\n" not in str(gone.value)
        assert "signature" not in str(gone.value)
        # Once for a range of it, and once for the whole.
        assert catalog.asked.count("IsDatabricksSdkModelsArtifactRepositoryEnabledRequest") == 2
        source.store.close()


def test_what_is_not_there_or_may_not_be_read_is_told_in_one_line(catalog, monkeypatch, tmp_path):
    told = {
        f"models:/{NAME}@prod": f"models:/{NAME}@prod does not exist .* aliases: champion → 1; versions: 1",
        f"models:/{NAME}/7": f"models:/{NAME}/7 does not exist",
        "models:/main.prod.other/1": "no registered model 'main.prod.other'",
    }
    for uri, text in told.items():
        with pytest.raises(SourceError, match=text):
            open_source(uri, workspace=tmp_path)
    monkeypatch.setenv("DATABRICKS_TOKEN", f"not-{TOKEN}")
    with pytest.raises(SourceError) as refused:
        open_source(f"models:/{NAME}/1", workspace=tmp_path)
    assert TOKEN not in str(refused.value)
    assert "\n" not in str(refused.value)
