"""A real `mlflow server` in processes of its own."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress

from cryptography.fernet import Fernet
from support.ports import free_port


def sends_webhooks():
    """The environment of a server that sends webhooks to loopback."""
    return {
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "MLFLOW_WEBHOOK_CACHE_TTL": "1",
        "MLFLOW_WEBHOOK_REQUEST_MAX_RETRIES": "6",  # a busy machine takes longer to start hooks than three take
    }


@contextmanager
def running_server(home, destination, *options, serves_artifacts=True, **environment):
    """Gives its address; its database and log are in `home`."""
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *options]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{home}/mlflow.db"]
    if serves_artifacts:
        command += ["--serve-artifacts", "--artifacts-destination", destination]
    else:
        command += ["--no-serve-artifacts", "--default-artifact-root", destination]
    inherited = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment = {**inherited, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment}
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert server.poll() is None, (home / "log").read_text()
            with suppress(OSError), urllib.request.urlopen(f"{uri}/health", timeout=5):
                break
            time.sleep(0.1)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # its worker processes too
        server.wait(timeout=20)
