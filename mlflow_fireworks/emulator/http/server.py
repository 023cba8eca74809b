"""The emulator as an object: a server thread in this process, on loopback.

::

    with Emulator(landing_seconds=0.2) as fw:
        client = Fireworks(base_url=fw.url, api_key="any", account_id="any")
        fw.fault("put_object", status=503, retry_after=1, times=2)
        ...
        assert not fw.failures
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from mlflow_fireworks.emulator.behaviours import Behaviours
from mlflow_fireworks.emulator.http.connection import Wiring
from mlflow_fireworks.emulator.http.faults import Fault
from mlflow_fireworks.emulator.http.listener import Listener
from mlflow_fireworks.emulator.http.record import Failure, RequestRecord
from mlflow_fireworks.emulator.http.service import Service
from mlflow_fireworks.emulator.options import Clock, Options
from mlflow_fireworks.emulator.resources.models import object_prefix
from mlflow_fireworks.emulator.resources.transitions import Transition
from mlflow_fireworks.emulator.storage.scratch import temporary_state
from mlflow_fireworks.emulator.storage.state import StoredObject


class Emulator:
    """A local Fireworks: control plane and upload storage on one loopback port.

    Args:
        state: Folder that keeps everything beyond this object's life, and may be shared by several processes at
            once. None: a temporary folder that goes with the object.
        port: TCP port; 0 takes a free one.
        log: Takes one readable line per request.
        clock: Seconds since the epoch; a test may inject its own to move time.
        **options: The attributes of `Options`, such as ``landing_seconds=1.5``, ``api_keys={"k"}`` or
            ``behaviours={"quota-status": "403"}``.

    Raises:
        ValueError: A behaviour does not exist.
        StateError: From `start`: the state folder cannot be used.
        OSError: From `start`: the port is taken.
    """

    def __init__(
        self,
        state: Path | None = None,
        *,
        port: int = 0,
        log: Callable[[str], None] | None = None,
        clock: Clock = time.time,
        **options: Any,
    ) -> None:
        for name, kind in (("api_keys", frozenset), ("accounts", tuple), ("behaviours", Behaviours)):
            if options.get(name) is not None:
                options[name] = kind(options[name])
        self._options = Options(**options)
        self._state = state
        self._port = port
        self._log = log or _silent
        self._clock = clock
        self._listener: Listener | None = None
        self._resources = contextlib.ExitStack()

    def start(self) -> Self:
        """Open the state, bind the port, and serve in a thread of its own."""
        with contextlib.ExitStack() as stack:
            folder = self._state
            if folder is None:
                folder = stack.enter_context(temporary_state())
            service = Service(folder, self._options, self._clock)
            stack.callback(service.close)
            # Bound here, in the caller: a taken port is the caller's error, not a hang.
            listener = Listener(self._port, Wiring(service, self._log))
            stack.callback(listener.stop)
            listener.start()
            self._listener = listener
            self._resources = stack.pop_all()
        return self

    def stop(self) -> None:
        """Stop serving, cut open connections, and give up waiting for their threads after five seconds."""
        self._resources.close()

    @property
    def url(self) -> str:
        """Base URL, such as ``http://127.0.0.1:40123``."""
        return self._running.url

    @property
    def requests(self) -> list[RequestRecord]:
        """Every request so far, oldest first."""
        return self._service.record.requests()

    @property
    def failures(self) -> list[Failure]:
        """What a correct client would not have done: unknown routes and fields, a key sent to storage."""
        return self._service.record.failures()

    def calls(self, operation: str) -> list[RequestRecord]:
        """The requests of one operation; shell patterns are allowed."""
        return self._service.record.requests(operation)

    def uploaded(self, model: str) -> dict[str, StoredObject]:
        """What storage holds for a model, landed or not.

        Args:
            model: Full resource name, such as ``accounts/acme/models/chat``.

        Returns:
            Each file's size and hashes, by file name; empty for an unknown model.
        """
        account, _, id_ = model.removeprefix("accounts/").partition("/models/")
        with self._service.store.transaction() as transaction:
            found = transaction.get("models", account, id_)
            return transaction.objects(object_prefix(found)) if found else {}

    def fault(self, operation: str, **trouble: Any) -> None:
        """Script trouble for the next calls of an operation.

        Args:
            operation: Its name in the request record, or a shell pattern.
            **trouble: The other attributes of `Fault`, such as ``status=503, retry_after=1, times=2``.

        Raises:
            TypeError: An attribute is unknown.
            ValueError: The operation is unknown or a value cannot be meant.
        """
        self._service.faults.add(Fault(operation, **trouble))

    def behave(self, *words: str) -> None:
        """Change what is uncertain about Fireworks, until `reset`.

        Args:
            *words: ``FACT=WAY``, perhaps with a length (``routing=404-first:5`` or ``:180s``), or a profile,
                ``lenient`` or ``strict``. Later ones win. `facts.FACTS` has all of them.

        Raises:
            ValueError: A fact or way does not exist; nothing has changed then.
        """
        self._options.behaviours.choose(*words)

    def set_transition(self, pattern: str, *, reads: int = 0, seconds: float = 0.0, fails_with: str = "") -> None:
        """Say how long resources take from now on.

        Args:
            pattern: A collection (``deployments``, ``deployedModels``, ``operations``, ``models``) or a shell
                pattern of full resource names.
            reads: How many reads still show the old state.
            seconds: How long the old state lasts.
            fails_with: If not empty, the change fails with this message.

        Raises:
            ValueError: A value cannot be meant.
        """
        self._service.control_plane.transitions.set(Transition(pattern, reads, seconds, fails_with))

    def clear_faults(self) -> None:
        """End the scripted trouble; what it has done remains."""
        self._service.faults.clear()

    def reset(self) -> None:
        """Forget every resource, object, fault and record, in the shared state too, and undo every `behave`."""
        self._service.reset()

    @property
    def _running(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("the emulator has not been started: use it in a with statement")
        return self._listener

    @property
    def _service(self) -> Service:
        return self._running.wiring.service

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _silent(line: str) -> None:
    del line
