"""What answers in place of a model, or answers half: each ends in one line that says so, whatever was asked."""

import json
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.source_world import Remembers
from support.threaded_server import serving

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.errors import FireworksError, RefusedError, UnavailableError, UnexpectedAnswerError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving import inference
from mlflow_fireworks.serving.inference import CHAT, COMPLETIONS, EMBEDDINGS, Question
from mlflow_fireworks.waiting import Waiter

PAGE = b"<html><head><title>Sign in to Guest-WiFi</title></head><body>accept the terms</body></html>"
ADDRESS = "accounts/acme/routers/prod"
QUESTIONS = {
    CHAT: Question(CHAT, {"messages": [{"role": "user", "content": "hi"}]}),
    COMPLETIONS: Question(COMPLETIONS, {"prompt": "hi"}),
    EMBEDDINGS: Question(EMBEDDINGS, {"input": ["hi"]}),
}


def chunk(text, reason=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
    return b"data: " + json.dumps({"choices": [choice]}, ensure_ascii=False).encode() + b"\n\n"


class Answering(BaseHTTPRequestHandler):
    """Gives one answer to everything: `status`, `headers`, and the `parts` of a body with a pause after each."""

    status = 200
    headers_sent: tuple = ()
    parts: tuple = ()
    pause = 0.0

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        try:
            self.send_response(self.status)
            for name, value in self.headers_sent:
                self.send_header(name, value)
            self.end_headers()
            for part in self.parts:
                self.wfile.write(part)
                self.wfile.flush()
                time.sleep(self.pause)
        except OSError:  # the client has had enough
            return

    def log_message(self, *args):
        pass


def run_at(url, **options):
    gateway = Gateway(url, SecretStr("k"), "acme", retry=Retry(attempts=2, wait_initial=0.01))
    told = Remembers()
    retry = Retry(attempts=2, wait_initial=0.01)
    return Run(gateway, Commands("fireworks"), told, Waiter(told), Path(), retry=retry, **options)


def answer_to(operation, *, in_pieces, request_timeout=5.0, **answer):
    """What becomes of a question to a server that gives this answer."""
    answer["headers_sent"] = tuple(answer.pop("headers", {}).items())
    with serving(Answering, **answer) as url:
        run = run_at(url, request_timeout=request_timeout)
        question = QUESTIONS[operation]
        if in_pieces:
            return list(inference.stream(run, ADDRESS, question, fresh=False))
        return inference.ask(run, ADDRESS, question, fresh=False)


def fails_in_one_line(operation, kind, **answer):
    with pytest.raises(kind) as failed:
        answer_to(operation, **answer)
    assert isinstance(failed.value, FireworksError)
    assert failed.value.message.isprintable()
    assert len(failed.value.message) < 900
    return failed.value.message


def web_page(status, kind="text/html; charset=utf-8", content=PAGE):
    return {"status": status, "headers": {"Content-Type": kind}, "parts": (content,)}


EVERY_WAY = [(operation, False) for operation in QUESTIONS] + [(CHAT, True), (COMPLETIONS, True)]


@pytest.mark.parametrize(("operation", "in_pieces"), EVERY_WAY)
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (web_page(200), "a web page, “Sign in to Guest-WiFi”, so"),
        (web_page(200, "Text/HTML", b"<h1>Blocked</h1>"), "a web page, “Blocked”, so"),
        (web_page(403), "“Sign in to Guest-WiFi” (403); "),
        ({"status": 302, "headers": {"Location": "http://login.example/"}}, "Found (302); "),
        (
            {"status": 307, "headers": {"Location": "/", "Content-Type": "text/plain"}, "parts": (b"moved",)},
            "moved (307); ",
        ),
        ({"status": 407}, "Proxy Authentication Required (407); "),
        (web_page(511, "text/plain", b"log in first"), "log in first (511); "),
        (web_page(200, "application/json", b'["log in"]'), '(application/json: “["log in"]”)'),
        (web_page(200, "application/json", b'"' + b"\x1b[2J" * 99 + b'"'), "(application/json: “"),
    ],
)
def test_something_in_between_is_named(operation, in_pieces, answer, says):
    kind = RefusedError if answer["status"] != 200 else UnexpectedAnswerError
    message = fails_in_one_line(operation, kind, in_pieces=in_pieces, **answer)
    assert says in message
    assert "something in between answered" in message


@pytest.mark.parametrize(("operation", "in_pieces"), EVERY_WAY)
@pytest.mark.parametrize(
    ("headers", "body", "says"),
    [
        ({"Content-Type": "text/plain"}, b"Access denied", "(text/plain"),
        ({}, b"", "(without a content type)"),
        ({}, b"[" * 100_000, "(without a content type"),
        ({"Content-Type": "text/event-stream"}, b": nothing\n\n", "(text/event-stream"),
    ],
)
def test_a_success_that_is_no_answer_says_what_it_is(operation, in_pieces, headers, body, says):
    message = fails_in_one_line(operation, UnexpectedAnswerError, in_pieces=in_pieces, headers=headers, parts=(body,))
    assert says in message
    assert ("server-sent events" if in_pieces else "a JSON object") in message


