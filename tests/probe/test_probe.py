import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from probe.conftest import ACCOUNT, KEY
from safetensors import safe_open
from support.advice import find_commands, parse, run
from tokenizers import Tokenizer

from mlflow_fireworks.cli import main
from mlflow_fireworks.cli.commands import _deletion
from mlflow_fireworks.commands import Commands
from mlflow_fireworks.probe.checkpoint import make_llama, make_quantized_llama
from mlflow_fireworks.probe.probe import MOST_MODELS, POINTS, run_probe
from mlflow_fireworks.probe.report import Report, name_service
from mlflow_fireworks.probe.session import PREFIX
from mlflow_fireworks.progress import Silent
from mlflow_fireworks.target import parse_target


def invoke(*arguments, **kwargs):
    return CliRunner().invoke(main, ["probe", *arguments], **kwargs)


def probe(world, reporter=None):
    with contextlib.ExitStack() as stack:
        return run_probe(world.open(stack, reporter))


def found(result):
    return {asked.point.name: asked.finding.text for asked in result.asked}


@pytest.fixture
def quick_world(make_world):
    """Where the command itself, which waits in earnest, has nothing to wait for."""
    return make_world(behaviours=("chunked-uploads=stored",))


def test_every_question_is_settled_and_nothing_is_left(quick_world):
    result = invoke("--yes", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [point["name"] for point in report["points"]] == [point.name for point in POINTS]
    assert not [point for point in report["points"] if "not settled" in point["found"]]
    assert report["not_deleted"] == 0
    assert quick_world.left() == []
    made = {call.path for call in quick_world.emulator.calls("create_model")}
    assert len(made) <= MOST_MODELS


def test_no_gpu_is_started(world):
    probe(world)
    assert world.emulator.calls("create_deployment")
    assert {call.status for call in world.emulator.calls("get_deployment")} == {404}


def test_the_report_can_be_pasted(quick_world, tmp_path):
    path = tmp_path / "report.md"
    result = invoke("--yes", "--output", str(path))
    assert result.exit_code == 0, result.output
    assert str(path) in result.stderr
    assert result.stdout == ""
    text = path.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) == 1 + len(POINTS)
    assert all(line.count("|") - line.count("\\|") == 4 for line in rows)
    assert text.count("```") % 2 == 0
    [command] = find_commands(text)
    chosen = parse(command)[1]["behaviours"]
    assert {"second-signing=accepted", "url-life=60m", "account=active"} <= set(chosen)


def test_a_report_that_cannot_be_written_is_printed(quick_world, tmp_path):
    result = invoke("--yes", "--output", str(tmp_path / "missing" / "report.md"))
    assert "| second signing |" in result.stdout
    assert "cannot write" in result.stderr


def test_it_asks_first(world):
    result = invoke(input="n\n")
    assert result.exit_code == 1
    assert "no GPU is started" in result.stderr
    assert world.emulator.requests == []


def test_a_key_that_is_not_taken_is_one_line(world, monkeypatch):
    monkeypatch.setenv("FIREWORKS_API_KEY", "fw_wrong")
    for target in ("fireworks", f"fireworks:/{ACCOUNT}"):
        result = invoke("--yes", "-t", target)
        assert result.exit_code == 1
        assert "check FIREWORKS_API_KEY" in result.stderr.splitlines()[-1]
    assert not world.emulator.calls("create_model")


LEAKS = (
    f"no access for {KEY} of developer@{ACCOUNT}.example (account {ACCOUNT.upper()}), trace "
    "0af76519-16cd-43dd-8448-eb211c80319c at https://storage.googleapis.com/b/o?X-Goog-Signature=5e1f5e1f and "
    "gs://models-internal/acme/x with token eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFt"
)


@pytest.mark.parametrize("quoted", [False, True])
def test_no_secret_is_in_the_report(world, quoted):
    if quoted:
        for operation in ("get_account", "validate_upload", "create_model", "get_upload_endpoint", "create_deployment"):
            body = json.dumps({"code": 3, "message": LEAKS, LEAKS: 1, "details": []})
            world.emulator.fault(operation, status=400, body=body, skip=2)
    result = probe(world)
    assert ("E-MAIL" in str(result.asked)) == quoted
    report = Report(result, name_service(parse_target("fireworks")), datetime.now(timezone.utc))
    signatures = ("Goog-Signature=", "Goog-Credential=", "upload_id=", "5e1f5e1f", "eyJhbGci", "0af76519", "internal")
    for text in (report.to_markdown(), report.to_json()):
        assert "in use: 0" not in text
        assert len(text) > 5000
        for secret in (KEY, ACCOUNT, "@", urlsplit(world.emulator.url).netloc, *signatures):
            assert secret.lower() not in text.lower(), secret


@pytest.mark.parametrize("operation", ["create_model", "get_upload_endpoint", "put_object", "get_model"])
def test_a_passing_error_is_tried_again_and_told(world, operation):
    world.emulator.fault(operation, status=500, times=2, skip=1)
    result = probe(world)
    assert "not settled" not in str(found(result))
    assert any("500" in text for text in result.trouble)
    assert world.left() == []


@pytest.mark.parametrize("operation", ["create_model", "get_upload_endpoint", "validate_upload", "put_object", "*"])
def test_one_failing_point_does_not_end_the_others(world, operation):
    world.emulator.fault(operation, status=500, times=20, skip=4)
    result = probe(world)
    assert len(result.asked) == len(POINTS)
    assert not result.interrupted
    assert world.left() == []


