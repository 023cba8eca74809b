"""Headers of remote weights are read without fetching the weights, wherever the store can send a part of a file."""

import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import stamina
from support.checkpoints import make_llama
from support.counting_proxy import CountingProxy
from support.misbehaving_store import MisbehavingStore, running
from support.planning import names, plan
from support.s3_server import running_s3
from support.threaded_server import serving

from mlflow_fireworks.artifacts.checkpoint import make_checkpoint
from mlflow_fireworks.artifacts.layout import find_layout
from mlflow_fireworks.artifacts.preflight import read_headers
from mlflow_fireworks.artifacts.sources.artifact_repository import fetch_from, open_from, open_repository
from mlflow_fireworks.artifacts.sources.range_clients import find_opener
from mlflow_fireworks.artifacts.sources.ranges import whole_files_only
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.config import parse_config
from mlflow_fireworks.errors import PreflightError, SourceError

WEIGHTS = bytes(range(256)) * 4096
FILES = {"config.json": b"{}", "empty.txt": b"", "model.safetensors": WEIGHTS}
NAME = "model.safetensors"


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # its own retries wait for seconds
    with running(MisbehavingStore(FILES)) as served, stamina.set_testing(True, attempts=3):
        served.knows_ranges = True
        yield served


def fetched(folder):
    return {path.stat().st_size for path in Path(folder).rglob("*") if path.is_file() and path.name != ".in-use"}


def test_head_is_all_that_is_sent(source, store, tmp_path):
    assert source.store.read_beginning(NAME, 4) == WEIGHTS[:4]
    assert source.store.read_beginning(NAME, 8) == WEIGHTS[:8]
    assert source.store.read_beginning("config.json", 1_000) == b"{}"
    assert source.store.beginnings_are_cheap
    assert store.requests == ["config.json", "config.json", NAME, NAME, "config.json"]  # twice, whether it can be had
    assert store.sent == {"config.json": 1 + 1 + 2, NAME: 4 + 8}
    assert fetched(tmp_path) == set()


def test_head_of_an_empty_file_is_empty(source):
    assert source.store.read_beginning("empty.txt", 8) == b""


def test_server_that_sends_whole_files_is_asked_once_and_with_a_small_one(source, store):
    store.knows_ranges = False
    for _ in range(2):
        assert source.store.read_beginning(NAME, 4) == WEIGHTS[:4]
        assert not source.store.beginnings_are_cheap
    assert store.requests == ["config.json", NAME]


@pytest.mark.parametrize("fault", ["truncate", "hang up", 500, 429])
def test_head_that_fails_twice_comes_the_third_time(source, store, reporter, fault):
    assert source.store.beginnings_are_cheap
    store.fail(NAME, fault, fault)
    assert source.store.read_beginning(NAME, 64) == WEIGHTS[:64]
    assert store.sent[NAME] == (16 if fault == "truncate" else 64)  # half, a quarter, and the rest
    assert store.requests.count(NAME) == 3
    assert len(reporter.warnings) == (1 if fault == "truncate" else 2)  # after progress, the first try fails alike
    assert all(warning.startswith(f"{NAME}: ") for warning in reporter.warnings)


def test_head_that_does_not_come_is_refused_without_fetching_the_file(source, store, tmp_path):
    assert source.store.beginnings_are_cheap
    store.fail(NAME, *["hang up"] * 3)
    with pytest.raises(SourceError, match=f"cannot fetch {NAME} from http://127.*; run the same command again"):
        source.store.read_beginning(NAME, 64)
    assert store.requests.count(NAME) == 3
    assert fetched(tmp_path) == set()


def test_vanished_file_is_not_asked_for_again(source, store):
    assert source.store.beginnings_are_cheap
    del store.files[NAME]
    with pytest.raises(SourceError, match=f"cannot fetch {NAME} from http://127.*404") as caught:
        source.store.read_beginning(NAME, 64)
    assert store.requests.count(NAME) == 1
    assert "Signature" not in str(caught.value)