EVENTS = {"Content-Type": "text/event-stream"}


@pytest.mark.parametrize(
    ("parts", "kind", "says"),
    [
        ((chunk("a"), chunk("b")), UnavailableError, "ended without a finish_reason; ask again"),
        ((chunk("a"), b'data: {"choices": [{"delta"'), UnexpectedAnswerError, "not a JSON object"),
        ((chunk("a"), b"data: [1]\n\n"), UnexpectedAnswerError, "not a JSON object"),
        ((chunk("a"), b"data: \xff\n\n"), UnexpectedAnswerError, "not a JSON object"),
        ((chunk("a"), b'data: {"error": {"message": "out of memory"}}\n\n'), UnexpectedAnswerError, "out of memory"),
        ((chunk("a"), b'data: {"error": "' + b"x" * 100_000 + b'"}\n\n'), UnexpectedAnswerError, "xxx"),
    ],
)
def test_a_stream_that_ends_early_is_no_whole_answer(parts, kind, says):
    assert says in fails_in_one_line(CHAT, kind, in_pieces=True, headers=EVENTS, parts=parts)


def test_a_stream_whose_connection_breaks_is_no_whole_answer():
    headers = {**EVENTS, "Content-Length": "100000"}
    message = fails_in_one_line(CHAT, UnavailableError, in_pieces=True, headers=headers, parts=(chunk("a"),))
    assert "was cut off: peer closed connection" in message
    headers = {**EVENTS, "Content-Encoding": "gzip"}
    message = fails_in_one_line(CHAT, UnavailableError, in_pieces=True, headers=headers, parts=(chunk("a"),))
    assert "was cut off" in message


@pytest.mark.parametrize(
    "parts",
    [
        (chunk("a\u2028\x85\u2029b"), chunk("", "stop"), b"data: [DONE]\n\n"),
        (chunk("a\u2028\x85\u2029b"), chunk("", "stop")),  # no [DONE], and a finish_reason
        (chunk("a\u2028\x85\u2029b"), b"data: [DONE]"),  # no finish_reason, and no line end
        tuple(bytes([byte]) for byte in chunk("a\u2028\x85\u2029b", "length")),
        (chunk("a\u2028\x85\u2029b", "stop").replace(b"\n", b"\r\n").replace(b"data: ", b": kept alive\r\ndata:"),),
        (
            chunk("a\u2028\x85\u2029b"),
            b'data: {"choices": [], "usage": {}}\n\ndata:[DONE]\n\n',
            b"data: never read\n\n",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["text/event-stream; charset=utf-8", "text/plain", ""])
def test_a_whole_stream_is_read_however_it_is_sent(parts, kind):
    got = answer_to(CHAT, in_pieces=True, headers={"Content-Type": kind} if kind else {}, parts=parts)
    assert got[0]["choices"][0]["delta"]["content"] == "a\u2028\x85\u2029b"


def forever(part):
    """A body of two minutes, or of gigabytes."""
    return [part] * 2400


@pytest.mark.parametrize(
    ("operation", "in_pieces", "answer", "says"),
    [
        (CHAT, False, {"parts": forever(b" "), "pause": 0.05}, "never ends"),
        (EMBEDDINGS, False, {"parts": forever(b" " * (1 << 20))}, "larger than 2.0 MiB"),
        (CHAT, True, {"parts": forever(b" " * (1 << 20)), "headers": EVENTS}, "larger than 32.0 MiB"),
        (CHAT, True, {"parts": forever(b":\n"), "pause": 0.05, "headers": EVENTS}, "never ends"),
        (CHAT, True, {"parts": forever(b" "), "pause": 0.05, "headers": {"Content-Type": "text/html"}}, "never ends"),
        (CHAT, True, {"parts": forever(b"x"), "pause": 0.05, "status": 400}, "never ends"),
    ],
)
def test_an_answer_that_does_not_end_is_given_up(operation, in_pieces, answer, says, monkeypatch):
    monkeypatch.setattr(inference, "_MOST_BYTES", 2 << 20)
    began = time.monotonic()
    message = fails_in_one_line(operation, UnavailableError, in_pieces=in_pieces, request_timeout=0.4, **answer)
    assert says in message
    assert "MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT" in message
    assert time.monotonic() - began < 10


def test_a_stream_may_take_longer_than_the_silence_that_is_allowed():
    parts = (*[chunk("a")] * 8, chunk("", "stop"))
    got = answer_to(CHAT, in_pieces=True, headers=EVENTS, parts=parts, pause=0.1, request_timeout=0.5)
    assert len(got) == 9
