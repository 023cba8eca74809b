"""A proxy, a gateway or a login page answers in a store's place; each store's client tells of it in its own way."""

import huggingface_hub
import pytest
from support.faulty_world import make_certificate
from support.source_world import Remembers
from support.threaded_server import Fixed, serving

from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.errors import SourceError
from mlflow_fireworks.registry.hub_versions import CERTIFICATES

URIS = {
    "s3": "s3://models/chat",
    "gs": "gs://models/chat",
    "azure": "wasbs://models@acct.blob.core.windows.net/chat",
    "registry": "models:/chat/1",
    "hub": "hf:/org/name",
}
WEB_PAGE = "<!DOCTYPE html><html><head><title>Guest WiFi</title></head><body>Sign in<br>&nbsp;here</body></html>"
IN_BETWEEN = "something in between answered: a proxy, a gateway or a login page"
GATEWAY = {"kind": "text/html", "body": WEB_PAGE}
LATER = "run the same command again in a few minutes"


@pytest.fixture
def ask(monkeypatch, tmp_path):
    """Asks for a model through a store's client, all of which are at an address; gives the error."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)

    def ask(store, address):
        connection = f"AccountName=acct;AccountKey=a2V5;BlobEndpoint={address}/acct"
        for name, value in {
            "MLFLOW_TRACKING_URI": address,
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_S3_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;{connection}",
            "STORAGE_EMULATOR_HOST": address,
            "GOOGLE_CLOUD_PROJECT": "project",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        uri = URIS.get(store, f"{address}/api/2.0/mlflow-artifacts/artifacts/chat")
        with pytest.raises(SourceError) as caught:
            open_source(uri, reporter=Remembers(), workspace=tmp_path)
        assert "\n" not in caught.value.message
        assert "<" not in caught.value.message
        assert "Expecting value" not in caught.value.message
        return caught.value.message

    return ask


@pytest.mark.parametrize(
    ("store", "status"),
    [
        ("s3", 407),
        ("s3", 511),
        *((store, status) for store in ("azure", "gs", "server") for status in (200, 403, 407)),
        ("registry", 403),
        ("registry", 407),
        ("hub", 200),
        ("hub", 407),
    ],
)
def test_who_answered_in_its_place_is_told(ask, store, status):
    with serving(Fixed, status=status, **GATEWAY) as address:
        assert IN_BETWEEN in ask(store, address)


@pytest.mark.parametrize("store", ["s3", "server", "registry", "hub"])
def test_who_has_too_much_to_do_is_asked_again_later(ask, store):
    with serving(Fixed, status=429, **GATEWAY) as address:
        told = ask(store, address)
    assert "429" in told
    assert LATER in told


def test_a_store_that_refuses_is_not_taken_for_a_gateway(ask):
    with serving(Fixed, status=403, **GATEWAY) as address:
        assert ask("s3", address).endswith("Forbidden (403); check the URI and the store's credentials")


@pytest.mark.parametrize(
    ("store", "variable"),
    [
        ("s3", "AWS_CA_BUNDLE"),
        ("server", "MLFLOW_TRACKING_SERVER_CERT_PATH"),
        ("registry", "MLFLOW_TRACKING_SERVER_CERT_PATH"),
        ("hub", CERTIFICATES),
    ],
)
def test_the_variable_for_certificates_is_that_of_the_client(ask, tmp_path, store, variable):
    with serving(Fixed, tls=make_certificate(tmp_path / "server.pem").context) as address:
        assert f"its certificate is not trusted: set {variable} to a file" in ask(store, address)
