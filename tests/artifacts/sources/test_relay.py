"""Any range of a remote file as a stream: what every kind of store is asked for, and what happens when it breaks.

The clients are the real ones, against a small server that breaks as told; a real MLflow server and moto are elsewhere.
"""

import gzip
import logging
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.config import Config
from support.hub_server import SHA
from support.ranged_server import Fault, RangedServer
from support.source_world import Remembers

from mlflow_fireworks.artifacts.content import Stored
from mlflow_fireworks.artifacts.sources.artifact_repository import open_from
from mlflow_fireworks.artifacts.sources.hub_source import HubStore
from mlflow_fireworks.artifacts.sources.relay import RelayStore
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.errors import SourceError
from mlflow_fireworks.http import Retry

SIZE = 3 * 2**20 + 17
FILES = {"config.json": b"{}", "weights": os.urandom(SIZE)}
WEIGHTS = FILES["weights"]
QUICK = Retry(attempts=3, wait_initial=0.01, wait_max=0.02)
MIDDLE, LAST = 2**20 + 5, SIZE - 1


@contextmanager
def s3(served, monkeypatch):
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository, _cached_get_s3_client

    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",  # its own tries wait for seconds
        "MLFLOW_S3_ENDPOINT_URL": served.url,
        "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
    }.items():
        monkeypatch.setenv(name, value)
    session = botocore.session.get_session()
    session.set_default_client_config(Config(read_timeout=1))  # its own is a minute
    monkeypatch.setattr("boto3.DEFAULT_SESSION", boto3.Session(botocore_session=session))
    _cached_get_s3_client.cache_clear()
    yield S3ArtifactRepository("s3://models/chat")
    _cached_get_s3_client.cache_clear()


@contextmanager
def google(served, monkeypatch):
    storage = pytest.importorskip("google.cloud.storage")
    from mlflow.store.artifact.gcs_artifact_repo import GCSArtifactRepository

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", served.url)
    client = storage.Client.create_anonymous_client()
    repository = GCSArtifactRepository("gs://models", client)
    repository._GCS_DEFAULT_TIMEOUT = 0.5
    yield repository
    client.close()


@contextmanager
def azure(served, monkeypatch):
    blob = pytest.importorskip("azure.storage.blob")
    from mlflow.store.artifact.azure_blob_artifact_repo import AzureBlobArtifactRepository

    client = blob.BlobServiceClient(f"{served.url}/account", retry_total=0, read_timeout=0.5)
    yield AzureBlobArtifactRepository("wasbs://models@account.blob.core.windows.net/chat", client)
    client.close()


@contextmanager
def data_lake(served, monkeypatch):
    lake = pytest.importorskip("azure.storage.filedatalake")
    from azure.core.credentials import AzureSasCredential
    from mlflow.store.artifact.azure_data_lake_artifact_repo import AzureDataLakeArtifactRepository

    uri = "abfss://models@account.dfs.core.windows.net/chat"
    repository = AzureDataLakeArtifactRepository(uri, AzureSasCredential("sig=secret"))
    service = lake.DataLakeServiceClient(f"{served.url}/account", retry_total=0, read_timeout=0.5)
    repository.fs_client = service.get_file_system_client("models")
    yield repository
    service.close()


@contextmanager
def web(served, monkeypatch):
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    yield HttpArtifactRepository(f"{served.url}/chat")


@contextmanager
def signed(served, monkeypatch):
    """As in Databricks' default storage: each range has a URL of its own."""
    from mlflow.protos.databricks_filesystem_service_pb2 import CreateDownloadUrlResponse, HttpHeader
    from mlflow.store.artifact.presigned_url_artifact_repo import PresignedUrlArtifactRepository

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")

    class Signing(PresignedUrlArtifactRepository):
        def __init__(self):
            self.artifact_uri = "models:/main.prod.chat/1"

        def _get_download_presigned_url_and_headers(self, path):
            url = f"{served.url}/{path}?signature=secret{len(served.asked)}"
            return CreateDownloadUrlResponse(url=url, headers=[HttpHeader(name="x-of-the-store", value="1")])

    yield Signing()


