"""Old and new releases of MLflow and huggingface_hub: both sides of every difference, whichever is installed."""

from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import httpx
import mlflow
import pytest
import requests
from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import are_progress_bars_disabled
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.version import VERSION
from support.hub_server import SHA, HubServer
from support.threaded_server import serving

from mlflow_fireworks.errors import SourceError
from mlflow_fireworks.registry import hub_versions, mlflow_versions

FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 4096}


class _Versioned(BaseHTTPRequestHandler):
    """A server that answers GET /version."""

    status, version = 200, ""

    def do_GET(self):
        body = self.version.encode() if self.path == "/version" else b"{}"
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HubServer("org/name", FILES).running() as server:
        yield server


@pytest.fixture
def file_url(hub):
    return f"{hub.url}/org/name/resolve/{SHA}/model.safetensors"


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("2.19.0", (2, 19)),
        ("3.0.1", (3, 0)),
        ("3.18.0rc0", (3, 18)),
        ("4.0.0.dev0\n", (4, 0)),
        ("3.10.1", (3, 10)),
        ("<!doctype html>", None),
        ("", None),
    ],
)
def test_a_release_is_the_first_two_numbers(version, release):
    assert mlflow_versions.read_release(version) == release


@pytest.mark.parametrize("version", ["2.19.0", "2.22.5"])
def test_mlflow_2_has_no_logged_models_and_says_what_to_do(version):
    assert not mlflow_versions.has_logged_models(version)
    with pytest.raises(SourceError, match=rf"models:/m-1 .* MLflow {version} cannot read; .* 'mlflow>=3'"):
        mlflow_versions.require_logged_models("models:/m-1", version)


@pytest.mark.parametrize("version", ["3.0.0", "3.0.0rc2", "3.18.0", "4.1", "unknown"])
def test_mlflow_3_has_logged_models(version):
    mlflow_versions.require_logged_models("models:/m-1", version)
    assert mlflow_versions.has_logged_models(version)


def test_what_this_mlflow_has_is_what_is_believed():
    assert mlflow_versions.has_logged_models() == hasattr(mlflow.MlflowClient, "get_logged_model")
    can_make_webhooks = hasattr(mlflow.MlflowClient, "create_webhook")
    assert bool(mlflow_versions.explain_no_webhooks("http://127.0.0.1:9")) != can_make_webhooks


def test_the_time_for_predictions_is_read_by_every_release(monkeypatch):
    monkeypatch.delenv("MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT", raising=False)
    assert mlflow_versions.read_predict_seconds(1200.0) == 1200.0
    monkeypatch.setenv("MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT", "90")
    assert mlflow_versions.read_predict_seconds(1200.0) == 90.0


def test_whether_a_variable_is_set(monkeypatch):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    assert not mlflow_versions.is_set(MLFLOW_HTTP_REQUEST_TIMEOUT)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    assert mlflow_versions.is_set(MLFLOW_HTTP_REQUEST_TIMEOUT)


@pytest.mark.parametrize("version", ["3.4.0", VERSION])
def test_a_repository_is_opened_before_and_since_servers_are_named(version, tmp_path):
    repository = mlflow_versions.open_artifacts(tmp_path.as_uri(), "databricks://a", "databricks-uc://a", version)
    assert repository.artifact_dir == str(tmp_path)


def test_what_repositories_of_old_releases_do_not_know():
    old = SimpleNamespace()
    assert mlflow_versions.bucket_owner_of(old) == {}
    assert not mlflow_versions.signs_downloads(old)
    new = SimpleNamespace(
        _bucket_owner_params={"ExpectedBucketOwner": "123"},
        _is_multipart_download_enabled=lambda: True,
    )
    assert mlflow_versions.bucket_owner_of(new) == {"ExpectedBucketOwner": "123"}
    assert mlflow_versions.signs_downloads(new)


def test_an_old_mlflow_is_told_from_a_package_that_does_not_fit():
    error = ImportError("cannot import name 'FallbackAsyncAdaptedQueuePool'", name="sqlalchemy.pool")
    assert mlflow_versions.explain_import(error, "3.8.1").startswith("MLflow 3.8.1 needs an older SQLAlchemy: ")
    assert mlflow_versions.explain_import(error, "3.9.0") == "MLflow 3.9.0 needs another version of sqlalchemy"


