"""Real answers: uploaded checkpoints, run on this machine's CPU by servers that exist already.

Language models run in `transformers serve`, adapters there too, merged into their base; embedding models run in
sentence-transformers. Each has a process of its own, started by the first question. Until it is up, that question is
answered as Fireworks answers for an endpoint that starts up. Needs the packages of the extra `local`.

A checkpoint is a stranger's: code of its own is not run unless whoever deployed it trusts it, and weights that are
pickles are loaded in PyTorch's safe mode only, trusted or not.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from mlflow_fireworks.emulator import processes
from mlflow_fireworks.emulator.answers.own_code import find_own_code
from mlflow_fireworks.emulator.protocol.routes import INFERENCE_PATHS
from mlflow_fireworks.emulator.protocol.wire import JsonObject
from mlflow_fireworks.emulator.resources.models import Models, object_prefix
from mlflow_fireworks.emulator.storage.state import Resource, Store, StoredObject, Transaction

_MOST_ENGINES = 2
_ANSWER_SECONDS = 600.0
_END = b"data: [DONE]\n\n"
# What an engine takes beside its weights (measured: 0.5 GiB to import it all) and how often it may hold those: once as
# float32 where they are 16 bits wide, twice while an adapter is merged. A config that asks for more ends its engine.
_BESIDE_WEIGHTS_BYTES = 4 * 1024**3
_TIMES_WEIGHTS = 5
_TRUST = "--trust-remote-code"
_SHOWN = 3
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",  # whatever a loader asks for
}


class CannotRunError(Exception):
    """A model that cannot be run here; the text says why."""


@dataclass(frozen=True)
class _Checkpoint:
    """The files of a model in a folder of their own.

    Attributes:
        model: Its full name.
        folder: Where they are.
        is_trusted: Code among them may run.
        size: Bytes of them.
        base: Of an adapter.
    """

    model: str
    folder: Path
    is_trusted: bool
    size: int
    base: _Checkpoint | None = None

    def check(self) -> None:
        """Refuse code that nobody trusts.

        Raises:
            CannotRunError: There is some.
        """
        if self.base:
            self.base.check()
        if not self.is_trusted and (found := find_own_code(self.folder)):
            named = "; ".join(found[:_SHOWN]) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
            raise CannotRunError(
                f"{self.model} has its own code, which does not run here unless you allow it: {named}. If you "
                "trust it, "
                "delete the deployment and create it again with -C trust_remote_code=true"
            )


@dataclass
class Engine:
    """One running server.

    Attributes:
        process: It.
        port: Where it listens, on loopback.
        folder: The checkpoint that it serves.
    """

    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    def is_up(self) -> bool:
        """Whether it takes questions.

        Raises:
            CannotRunError: It has stopped.
        """
        if self.process.poll() is not None:
            log = self.folder.with_suffix(".log").read_text(encoding="utf-8", errors="replace").strip()
            last = log.splitlines()[-1] if log else f"exit status {self.process.returncode}"
            raise CannotRunError(f"the model does not run here: {last[:300]}")
        try:
            return self.ask("GET", "/health", None)[0] == http.client.OK
        except OSError:
            return False

    def ask(self, method: str, path: str, body: JsonObject | None) -> tuple[int, bytes, str]:
        """One request; status, body and content type of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_SECONDS)
        try:
            raw = json.dumps(body).encode() if body is not None else None
            connection.request(method, path, raw, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read(), response.getheader("Content-Type", "application/json")
        finally:
            connection.close()

    def stop(self) -> None:
        """End it."""
        if self.process.stdin:
            self.process.stdin.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Engines:
    """The servers of one emulator, at most two at a time. Thread-safe.

    Args:
        store: Where uploaded objects live.
        models: Resolves models.
        trusts_all: Code of all checkpoints may run.
    """

    def __init__(self, store: Store, models: Models, *, trusts_all: bool = False) -> None:
        self._store = store
        self._models = models
        self._trusts_all = trusts_all
        self._lock = threading.Lock()
        self._running: dict[Path, Engine] = {}
        # Beside the uploaded bytes, because links do not reach other file systems.
        self._folders = tempfile.TemporaryDirectory(prefix="engines-", dir=store.kept.parent)

    def answer(self, operation: str, model: str, request: JsonObject) -> tuple[int, bytes, str] | None:
        """Let a model answer.

        Args:
            operation: One of the values of `routes.INFERENCE`.
            model: Its full name.
            request: The question.

        Returns:
            Status, body and content type; None while the model is being loaded.

        Raises:
            CannotRunError: It cannot be run here.
        """
        with self._lock, self._store.transaction() as transaction:
            resource = self._models.find(transaction, model)
            checkpoint = self._lay_out(transaction, resource)
        embeds = resource.body["kind"] == "EMBEDDING_MODEL"
        if embeds != (operation == "embeddings"):
            raise CannotRunError(f"{model} is of kind {resource.body['kind']}, which does not answer {operation}")
        with self._lock:
            engine = self._running.pop(checkpoint.folder, None) or self._start(checkpoint, embeds=embeds)
            self._running[checkpoint.folder] = engine  # the last one is the one used last
        if not engine.is_up():
            return None
        status, body, kind = engine.ask("POST", INFERENCE_PATHS[operation], {**request, "model": str(engine.folder)})
        for name in (f"{engine.folder}@main", str(engine.folder)):  # transformers adds the revision
            body = body.replace(name.encode(), request["model"].encode())
        if kind.startswith("text/event-stream") and not body.endswith(_END):
            body += _END  # Fireworks ends so, transformers just stops
        return status, body, kind

    def stop(self) -> None:
        """End all of them."""
        with self._lock:
            for engine in self._running.values():
                engine.stop()
            self._running.clear()
        self._folders.cleanup()

    def _start(self, checkpoint: _Checkpoint, *, embeds: bool) -> Engine:
        checkpoint.check()
        while len(self._running) >= _MOST_ENGINES:
            self._running.pop(next(iter(self._running))).stop()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        folder = checkpoint.folder
        served = folder / "merged" if checkpoint.base else folder
        if embeds or checkpoint.base:
            module = "mlflow_fireworks.emulator.answers." + ("embedder" if embeds else "merge")
            arguments = [str(folder), port]
        else:
            module = "transformers.cli.transformers"
            arguments = ["serve", str(folder), "--host", "127.0.0.1", "--port", port, "--device", "cpu"]
        if checkpoint.is_trusted or (checkpoint.base and checkpoint.base.is_trusted):
            arguments.append(_TRUST)
        with served.with_suffix(".log").open("wb") as log:
            process = processes.start(
                module,
                *arguments,
                folder=folder.with_suffix(".home"),
                environ=_ENVIRONMENT,
                most_bytes=_BESIDE_WEIGHTS_BYTES + _TIMES_WEIGHTS * (checkpoint.base or checkpoint).size,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return Engine(process, int(port), served)

    def _lay_out(self, transaction: Transaction, resource: Resource) -> _Checkpoint:
        """The folder with a model's files, made of links to the uploaded bytes."""
        objects = self._whole_objects(transaction, resource)
        base = resource.body.get("peftDetails", {}).get("baseModel")
        below = self._lay_out(transaction, self._models.find(transaction, base)) if base else None
        is_trusted = self._trusts_all or bool(resource.private.get("trusted"))
        marks = "".join(f"{name}:{stored.generation};" for name, stored in sorted(objects.items()))
        marks += f"{below and below.folder} {is_trusted}"
        folder = Path(self._folders.name) / hashlib.sha256(marks.encode()).hexdigest()[:16]
        if not folder.is_dir():
            for name, stored in objects.items():
                _link(self._store.kept / stored.kept, folder / name)
            if below:
                (folder / "base").symlink_to(below.folder)
        size = sum(stored.size for stored in objects.values())
        return _Checkpoint(resource.name, folder, is_trusted, size, below)

    def _whole_objects(self, transaction: Transaction, resource: Resource) -> dict[str, StoredObject]:
        uploaded = "uid" in resource.private  # the catalogue's models have none
        objects = transaction.objects(object_prefix(resource)) if uploaded else {}
        if not objects:
            raise CannotRunError(f"{resource.name} has no files here; only uploaded models can be run")
        for name, stored in objects.items():
            path = self._store.kept / stored.kept
            if stored.size and not (stored.kept and path.stat().st_size == stored.size):
                raise CannotRunError(f"the bytes of {name} were not kept, so {resource.name} cannot be run")
        return objects


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.hardlink_to(source)
