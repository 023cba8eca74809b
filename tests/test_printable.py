"""Whatever others write, what leaves is printable: on terminals, in logs, tags, pages, JSON, metrics and results."""

import json
import logging
import re
import threading
import time
from contextlib import closing
from html import unescape
from io import BytesIO, StringIO
from urllib.parse import quote

import httpx
import mlflow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse_metrics
from pydantic import SecretStr
from starlette.testclient import TestClient
from support.checkpoints import edit_json, make_llama, make_transformers_model

from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.errors import ApiError, FireworksError, TransferError
from mlflow_fireworks.hooks.deliveries import Delivery
from mlflow_fireworks.hooks.jobs import Job, Progress, State, Subject
from mlflow_fireworks.hooks.logs import JsonFormatter, TextFormatter, lines_about
from mlflow_fireworks.hooks.metrics import JobFigures
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.receiver import make_app
from mlflow_fireworks.hooks.status import StatusPage
from mlflow_fireworks.plugin import FireworksDeploymentClient
from mlflow_fireworks.printable import make_all_printable, make_lines_printable, make_printable
from mlflow_fireworks.progress import logger
from mlflow_fireworks.redaction import brief, hide_in_record
from mlflow_fireworks.registry.uri_types import RegisteredUri
from mlflow_fireworks.registry.versions import write_outcome
from mlflow_fireworks.terminal import say, say_json
from mlflow_fireworks.transfer.storage import Body, put_file

TITLE = "\x1b]0;you were here\x07"
FORGED = "\n2026-11-27T00:00:00.000Z INFO mlflow.fireworks: all is well"
MARKS = [
    "\x1b[2J",
    TITLE,
    FORGED,
    "\r",
    "\x00",
    "\x7f",
    "\x9b31m",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u2028",
    "\ufeff",
    "\t",
]
TEXTS = st.lists(
    st.sampled_from([*MARKS, "Llama", " ", "é", "模型", "<b>", "%s", "{}"]) | st.characters(), min_size=1, max_size=6
).map("".join)
WRITTEN = st.lists(st.sampled_from(MARKS) | st.sampled_from(["Llama", "é"]), min_size=1, max_size=4).map("".join)
some = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_printable(content):
    if isinstance(content, str):
        assert content.isprintable(), ascii(content)
    elif isinstance(content, dict):
        for key, value in content.items():
            assert_printable(key)
            assert_printable(value)
    elif isinstance(content, list | tuple):
        for value in content:
            assert_printable(value)


@given(TEXTS)
def test_printable_text_is_one_line_stays_as_it_is_and_says_what_was_there(text):
    shown = make_printable(text)
    assert shown.isprintable()
    assert make_printable(shown) == shown
    assert all(mark in shown for mark in ("\\x1b",) if "\x1b" in text)
    assert text.isprintable() <= (shown == text)
    shown.encode()


@given(st.recursive(TEXTS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WRITTEN, inner, max_size=2)))
@some
def test_plain_values_keep_their_shape(content):
    shown = make_all_printable(content)
    assert type(shown) is type(content)
    assert_printable(shown)


def test_what_is_printable_is_left_alone():
    for text in ("models:/chat@champion", "naïve 模型 🚀", "a  b", "C:\\models"):
        assert make_printable(text) == text
    assert make_all_printable({"a": (1, None, 2.5, True)}) == {"a": (1, None, 2.5, True)}
    assert make_lines_printable("one\n\ttwo\x1b") == "one\n two\\x1b"


@pytest.fixture
def lines():
    """What the log of this package shows, in the hooks' two formats and in the one of MLflow."""
    streams = []
    handlers = []
    for formatter in (TextFormatter(), JsonFormatter(), logging.Formatter("%(levelname)s %(message)s")):
        streams.append(StringIO())
        handlers.append(logging.StreamHandler(streams[-1]))
        handlers[-1].setFormatter(formatter)
        logger.addHandler(handlers[-1])
    yield lambda: [stream.getvalue().split("\n")[:-1] for stream in streams]
    for handler in handlers:
        logger.removeHandler(handler)


def clear(lines_of, handlers=logger.handlers):
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler) and isinstance(handler.stream, StringIO):
            handler.stream.seek(0)
            handler.stream.truncate()


