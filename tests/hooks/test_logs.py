"""The log of the hooks' processes, line by line."""

import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings

import httpx
import pytest
from support.hooks_world import COMMAND, SECRET, alias_event, answers, wait_until
from support.ports import free_port

from mlflow_fireworks.hooks.deliveries import Delivery
from mlflow_fireworks.hooks.jobs import Job, State, Subject
from mlflow_fireworks.hooks.logs import lines_about, set_up_logs
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.wording import describe_end
from mlflow_fireworks.progress import logger

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
LINE = re.compile(rf"{TIME} (DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+: .+")


@pytest.fixture
def log(request):
    """The log as `--log-format` writes it; afterwards logging is as before."""
    named = [known for known in logging.root.manager.loggerDict.values() if isinstance(known, logging.Logger)]
    before = [(known, known.handlers, known.propagate, known.level) for known in [logging.root, *named]]
    hooks = (warnings.formatwarning, sys.excepthook, threading.excepthook)
    stream = io.StringIO()
    set_up_logs(request.param, stream)
    yield lambda: stream.getvalue().splitlines()
    for known, handlers, propagate, level in before:
        known.handlers, known.propagate = handlers, propagate
        known.setLevel(level)
    logging.captureWarnings(capture=False)
    warnings.formatwarning, sys.excepthook, threading.excepthook = hooks


@pytest.mark.parametrize("log", ["text"], indirect=True)
def test_lines_of_all_libraries_have_one_format(log):
    logger.info("following %s", "'champions'")
    for name in ("uvicorn.error", "huey", "alembic", "mlflow.store"):
        logging.getLogger(name).warning("something")
    logging.getLogger("uvicorn.lifespan").info("started")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("deprecated", FutureWarning, stacklevel=1)
    lines = log()
    assert len(lines) == 7, lines
    assert all(LINE.fullmatch(line) for line in lines), lines
    assert lines[0].endswith("Z INFO mlflow.fireworks: following 'champions'")


@pytest.mark.parametrize("log", ["json"], indirect=True)
def test_json_lines_say_what_they_are_about_and_hold_tracebacks_as_a_field(log, tmp_path):
    url = "https://bucket.example.com/part?X-Amz-Signature=secret"
    with lines_about(job="j1", deployment="chat", delivery=""):
        logger.info("two\nlines")
        try:
            float(f"{url} for https://user:password@example.com/")
        except ValueError:
            logger.exception("retrying in %d s", 5)
    queue = open_queue(str(tmp_path / "queue.db"))
    with lines_about(delivery="d-1"):
        queue.deliveries.note(Delivery(sender="mlflow", id="d-1", status=202, outcome="accepted", jobs=("j1",)))
    queue.close()
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    first, failed, noted, ended = map(json.loads, log())
    assert re.fullmatch(TIME, first.pop("time"))
    about = {"level": "INFO", "logger": "mlflow.fireworks", "job": "j1", "deployment": "chat"}
    assert first == about | {"message": "two lines"}
    assert failed["exception"].startswith("Traceback (most recent call last):")
    last = failed["exception"].splitlines()[-1]
    assert last.startswith("ValueError: ")
    assert "'https://bucket.example.com/part for https://example.com/'" in last
    assert (noted["delivery"], noted["job"]) == ("d-1", "j1")
    assert (ended["level"], ended["exception"][-16:]) == ("CRITICAL", "division by zero")


@pytest.mark.parametrize("log", ["text", "json"], indirect=True)
def test_what_a_filter_of_a_logger_hides_remains_hidden(log):
    def hide(record):
        record.msg, record.exc_text = record.msg.replace("secret", "…"), "Traceback: …"
        return True

    logger.addFilter(hide)
    try:
        raise_value_error()
    except ValueError:
        logger.exception("a secret")
    finally:
        logger.removeFilter(hide)
    told = "\n".join(log())
    assert "secret" not in told
    assert "Traceback: …" in told


