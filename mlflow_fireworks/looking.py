"""An account for somebody who only looks: nothing is told, and what does not answer is soon given up."""

from contextlib import AbstractContextManager

from mlflow_fireworks.deployments import Deployments, open_deployments
from mlflow_fireworks.http import Retry, Timeouts
from mlflow_fireworks.progress import make_reporter
from mlflow_fireworks.target import Target

_RETRY = Retry(attempts=2, wait_initial=0.5, wait_max=1.0, wait_asked=5.0)
_TIMEOUTS = Timeouts(connect=5.0, quiet=9.0)


def look_at(target: Target) -> AbstractContextManager[Deployments]:
    """The deployments of an account, while the block runs.

    Args:
        target: The account.

    Raises:
        CredentialsError: There is no API key.
    """
    return open_deployments(target, reporter=make_reporter("none"), retry=_RETRY, timeouts=_TIMEOUTS)
