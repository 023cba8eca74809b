"""The clients that a benchmark compares, each a process of its own: `python clients.py NAME URL WORKERS FILE...`."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TYPE = "application/octet-stream"


def send_with_sendfile(url: str, workers: int, files: list[Path]) -> None:
    """The physical limit: the kernel copies from the page cache to the socket. Plain HTTP only."""
    parts = urlsplit(url)

    def send(file: Path) -> None:
        size = file.stat().st_size
        with socket.create_connection((parts.hostname, parts.port)) as connection, file.open("rb") as opened:
            head = f"PUT /{file.name} HTTP/1.1\r\nHost: x\r\nContent-Type: {TYPE}\r\nContent-Length: {size}\r\n\r\n"
            connection.sendall(head.encode())
            sent = 0
            while sent < size:
                sent += os.sendfile(connection.fileno(), opened.fileno(), sent, size - sent)
            assert b"200" in connection.recv(1000)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(send, files))


def send_with_curl(url: str, workers: int, files: list[Path]) -> None:
    """What a careful person would script: one curl, many transfers."""
    config = "\n".join(f'upload-file = "{file}"\nurl = "{url}/{file.name}"' for file in files)
    extra = ["--cacert", os.environ["SSL_CERT_FILE"]] if url.startswith("https") else []
    subprocess.run(
        ["curl", "--silent", "--fail", "--parallel", "--parallel-immediate", "--parallel-max", str(workers),
         "--header", f"Content-Type: {TYPE}", "--header", "Expect:", *extra, "--config", "-"],
        input=config.encode(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def send_with_requests(url: str, workers: int, files: list[Path]) -> None:
    """What the documentation shows: one file after the other."""
    import requests

    for file in files:
        with file.open("rb") as opened:
            answer = requests.put(f"{url}/{file.name}", data=opened, headers={"Content-Type": TYPE}, timeout=600)
            answer.raise_for_status()


@dataclass(frozen=True)
class OnDisk:
    """A file as the engine wants it."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def content(self) -> "OnDisk":
        return self

    def is_here(self) -> bool:
        return True

    @contextmanager
    def staged(self):
        yield lambda: self.path.open("rb", buffering=0)  # as the real ones are opened


def upload(url: str, workers: int, files: Sequence[Any]) -> None:
    """mlflow-fireworks' engine, journal and checksums as they are in a real upload."""
    from pydantic import SecretStr

    from mlflow_fireworks.http import Retry
    from mlflow_fireworks.progress import Silent
    from mlflow_fireworks.transfer.engine import upload_files
    from mlflow_fireworks.transfer.journal import Journal
    from mlflow_fireworks.transfer.urls import SignedUrls

    urls = SignedUrls(lambda: {file.name: SecretStr(f"{url}/{file.name}") for file in files}, time.monotonic)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder), "api", "accounts/a/models/m") as journal:
        journal.begin("ab", "2026")
        upload_files(files, urls, journal, workers=workers, retry=Retry(), reporter=Silent())


def send_with_this(url: str, workers: int, files: list[Path]) -> None:
    """mlflow-fireworks, files as they are."""
    upload(url, workers, [OnDisk(file) for file in files])


def send_as_shards(url: str, workers: int, files: list[Path]) -> None:
    """mlflow-fireworks, the model in the folder of the first file, divided into one shard for each worker."""
    send_model(url, workers, files[0].parent, sum(file.stat().st_size for file in files) // workers)


def send_as_it_is(url: str, workers: int, files: list[Path]) -> None:
    """mlflow-fireworks, the model in the folder of the first file, not divided."""
    send_model(url, workers, files[0].parent, "off")


def send_model(url: str, workers: int, folder: Path, shard_size: Any) -> None:
    """A whole checkpoint, as the pipeline would send it."""
    from dataclasses import replace

    from mlflow_fireworks.artifacts.manifest import build_manifest
    from mlflow_fireworks.artifacts.sources.resolve import open_source
    from mlflow_fireworks.config import parse_config
    from mlflow_fireworks.progress import Silent

    # With an identity the weights are not hashed, as for a model that MLflow logged.
    source = replace(open_source(str(folder)), identity="benchmark")
    config = parse_config({"shard_size": shard_size, "verify_hugging_face": False})
    upload(url, workers, build_manifest(source, config, Silent()).files)


CLIENTS = {
    "sendfile": send_with_sendfile,
    "curl": send_with_curl,
    "requests": send_with_requests,
    "mlflow-fireworks": send_with_this,
    "shards": send_as_shards,
    "one file": send_as_it_is,
}


def measure(name: str, url: str, workers: int, files: list[Path]) -> None:
    """Run one client and print wall seconds, CPU seconds (children included) and peak memory growth in KiB."""
    import resource

    # Importing is not uploading.
    if name == "requests":
        import requests  # noqa: F401
    elif name not in {"curl", "sendfile"}:
        import mlflow_fireworks.artifacts.sources.resolve
        import mlflow_fireworks.transfer.engine  # noqa: F401

    def cpu() -> float:
        return sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu_before, began = cpu(), time.monotonic()
    CLIENTS[name](url, workers, files)
    seconds, used = time.monotonic() - began, cpu() - cpu_before
    print(seconds, used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle)


if __name__ == "__main__":
    measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), [Path(file) for file in sys.argv[4:]])
