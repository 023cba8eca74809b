"""A local Fireworks: a real HTTP server on loopback with the control plane and the upload storage.

It imports nothing of the rest of the package and is reached only as a URL, so that a mistake in the client is
not hidden by the same mistake here. README.md shows its rooms, COVERAGE.md what it serves.
"""

from mlflow_fireworks.emulator.http.faults import Fault
from mlflow_fireworks.emulator.http.record import Failure, RequestRecord
from mlflow_fireworks.emulator.http.server import Emulator
from mlflow_fireworks.emulator.options import Options
from mlflow_fireworks.emulator.storage.state import StateError

__all__ = ["Emulator", "Failure", "Fault", "Options", "RequestRecord", "StateError"]