@given(text=TEXTS, argument=TEXTS)
@some
def test_a_line_of_the_log_is_one_line(lines, text, argument):
    clear(lines)
    with lines_about(delivery=argument, job=text):
        logger.warning("%s of %s", text, argument)
    for shown in lines():
        assert_printable(shown)
        assert len(shown) == 1


@given(TEXTS)
@some
def test_a_traceback_begins_no_line_of_the_log(lines, text):
    clear(lines)
    try:
        int(f"x{text}")
    except ValueError:
        logger.exception("a failure")
    as_text, as_json, as_mlflow = lines()
    assert_printable([as_text, as_json, as_mlflow])
    assert len(as_json) == 1
    assert_printable(json.loads(as_json[0])["exception"].split("\n"))
    assert all(line.startswith("  ") for line in (*as_text[1:], *as_mlflow[1:]))


@given(TEXTS)
def test_errors_are_printable_with_all_that_they_carry(text):
    error = ApiError(f"refused: {text}", server_message=text)
    shown = StringIO()
    error.show(shown)
    for each in (error, error.reworded(text), error.without(lambda _: text)):
        assert_printable([each.message, str(each), each.server_message, *each.args])
    assert_printable(shown.getvalue().removesuffix("\n"))
    assert_printable(brief(ValueError(text)))
    assert_printable(FireworksError(text).message)


@given(text=TEXTS)
@some
def test_commands_print_printable_lines(capsys, text):
    say(text)
    say(text, err=True)
    say_json({text: [text]})
    shown = capsys.readouterr()
    assert_printable(shown.err.removesuffix("\n"))
    first, _, rest = shown.out.partition("\n")
    assert_printable(first)
    assert_printable(json.loads(rest))


@pytest.fixture(scope="module")
def service():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def client(service, monkeypatch):
    monkeypatch.setenv("FIREWORKS_BASE_URL", service.url)
    monkeypatch.setenv("FIREWORKS_API_KEY", "fw_key")
    monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", "acme")
    service.reset()
    return FireworksDeploymentClient("fireworks")


def assert_printable_plan(client, folder):
    try:
        assert_printable(client.create_deployment("chat", str(folder), config={"dry_run": True}))
    except FireworksError as error:
        assert_printable(error.message)


@given(text=WRITTEN, where=st.sampled_from(["architectures", "model_type", "dtype", "_name_or_path", "quantized"]))
@some
def test_settings_of_a_checkpoint(client, lines, tmp_path_factory, text, where):
    clear(lines)
    folder = make_llama(tmp_path_factory.mktemp("model"))
    changed = {"architectures": [text]} if where == "architectures" else {where: text}
    if where == "quantized":
        changed = {"quantization_config": {"quant_method": text}}
    edit_json(folder / "config.json", **changed)
    assert_printable_plan(client, folder)
    assert_printable(lines())


@given(text=WRITTEN.filter(lambda text: "\x00" not in text))
@some
def test_names_of_files(client, lines, tmp_path_factory, text):
    clear(lines)
    folder = make_llama(tmp_path_factory.mktemp("model"))
    (folder / f"{text.replace('/', '')[:40]}.json").write_text("{")
    (folder / f"tokenizer{text.replace('/', '')[:40]}.json").write_text("{")
    assert_printable_plan(client, folder)
    assert_printable(lines())


@given(text=WRITTEN)
@some
def test_what_mlflow_noted_about_a_model(client, lines, tmp_path_factory, text):
    clear(lines)
    folder = make_transformers_model(tmp_path_factory.mktemp("model"), source_model_name=text)
    assert_printable_plan(client, folder)
    assert_printable(lines())


@given(text=WRITTEN)
@some
def test_what_the_api_says(client, service, lines, text):
    clear(lines)
    service.fault("list_models", status=400, body=json.dumps({"code": 3, "message": text}), times=1)
    with pytest.raises(FireworksError) as refused:
        client.get_deployment("chat")
    service.clear_faults()
    assert_printable([refused.value.message, refused.value.server_message])
    assert_printable(lines())


