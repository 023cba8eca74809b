"""A real `mlflow server` that hands out artifacts itself, and one of its models kept in S3."""

import sys
from functools import partial
from types import ModuleType

import mlflow
import pytest
from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from support.counting_proxy import CountingProxy
from support.mlflow_server import running_server
from support.s3_server import running_s3
from support.source_world import PLAIN, WEIGHTS, build_world, picture

from mlflow_fireworks.answers import take
from mlflow_fireworks.artifacts.sources import artifact_repository
from mlflow_fireworks.artifacts.sources.artifact_repository import list_repository
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.errors import FireworksError, InvalidConfigError, SourceError
from mlflow_fireworks.registry.uri_types import RegisteredUri
from mlflow_fireworks.registry.versions import write_outcome

CHAT_WEIGHTS = "artifacts/ckpt/weights.safetensors"
BUCKET = "models"


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory):
    home = tmp_path_factory.mktemp("server")
    with running_server(home, str(home / "kept")) as uri:
        yield uri


@pytest.fixture(scope="module")
def filled(tracking_uri, tmp_path_factory):
    yield build_world(tracking_uri, tmp_path_factory.mktemp("remote"))
    mlflow.set_tracking_uri(None)


@pytest.fixture
def world(filled, tracking_uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    return filled


@pytest.fixture(scope="module")
def s3():
    with running_s3(BUCKET) as (url, client):
        for name, content in PLAIN.items():
            client.put_object(Bucket=BUCKET, Key=f"teams/chat/{name}", Body=content)
            client.put_object(Bucket=BUCKET, Key=f"teams/chat-other/{name}", Body=content)
        yield url, client


@pytest.fixture
def aws(s3, monkeypatch):
    url, client = s3
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return client


def read_all(source):
    contents = {}
    for name in source.files:
        with source.store.staged(name) as path:
            contents[name] = path.read_bytes()
    return contents


def test_model_behind_a_server_is_listed_and_fetched_file_by_file(world, tmp_path):
    source = open_source("models:/chat@champion", workspace=tmp_path)

    assert source.resolved == "models:/chat/1"
    assert source.identity == f"models:/{world.model_id}"
    assert source.registered == RegisteredUri("chat", "1")
    assert "python_function" in source.mlmodel["flavors"]
    assert [hint.origin for hint in source.hints][:2] == ["model version tag", "registered model tag"]
    contents = read_all(source)
    assert contents[CHAT_WEIGHTS] == WEIGHTS
    assert {name: len(content) for name, content in contents.items()} == source.files
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".in-use"]
    source.store.close()
    assert list(tmp_path.iterdir()) == []


def test_folder_of_a_run_behind_a_server_is_named_by_its_address(world, tracking_uri, tmp_path):
    source = open_source(f"runs:/{world.run_id}/plain", workspace=tmp_path)

    assert source.identity.startswith(f"{tracking_uri}/api/2.0/mlflow-artifacts/artifacts/")
    assert source.identity.endswith(f"{world.run_id}/artifacts/plain")
    assert read_all(source) == PLAIN
    source.store.close()


@pytest.mark.parametrize("spell", ["models:/{model_id}", "runs:/{run_id}/model", "models:/chat/latest"])
def test_logged_model_behind_a_server_is_found(world, spell, tmp_path):
    source = open_source(spell.format(model_id=world.model_id, run_id=world.run_id), workspace=tmp_path)

    assert source.identity == f"models:/{world.model_id}"
    assert source.store.read(CHAT_WEIGHTS) == WEIGHTS
    source.store.close()


