"""Measures how close a remote store's files come to the slower of download and upload.

    PYTHONPATH=.:tests python tests/benchmarks/remote.py [--files 24] [--mib 32] [--rate 50e6] [--workers 8]
                                                         [--lone] [--relay off]

Store (S3, through MLflow's repository and boto3) and sink are on loopback, each behind a link of `--rate` bytes a
second in all. `--lone` makes one file of all, sent as 32 shards. Writes one line of JSON: seconds for the download
alone, for the upload alone, for both at once, their ratio to the slower one, the most temporary disk, and the memory
over idle.
"""

import argparse
import json
import os
import re
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr
from support.ranged_server import RangedServer
from support.throttled import Link, sink

from mlflow_fireworks.artifacts.content import Made, Stored, fetched_ahead
from mlflow_fireworks.artifacts.excerpt import Excerpt
from mlflow_fireworks.artifacts.manifest import ManifestFile
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.http import Retry
from mlflow_fireworks.progress import Silent
from mlflow_fireworks.transfer.engine import upload_files
from mlflow_fireworks.transfer.journal import Journal
from mlflow_fireworks.transfer.urls import SignedUrls

_SHARDS = 32
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
}


def make_parts(source, *, lone):
    if not lone:
        return {name: Stored(source.store, name, size) for name, size in source.files.items()}
    [(name, size)] = source.files.items()
    file, step = Stored(source.store, name, size), -(-size // _SHARDS)
    return {
        f"shard-{begin // step:02}": Excerpt(b"", file.cut(begin, min(begin + step, size)), name)
        for begin in range(0, size, step)
    }


def download(parts, workers):
    def fetch(part):
        with part.staged() as open_file, open_file() as opened:
            while opened.read(1 << 20):
                pass

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fetch, parts.values()))


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


def memory():
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--mib", type=int, default=32)
    parser.add_argument("--rate", type=float, default=50e6)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--lone", action="store_true")
    parser.add_argument("--relay", choices=("auto", "off"), default="auto")
    options = parser.parse_args()
    content = bytes((options.mib << 20) * (options.files if options.lone else 1))
    files = dict.fromkeys(["weights"] if options.lone else map("weights-{:03}".format, range(options.files)), content)
    result = {"workers": options.workers}
    with (
        tempfile.TemporaryDirectory() as scratch,
        tempfile.TemporaryDirectory() as state,
        RangedServer(files, Link(options.rate)).running() as served,
        sink(Link(options.rate)) as url,
    ):
        os.environ.update({**_ENVIRONMENT, "MLFLOW_S3_ENDPOINT_URL": served.url})
        source = open_source("s3://models/chat", workspace=Path(scratch), relay=options.relay == "auto")
        parts = make_parts(source, lone=options.lone)
        result["download"] = clock(download, parts, options.workers)
        made = {name: Made(bytes(part.size), name) for name, part in parts.items()}
        result["upload"] = clock(upload, made, url, Path(state) / "1", options.workers)
        del made
        idle, most, stop = memory(), [0, 0.0], threading.Event()

        def watch():
            while not stop.wait(0.02):
                most[:] = max(most[0], disk_used(scratch)), max(most[1], memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        result["both"] = clock(upload, parts, url, Path(state) / "2", options.workers)
        stop.set()
        watcher.join()
        source.store.close()
    result["ratio"] = result["both"] / max(result["download"], result["upload"])
    result["peak_disk_mib"] = most[0] / 2**20
    result["memory_over_idle_mib"] = most[1] - idle
    print(json.dumps({name: round(value, 2) for name, value in result.items()}))


if __name__ == "__main__":
    main()
