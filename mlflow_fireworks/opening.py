"""An account, opened for one run: its key, the local Fireworks where that is the target, and the connection."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from mlflow.environment_variables import MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.config import Config
from mlflow_fireworks.deployments import Deployments
from mlflow_fireworks.endpoint_config import EndpointConfig
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.home import state_folder
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.local import local_state, local_url
from mlflow_fireworks.names import EndpointName
from mlflow_fireworks.option_values import write_options
from mlflow_fireworks.progress import Reporter, Silent, make_reporter
from mlflow_fireworks.registry.mlflow_versions import read_predict_seconds
from mlflow_fireworks.run import Permit, Run
from mlflow_fireworks.target import Target, load_api_key
from mlflow_fireworks.waiting import Waiter

_RETRY = Retry(attempts=2, wait_initial=0.5, wait_max=1.0, wait_asked=5.0)
_TIMEOUTS = Timeouts(connect=5.0, quiet=9.0)
# A cold start takes longer than MLflow's own default for all tries of a prediction.
_COLD_START_SECONDS = 1200.0


@contextmanager
def open_deployments(
    target: Target,
    options: Config | None = None,
    endpoint_options: EndpointConfig | None = None,
    reporter: Reporter | None = None,
    *,
    endpoint: EndpointName | None = None,
    permit: Permit | None = None,
    is_wanted: Callable[[], bool] = lambda: True,
    retry: Retry | None = None,
    timeouts: Timeouts | None = None,
) -> Iterator[Deployments]:
    """The deployments of an account, while the block runs.

    The key is looked for, the local Fireworks started where that is the target, and the connection opened.

    Args:
        target: The account.
        options: Of this run; all defaults when None.
        endpoint_options: As well.
        reporter: Is told what happens; the one that the options ask for when None.
        endpoint: The endpoint that the run is also about, for commands in messages.
        permit: Whether GPUs may be started; None allows it.
        is_wanted: Whether somebody still wants the result; asked while bytes move.
        retry: How Fireworks is asked again; as for uploads when None.
        timeouts: How long it may take to answer; as for uploads when None.

    Raises:
        CredentialsError: There is no API key.
    """
    options, endpoint_options = options or Config(), endpoint_options or EndpointConfig()
    key = load_api_key(target)
    base_url = target.base_url or local_url(local_state())
    reporter = reporter or make_reporter(options.progress)
    with Gateway(base_url, key, target.account, retry=retry, timeouts=timeouts, tell=reporter.note) as gateway:
        yield Deployments(
            Run(
                gateway,
                Commands(target.uri, write_options(options), write_options(endpoint_options), endpoint),
                reporter,
                Waiter(reporter),
                state_folder(),
                options,
                endpoint_options,
                request_timeout=MLFLOW_DEPLOYMENT_PREDICT_TIMEOUT.get(),
                total_timeout=read_predict_seconds(_COLD_START_SECONDS),
                is_billed=not target.is_local,
                permit=permit or Permit(),
                is_wanted=is_wanted,
            )
        )


def look_at(target: Target) -> AbstractContextManager[Deployments]:
    """The same for somebody who only looks: nothing is told, and what does not answer is soon given up.

    Args:
        target: The account.

    Raises:
        CredentialsError: There is no API key.
    """
    return open_deployments(target, reporter=Silent(), retry=_RETRY, timeouts=_TIMEOUTS)
