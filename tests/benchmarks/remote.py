"""Measures how close a remote store's files come to the slower of download and upload.

    PYTHONPATH=.:tests python tests/benchmarks/remote.py [--files 24] [--mib 32] [--rate 50e6] [--workers 8]

Store (the tracking server's proxy protocol, through MLflow's own client) and sink are on loopback, each behind a link
of `--rate` bytes a second in all. Writes one line of JSON: seconds for the download alone, for the upload alone, for
both at once, their ratio to the slower one, and the most temporary disk.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr
from support.misbehaving_store import MisbehavingStore, running
from support.throttled import Link, sink

from mlflow_fireworks.artifacts.content import Made, Stored, fetched_ahead
from mlflow_fireworks.artifacts.manifest import ManifestFile
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.http import Retry
from mlflow_fireworks.progress import Silent
from mlflow_fireworks.transfer.engine import upload_files
from mlflow_fireworks.transfer.journal import Journal
from mlflow_fireworks.transfer.urls import SignedUrls


def download(store, names, workers):
    def fetch(name):
        with store.staged(name):
            pass

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fetch, names))


def upload(parts, url, folder, workers):
    files = [ManifestFile(name, part.size, name, part) for name, part in parts.items()]
    with Journal(folder, "api.example", "accounts/acme/models/chat") as journal:
        journal.begin("ab12", "2026-01-01T00:00:00Z")
        urls = SignedUrls(lambda: {file.name: SecretStr(f"{url}/{file.name}") for file in files}, time.monotonic)
        with fetched_ahead(parts.values()):
            upload_files(files, urls, journal, workers=workers, retry=Retry(), reporter=Silent())


def clock(work, *arguments):
    begin = time.monotonic()
    work(*arguments)
    return time.monotonic() - begin


def disk_used(folder):
    sizes = [0]
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                sizes.append((Path(root) / name).stat().st_size)
    return sum(sizes)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--mib", type=int, default=32)
    parser.add_argument("--rate", type=float, default=50e6)
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    block = bytes(options.mib << 20)
    files = {f"weights-{number:03}.bin": block for number in range(options.files)}
    result = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        tempfile.TemporaryDirectory() as state,
        running(MisbehavingStore(files, Link(options.rate))) as served,
        sink(Link(options.rate)) as url,
    ):
        source = open_source(served.url, workspace=Path(scratch))
        result["download"] = clock(download, source.store, files, options.workers)
        made = {name: Made(block, name) for name in files}
        result["upload"] = clock(upload, made, url, Path(state) / "1", options.workers)
        stored = {name: Stored(source.store, name, size) for name, size in source.files.items()}
        most, stop = [0], threading.Event()

        def watch():
            while not stop.wait(0.02):
                most[0] = max(most[0], disk_used(scratch))

        watcher = threading.Thread(target=watch)
        watcher.start()
        result["both"] = clock(upload, stored, url, Path(state) / "2", options.workers)
        stop.set()
        watcher.join()
        source.store.close()
    result["ratio"] = result["both"] / max(result["download"], result["upload"])
    result["peak_disk_mib"] = most[0] / 2**20
    print(json.dumps({name: round(value, 2) for name, value in result.items()}))


if __name__ == "__main__":
    main()
