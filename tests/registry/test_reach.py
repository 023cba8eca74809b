"""Servers that somebody waits for: away, silent, broken, or there."""

import re
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest
from click.testing import CliRunner
from huggingface_hub import constants
from mlflow.store.entities import PagedList
from support.ports import free_port, silent_server
from support.threaded_server import Fixed, serving

from mlflow_fireworks.cli import main
from mlflow_fireworks.errors import UnavailableError
from mlflow_fireworks.registry import questions
from mlflow_fireworks.registry import reach as reach_module
from mlflow_fireworks.registry.questions import read_pages
from mlflow_fireworks.registry.reach import Patience, Reach, Service, require_hub, require_mlflow


class Clock:
    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Server:
    """Answers as it is told, after a while."""

    def __init__(self, clock, reasons=(), seconds=0.0):
        self.clock, self.reasons, self.seconds, self.asked = clock, list(reasons), seconds, 0

    def ask(self, _address, limit):
        self.asked += 1
        self.clock.now += min(self.seconds, limit)
        return self.reasons.pop(0) if self.reasons else ""

    def service(self, patience=None):
        return Service("the server", "look at it", self.ask, lambda: patience or Patience())


def test_a_server_that_refuses_is_waited_for_a_moment_and_one_that_is_silent_not_much_longer(caplog):
    for seconds, most in ((0.0, 20), (60.0, 25)):
        clock = Clock()
        server = Server(clock, ["away"] * 99, seconds)
        with pytest.raises(
            UnavailableError, match=r"the server at http://s does not answer \(away\); look at it"
        ) as caught:
            Reach(clock, clock.sleep).require(server.service(), "http://me:secret@s")
        assert caught.value.where == "the server at http://s"
        assert 3 <= server.asked <= 5
        assert 10 <= clock.now <= most
    assert [record.getMessage() for record in caplog.records] == [
        "the server at http://s does not answer (away); retrying for up to 20s"
    ] * 2


def test_a_server_that_is_back_meanwhile_is_enough():
    clock = Clock()
    server = Server(clock, ["away", "away"])
    Reach(clock, clock.sleep).require(server.service(), "http://s")
    assert server.asked == 3


def test_one_that_answered_is_asked_again_only_afresh_and_one_that_did_not_once(caplog):
    clock = Clock()
    reach = Reach(clock, clock.sleep)
    server = Server(clock)
    for _ in range(3):
        reach.require(server.service(), "http://s", afresh=True)
    assert server.asked == 1
    clock.now += 100
    reach.require(server.service(), "http://s")
    assert server.asked == 1
    server.reasons = ["away"] * 99
    with pytest.raises(UnavailableError):
        reach.require(server.service(), "http://s", afresh=True)
    tries = server.asked
    for _ in range(3):  # other rules
        with pytest.raises(UnavailableError):
            reach.require(server.service(), "http://s", afresh=True)
    assert server.asked == tries + 3
    assert len(caplog.records) == 1


