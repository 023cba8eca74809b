"""Shell completion, as OPTIONS.md tells to turn it on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
eval "$({variable}=bash_source {program})"
COMP_WORDS=({words}) COMP_CWORD={position}
{function} {program}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("mlflow-fireworks hooks re", ["reconcile", "register", "resume", "retry"]),
        pytest.param("mlflow-fireworks status --wa", ["--watch"], marks=pytest.mark.slow),
        pytest.param("mlflow deploym", ["deployments"], marks=pytest.mark.slow),
    ],
)
def test_bash_completes_commands_and_options(words, completed):
    program = words.split()[0]
    name = program.replace("-", "_")
    script = SCRIPT.format(
        variable=f"_{name.upper()}_COMPLETE",
        program=program,
        words=words,
        position=len(words.split()) - 1,
        function=f"_{name}_completion",
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = subprocess.run(
        ["bash", "--norc", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == completed, told.stderr
