"""Ctrl-C and SIGTERM at any moment, on real processes: nothing runs two seconds later, and shells see the signal."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import pytest
from support.advice import find_commands
from support.checkpoints import make_llama
from support.mlflow_server import running_server
from support.s3_server import running_s3
from support.throttled import Link

from mlflow_fireworks.emulator import Emulator

PROMISED_SECONDS = 2.0
BUSY_MACHINE_SECONDS = 1.5
# A shell's background jobs ignore SIGINT and hand that on to what they start, this test among them.
HEED_SIGINT = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
MLFLOW = HEED_SIGINT + "sys.argv[0] = 'mlflow'\nfrom mlflow.cli import cli\ncli()"
OURS = HEED_SIGINT + "sys.argv[0] = 'mlflow-fireworks'\nfrom mlflow_fireworks.cli import main\nmain()"
LIBRARY = HEED_SIGINT + "from mlflow.deployments import get_deploy_client\n"
CREATE = "get_deploy_client('fireworks:/acme').create_deployment('chat', sys.argv[1], config={'relay': 'off'})\n"

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}

pytestmark = pytest.mark.slow
both_signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])


@contextlib.contextmanager
def started(emulator, code, *arguments, **environ):
    """A process in a group of its own, as shells start one."""
    words = [sys.executable, "-c", code, *map(str, arguments)]
    environ = {**os.environ, "FIREWORKS_BASE_URL": emulator.url, "FIREWORKS_API_KEY": "fw_key", **environ}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=environ, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def creating(emulator, model, **environ):
    words = ["deployments", "create", "-t", "fireworks:/acme", "--name", "chat", "-m", model]
    return started(emulator, MLFLOW, *words, **environ)


def wait_until(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_for_line(process, text):
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"ended without saying {text!r}")


def stop(process, number):
    """Send a signal to the process alone, and see that nothing of its group runs when it should not; its messages."""
    began = time.monotonic()
    process.send_signal(number)
    try:
        output, errors = process.communicate(timeout=PROMISED_SECONDS + BUSY_MACHINE_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail("still runs")
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < began + PROMISED_SECONDS + BUSY_MACHINE_SECONDS:
            os.killpg(process.pid, 0)
            time.sleep(0.05)
        pytest.fail("what it started still runs")
    return output + errors


@both_signals
def test_a_wait_between_two_tries_ends_by_the_signal(tmp_path, number):
    with Emulator() as emulator, creating(emulator, make_llama(tmp_path / "llama")) as process:
        emulator.fault("create_model", times=9, status=503, retry_after=30)
        wait_for_line(process, "retrying in 30s")

        said = stop(process, number)

    assert process.returncode == -number
    assert said.endswith("Aborted!\n")
    assert "Traceback" not in said
    [command] = find_commands(said)
    assert command.startswith("mlflow deployments create -t fireworks:/acme --name chat -m ")


@both_signals
def test_a_registry_that_does_not_answer_holds_nothing_up(number):
    with Emulator() as emulator, socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with creating(emulator, "models:/chat/1", MLFLOW_TRACKING_URI=uri) as process, silent.accept()[0]:
            stop(process, number)

    assert process.returncode == -number


@both_signals
def test_hashing_ends_by_the_signal(tmp_path, number):
    folder = make_llama(tmp_path / "llama")
    add_zeros(folder / "model.safetensors", 64 * 1024**3)
    with Emulator() as emulator, creating(emulator, folder) as process:
        wait_for_line(process, "reading the weights")

        stop(process, number)

    assert process.returncode == -number


@both_signals
def test_the_wait_for_validation_ends_by_the_signal(tmp_path, number):
    with Emulator(landing_seconds=600) as emulator, creating(emulator, make_llama(tmp_path / "llama")) as process:
        wait_until(lambda: len(emulator.calls("validate_upload")) > 1, process)

        said = stop(process, number)

    assert process.returncode == -number
    assert find_commands(said)


@both_signals
def test_the_wait_for_gpus_ends_by_the_signal_and_says_what_is_billed(tmp_path, number):
    words = ["endpoint", "create", "-t", "fireworks:/acme", "--name", "prod", "-C", "model=chat"]
    with Emulator(clock=lambda: 1.7e9) as emulator:  # time stands still, so nothing ever comes up
        emulator.set_transition("deployments", seconds=600)
        with creating(emulator, make_llama(tmp_path / "llama")) as process:
            process.communicate(timeout=60)
        with started(emulator, OURS, *words) as process:
            wait_until(lambda: len(emulator.calls("get_deployment")) > 1, process)

            said = stop(process, number)

    assert process.returncode == -number
    assert "is billed from then on" in said


@pytest.mark.parametrize("code", [MLFLOW, LIBRARY + CREATE], ids=["command", "library"])
@both_signals
def test_what_mlflow_still_fetches_in_its_pool_holds_nothing_up(number, code, bucket, tmp_path):
    """A real server that hands out signed URLs, and a store behind it that would take minutes."""
    environ = {"MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true", "MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE": "4000000"}
    words = ["deployments", "create", "-t", "fireworks:/acme", "--name", "chat", "-C", "relay=off", "-m"]
    words = words if code is MLFLOW else []
    with (
        Emulator() as emulator,
        throttled(bucket, Link(500_000)) as slow,
        running_server(tmp_path, "s3://models", MLFLOW_S3_ENDPOINT_URL=slow, **KEYS) as uri,
        started(emulator, code, *words, "mlflow-artifacts:/chat", MLFLOW_TRACKING_URI=uri, **environ) as process,
    ):
        wait_for_line(process, "upload 6 files")
        time.sleep(3)  # until the small files are up, and the large one is being fetched

        stop(process, number)

    # Python itself ends a program of a KeyboardInterrupt that nobody catches by SIGINT, if it gets as far.
    assert process.returncode in ([-number] if code is MLFLOW else [128 + number, -signal.SIGINT])
    assert len(emulator.calls("put_object")) < 6


def test_a_program_that_catches_the_interruption_keeps_its_threads_and_its_status(tmp_path):
    code = f"""{LIBRARY}
