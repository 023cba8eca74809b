"""SIGTERM (handled as Ctrl-C is) and kill -9 in the middle of an upload, from outside, on real processes."""

import signal
import time

import pytest
from support.advice import find_commands, parse
from support.checkpoints import make_llama
from support.creating import start_create, wait_until

from mlflow_fireworks.emulator import Emulator


def put_names(emulator):
    return [request.path.rpartition("/")[2] for request in emulator.calls("put_object")]


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGTERM, id="SIGTERM"), pytest.param(signal.SIGKILL, id="SIGKILL", marks=pytest.mark.slow)],
)
def test_a_stopped_upload_ends_at_once_and_goes_on_later(tmp_path, number):
    folder = make_llama(tmp_path / "llama", shards=3)
    with Emulator() as emulator:
        emulator.fault("put_object", path_contains="00003-of-00003", stall_seconds=30)
        process = start_create(emulator, folder)
        files = len(list(folder.iterdir()))
        wait_until(lambda: len(put_names(emulator)) == files - 1)
        time.sleep(0.3)  # until the last answer has come, and is in the journal
        began = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        assert time.monotonic() - began < 3  # two seconds, and what a busy machine adds
        assert process.returncode != 0
        if number != signal.SIGKILL:
            assert "resume with: mlflow deployments create -t fireworks:/acme --name chat -m " in errors

        before = len(put_names(emulator))
        process = start_create(emulator, folder)
        output, _ = process.communicate(timeout=60)
        assert output == "READY\n"
        again = [name for name in put_names(emulator)[before:] if "00003" not in name]
        assert again == []


@pytest.mark.slow
def test_a_file_killed_at_half_goes_on_from_the_last_byte(tmp_path):
    folder = make_llama(tmp_path / "llama", hidden=512, layers=4)
    size = sum(path.stat().st_size for path in folder.iterdir())
    half = (folder / "model.safetensors").stat().st_size // 2

    def arrived():
        return [request.received for request in emulator.requests if request.operation in ("put_object", "put_chunk")]

    with Emulator() as emulator:
        emulator.fault("put_chunk", path_contains="model.safetensors", after_bytes=half, stall_seconds=3)
        process = start_create(emulator, folder, "resumable=true", "max_workers=1")
        wait_until(lambda: any("model.safetensors" in call.path for call in emulator.calls("start_resumable")))
        time.sleep(1)  # until half of it has arrived; the sums below hold for any share
        process.kill()
        process.communicate(timeout=30)
        wait_until(lambda: any("model.safetensors" in call.path for call in emulator.calls("put_chunk")))

        output, _ = start_create(emulator, folder, "resumable=true").communicate(timeout=60)
        assert output == "READY\n"
        assert size <= sum(arrived()) <= 1.02 * size


@pytest.mark.slow
def test_a_stop_while_urls_are_signed_ends_at_once_and_goes_on_later(tmp_path):
    folder = make_llama(tmp_path / "llama")
    with Emulator() as emulator:
        emulator.fault("get_upload_endpoint", stall_seconds=30)
        process = start_create(emulator, folder, "display_name=My Chat", "max_workers=3")
        assert any("[2/4] sign" in line for line in process.stderr)
        time.sleep(0.2)  # until the request is under way
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)  # a shell's background jobs ignore SIGINT, this test among them
        _, errors = process.communicate(timeout=30)
        assert time.monotonic() - began < 3
        assert process.returncode != 0
        assert "resume with: mlflow deployments create -t fireworks:/acme --name chat -m " in errors
        [command] = find_commands(errors)
        assert {"display_name=My Chat", "max_workers=3"} <= set(parse(command)[1]["config"])

        output, _ = start_create(emulator, folder).communicate(timeout=60)
        assert output == "READY\n"
        assert len(emulator.calls("create_model")) == 1
