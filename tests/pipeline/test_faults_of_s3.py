"""Network faults between the plugin and a server that is not ours: a real S3 server behind the proxy of the tests."""

from functools import partial
from urllib.parse import urlsplit

import pytest
import stamina
from support.faulty_world import STORE, WEIGHTS, Site, World, log_everything
from support.s3_server import running_s3
from support.tcp_proxy import TcpProxy, Trouble

from mlflow_fireworks.errors import SourceError

pytestmark = pytest.mark.slow

# All of it from some place on, not its header.
FETCH = rf"^GET /models/llama/{WEIGHTS} (?=.*\r\nrange: bytes=\d+-(?!65535\r))"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with World(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture(scope="module")
def s3(world):
    with running_s3() as (url, client):
        for path in world.model.iterdir():
            client.upload_file(str(path), "models", f"llama/{path.name}")
        with TcpProxy(urlsplit(url).port) as proxy:
            yield proxy


@pytest.fixture
def site(world, s3, tmp_path, monkeypatch, caplog):
    s3.reset()
    world.reset()
    for name, value in {
        "MLFLOW_S3_ENDPOINT_URL": f"http://{STORE}:{s3.port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",  # its own retries wait for seconds
    }.items():
        monkeypatch.setenv(name, value)
    log_everything(caplog)
    with stamina.set_testing(True, attempts=3):
        yield Site(world, tmp_path, monkeypatch, caplog)


@pytest.mark.parametrize(
    "trouble",
    [{"reply": 600_000}, {"reply": 600_000, "close": True}, {"reply": -1}, {}],
    ids=["reset", "close", "reply lost", "request lost"],
)
def test_a_connection_to_s3_that_breaks_is_made_again(site, s3, trouble):
    s3.make(Trouble(FETCH, times=2, **trouble))
    assert site.deploy(source="s3://models/llama") == "READY"
    assert len(s3.requests(FETCH)) == 3
    assert site.leftovers() == []


@pytest.mark.parametrize("fault", ["refused", "no DNS"])
def test_an_s3_that_is_gone_ends_in_one_line_and_goes_on_later(site, world, s3, fault):
    then = s3.refuse if fault == "refused" else partial(site.unknown_hosts.add, STORE)
    s3.make(Trouble(FETCH, then=then))
    with pytest.raises(SourceError, match=r"cannot fetch \S+ from s3://models/llama: .*run the same command") as caught:
        site.deploy(source="s3://models/llama")
    assert "\n" not in str(caught.value)
    landed, sessions = site.journal()
    assert sessions == set()
    assert site.leftovers() == []

    s3.reset()
    world.fireworks.reset()
    site.unknown_hosts.clear()
    assert site.deploy(source="s3://models/llama") == "READY"
    sent = {seen.head.partition("?")[0].rpartition("/")[2] for seen in world.fireworks.requests("^PUT ")}
    assert sent == set(world.sizes) - landed
