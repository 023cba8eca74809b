"""Measures how close models in a bucket come to the slower of download and upload, and what else there is to do it.

    PYTHONPATH=.:tests python tests/benchmarks/remote.py [--quick] [--only SCENARIO] [--workers 16] [--out FOLDER]

Store (S3) and sink are on loopback in this process, each behind a link: 50 MB/s in all, or 4 MB/s for each connection
and 30 ms each way. The clients run in turn, each in a process of its own: mlflow-fireworks as it is, the same with
`-C relay=off`, and what a careful person would script, boto3's transfers to a disk and `curl --parallel` from there.
The first two rows of each scenario are mlflow-fireworks' download alone and upload alone; what is compared is the time
of each client with the slower of them.

Writes `remote.json` and `remote.svg`: seconds, that ratio, CPU seconds a GiB, memory over idle, most temporary disk.
"""

import argparse
import io
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from clients import send_with_curl
from report import write_report
from support.ranged_server import RangedServer
from support.throttled import Link, Links, sink

HERE = Path(__file__).parent
MIB, GIB = 1 << 20, 1 << 30
SHARDS = 32
ZEROS = bytes(MIB)
BUCKET, FOLDER = "models", "chat"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
}


@dataclass(frozen=True)
class Scenario:
    """What is moved, and over what."""

    files: int
    mib: int
    make_link: object


SCENARIOS = {
    "one file, 50 MB/s": Scenario(1, 2048, lambda: Link(50e6)),
    "24 files, 50 MB/s": Scenario(24, 64, lambda: Link(50e6)),
    "one file, 4 MB/s each, 30 ms": Scenario(1, 2048, lambda: Links(4e6, 0.03)),
    "24 files, 4 MB/s each, 30 ms": Scenario(24, 64, lambda: Links(4e6, 0.03)),
}
WAYS = ("relay", "fetch, then send", "boto3, then curl")


def make_parts(source):
    """The files as they are; a lone one in shards, as its header would have it."""
    from mlflow_fireworks.artifacts.content import Stored
    from mlflow_fireworks.artifacts.excerpt import Excerpt

    stored = {name: Stored(source.store, name, size) for name, size in source.files.items()}
    if len(stored) > 1:
        return stored
    [file] = stored.values()
    step = -(-file.size // SHARDS)
    return {
        f"shard-{begin // step:02}": Excerpt(b"", file.cut(begin, min(begin + step, file.size)), file.path)
        for begin in range(0, file.size, step)
    }


def send(parts, url, workers, scratch):
    """As a real upload does: with engine, journal and checksums."""
    from pydantic import SecretStr

    from mlflow_fireworks.artifacts.content import fetched_ahead
    from mlflow_fireworks.artifacts.manifest import ManifestFile
    from mlflow_fireworks.http import Retry
    from mlflow_fireworks.progress import Silent
    from mlflow_fireworks.transfer.engine import upload_files
    from mlflow_fireworks.transfer.journal import Journal
    from mlflow_fireworks.transfer.urls import SignedUrls

    files = [ManifestFile(name, part.size, name, part) for name, part in parts.items()]
    with Journal(Path(scratch) / "state", "api.example", "accounts/acme/models/chat") as journal:
        journal.begin("ab12", "2026-01-01T00:00:00Z")
        urls = SignedUrls(lambda: {file.name: SecretStr(f"{url}/{file.name}") for file in files}, time.monotonic)
        with fetched_ahead(parts.values()):
            upload_files(files, urls, journal, workers=workers, retry=Retry(), reporter=Silent())


def prepare_ours(way, url, workers, scratch):
    from mlflow_fireworks.artifacts.sources.resolve import open_source

    source = open_source(f"s3://{BUCKET}/{FOLDER}", workspace=Path(scratch), relay=way != "fetch, then send")
    parts = make_parts(source)
    for name in source.files:
        source.store.read_beginning(name, 1024)  # as planning does
    if way == "download":
        return lambda: download(parts, workers)
    if way == "upload":
        parts = {name: Zeros(part.size) for name, part in parts.items()}
    return lambda: (send(parts, url, workers, scratch), source.store.close())


class Zeros(io.RawIOBase):
    """A part that costs nothing to read, and its stream."""

    sources = ()

    def __init__(self, size):
        self.size = self.left = size

    def is_here(self):
        return True

    def staged(self):
        return nullcontext(lambda: Zeros(self.size))

    def read(self, size=-1):
        size = min(size, self.left, len(ZEROS))
        self.left -= size
        return ZEROS[:size]


def download(parts, workers):
    def fetch(part):
        with part.staged() as open_file, open_file() as opened:
            while opened.read(MIB):
                pass

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fetch, parts.values()))


