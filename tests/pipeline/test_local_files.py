"""Files of this machine that cannot be read: one line, whatever the operating system says."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from support.account import open_account
from support.checkpoints import make_llama
from support.source_world import Remembers

from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.errors import SourceError
from mlflow_fireworks.pipeline.pipeline import Pipeline

CREATE_WITH_64_DESCRIPTORS = """
import resource, sys
from mlflow.deployments import get_deploy_client
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(get_deploy_client("fireworks:/acme").create_deployment("chat", sys.argv[1], config={"max_workers": 60})["state"])
"""


@pytest.mark.slow
def test_with_64_descriptors_fewer_files_go_up_at_a_time(tmp_path):
    folder = make_llama(tmp_path / "llama", shards=60, layers=60)
    with Emulator() as emulator:
        emulator.fault("put_object", times=100, stall_seconds=0.5)
        environ = os.environ | {"FIREWORKS_BASE_URL": emulator.url, "FIREWORKS_API_KEY": "fw_key"}
        command = [sys.executable, "-c", CREATE_WITH_64_DESCRIPTORS, str(folder)]
        done = subprocess.run(command, check=False, env=environ, capture_output=True, text=True, timeout=120)

    assert done.stdout == "READY\n", done.stderr
    assert "Too many open files" in done.stderr  # else this test proves nothing


@pytest.mark.parametrize("length", [300, 5000])
def test_a_path_that_is_too_long_is_one_line(tmp_path, length):
    with pytest.raises(SourceError, match="File name too long") as caught, open_account() as account:
        account.run().create("chat", str(tmp_path / ("a" * length)))
    assert "\n" not in str(caught.value)


class Writes(Remembers):
    """A reporter, by whose hand a file is written as soon as it is told that storage failed."""

    def __init__(self, path, content):
        super().__init__()
        self.path, self.content = path, content

    def note(self, text):
        if "503" in text:
            self.path.write_bytes(self.content)


def test_a_file_that_changes_while_it_is_sent_is_not_validated(tmp_path):
    folder = make_llama(tmp_path / "llama", shards=2)
    weights = folder / "model-00001-of-00002.safetensors"
    content = weights.read_bytes()
    with open_account() as account:
        account.emulator.fault("put_object", path_contains=weights.name, status=503)
        run = account.run(max_workers=1).run
        with pytest.raises(
            SourceError, match=f"{weights.name} changed while the model was uploaded, so nothing is val"
        ):
            Pipeline(replace(run, reporter=Writes(weights, content))).create("chat", str(folder))
        assert account.calls("validate_upload") == [0]

        assert account.run().create("chat", str(folder)).to_dict()["state"] == "READY"
        assert account.sent().count(weights.name) == 2  # the same bytes in the end, but who knows what was sent first
        assert account.sent().count("config.json") == 1