def test_artifact_uri_of_the_proxy_can_be_named(world, tmp_path):
    source = open_source(world.plain_uri, workspace=tmp_path)

    assert world.plain_uri.startswith("mlflow-artifacts:/")
    assert source.resolved == world.plain_uri
    assert source.files == {name: len(content) for name, content in PLAIN.items()}
    source.store.close()


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("models:/chat@nobody", r"does not exist in the registry http://127\.0\.0\.1:\d+; aliases: champion → 1"),
        ("models:/nobody/1", "no registered model 'nobody' in the registry http://"),
        ("runs:/0000/model", "cannot read run 0000 in http://"),
        ("runs:/{run_id}/nowhere", "there are no files in http://"),
        ("models:/plain/1/config.json", "there are no files in http://.*must be a folder"),
    ],
)
def test_uri_that_leads_to_nothing_on_a_server_is_explained(world, uri, says, tmp_path):
    with pytest.raises(SourceError, match=says) as caught:
        open_source(uri.format(run_id=world.run_id), workspace=tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_outcome_reaches_the_registry_of_a_server(world):
    assert write_outcome(RegisteredUri("plain", "1"), {"fireworks.state": "READY"}) is None

    assert world.client.get_model_version("plain", "1").tags == {"fireworks.state": "READY"}


def test_open_source_stays_with_its_server_when_mlflow_is_pointed_elsewhere(world, tracking_uri, tmp_path):
    source = open_source("models:/plain/1", workspace=tmp_path)
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        assert source.store.read("sub/model.safetensors") == WEIGHTS
    finally:
        mlflow.set_tracking_uri(tracking_uri)
    source.store.close()


def test_bucket_is_listed_and_fetched(aws, tmp_path):
    source = open_source("s3://models/teams/chat", workspace=tmp_path)

    assert source.resolved == source.identity == "s3://models/teams/chat"
    assert source.files == {name: len(content) for name, content in PLAIN.items()}
    assert read_all(source) == PLAIN
    source.store.close()


def test_registered_version_kept_in_a_bucket_is_fetched(world, aws, tmp_path):
    world.client.create_registered_model("in-s3")
    world.client.create_model_version("in-s3", "s3://models/teams/chat")

    source = open_source("models:/in-s3/1", workspace=tmp_path)

    assert source.resolved == "models:/in-s3/1"
    assert source.identity == "s3://models/teams/chat"
    assert source.store.read_beginning("sub/model.safetensors", 4) == WEIGHTS[:4]
    source.store.close()


def test_object_deleted_after_listing_is_not_asked_for_again(aws, tmp_path):
    aws.put_object(Bucket=BUCKET, Key="short/config.json", Body=b"{}")
    source = open_source("s3://models/short", workspace=tmp_path)
    aws.delete_object(Bucket=BUCKET, Key="short/config.json")

    with pytest.raises(SourceError, match=r"cannot fetch config\.json from s3://models/short: .*404"):
        source.store.read("config.json")
    source.store.close()


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3://models/teams/nothing", "there are no files in s3://models/teams/nothing"),
        ("s3://no-such-bucket/x", "cannot read s3://no-such-bucket/x: .*bucket does not exist"),
    ],
)
def test_bucket_that_leads_to_nothing_is_explained(aws, uri, says, tmp_path):
    with pytest.raises(SourceError, match=says):
        open_source(uri, workspace=tmp_path)


NO_OTHER = "cannot be read under exactly that name: MLflow"


@pytest.mark.parametrize("mark", ["#2", "#", "?2", "?"])
@pytest.mark.parametrize("named", ["by itself", "as the source of a registered version"])
def test_mlflow_is_not_let_read_another_folder_of_a_bucket_than_the_one_named(world, aws, mark, named, tmp_path):
    """MLflow's S3 repository reads `teams/chat` for each of these, which is another model."""
    uri = f"s3://models/teams/chat{mark}/1"
    if named != "by itself":
        name = f"odd-{ord(mark[0])}-{len(mark)}"
        world.client.create_registered_model(name)
        world.client.create_model_version(name, uri)
        uri = f"models:/{name}/1"

    with pytest.raises(SourceError, match=rf"{NO_OTHER} ignores everything after a \{mark[0]}; copy or move"):
        open_source(uri, workspace=tmp_path)


@pytest.mark.parametrize("name", ["chat%202", "chät", "chat 2", "chat+2", "chat@2", "chat;v=2"])
def test_odd_names_that_a_bucket_takes_as_they_are_are_read(aws, name, tmp_path):
    aws.put_object(Bucket=BUCKET, Key=f"odd/{name}/config.json", Body=name.encode())
    aws.put_object(Bucket=BUCKET, Key="odd/chat/config.json", Body=b"another model")

    source = open_source(f"s3://models/odd/{name}", workspace=tmp_path)

    assert source.store.read("config.json") == name.encode()
    source.store.close()


def test_server_is_not_let_decode_the_name_of_a_folder(world, tracking_uri, tmp_path, tmp_path_factory):
    """It would read the folder `a b`, whichever way the percent sign is written."""
    kept = next(tmp_path_factory.getbasetemp().glob("server*")) / "kept"
    for name in ("a b", "a%20b"):
        (kept / "odd" / name).mkdir(parents=True)
        (kept / "odd" / name / "config.json").write_text(name)

    for name in ("a%20b", "a%2520b"):
        with pytest.raises(SourceError, match=f"{NO_OTHER}'s server decodes percent signs and would read .*/odd/a b;"):
            open_source(f"mlflow-artifacts:/odd/{name}", workspace=tmp_path)
    source = open_source("mlflow-artifacts:/odd/a b", workspace=tmp_path)
    assert source.store.read("config.json") == b"a b"
    source.store.close()


