"""From a target to its deployments: the key is looked for, the local Fireworks started, the connection opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mlflow.environment_variables import MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT, MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT

from mlflow_fireworks.config import Config
from mlflow_fireworks.deployments import Deployments
from mlflow_fireworks.gateway.client import Gateway
from mlflow_fireworks.home import state_folder
from mlflow_fireworks.local import local_state, local_url
from mlflow_fireworks.pipeline.pipeline import Pipeline
from mlflow_fireworks.progress import Reporter, make_reporter
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.context import ServingRun
from mlflow_fireworks.serving.inference import Inference
from mlflow_fireworks.serving.options import EndpointConfig
from mlflow_fireworks.target import Target, load_api_key
from mlflow_fireworks.waiting import Waiter


@contextmanager
def open_deployments(
    target: Target,
    options: Config | None = None,
    endpoint_options: EndpointConfig | None = None,
    reporter: Reporter | None = None,
) -> Iterator[Deployments]:
    """The deployments of an account, while the block runs.

    Args:
        target: The account.
        options: Of this run; all defaults when None.
        endpoint_options: As well.
        reporter: Is told what happens; the one that the options ask for when None.

    Raises:
        CredentialsError: There is no API key.
    """
    options = options or Config()
    key = load_api_key(target)
    base_url = target.base_url or local_url(local_state())
    reporter = reporter or make_reporter(options.progress)
    waiter = Waiter(reporter)
    with Gateway(base_url, key, target.account, tell=reporter.note) as gateway:
        serving = ServingRun(
            gateway,
            target.uri,
            endpoint_options or EndpointConfig(),
            reporter,
            waiter,
            _inference(gateway, waiter),
            is_billed=not target.is_local,
        )
        run = Run(gateway, target.uri, options, reporter, state_folder(), waiter)
        yield Deployments(Pipeline(run), serving)


def _inference(gateway: Gateway, waiter: Waiter) -> Inference:
    """Asks models as patiently as MLflow's own variables say; cold starts take longer than MLflow's default total."""
    inference = Inference(gateway, waiter, MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT.get())
    if MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT.is_set():
        return replace(inference, total_timeout=MLFLOW_DEPLOYMENT_PREDICT_TOTAL_TIMEOUT.get())
    return inference