@given(text=WRITTEN)
@some
def test_what_the_api_keeps(client, service, text):
    """Texts of models that others made."""
    service.reset()
    with httpx.Client(base_url=f"{service.url}/v1/accounts/acme", headers={"Authorization": "Bearer k"}) as http:
        model = {"kind": "HF_BASE_MODEL", "description": text, "displayName": text[:20]}
        model["baseModelDetails"] = {"checkpointFormat": "HUGGINGFACE", "modelType": text}
        assert http.post("/models", json={"modelId": "other", "model": model}).status_code == 200
    assert_printable(client.list_deployments())
    assert_printable(client.get_deployment("other"))


@given(text=WRITTEN)
@some
def test_what_storage_says(text):
    answer = httpx.Response(400, text=f"<Error><Code>Bad</Code><Message>{text}</Message></Error>")
    http = httpx.Client(transport=httpx.MockTransport(lambda request: answer), verify=False)
    body = Body("a.json", 1, BytesIO(b"x"), moved=lambda count: None, stop=threading.Event())
    with pytest.raises(TransferError) as refused:
        put_file(http, SecretStr("https://storage.example/x"), body)
    assert_printable(refused.value.message)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # it is made in no time
        client = mlflow.MlflowClient(folder.as_uri())
        client.create_registered_model("chat")
        client.create_model_version("chat", str(folder))
        yield folder.as_uri()


@given(text=WRITTEN)
@some
def test_tags_in_the_registry(registry, text):
    mlflow.set_tracking_uri(registry)
    try:
        assert write_outcome(RegisteredUri("chat", "1"), {"fireworks.error": f"x{text}"}) is None
        tags = mlflow.MlflowClient(registry).get_model_version("chat", "1").tags
    finally:
        mlflow.set_tracking_uri(None)
    assert_printable(tags["fireworks.error"])
    assert tags["fireworks.error"].startswith("x")


@given(text=TEXTS.filter(lambda text: text.strip()))
@settings(some, max_examples=4)
def test_the_page_its_json_and_its_figures(tmp_path_factory, text):
    with closing(open_queue(str(tmp_path_factory.mktemp("queue") / "queue.db"))) as queue:
        text = text.encode("utf-8", "replace").decode()  # what JSON cannot hold cannot come in
        fields = {"rule": text, "version": text, "target": f"fireworks:/{text}", "deployment": text, "error": text}
        subject = Subject(kind="tag", name=text, ref=text)
        for state in State:
            job = Job(id=f"{state.value}-{quote(text)[:20]}", subject=subject, state=state, **fields)
            progress = Progress(text=text, size=2, moved=1)
            queue.ledger.accept(job.model_copy(update={"progress": progress, "result": {"model": text, "state": text}}))
        queue.ledger.save_comparison(text)
        queue.totals.add(job, "done", seconds=1.0)
        queue.deliveries.note(
            Delivery(
                sender="mlflow", id=text, status=422, outcome="refused", about=text, reason=text, received=time.time()
            )
        )
        metrics = CollectorRegistry()
        metrics.register(JobFigures(queue))
        page = StatusPage(queue, metrics)
        http = TestClient(make_app(page.routes(), lambda: {"ok": False, "reason": text}), raise_server_exceptions=True)
        shown = re.sub(r"<(script|style).*?</\1>", "", http.get("/").text, flags=re.DOTALL)
        assert_printable(unescape(shown).split("\n"))
        assert_printable(http.get("/status.json").json())
        assert_printable(http.get("/readyz").json())
        labels = [
            dict(sample.labels)
            for family in parse_metrics(generate_latest(metrics).decode())
            for sample in family.samples
        ]
        assert_printable(labels)


def test_names_that_look_alike_have_figures_of_their_own(tmp_path):
    with closing(open_queue(str(tmp_path / "queue.db"))) as queue:
        for name in ("a b", "a\nb", "a\tb"):
            subject = Subject(kind="alias", name=name, ref="x")
            queue.totals.add(
                Job(id="1", rule="r", subject=subject, version="1", target="t", deployment="d"), "done", seconds=1.0
            )
        metrics = CollectorRegistry()
        metrics.register(JobFigures(queue))
        families = {family.name: family for family in parse_metrics(generate_latest(metrics).decode())}
        names = {sample.labels["model"] for sample in families["mlflow_fireworks_failed_tries"].samples}
        assert len(names) == 3


def test_the_filter_is_on_what_other_libraries_log_too():
    record = logging.LogRecord("huey", logging.ERROR, "", 0, "a%s", (FORGED,), None)
    assert hide_in_record(record)
    assert_printable(record.getMessage())
