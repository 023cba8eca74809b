"""How long people wait before anything happens: `python tests/benchmarks/startup.py [RUNS]`.

The middle of some runs, each in a process of its own: the time of the processor, which hardly depends on what else the
machine does, and that of a clock, which does. Then where the time goes: the modules that took longest to import.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.checkpoints import make_llama

BIN = Path(sys.executable).parent
OURS, THEIRS = str(BIN / "mlflow-fireworks"), str(BIN / "mlflow")
RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 7
NO_PLUGIN = (
    "import importlib.metadata as m, sys; real = m.entry_points\n"
    "m.entry_points = lambda **k: [] if k.get('group') == 'mlflow.deployments' else real(**k)\n"
    "from mlflow.cli import cli; cli(['deployments', '--help'])"
)
WITH_PLUGIN = "from mlflow.cli import cli; cli(['deployments', '--help'])"


def seconds(*command):
    """Of the processor, for the program and those that it waited for; and of a clock."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    took, after = time.perf_counter() - began, os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system, took


def measure(commands):
    """Taken in turns, so that what else the machine does falls on all of them alike."""
    rounds = [[seconds(*command) for command in commands.values()] for _ in range(RUNS + 1)][1:]
    return {
        name: tuple(statistics.median(kind) for kind in zip(*times, strict=True))
        for name, times in zip(commands, zip(*rounds, strict=True), strict=True)
    }


def slowest_imports(*command):
    trace = subprocess.run(
        [sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True
    ).stderr
    found = re.findall(r"import time:\s+(\d+) \|\s+(\d+) \| {1,3}(\S+)", trace)  # the two outer levels
    return sorted(((int(total) / 1000, name) for _, total, name in found), reverse=True)[:6]


def main():
    folder = Path(tempfile.mkdtemp())
    try:
        model = make_llama(folder / "llama")
        plan = [OURS, "plan", "-t", "fireworks://local", "-m", str(model), "--name", "chat", "-C", "progress=none"]
        plan += ["-C", "verify_hugging_face=false"]
        figures = measure(
            {
                "python -c 'import click'": [sys.executable, "-c", "import click"],
                "import mlflow_fireworks": [sys.executable, "-c", "import mlflow_fireworks"],
                "mlflow-fireworks --version": [OURS, "--version"],
                "mlflow-fireworks --help": [OURS, "--help"],
                "mlflow-fireworks hooks --help": [OURS, "hooks", "--help"],
                "mlflow deployments --help, no plugin": [sys.executable, "-c", NO_PLUGIN],
                "mlflow deployments --help": [sys.executable, "-c", WITH_PLUGIN],
                "import mlflow": [sys.executable, "-c", "import mlflow"],
                "import mlflow_fireworks.plugin": [sys.executable, "-c", "import mlflow_fireworks.plugin"],
                "mlflow-fireworks plan of a small folder, local": plan,
            }
        )
    finally:
        shutil.rmtree(folder)
    print("processor      clock")
    for name, (busy, took) in figures.items():
        print(f"{busy * 1000:6.0f} ms  {took * 1000:6.0f} ms  {name}")
    for title, program in (("--help", [OURS, "--help"]), ("the plugin", ["-c", "import mlflow_fireworks.plugin"])):
        print(f"where the time of {title} goes:")
        for took, name in slowest_imports(*program):
            print(f"{took:7.0f} ms  {name}")


if __name__ == "__main__":
    main()
