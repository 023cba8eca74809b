"""`create_deployment` in a process of its own, which may be stopped or killed."""

import os
import subprocess
import sys
import time

_CREATE = """
import sys
from mlflow.deployments import get_deploy_client
config = dict(option.split("=") for option in sys.argv[2:])
print(get_deploy_client("fireworks:/acme").create_deployment("chat", sys.argv[1], config=config)["state"])
"""


def start_create(emulator, model, *options):
    """Begin to create `chat`; what is printed is its state in the end."""
    environ = os.environ | {"FIREWORKS_BASE_URL": emulator.url, "FIREWORKS_API_KEY": "fw_key"}
    command = [sys.executable, "-c", _CREATE, str(model), *options]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