@contextmanager
def databricks(served, monkeypatch):
    """Through the Files API of a workspace."""
    core = pytest.importorskip("databricks.sdk.core")
    from databricks.sdk import WorkspaceClient
    from mlflow.store.artifact.databricks_sdk_models_artifact_repo import DatabricksSDKModelsArtifactRepository

    class Opened(DatabricksSDKModelsArtifactRepository):
        def __init__(self):
            self.artifact_uri, self.model_base_path = "models:/main.prod.chat/1", "/Models/main/prod/chat/1"
            # It would itself try for five minutes what a server is too busy for.
            config = core.Config(host=served.url, token="secret", retry_timeout_seconds=0, http_timeout_seconds=1)
            self.client = WorkspaceClient(config=config)

    yield Opened()


@contextmanager
def hub(served, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("mlflow_fireworks.artifacts.sources.hub_source._ANSWER_SECONDS", 1.0)
    yield "acme/chat"


STORES = {
    "s3": s3,
    "google": google,
    "azure": azure,
    "data lake": data_lake,
    "web": web,
    "signed": signed,
    "databricks": databricks,
    "hub": hub,
}


@pytest.fixture
def reporter():
    return Remembers()


@contextmanager
def opened(kind, monkeypatch, reporter, files=FILES, **options):
    """A relay from a store of some kind, its server, and `weights` as a part."""
    with RangedServer(files).running() as served, STORES[kind](served, monkeypatch) as repository:
        sizes = {name: len(content) for name, content in files.items()}
        if kind == "hub":
            store = HubStore(
                repository, SHA, sizes, reporter=reporter, workspace=None, cache=Path("none"), endpoint=served.url,
                retry=QUICK,
            )  # fmt: skip
        else:
            open_range = open_from(repository, "")
            store = RelayStore("the store", sizes, open_range, None, reporter=reporter, retry=QUICK, **options)
        yield store, served, Stored(store, "weights", SIZE)


def read(part):
    with part.staged() as open_file, open_file() as stream:
        return stream.read()


# Azure's client waits for a second between the tries that it makes itself.
_SLOW = {"azure", "data lake"}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if name in _SLOW else ()) for name in STORES])
def kind(request):
    return request.param


def test_any_range_comes_with_one_condition_after_the_first(kind, monkeypatch, reporter):
    with opened(kind, monkeypatch, reporter) as (store, served, part):
        assert store.read_beginning("weights", 8) == WEIGHTS[:8]
        for begin, end in [(0, SIZE), (5, 6), (MIDDLE, SIZE - 3), (LAST, SIZE)]:
            with store.relay("weights")(begin, end) as stream:
                stream.seek(begin)
                assert stream.read() == WEIGHTS[begin:end]
                assert stream.read(1) == b""
        assert read(part) == WEIGHTS
        if kind == "hub":
            assert set(served.conditions) == {None}  # a commit is a version
            return
        named = {None, served.etag("weights"), served.generation("weights")}
        assert served.conditions[:3] == [None] * 3  # whether it can be had, and the header
        assert set(served.conditions[3:]) <= named - {None}
    assert reporter.warnings == []


def test_broken_download_goes_on_from_where_it_stopped(kind, monkeypatch, reporter):
    with opened(kind, monkeypatch, reporter) as (store, served, part):
        assert store.beginnings_are_cheap
        breaks = [Fault("close", 0), Fault("close", MIDDLE), Fault("reset", 2**19), Fault("close", 2**20)]
        served.fail("weights", *breaks)
        assert read(part) == WEIGHTS
        begins = [first for name, first, _ in served.asked if name == "weights"]
        assert begins == sorted(begins)
        # A piece for each break, of the size in which it is read; what a reset takes away was sent in vain, too.
        assert served.sent["weights"] <= SIZE + 4 * (2**21 if kind in _SLOW else 2**18) + 2**19
    assert "secret" not in str(reporter.warnings)


