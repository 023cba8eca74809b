"""The route table and what carries its operations out are two lists that must agree."""

import contextlib
import time

from mlflow_fireworks.emulator import Options
from mlflow_fireworks.emulator.protocol.routes import ROUTES
from mlflow_fireworks.emulator.resources.control_plane import ControlPlane
from mlflow_fireworks.emulator.storage.signing import Signer
from mlflow_fireworks.emulator.storage.state import Store


def test_every_operation_of_the_table_is_carried_out_and_no_other(tmp_path):
    with contextlib.closing(Store(tmp_path)) as store:
        plane = ControlPlane(store, Options(), Signer(store.secret), time.time)
    assert sorted(plane.operations) == sorted(route.operation for route in ROUTES)