def test_trouble_with_the_first_question_leads_to_the_whole_fetch(source, store):
    store.fail("config.json", *[500] * 3)
    assert source.store.read_beginning(NAME, 4) == WEIGHTS[:4]
    assert store.sent[NAME] == len(WEIGHTS)


def test_closed_store_reads_no_heads(source):
    assert source.store.beginnings_are_cheap
    source.store.close()
    with pytest.raises(SourceError, match="is closed"):
        source.store.read_beginning(NAME, 4)


def test_repository_of_another_kind_or_make_is_left_to_the_whole_fetch(monkeypatch, tmp_path):
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    class Renamed(S3ArtifactRepository):
        """As another MLflow may have it."""

        _get_s3_client = property()

    assert find_opener(LocalArtifactRepository(str(tmp_path))) is whole_files_only
    assert find_opener(Renamed("s3://models/chat")) is whole_files_only


def remote_llama(folder, **options):
    make_llama(folder, **options)
    return MisbehavingStore({path.name: path.read_bytes() for path in folder.iterdir()})


@pytest.fixture
def sharded(tmp_path):
    with running(remote_llama(tmp_path / "m", shards=3)) as served:
        served.knows_ranges = True
        yield served


def test_remote_shards_are_looked_into(sharded, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    source = open_source(sharded.url, workspace=scratch)
    assert plan(source).facts == plan(tmp_path / "m").facts
    assert fetched(scratch).isdisjoint(size for name, size in source.files.items() if name.endswith(".safetensors"))
    source.store.close()


def test_truncated_remote_shard_is_named_before_it_is_fetched(sharded, tmp_path):
    shard = "model-00002-of-00003.safetensors"
    sharded.files[shard] = sharded.files[shard][:-1]
    sharded.listed[shard] -= 1
    source = open_source(sharded.url, workspace=tmp_path)
    with pytest.raises(PreflightError, match=f"{shard} is truncated"):
        plan(source)
    source.store.close()


def test_large_remote_shards_are_divided_as_local_ones_are(sharded, tmp_path):
    source = open_source(sharded.url, workspace=tmp_path)
    assert names(plan(source, shard_size="2KB")) == names(plan(tmp_path / "m", shard_size="2KB"))
    source.store.close()


@pytest.fixture(scope="module")
def s3():
    with running_s3() as s3:
        yield s3


@contextmanager
def bucket(s3, monkeypatch, folder, latency=0.0):
    """A folder as `s3://models/chat`, behind a proxy."""
    url, client = s3
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    for path in folder.iterdir():
        client.upload_file(str(path), "models", f"chat/{path.name}")
    with CountingProxy(url, latency) as proxy:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", proxy.url)
        yield proxy
    for path in folder.iterdir():
        client.delete_object(Bucket="models", Key=f"chat/{path.name}")


def test_bucket_sends_no_more_than_the_header(s3, monkeypatch, tmp_path):
    folder = make_llama(tmp_path / "m", hidden=512)
    assert (folder / NAME).stat().st_size > 10_000_000
    with bucket(s3, monkeypatch, folder) as proxy:
        source = open_source("s3://models/chat", workspace=tmp_path)
        manifest = plan(source)
        source.store.close()
    assert manifest.facts == plan(folder).facts
    documents = sum(path.stat().st_size for path in folder.iterdir() if path.name != NAME)
    assert proxy.sent < documents + 64 * 1024 + 10_000  # and the heads of the answers


def test_expected_owner_of_the_bucket_is_named_as_mlflow_names_it(s3, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_S3_EXPECTED_BUCKET_OWNER", "999999999999")
    heads = []
    folder = make_llama(tmp_path / "m")
    with bucket(s3, monkeypatch, folder):
        source = open_source("s3://models/chat", workspace=tmp_path)
        client = open_repository("s3://models/chat")._get_s3_client()
        client.meta.events.register("before-send.s3.GetObject", lambda request, **_: heads.append(request.headers))
        assert source.store.beginnings_are_cheap
        source.store.close()
    assert [head["x-amz-expected-bucket-owner"] for head in heads] == [b"999999999999"] * 2


def test_headers_of_many_shards_are_read_side_by_side(s3, monkeypatch, tmp_path):
    """60 answers that take 50 ms each."""
    folder = make_llama(tmp_path / "m", shards=60, layers=8)
    with bucket(s3, monkeypatch, folder, latency=0.05):
        source = open_source("s3://models/chat", workspace=tmp_path)
        checkpoint = make_checkpoint(find_layout(source, parse_config({}), None), None, source.resolved)
        assert source.store.beginnings_are_cheap
        begin = time.monotonic()
        headers = read_headers(checkpoint)
        seconds = time.monotonic() - begin
        source.store.close()
    assert len(headers) == 60
    assert seconds < 60 * 0.05 / 2


@contextmanager
def range_server(content):
    """What Azure's and Google's clients need of a server to read one object."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers.get("x-ms-range") or self.headers.get("Range"))
            first, last = map(int, (asked[-1] or "bytes=0-0").removeprefix("bytes=").split("-"))
            part = content[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.send_header("ETag", '"1"')
            self.end_headers()
            self.wfile.write(part)

        def log_message(self, *_):
            pass

    asked = []
    with serving(Handler) as url:
        yield url, asked


def test_azure_sends_no_more_than_the_header():
    from azure.storage import blob
    from mlflow.store.artifact.azure_blob_artifact_repo import AzureBlobArtifactRepository

    with range_server(WEIGHTS) as (url, asked):
        client = blob.BlobServiceClient(f"{url}/account")
        repository = AzureBlobArtifactRepository("wasbs://models@account.blob.core.windows.net/chat", client)
        assert open_from(repository, "")(NAME, 0, 64, None).read(64) == WEIGHTS[:64]
        client.close()
    assert asked == ["bytes=0-63"]


def test_what_azure_does_not_have_is_not_asked_for_again(tmp_path):
    from azure.storage import blob
    from mlflow.store.artifact.azure_blob_artifact_repo import AzureBlobArtifactRepository

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404)
            self.send_header("x-ms-error-code", "BlobNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with serving(Handler) as url:
        client = blob.BlobServiceClient(f"{url}/account")
        repository = AzureBlobArtifactRepository("wasbs://models@account.blob.core.windows.net/chat", client)
        with pytest.raises(SourceError, match=f"cannot fetch {NAME} from wasbs://models@account"):
            fetch_from(repository, "")(NAME, tmp_path)
        client.close()


def test_azure_data_lake_sends_no_more_than_the_header():
    from azure.core.credentials import AzureSasCredential
    from azure.storage import filedatalake as lake
    from mlflow.store.artifact.azure_data_lake_artifact_repo import AzureDataLakeArtifactRepository

    uri = "abfss://models@account.dfs.core.windows.net/chat"
    repository = AzureDataLakeArtifactRepository(uri, AzureSasCredential("sig=secret"))
    with range_server(WEIGHTS) as (url, asked):
        repository.fs_client = lake.DataLakeServiceClient(f"{url}/account").get_file_system_client("models")
        assert open_from(repository, "")(NAME, 0, 64, None).read(64) == WEIGHTS[:64]
        repository.fs_client.close()
    assert asked == ["bytes=0-63"]


def test_google_sends_no_more_than_the_header(monkeypatch):
    from google.cloud import storage
    from mlflow.store.artifact.gcs_artifact_repo import GCSArtifactRepository

    with range_server(WEIGHTS) as (url, asked):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        client = storage.Client.create_anonymous_client()
        assert (
            open_from(GCSArtifactRepository("gs://models/chat", client), "")(NAME, 0, 64, None).read(64) == WEIGHTS[:64]
        )
        client.close()
    assert list(filter(None, asked)) == ["bytes=0-63"]  # it also looks at the bucket