import atexit, threading, time
atexit.register(print, "its last words")
try:
    {CREATE}
except KeyboardInterrupt:
    threading.Thread(target=lambda: (time.sleep(3), print("its results"))).start()
    sys.exit(7)
"""
    with Emulator() as emulator, started(emulator, code, make_llama(tmp_path / "llama")) as process:
        emulator.fault("create_model", times=9, status=503, retry_after=30)
        wait_for_line(process, "retrying in 30s")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)

    assert process.returncode == 7
    assert output == "its results\nits last words\n"


def test_a_second_signal_ends_what_still_cleans_up(tmp_path):
    with Emulator() as emulator, creating(emulator, make_llama(tmp_path / "llama")) as process:
        emulator.fault("put_object", path_contains="model.safetensors", stall_seconds=30)
        wait_until(lambda: any("model.safetensors" in call.path for call in emulator.calls("put_object")), process)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    assert process.returncode == -signal.SIGTERM
    assert time.monotonic() - began < 1


def add_zeros(path, size):
    """One more tensor, which takes no disk."""
    with path.open("r+b") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        header["zeros"] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [end, end + size]}
        text = json.dumps(header).encode()
        file.seek(0)
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end + size)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The port of an S3 server with a model in its bucket `models`."""
    folder = make_llama(tmp_path_factory.mktemp("chat") / "llama", hidden=1024, layers=2)
    with running_s3() as (url, client):
        for path in folder.iterdir():
            client.upload_file(str(path), "models", f"chat/{path.name}")
        yield urlsplit(url).port


@contextlib.contextmanager
def throttled(port, link):
    """A forwarder to a port of this machine whose answers share a link; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                threading.Thread(target=carry, args=(client, server, None), daemon=True).start()
                threading.Thread(target=carry, args=(server, client, link), daemon=True).start()

    def carry(source, target, limit):
        with contextlib.suppress(OSError), target:
            while piece := source.recv(1 << 16):
                if limit:
                    limit.carry(len(piece))
                target.sendall(piece)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
