"""A real `mlflow server` in each of its modes, and trouble on the way to it: ranges come through, or one line.

From its own disk it sends ranges itself; for files in S3 it signs URLs, and the bytes come from there; where it serves
no artifacts, they are read where they are.
"""

import shutil
from contextlib import contextmanager

import httpx
import mlflow
import pytest
import stamina
from support.faulty_world import WEIGHTS, Site, World, log_everything
from support.mlflow_server import running_server
from support.s3_server import running_s3
from support.tcp_proxy import TcpProxy, Trouble, answer

from mlflow_fireworks.errors import SourceError

pytestmark = pytest.mark.slow

# All of it from some place on, not its header.
FETCH = rf"^GET /\S*{WEIGHTS}\S* (?=.*\r\nrange: bytes=\d+-(?!65535(\r|$)))"
KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp("world")) as world:
        yield world


@contextmanager
def on_disk(world, home):
    """The server, behind a proxy; what writes a file."""
    shutil.copytree(world.model, home / "kept" / "llama")
    with running_server(home, str(home / "kept")) as uri, TcpProxy(httpx.URL(uri).port) as proxy:
        yield f"mlflow-artifacts://127.0.0.1:{proxy.port}/llama", proxy, (home / "kept" / "llama" / WEIGHTS).write_bytes


@contextmanager
def in_bucket(world, home):
    """The server, and the bucket behind a proxy."""
    with running_s3() as (s3, client), TcpProxy(httpx.URL(s3).port) as proxy:

        def write(content, name=WEIGHTS):
            client.put_object(Bucket="models", Key=f"kept/llama/{name}", Body=content)

        for path in world.model.iterdir():
            write(path.read_bytes(), path.name)
        url = f"http://127.0.0.1:{proxy.port}"
        with running_server(home, "s3://models/kept", MLFLOW_S3_ENDPOINT_URL=url, **KEYS) as uri:
            yield f"{uri.replace('http', 'mlflow-artifacts')}/llama", proxy, write


@pytest.fixture(scope="module", params=[on_disk, in_bucket])
def served(request, world, tmp_path_factory):
    with request.param(world, tmp_path_factory.mktemp("server")) as served:
        yield served


@pytest.fixture
def site(world, tmp_path, monkeypatch, caplog):
    world.reset()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    log_everything(caplog)
    with stamina.set_testing(True, attempts=3):
        yield Site(world, tmp_path, monkeypatch, caplog)


@pytest.fixture
def source(served, monkeypatch):
    uri, proxy, _ = served
    proxy.reset()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.replace("mlflow-artifacts", "http").removesuffix("/llama"))
    return uri


TROUBLES = {
    "reset": Trouble(FETCH, reply=600_000),
    "close": Trouble(FETCH, reply=600_000, close=True),
    "stall": Trouble(FETCH, kind="stall", reply=600_000),
    "reply lost": Trouble(FETCH, reply=-1),
    "request lost": Trouble(FETCH),
    "403": Trouble(FETCH, kind="answer", answer=answer("403 Forbidden", b"expired")),
    "429": Trouble(FETCH, kind="answer", answer=answer("429 Too Many Requests", b"", "Retry-After: 0")),
    "503": Trouble(FETCH, kind="answer", answer=answer("503 Unavailable", b"busy")),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
def test_a_range_that_breaks_is_asked_for_again(site, served, source, world, trouble):
    proxy = served[1]
    proxy.make(trouble)
    world.fireworks.make(Trouble(rf"^PUT \S*{WEIGHTS}", body=300_000))  # and the upload breaks as well
    assert site.deploy(source=source) == "READY"
    assert len(proxy.requests(FETCH)) in {2, 3}  # broken, gone on with, and read again if the upload broke later
    assert site.leftovers() == []
    assert not any(secret in site.told() for secret in world.secrets())
    told = [record.getMessage() for record in site.log.records if record.name != "werkzeug"]  # the bucket's own server
    assert not [text for text in told if "X-Amz-Signature=" in text]


def test_a_file_that_was_replaced_is_told_before_validation(site, served, source, world):
    _, proxy, write = served
    content = (world.model / WEIGHTS).read_bytes()
    proxy.make(Trouble(FETCH, reply=600_000, then=lambda: write(content[:-8] + b"replaced")))
    try:
        with pytest.raises(SourceError, match=f"{WEIGHTS} in .* was replaced while .*run the same command"):
            site.deploy(source=source)
        assert world.fireworks.requests("validateUpload") == []
    finally:
        write(content)


def test_a_server_that_serves_no_artifacts_is_asked_for_their_place_only(site, world, tmp_path, monkeypatch):
    home = tmp_path / "server"
    home.mkdir()
    with (
        running_server(home, str(home / "kept"), serves_artifacts=False) as uri,
        TcpProxy(httpx.URL(uri).port) as proxy,
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{proxy.port}")
        mlflow.set_tracking_uri(None)
        with mlflow.start_run() as run:
            mlflow.log_artifacts(str(world.model), "llama")
        proxy.seen.clear()
        proxy.make(Trouble("^GET ", reply=-1))
        assert site.deploy(source=f"runs:/{run.info.run_id}/llama") == "READY"
        assert proxy.requests(WEIGHTS) == []