@pytest.mark.parametrize(
    "trouble",
    [
        {"malformed": True},
        {"drop": "reset"},
        {"status": 200, "body": "[1, 2]"},
        {"status": 200, "body": " " * (33 << 20), "times": 1},
    ],
    ids=["malformed", "dropped", "a list", "33 MiB"],
)
def test_answers_that_nobody_thought_of_end_nothing(world, trouble):
    world.emulator.fault("get_*", **{"times": 12, "skip": 6} | trouble)
    world.emulator.fault(
        "get_upload_endpoint", status=200, body='{"filenameToSignedUrls": {"config.json": 7}}', times=3
    )
    result = probe(world)
    assert len(result.asked) == len(POINTS)
    assert world.left() == []


def test_a_model_whose_creation_was_not_answered_is_deleted_too(world):
    world.emulator.fault("create_model", drop="reset", act=True, times=3, skip=4)
    result = probe(world)
    assert world.left() == []
    assert result.left == ()


@pytest.mark.parametrize("seconds", [3, 20, 35])
def test_files_that_land_late_do_not_read_as_forgotten(make_world, seconds):
    world = make_world(landing_seconds=seconds)
    result = probe(world)
    assert (result.ways["landed-files"], result.ways["validation"]) == ("kept", "complete")
    assert world.left() == []


def test_an_account_that_keeps_no_data_is_recognized(world):
    refusal = {"code": 9, "message": "custom uploads are not available with Zero Data Retention", "details": []}
    world.emulator.fault("create_model", status=400, body=json.dumps(refusal), times=99)
    result = probe(world)
    assert result.ways["account"] == "zero-data-retention"
    assert result.left == ()


class CtrlC(Silent):
    """Presses Ctrl-C when the given step is over."""

    def __init__(self, step):
        self.when = step

    def step(self, number, total, text):
        if number == self.when:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [1, 12, 20, 27, 30, len(POINTS)])
def test_ctrl_c_deletes_everything_and_what_is_known_is_reported(world, step):
    result = probe(world, CtrlC(step))
    assert result.interrupted
    assert len(result.asked) == step
    assert world.left() == []


PROGRAM = """
import signal
from mlflow_fireworks.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_the_program_deletes_everything_when_it_is_stopped(world, signal_):
    world.emulator.fault("put_object", stall_seconds=2, skip=3)
    program = subprocess.Popen(
        # A shell's background jobs ignore SIGINT, this test among them.
        [sys.executable, "-c", PROGRAM, "probe", "--yes"],
        env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while len(world.emulator.calls("put_object")) < 3 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.1)
        program.send_signal(signal_)
        out, err = program.communicate(timeout=30)
    finally:
        program.kill()
    assert program.returncode == 1, err
    assert "interrupted" in out
    assert "Traceback" not in err
    assert world.left() == []


def test_what_cannot_be_deleted_is_named_with_the_command_that_deletes_it(world):
    world.emulator.fault("delete_model", status=400, body='{"code": 9, "message": "busy"}', times=999, skip=3)
    result = probe(world)
    assert world.clock.now < 120
    world.emulator.clear_faults()
    assert sorted(result.left) == sorted(world.left())
    assert len(result.left) == MOST_MODELS - 2 - 3  # two are refused, three were deleted
    for name in result.left:
        assert PREFIX in name
        run(_deletion(Commands("fireworks"), name))
    assert world.left() == []


def test_a_service_that_takes_no_notice_of_validate_only_is_asked_once_and_nothing_of_it_runs(world):
    """Its answer is played: the deployment is there after the call that was only to check it."""
    there = json.dumps({"name": "x", "state": "READY"})
    world.emulator.fault("get_deployment", status=200, body=there, times=9)
    result = probe(world)
    assert len(world.emulator.calls("create_deployment")) == 1
    assert "validateOnly was not seen to start nothing" in found(result)["quota"]
    assert [call.status for call in world.emulator.calls("delete_deployment")] == [404]
    assert result.left == ()


def test_the_command_for_a_deployment_takes_it_down_for_good():
    command = _deletion(Commands("fireworks"), f"accounts/{ACCOUNT}/deployments/{PREFIX}-0-gpus")
    assert parse(command)[1]["name"] == f"{PREFIX}-0-gpus"
    assert "hard=true" in command


class Slow(Silent):
    """Each step takes half a minute."""

    def __init__(self, clock):
        self.clock = clock

    def step(self, number, total, text):
        self.clock.sleep(30)


def test_a_slow_service_is_given_up_in_time_and_everything_is_deleted(world):
    result = probe(world, Slow(world.clock))
    texts = list(found(result).values())
    assert "not settled: the time limit was reached" in texts[-1]
    assert len(texts) == len(POINTS)
    assert world.left() == []


def test_the_checkpoint_is_complete(tmp_path):
    files = make_llama()
    assert sum(map(len, files.values())) < 50_000
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    assert tokenizer.decode(tokenizer.encode("Grüße, 世界").ids) == "Grüße, 世界"
    config = json.loads(files["config.json"])
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    for content in (files, make_quantized_llama()):
        path = tmp_path / "model.safetensors"
        path.write_bytes(content["model.safetensors"])
        with safe_open(path, "numpy") as weights:
            assert weights.get_slice("lm_head.weight").get_shape() == [config["vocab_size"], config["hidden_size"]]
