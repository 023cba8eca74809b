"""Measures what sending costs by the size of the pieces: CPU seconds a GiB, in interleaved rounds beside curl.

    python tests/benchmarks/pieces.py [--plain] [--seconds 120] [KIB ...]

CPU seconds are the figure to look at, since they change least on a busy machine. Prints for each size the least and the
median of user and system time together, and the median throughput.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

from clients import send_with_curl, send_with_this
from run import MIB, make_certificate, make_files, sink

import mlflow_fireworks.transfer.storage

FILES, SIZE = 8, 32 * MIB


def cpu_seconds() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def send(size: int, url: str, files: list[Path]) -> tuple[float, float]:
    """CPU seconds a GiB and MB/s of one round; of curl for size 0."""
    mlflow_fireworks.transfer.storage.PIECE = size << 10
    cpu, began = cpu_seconds(), time.monotonic()
    (send_with_this if size else send_with_curl)(url, FILES, files)
    return (cpu_seconds() - cpu) / (FILES * SIZE) * 2**30, FILES * SIZE / (time.monotonic() - began) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", action="store_true", help="HTTP instead of HTTPS")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("sizes", type=int, nargs="*", metavar="KIB", default=[1024, 512, 256, 128, 64])
    options = parser.parse_args()
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        certificate = str(make_certificate(Path(folder)))
        os.environ["SSL_CERT_FILE"] = certificate
        files = make_files(Path(folder), FILES, SIZE)
        with sink(*([] if options.plain else ["--cert", certificate])) as port:
            url = f"{'http' if options.plain else 'https'}://127.0.0.1:{port}"
            rounds: dict[int, list[tuple[float, float]]] = {size: [] for size in (0, *options.sizes)}
            deadline = time.monotonic() + options.seconds
            while time.monotonic() < deadline:
                for size, done in rounds.items():
                    done.append(send(size, url, files))
    for size, done in rounds.items():
        kept = done[1:] or done  # the first round warms up
        cpu, rates = ([row[number] for row in kept] for number in (0, 1))
        print(
            f"{f'{size} KiB' if size else 'curl':>8}: {statistics.median(cpu):.3f} CPU s/GiB (least {min(cpu):.3f}), "
            f"{statistics.median(rates):.0f} MB/s, {len(kept)} rounds"
        )


if __name__ == "__main__":
    main()
