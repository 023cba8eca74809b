"""A local Fireworks: a real HTTP server on loopback with the control plane and the upload storage.

It imports nothing of the rest of the package and is reached only as a URL, so that a mistake in the client is
not hidden by the same mistake here. Read `routes` for what it serves, `models` for the rules, `checks` for what
validation looks at, `storage` and `signing` for uploads, `faults` for trouble on demand, `server` for how to run it.
"""

from mlflow_fireworks.emulator.faults import Fault
from mlflow_fireworks.emulator.options import Options
from mlflow_fireworks.emulator.record import Failure, RequestRecord
from mlflow_fireworks.emulator.server import Emulator
from mlflow_fireworks.emulator.state import StateError

__all__ = ["Emulator", "Failure", "Fault", "Options", "RequestRecord", "StateError"]