def test_server_with_files_on_its_disk_sends_their_beginnings(world, tmp_path):
    source = open_source("models:/plain/1", workspace=tmp_path)

    assert source.store.beginnings_are_cheap
    assert source.store.read_beginning("sub/model.safetensors", 4) == WEIGHTS[:4]
    assert max(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < len(WEIGHTS)
    source.store.close()


@pytest.mark.parametrize("way", ["DOWNLOAD", "UPLOAD"])
def test_server_with_files_on_its_disk_sends_ranges_whatever_is_set_for_signed_urls(world, tmp_path, monkeypatch, way):
    monkeypatch.setenv(f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}", "true")
    source = open_source("models:/plain/1", workspace=tmp_path)

    with source.store.relay("sub/model.safetensors")(5, 99) as stream:
        assert stream.read() == WEIGHTS[5:99]
    source.store.close()


@pytest.mark.slow
def test_beginnings_of_files_that_a_server_keeps_in_a_bucket_come_from_there(aws, s3, tmp_path, monkeypatch):
    """The server signs a URL; it would fetch the whole file itself before it sent the first byte."""
    home = tmp_path / "server"
    home.mkdir()
    with (
        CountingProxy(s3[0]) as proxy,
        running_server(home, f"s3://{BUCKET}/teams", MLFLOW_S3_ENDPOINT_URL=proxy.url) as uri,
    ):
        monkeypatch.delenv("MLFLOW_S3_ENDPOINT_URL")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        source = open_source(uri.replace("http", "mlflow-artifacts") + "/chat", workspace=tmp_path)
        assert source.store.beginnings_are_cheap
        before = proxy.sent
        assert source.store.read_beginning("sub/model.safetensors", 4) == WEIGHTS[:4]
        assert proxy.sent - before < 5_000 < len(WEIGHTS)
        source.store.close()


def test_missing_package_of_a_store_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "boto3", None)  # what an import finds when the package is not installed
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9/other")  # MLflow keeps a client for each

    with pytest.raises(SourceError, match=r"install it: .* boto3$"):
        open_source("s3://models/teams/chat", workspace=tmp_path)


def test_package_of_a_store_that_is_there_but_of_another_release_is_not_called_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "boto3", ModuleType("boto3"))
    monkeypatch.setitem(sys.modules, "botocore.client", ModuleType("botocore.client"))
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9/another")

    with pytest.raises(SourceError, match=r"cannot import name 'Config' .*another release of botocore is needed$"):
        open_source("s3://models/teams/chat", workspace=tmp_path)


def test_files_of_the_server_are_untouched(world, tmp_path, tmp_path_factory):
    kept = next(tmp_path_factory.getbasetemp().glob("server*")) / "kept"
    before = picture(kept)
    source = open_source("models:/chat/1", workspace=tmp_path)
    read_all(source)
    source.store.close()

    assert before
    assert picture(kept) == before


def test_mlflow_is_not_let_drop_what_follows_a_semicolon(tmp_path):
    with pytest.raises(SourceError, match=rf"chat;… {NO_OTHER} ignores everything after a ;"):
        open_source("ftp://h/models/chat;v=2", workspace=tmp_path)


@pytest.mark.parametrize("uri", ["http://me:hunter2#x@h/a", "ftp://me:hunter2?x@h/a", "s3://KEY:hunter2@models/chat"])
def test_a_password_with_a_mark_in_it_is_not_shown_up_to_the_mark(uri, tmp_path):
    with pytest.raises(FireworksError) as refused:
        open_source(uri, workspace=tmp_path)
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("s3:/models/chat", "names no bucket; write s3://BUCKET/PATH"),
        ("s3:chat", "names no bucket; write s3://BUCKET/PATH"),
        ("s3:///chat", "names no bucket; write s3://BUCKET/PATH"),
        ("gs://", "names no bucket; write gs://BUCKET/PATH"),
        ("s3://KEY:SECRET@models/chat", "s3://models/chat holds a user or a key; take it out"),
        ("https://huggingface.co/acme/chat", "is a page of the Hugging Face Hub; write hf:/acme/chat$"),
        (f"https://huggingface.co/acme/chat/tree/{'a' * 40}", f"write hf:/acme/chat@{'a' * 40}$"),
    ],
)
def test_an_address_that_can_only_be_meant_otherwise_is_refused_with_the_right_one(uri, says, tmp_path):
    with pytest.raises(InvalidConfigError, match=says) as refused:
        open_source(uri, workspace=tmp_path)
    assert "SECRET" not in refused.value.message


class Bottomless(ArtifactRepository):
    """A store whose folders hold nothing but another folder."""

    def list_artifacts(self, path=None):
        return [FileInfo(f"{path or 'a'}/a", True, None)]

    def log_artifact(self, local_file, artifact_path=None):
        raise NotImplementedError

    def log_artifacts(self, local_dir, artifact_path=None):
        raise NotImplementedError

    def _download_file(self, remote_file_path, local_path):
        raise NotImplementedError


def test_folders_in_folders_without_end_are_given_up(monkeypatch):
    monkeypatch.setattr(artifact_repository, "take", partial(take, most=50))
    with pytest.raises(SourceError, match="its list does not end: there is more after 50"):
        list_repository(Bottomless("s3://models/chat"), "")