def raise_value_error():
    raise ValueError("a secret")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (
            {"result": {"action": "updated", "model": "accounts/a/models/chat-r2", "revision": 2, "endpoint": "prod"}},
            (
                "chat: promoted models:/chat@champion: version 7, updated as accounts/a/models/chat-r2, revision 2, "
                "on endpoint prod, READY; took 2m 5s"
            ),
        ),
        (
            {"result": {"action": "unchanged", "model": "accounts/a/models/chat", "revision": 1}},
            (
                "chat: promoted models:/chat@champion: version 7, unchanged as accounts/a/models/chat, revision 1, "
                "READY; took 2m 5s"
            ),
        ),
        (
            {"action": "remove", "endpoint": "prod", "result": {"action": "release"}},
            "chat: taken off endpoint prod, since models:/chat@champion was removed; took 2m 5s",
        ),
        (
            {"action": "remove", "result": {"action": "delete"}},
            "chat: deleted, since models:/chat@champion was removed; took 2m 5s",
        ),
    ],
)
def test_a_promotion_that_is_done_is_one_line(fields, told):
    if fields.get("action") != "remove":
        fields["result"]["state"] = "READY"
    subject = Subject(kind="alias", name="chat", ref="champion")
    known = {"id": "j", "rule": "r", "version": "7", "target": "t", "deployment": "chat", "state": State.DONE}
    job = Job.model_validate(known | {"subject": subject, "created": 1000.0, "updated": 1125.0} | fields)
    assert describe_end(job) == told


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_every_line_of_a_receiver_is_in_the_format_that_was_asked_for(tmp_path, log_format):
    port = free_port()
    (tmp_path / "hooks.yaml").write_text("rules:\n- {model: chat, alias: champion}\n")
    environ = os.environ | {"MLFLOW_FIREWORKS_WEBHOOK_SECRET": SECRET, "MLFLOW_FIREWORKS_LOG_FORMAT": log_format}
    environ |= {"MLFLOW_TRACKING_URI": "http://user:password@mlflow.example.com:5000"}
    command = [COMMAND, "hooks", "serve", "--port", str(port), "--workers", "0", "--reconcile-every", "0"]
    command += ["--rules", str(tmp_path / "hooks.yaml"), "--queue", str(tmp_path / "queue.db")]
    base = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: answers(f"{base}/healthz") or process.poll() is not None, "the receiver answers")
            forged = {"X-MLflow-Delivery-Id": "forged"}
            httpx.post(
                f"{base}/webhooks/mlflow", content=alias_event(type("Chat", (), {"name": "chat"}), 1), headers=forged
            )
        finally:
            process.terminate()
        lines = process.communicate(timeout=30)[1].splitlines()
    if log_format == "text":
        assert all(LINE.fullmatch(line) for line in lines), lines
        assert any("uvicorn.error: Application startup complete" in line for line in lines)
    else:
        told = [json.loads(line) for line in lines]
        assert {"uvicorn.error", "mlflow.fireworks"} <= {line["logger"] for line in told}
        assert [line["level"] for line in told if line.get("delivery") == "forged"] == ["INFO"]
    assert any("delivery forged: refused (401)" in line for line in lines)
    assert not any(SECRET in line for line in lines)


@pytest.mark.slow
def test_a_promotion_leaves_one_line_at_its_end_with_its_job(fireworks, registry, hooks):
    hooks.environ["MLFLOW_FIREWORKS_LOG_FORMAT"] = "json"
    hooks.start("--reconcile-every", "0")
    registry.promote(1)
    (job,) = hooks.deliver(alias_event(registry, 1)).json()["jobs"]
    wait_until(lambda: ": promoted " in hooks.log, "the promotion is done")
    lines = [json.loads(line) for line in hooks.log.splitlines()]
    (done,) = (line for line in lines if ": promoted " in line["message"])
    assert done["job"] == job
    assert f"promoted models:/{registry.name}@champion: version 1, created as accounts/" in done["message"]
    assert ", revision 1, READY; took " in done["message"]
    assert len([line for line in lines if line.get("job") == job]) > 5
    metrics = httpx.get(f"http://127.0.0.1:{hooks.port}/metrics").text
    counted = f'mlflow_fireworks_promotions_total{{model="{registry.name}",outcome="done",rule="champions"}} 1.0'
    assert counted in metrics