@pytest.mark.parametrize(
    ("server", "client", "reason"),
    [
        ("2.19.0", "3.17.2", "is 2.19.0, and webhooks came with MLflow 3.3"),
        ("3.2.0", "3.17.2", "is 3.2.0, and webhooks came with MLflow 3.3"),
        ("3.2.0", "2.19.0", "is 3.2.0, and webhooks came with MLflow 3.3"),
        ("3.17.2", "3.0.1", "MLflow 3.0.1 here cannot make webhooks; upgrade it with: "),
        ("<html>", "2.22.5", "MLflow 2.22.5 here cannot make webhooks"),
    ],
)
def test_where_no_webhooks_are_made(server, client, reason):
    with serving(_Versioned, version=server) as url:
        assert reason in mlflow_versions.explain_no_webhooks(url, client)


@pytest.mark.parametrize(
    ("status", "server"), [(200, "3.3.0"), (200, "3.17.2"), (200, "<html>"), (404, "2.19.0"), (401, "2.19.0")]
)
def test_a_server_with_webhooks_and_one_that_does_not_tell_are_given_a_chance(status, server):
    with serving(_Versioned, version=server, status=status) as url:
        assert mlflow_versions.explain_no_webhooks(url, "3.17.2") == ""


def test_the_reason_names_no_password_of_the_address():
    with serving(_Versioned, version="2.22.5") as url:
        reason = mlflow_versions.explain_no_webhooks(url.replace("//", "//me:secret@"), "3.17.2")
    assert "webhooks came with" in reason
    assert "secret" not in reason


@pytest.mark.parametrize("make_session", [requests.Session, httpx.Client, nullcontext], ids=["0.x", "1.x", "own"])
@pytest.mark.parametrize("knows_ranges", [True, False])
def test_files_are_read_through_every_kind_of_session(hub, file_url, make_session, knows_ranges):
    hub.knows_ranges = knows_ranges
    asked = {"Range": "bytes=0-999"}
    with make_session() as session, hub_versions.open_stream(file_url, asked, 5.0, session) as (headers, pieces):
        first = next(iter(pieces))
    assert ("content-range" in headers) == knows_ranges
    assert first[:1000] == FILES["model.safetensors"][:1000]


def test_the_own_session_tells_what_is_wrong(hub, file_url):
    with pytest.raises(hub_errors.EntryNotFoundError), hub_versions.open_stream(f"{file_url}.no", {}, 5.0):
        pass
    hub.status = 500
    with pytest.raises(hub_versions.NO_ANSWER), hub_versions.open_stream(file_url, {}, 5.0):
        pass
    with pytest.raises(hub_versions.NO_ANSWER), hub_versions.open_stream("http://127.0.0.1:9/x", {}, 5.0):
        pass


def fetch_until_1_0(repo, name, *, revision, local_dir, endpoint):
    assert are_progress_bars_disabled("huggingface_hub.http_get")
    return hf_hub_download(repo, name, revision=revision, local_dir=local_dir, endpoint=endpoint)


@pytest.mark.parametrize("fetch", [hf_hub_download, fetch_until_1_0])
def test_a_download_draws_no_bar_and_leaves_those_of_others_alone(hub, tmp_path, capfd, fetch):
    path = hub_versions.download(
        "org/name", "model.safetensors", revision=SHA, into=tmp_path, endpoint=hub.url, fetch=fetch
    )
    assert path.read_bytes() == FILES["model.safetensors"]
    assert "%|" not in capfd.readouterr().err
    assert not are_progress_bars_disabled("huggingface_hub.http_get")


def test_bars_that_somebody_switched_off_stay_off_and_one_download_does_not_end_anothers_silence():
    bars = hub_versions._Bars()
    with bars.off():
        with bars.off():
            pass
        assert are_progress_bars_disabled("huggingface_hub.http_get")
    assert not are_progress_bars_disabled("huggingface_hub.http_get")
    hub_versions.disable_progress_bars("huggingface_hub.http_get")
    with bars.off():
        pass
    assert are_progress_bars_disabled("huggingface_hub.http_get")
    hub_versions.enable_progress_bars("huggingface_hub.http_get")


@pytest.mark.parametrize("release", ["before 0.36", "own"])
def test_organizations_are_told_from_users(hub, release, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)  # members were listed there, whatever the client's address
    api = HfApi(endpoint=hub.url)
    if release == "before 0.36":
        api = SimpleNamespace(list_organization_members=api.list_organization_members)
    assert hub_versions.is_organization("org", api)
    assert not hub_versions.is_organization("a-user", api)
    hub.status = 403  # a 500 is asked again for half a minute
    with pytest.raises(hub_errors.HfHubHTTPError):
        hub_versions.is_organization("org", api)
