"""What is said about a server that cannot be asked: what to do depends on why."""

import json
import sys

import pytest
from support.faulty_world import make_certificate
from support.threaded_server import Fixed, serving

from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.doctor.registries import check_registries
from mlflow_fireworks.errors import SourceError, UnavailableError
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.hooks.subjects import find_subjects
from mlflow_fireworks.installing import install
from mlflow_fireworks.registry.pointers import pin
from mlflow_fireworks.registry.versions import find_version, list_versions

USER = "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
ACCESS = "no permission to read it: check MLFLOW_TRACKING_USERNAME or MLFLOW_TRACKING_TOKEN, or ask for access"
RUNNING = "is it running, and is MLFLOW_TRACKING_URI right?"
NO_WORKSPACE = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Workspace 'team' not found"})


@pytest.fixture(autouse=True)
def _one_try(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def said(question, error, uri):
    with pytest.raises(error) as caught:
        question(uri)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        (401, "You are not authenticated.", USER),
        (401, json.dumps({"error_code": "UNAUTHENTICATED", "message": "who are you"}), USER),
        (403, "Permission denied", ACCESS),
        (403, json.dumps({"error_code": "PERMISSION_DENIED", "message": "no"}), ACCESS),
        (
            400,
            json.dumps({"error_code": "INVALID_STATE", "message": "Workspace 'x' not found"}),
            "check MLFLOW_WORKSPACE",
        ),
        (500, "oh", RUNNING),
    ],
)
def test_refusal_of_a_server_names_what_to_check(monkeypatch, status, body, remedy):
    with serving(Fixed, status=status, body=body) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)

        assert said(pin, UnavailableError, "models:/chat@champion").endswith(f"; {remedy}")
        for uri in ("models:/chat/1", "models:/m-0123", "runs:/0123/model"):
            assert said(open_source, (SourceError, UnavailableError), uri).endswith(f"; {remedy}")


def test_nothing_in_a_workspace_that_is_not_there_counts_as_deleted(monkeypatch):
    with serving(Fixed, status=404, body=NO_WORKSPACE) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)

        for question in (pin, find_version):
            assert said(question, UnavailableError, "models:/chat/1").endswith("; check MLFLOW_WORKSPACE")


def test_server_that_is_away_may_not_be_running(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    assert said(pin, UnavailableError, "models:/chat@champion").endswith(RUNNING)


def list_subjects(pattern):
    return list(find_subjects(Rule(model=pattern, alias="champion", target="fireworks://local", deployment="{model}")))


@pytest.mark.parametrize(
    ("driver", "uri", "package"),
    [
        ("psycopg2", "postgresql+psycopg2://me:secret@127.0.0.1:9/mlflow", "psycopg2-binary"),
        ("pymysql", "mysql+pymysql://me:secret@127.0.0.1:9/mlflow", "pymysql"),
    ],
)
def test_a_database_without_its_driver_names_what_to_install(monkeypatch, driver, uri, package):
    monkeypatch.setitem(sys.modules, driver, None)  # as if it were not installed
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    remedy = f"; install it: {install(package)}"

    for question, what in (
        (pin, "models:/chat@champion"),
        (open_source, "models:/chat/1"),
        (open_source, "runs:/0123/model"),
        (list_versions, "chat"),
        (find_version, "models:/chat/1"),
        (list_subjects, "chat"),
        (list_subjects, "chat*"),
    ):
        told = said(question, UnavailableError, what)
        assert told.endswith(remedy)
        assert "secret" not in told
    assert next(check_registries()).text.endswith(remedy)


@pytest.mark.parametrize("status", [404, 500])
def test_a_page_of_the_server_itself_is_not_taken_for_one_of_a_proxy(monkeypatch, status):
    page = f"<!doctype html><title>{status} Not Here</title>"
    with serving(Fixed, status=status, body=page) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert RUNNING in said(pin, UnavailableError, "models:/chat@champion")


def test_untrusted_certificate_is_called_that(monkeypatch, tmp_path):
    with serving(Fixed, status=401, body="no", tls=make_certificate(tmp_path / "server.pem").context) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        told = said(pin, UnavailableError, "models:/chat@champion")
    assert "set MLFLOW_TRACKING_SERVER_CERT_PATH to a file with the certificate of its authority" in told
