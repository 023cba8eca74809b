"""Runs that move an endpoint, in processes that may be killed."""

from datetime import datetime, timezone
from pathlib import Path

from pydantic import SecretStr

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.endpoint_config import parse_endpoint_config
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry
from mlflow_fireworks.progress import Silent
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.rollout import serve_deployment
from mlflow_fireworks.waiting import Waiter

QUICK = Retry(attempts=3, wait_initial=0.01, wait_max=0.1)


def move(url, model_id, siblings, **options):
    """Put a model on the endpoint `prod` of an emulator, in real time."""
    with Gateway(url, SecretStr("k"), "acme", retry=QUICK) as gateway:
        reporter = Silent()
        run = Run(
            gateway,
            Commands("fireworks"),
            reporter,
            Waiter(reporter),
            Path(),
            endpoint_config=parse_endpoint_config(options),
            retry=QUICK,
            now=lambda: datetime.now(timezone.utc),
        )
        model = gateway.models.find(model_id)
        return serve_deployment(run, "prod", model, siblings, live_merge=False, moving=True)