def test_what_somebody_set_for_mlflow_counts(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with silent_server() as port:
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="no answer within 1s"):
            require_mlflow(f"http://127.0.0.1:{port}")
        assert time.monotonic() - began < 4
    with pytest.raises(UnavailableError, match="Connection refused"):
        require_mlflow(f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize("status", [200, 401, 403, 404, 429])
def test_a_refusal_is_an_answer(status, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving(Fixed, status=status) as address, serving(Fixed, status=status) as another:
        require_mlflow(address)
        monkeypatch.setattr(constants, "ENDPOINT", another)
        require_hub()


def test_a_server_whose_own_servers_are_away_does_not_answer(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serving(Fixed, status=503) as address, pytest.raises(UnavailableError, match=r"\(it answered 503\)"):
        require_mlflow(address)


def test_a_database_is_no_server(tmp_path):
    require_mlflow(f"sqlite:///{tmp_path}/mlflow.db")
    require_mlflow("databricks")


COMMANDS = {
    "check": ["hooks", "check"],
    "register": ["hooks", "register", "--url", "http://127.0.0.1:9"],
    "promote": ["promote", "models:/chat@champion"],
    "plan": ["plan", "-m", "models:/chat@champion", "--name", "chat"],
}


def assert_told_in_one_line(told):
    *log, error = told.stderr.splitlines()
    assert told.exit_code == 1
    assert error.startswith("Error: ")
    assert [line for line in log if "retrying" not in line] == []


@pytest.mark.slow
@pytest.mark.usefixtures("fireworks")
@pytest.mark.parametrize("kind", ["closed", "silent"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_person_waits_half_a_minute_at_most_for_an_mlflow_server(command, kind, tmp_path, monkeypatch, caplog):
    (tmp_path / "hooks.yaml").write_text("rules:\n- {model: chat, alias: champion}\n")
    monkeypatch.setenv("MLFLOW_FIREWORKS_RULES", str(tmp_path / "hooks.yaml"))
    monkeypatch.setenv("MLFLOW_FIREWORKS_WEBHOOK_SECRET", "a secret of the tests")
    with silent_server() as port:
        address = f"127.0.0.1:{port if kind == 'silent' else free_port()}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:a-password@{address}")
        began = time.monotonic()
        told = CliRunner().invoke(main, COMMANDS[command])
        assert time.monotonic() - began < 35
    assert_told_in_one_line(told)
    assert f"the MLflow server at http://{address} does not answer" in told.stderr
    assert "a-password" not in told.stderr + caplog.text
    assert "retrying for up to 20s" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_a_person_waits_half_a_minute_at_most_for_the_hub(kind, fireworks, tmp_path, monkeypatch):
    (tmp_path / "hooks.yaml").write_text("rules:\n- {hub: 'acme/*', branch: main}\n")
    with silent_server() as port:
        address = f"http://127.0.0.1:{port if kind == 'silent' else free_port()}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        began = time.monotonic()
        told = CliRunner().invoke(main, ["hooks", "check", "--rules", str(tmp_path / "hooks.yaml")])
        assert time.monotonic() - began < 35
    assert_told_in_one_line(told)
    assert f"the Hugging Face Hub at {address} does not answer" in told.stderr


@pytest.mark.slow
def test_a_person_waits_half_a_minute_or_so_for_a_fireworks_that_is_silent(tmp_path, monkeypatch):
    (tmp_path / "hooks.yaml").write_text("rules:\n- {model: a, alias: champion}\n- {model: b, alias: champion}\n")
    monkeypatch.setenv("FIREWORKS_API_KEY", "fw_key")
    monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", "acme")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with silent_server() as port:
        monkeypatch.setenv("FIREWORKS_BASE_URL", f"http://127.0.0.1:{port}")
        began = time.monotonic()
        told = CliRunner().invoke(main, ["hooks", "check", "--rules", str(tmp_path / "hooks.yaml")])
        assert time.monotonic() - began < 40
    assert_told_in_one_line(told)
    assert f"127.0.0.1:{port}: no answer in time" in told.stderr


class Odd(BaseHTTPRequestHandler):
    """Answers of something that is no MLflow server and no Hub."""

    kind = "text/html"
    parts: tuple = (b"<title>Sign in to Guest-WiFi</title>",)
    pause = 0.0

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", self.kind)
        self.end_headers()
        try:
            for part in self.parts:
                self.wfile.write(part)
                time.sleep(self.pause)
        except OSError:
            return

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({}, "something in between answered with a web page, “Sign in to Guest-WiFi”"),
        ({"kind": "application/json", "parts": [b" " * (1 << 20)] * 100}, "its reply is larger than 32.0 MiB"),
        (
            {"kind": "application/json", "parts": [b" "] * 1000, "pause": 0.05},
            "its reply (did not finish within|never ends)",
        ),
    ],
    ids=["page", "flood", "drip"],
)
@pytest.mark.parametrize("server", ["MLflow", "Hub"])
def test_what_is_no_answer_of_the_server_is_named(server, answer, says, monkeypatch):
    monkeypatch.setattr(reach_module, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(reach_module, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(reach_module, "_HUB", replace(reach_module._HUB, patience=lambda: Patience(0.5)))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serving(Odd, **answer) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        ask = {"MLflow": lambda: require_mlflow(address), "Hub": require_hub}[server]
        with pytest.raises(UnavailableError) as failed:
            ask()
    assert re.search(says, failed.value.message)


def test_a_list_that_does_not_end_is_given_up(monkeypatch):
    monkeypatch.setattr(questions, "_MOST_PAGES", 5)
    with pytest.raises(UnavailableError, match=r"its list does not end: there is more after 5, or after 10m 0s"):
        list(read_pages(lambda token: PagedList(["a"], f"{token}+")))
    assert list(read_pages(lambda token: PagedList(["a"], "the same" if token is None else ""))) == ["a", "a"]