def prepare_script(url, workers, scratch):
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    client = boto3.client(
        "s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], config=Config(max_pool_connections=64)
    )
    names = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET, Prefix=f"{FOLDER}/")["Contents"]]
    config = TransferConfig(max_concurrency=workers if len(names) == 1 else 1)

    def run():
        paths = {name: Path(scratch) / name.rpartition("/")[2] for name in names}
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda name: client.download_file(BUCKET, name, str(paths[name]), Config=config), names))
        send_with_curl(url, workers, list(paths.values()))

    return run


def be_client(way, url, workers, scratch):
    """Run one client and print what it took."""
    prepare = prepare_script if way == "boto3, then curl" else lambda *rest: prepare_ours(way, *rest)
    work = prepare(url, workers, scratch)
    Path("/proc/self/clear_refs").write_text("5")
    idle, cpu, began = memory("VmRSS"), cpu_seconds(), time.monotonic()
    work()
    print(json.dumps({
        "seconds": time.monotonic() - began,
        "cpu_seconds": cpu_seconds() - cpu,
        "memory_over_idle_mib": memory("VmHWM") - idle,
    }))  # fmt: skip


def memory(what):
    return int(re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def cpu_seconds():
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def disk_used(folder):
    sizes = [0]
    for root, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                sizes.append((Path(root) / name).stat().st_size)
    return sum(sizes)


def measure(way, url, workers, size):
    with tempfile.TemporaryDirectory() as scratch:
        most, stop = [0], threading.Event()

        def watch():
            while not stop.wait(0.05):
                most[0] = max(most[0], disk_used(scratch))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            command = [sys.executable, __file__, "--client", way, url, str(workers), scratch]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=3600)
        finally:
            stop.set()
            watcher.join()
    told = json.loads(done.stdout)
    return {
        "seconds": round(told["seconds"], 2),
        "mb_per_second": round(size / told["seconds"] / 1e6, 1),
        "cpu_seconds_per_gib": round(told["cpu_seconds"] / size * GIB, 2),
        "memory_over_idle_mib": round(told["memory_over_idle_mib"], 1),
        "peak_disk_mib": round(most[0] / MIB, 1),
    }


def play(scenario, workers, shrink):
    content = bytes(max(1, scenario.mib // shrink) * MIB)
    files = {f"weights-{number:02}": content for number in range(scenario.files)}
    size = len(content) * len(files)
    with RangedServer(files, scenario.make_link()).running() as served, sink(scenario.make_link()) as url:
        for name in files:
            served.etag(name)  # takes a while for large ones
        os.environ.update({**ENVIRONMENT, "MLFLOW_S3_ENDPOINT_URL": served.url})
        rows = {way: measure(way, url, workers, size) for way in ("download", "upload", *WAYS)}
    slower = max(rows["download"]["seconds"], rows["upload"]["seconds"])
    for way in WAYS:
        rows[way]["times_the_slower_way"] = round(rows[way]["seconds"] / slower, 2)
    return {"bytes": size, "clients": rows}


def draw(results, file):
    """One panel for each scenario: seconds, and how long the slower way alone takes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(results), 2.8))
    panels = figure.subplots(1, len(results), squeeze=False)
    for panel, (title, result) in zip(panels[0], results.items(), strict=True):
        rows = result["clients"]
        bars = panel.barh(WAYS, [rows[way]["seconds"] for way in WAYS])
        panel.bar_label(bars, [f"{rows[way]['times_the_slower_way']} x" for way in WAYS])
        panel.axvline(max(rows["download"]["seconds"], rows["upload"]["seconds"]), linestyle="--", color="grey")
        panel.set(title=title, xlabel="seconds")
        panel.margins(x=0.18)
    figure.tight_layout()
    figure.savefig(file)


def main():
    if sys.argv[1:2] == ["--client"]:
        way, url, workers, scratch = sys.argv[2:]
        be_client(way, url, int(workers), scratch)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="an eighth of the sizes")
    parser.add_argument("--only", choices=SCENARIOS, help="one scenario")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the results")
    options = parser.parse_args()
    results = {}
    for name, scenario in SCENARIOS.items():
        if options.only in (None, name):
            results[name] = play(scenario, options.workers, 8 if options.quick else 1)
            print(json.dumps({name: results[name]}, indent=2), flush=True)
    write_report(options.out / "remote.json", results)
    draw(results, options.out / "remote.svg")


if __name__ == "__main__":
    main()