FAULTS = {
    "reset": [Fault("reset")],
    "cut off": [Fault("close")],
    "refused, as with keys that have expired": [Fault("close"), Fault("status", status=403)],
    "busy": [Fault("close"), Fault("status", status=429, headers=(("Retry-After", "0"),))],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_trouble_in_the_beginning_the_middle_and_at_the_last_byte_costs_a_piece(kind, monkeypatch, reporter, fault):
    with opened(kind, monkeypatch, reporter) as (store, served, part):
        assert store.read_beginning("weights", 8) == WEIGHTS[:8]
        piece = 2**21 if kind in _SLOW else 2**18
        for place in (2**16, MIDDLE, LAST % piece if kind in _SLOW else LAST):  # of an answer; Azure's are short
            served.sent.clear()
            served.fail("weights", *(replace(fault, after=place) for fault in FAULTS[fault]))
            assert read(part) == WEIGHTS
            assert served.faults["weights"] == []
            in_vain = place if fault == "reset" else 0  # what was in the sockets
            assert served.sent["weights"] <= SIZE + in_vain + 2 * piece
    assert "secret" not in str(reporter.warnings)


def test_trouble_at_the_header_passes(kind, monkeypatch, reporter):
    with opened(kind, monkeypatch, reporter) as (store, served, _):
        assert store.beginnings_are_cheap
        for fault in (Fault("close", 7), Fault("status", status=503), Fault("shorter")):
            served.fail("weights", fault)
            assert store.read_beginning("weights", 8) == WEIGHTS[:8]
            assert served.faults["weights"] == []


@pytest.mark.parametrize("place", [2**20, LAST])
def test_silent_store_is_given_up_and_asked_again(kind, monkeypatch, reporter, place):
    with opened(kind, monkeypatch, reporter) as (store, served, part):
        assert store.beginnings_are_cheap
        served.fail("weights", Fault("stall", place))
        assert read(part) == WEIGHTS
    assert len(reporter.warnings) <= 1  # none where the client asks again itself


def test_refusal_that_databricks_words_may_pass_in_the_middle_and_a_replaced_file_is_told(monkeypatch, reporter):
    """Its SDK raises by the code in the answer, without the status."""

    def refusal(status, code):
        return Fault("status", status=status, body=b'{"error_code": "%s", "message": "no"}' % code)

    with opened("databricks", monkeypatch, reporter) as (store, served, part):
        assert store.read_beginning("weights", 8) == WEIGHTS[:8]
        served.fail("weights", Fault("close", 2**19), refusal(403, b"PERMISSION_DENIED"))
        assert read(part) == WEIGHTS
        served.fail("weights", Fault("close", 2**19), refusal(412, b"FAILED_PRECONDITION"))
        with pytest.raises(SourceError, match="was replaced while it was being read"):
            read(part)


def test_refusals_in_the_middle_may_pass(kind, monkeypatch, reporter):
    with opened(kind, monkeypatch, reporter) as (store, served, part):
        assert store.read_beginning("weights", 8) == WEIGHTS[:8]
        for status in (403, 401, 429, 500, 503):
            refusal = Fault("status", status=status, headers=(("Retry-After", "0"),))
            served.fail("weights", Fault("close", 2**19), refusal)
            assert read(part) == WEIGHTS
            assert served.faults["weights"] == []
    assert "secret" not in str(reporter.warnings)


@pytest.mark.parametrize("status", [403, 404])
def test_refusal_at_the_header_is_final(kind, monkeypatch, reporter, status):
    if kind == "hub":
        pytest.skip("the Hub says in a header what it refuses; those without may be of the store behind it")
    with opened(kind, monkeypatch, reporter) as (store, served, _):
        assert store.beginnings_are_cheap
        served.fail("weights", *[Fault("status", status=status)] * 9)
        with pytest.raises(SourceError, match="cannot fetch weights from ") as refused:
            store.read_beginning("weights", 8)
        assert len(served.faults["weights"]) in (8, 7)  # google-auth tries once more
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_store_is_asked_as_late_as_it_wants(monkeypatch, reporter):
    with opened("web", monkeypatch, reporter) as (store, served, part):
        assert store.beginnings_are_cheap
        served.fail("weights", Fault("status", status=503, headers=(("Retry-After", "0.2"),)))
        assert read(part) == WEIGHTS
    assert "retrying in 0s" in reporter.warnings[0]


def test_answers_that_are_not_what_was_asked_for_are_noticed(kind, monkeypatch, reporter):
    with opened(kind, monkeypatch, reporter) as (store, served, part):
        assert store.beginnings_are_cheap
        served.fail("weights", *(Fault(kind) for kind in ("whole", "shorter")))
        assert read(part) == WEIGHTS
        served.fail("weights", Fault("close", 2**20), Fault("longer"), Fault("close", 2**19), Fault("shifted"))
        if kind in _SLOW:
            served.faults["weights"].pop()  # its client looks at the length only
        assert read(part) == WEIGHTS
        assert served.faults["weights"] == []


def test_encoded_answer_is_noticed(kind, monkeypatch, reporter):
    with opened(kind, monkeypatch, reporter) as (store, served, part):
        assert store.beginnings_are_cheap
        served.fail("weights", Fault("encoded"))
        if kind in {*_SLOW, "google"}:  # whose objects may have been stored with an encoding
            with pytest.raises(SourceError, match="weights is stored with Content-Encoding: gzip; store it as it is"):
                read(part)
        else:
            assert read(part) == WEIGHTS
            assert "the bytes encoded (gzip)" in reporter.warnings[0]


def test_store_that_breaks_for_ever_is_given_up(kind, monkeypatch, reporter):
    with opened(kind, monkeypatch, reporter) as (store, served, part):
        assert store.beginnings_are_cheap
        served.fail("weights", Fault("close", 2**21), *[Fault("close", 0)] * 40)
        with pytest.raises(SourceError, match=r"cannot fetch weights from (the store|hf:\S+): .*run the same command"):
            read(part)
        assert len(served.asked) <= 20
    assert "secret" not in str(reporter.warnings)


@pytest.mark.parametrize("seen", [8, LAST])
def test_file_that_was_replaced_ends_the_run(kind, monkeypatch, reporter, seen):
    if kind == "hub":
        pytest.skip("a commit cannot be replaced")
    with opened(kind, monkeypatch, reporter) as (store, served, _):
        assert store.read_beginning("weights", 8) == WEIGHTS[:8]
        with store.relay("weights")(0, SIZE) as stream:
            served.fail("weights", Fault("close", seen))
            assert stream.read(8) == WEIGHTS[:8]
            served.files["weights"] = bytes(SIZE)
            with pytest.raises(
                SourceError, match=r"weights in the store was replaced while it was being read .*run the same"
            ):
                stream.read()


def test_file_that_ends_before_the_range_is_told(kind, monkeypatch, reporter):
    if kind == "hub":
        pytest.skip("a commit cannot be replaced")
    with opened(kind, monkeypatch, reporter) as (store, served, part):
        assert store.read_beginning("weights", 8) == WEIGHTS[:8]
        served.fail("weights", Fault("status", status=416))
        with pytest.raises(SourceError, match=r"was replaced while it was being read \(it is shorter now\)"):
            read(part)


def test_weak_etag_is_compared_and_not_asked_for(kind, monkeypatch, reporter):
    """Which matches nothing, so that a store would say that the file has been replaced."""
    with opened(kind, monkeypatch, reporter) as (store, served, part):
        served.habits = dict.fromkeys(FILES, Fault("weak"))
        served.fail("weights", Fault("weak"), Fault("close", 2**20), Fault("weak"))
        assert store.read_beginning("weights", 8) == WEIGHTS[:8]
        assert read(part) == WEIGHTS
    assert len(reporter.warnings) <= 1


def test_more_than_was_asked_for_is_not_read(kind, monkeypatch, reporter):
    with opened(kind, monkeypatch, reporter) as (store, served, _):
        served.habits["weights"] = Fault("beyond")
        assert store.read_beginning("weights", 8) == WEIGHTS[:8]
        with store.relay("weights")(5, MIDDLE) as stream:
            assert stream.read() == WEIGHTS[5:MIDDLE]
    assert reporter.warnings == []


@pytest.mark.parametrize(
    ("habit", "why"),
    [
        ("nameless", "the store does not say which version of a file it sends"),
        ("nodes", "the store gives the same file another version each time"),
        ("whole", "this server only sends whole files"),
        ("shifted", "the server sent the bytes 1-0, but 1-1 were requested"),
    ],
)
def test_store_of_which_ranges_could_be_of_another_file_is_fetched_from(monkeypatch, reporter, habit, why):
    """boto3 itself fetches large files in ranges, of which these stores make something else."""
    large = os.urandom(9 * 2**20)
    with opened("s3", monkeypatch, reporter, {"config.json": b"{}", "weights": large}) as (_, served, _):
        served.habits = dict.fromkeys(served.files, Fault(habit))
        source = open_source("s3://models/chat", reporter=reporter)
        assert source.store.why_fetched("weights") == why
        with source.store.staged("weights") as path:
            assert path.read_bytes() == large
        source.store.close()


def test_file_that_alone_is_sent_whole_is_fetched(monkeypatch, reporter):
    monkeypatch.setattr("mlflow_fireworks.artifacts.sources.relay._RANGE_RETRY", QUICK)
    with opened("s3", monkeypatch, reporter) as (_, served, _):
        served.habits["weights"] = Fault("whole")
        source = open_source("s3://models/chat", reporter=reporter)
        assert source.store.read_beginning("weights", 8) == WEIGHTS[:8]
        assert source.store.why_fetched("weights") == "this server only sends whole files"
        assert source.store.why_fetched("config.json") is None
        with source.store.staged("weights") as path:
            assert path.read_bytes() == WEIGHTS
        source.store.close()


def test_file_that_grew_is_told(kind, monkeypatch, reporter):
    with opened(kind, monkeypatch, reporter) as (store, served, part):
        assert store.beginnings_are_cheap
        served.files["weights"] += b"more"
        with pytest.raises(SourceError, match="was replaced while it was being read"):
            read(part)


def test_relay_that_is_off_reads_beginnings_only(monkeypatch, reporter):
    with opened("s3", monkeypatch, reporter, relay=False) as (store, _, _):
        assert store.beginnings_are_cheap
        assert store.read_beginning("weights", 8) == WEIGHTS[:8]
        assert store.relay("weights") is None
        assert store.why_fetched("weights") == "-C relay=off"


def test_closed_store_opens_nothing(monkeypatch, reporter):
    with opened("s3", monkeypatch, reporter) as (store, _, part), part.staged() as open_file:
        store._fetched = type("Nothing", (), {"close": lambda _: None})()
        store.close()
        with open_file() as stream, pytest.raises(SourceError, match="is closed"):
            stream.read(1)


def test_no_secret_is_logged(kind, monkeypatch, reporter, caplog):
    caplog.set_level(logging.INFO)
    with opened(kind, monkeypatch, reporter) as (_, served, part):
        served.fail("weights", Fault("close", MIDDLE), Fault("status", status=503))
        assert read(part) == WEIGHTS
    assert "signature=secret" not in caplog.text


def test_object_that_google_stores_with_an_encoding_is_fetched_decoded(monkeypatch, tmp_path):
    """Its listing tells the length of what is stored, and its client gives what it was."""
    pytest.importorskip("google.cloud.storage")
    text = b'{"model_type": "llama"}' * 50
    files = {"config.json": gzip.compress(text), "weights": WEIGHTS}
    with RangedServer(files).running() as served:
        served.headers["config.json"] = {"Content-Encoding": "gzip"}
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", served.url)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "none")
        source = open_source("gs://models/chat", workspace=tmp_path)
        assert source.files == {"config.json": len(text), "weights": SIZE}
        assert source.store.read("config.json") == text
        assert source.store.why_fetched("config.json") == "the store does not report its size"
        assert source.store.why_fetched("weights") is None
        part = Stored(source.store, "weights", SIZE)
        assert read(part) == WEIGHTS
        source.store.close()
