"""The plugin's pipeline on an emulated account, where waiting costs no time."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.config import parse_config
from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry
from mlflow_fireworks.pipeline.pipeline import Pipeline
from mlflow_fireworks.progress import Lines
from mlflow_fireworks.run import Run
from mlflow_fireworks.waiting import Waiter

QUICK = Retry(attempts=3, wait_initial=0.01, wait_max=0.02)
KEY = "fw_very_secret_key"


class Account:
    """An account, the folder of the plugin's state, and a clock that waiting moves on."""

    def __init__(self, emulator, gateway, state, defaults):
        self.state = state
        self.emulator = emulator
        self.gateway = gateway
        self.now = 0.0
        self.waits = []
        self._defaults = defaults

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds

    def run(self, **options):
        reporter = Lines()
        waiter = Waiter(reporter, lambda: self.now, self.sleep)
        config = parse_config(self._defaults | options)
        run = Run(self.gateway, Commands("fireworks"), reporter, waiter, self.state, config, retry=QUICK)
        return Pipeline(run)

    def calls(self, *operations):
        """How many requests of each kind there were."""
        return [len(self.emulator.calls(operation)) for operation in operations]

    def changes(self):
        """The requests that were not only questions."""
        return [request for request in self.emulator.requests if request.method != "GET"]

    def sent(self):
        """The names of the files that storage has taken, in their order."""
        return [call.path.rpartition("/")[2] for call in self.emulator.calls("put_object") if call.status == 200]


@contextmanager
def open_account(defaults=None, **options):
    """An emulated account.

    Args:
        defaults: Options that every run has.
        **options: Of the emulator.
    """
    with (
        tempfile.TemporaryDirectory() as state,
        Emulator(**options) as emulator,
        Gateway(emulator.url, SecretStr(KEY), "acme", retry=QUICK) as gateway,
    ):
        yield Account(emulator, gateway, Path(state), defaults or {})
        assert not emulator.failures
