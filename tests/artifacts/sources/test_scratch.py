"""Temporary folders, also of processes that were killed."""

import os
import subprocess
import sys

import pytest

from mlflow_fireworks.artifacts.sources.scratch import scratch_folder

DIE_IN_IT = """
import os
from mlflow_fireworks.artifacts.sources.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "queue.db").touch()
    os._exit(9)
"""


def test_a_folder_goes_with_its_block(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with scratch_folder() as folder:
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_a_killed_process_left_goes_with_the_next_block(tmp_path, monkeypatch):
    subprocess.run([sys.executable, "-c", DIE_IN_IT], check=False, env=os.environ | {"TMPDIR": str(tmp_path)})
    [orphan] = tmp_path.iterdir()
    os.utime(orphan / ".in-use", (0, 0))  # not new any more
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with scratch_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder]
