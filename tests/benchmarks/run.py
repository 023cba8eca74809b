"""Measures the transfer against what a user would use instead, side by side in one run.

    python tests/benchmarks/run.py [--quick] [--only NAME] [--out FOLDER]

Writes `benchmarks.json` and `benchmarks.svg`. Every figure is the median of interleaved rounds (A B C, A B C, …), and
what is compared are ratios within a round, because machines are noisy. The files lie in memory (/dev/shm) where there
is one, so that a disk does not decide.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from report import write_report

HERE = Path(__file__).parent
MIB = 1 << 20
CAP, DELAY = 4_000_000, 0.03


@contextmanager
def sink(*options: str) -> Iterator[int]:
    """A sink process; gives its port."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "sink.py"), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)


def make_certificate(folder: Path) -> Path:
    """A certificate for loopback and its key, in one file."""
    file = folder / "loopback.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key"),
         "-out", str(folder / "cert")],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_bytes((folder / "key").read_bytes() + (folder / "cert").read_bytes())
    return file


def make_files(folder: Path, count: int, size: int) -> list[Path]:
    """Files of random bytes."""
    files = [folder / f"file-{number:03}" for number in range(count)]
    block = os.urandom(MIB)
    for file in files:
        with file.open("wb") as out:
            for _ in range(size // MIB):
                out.write(block)
    return files


def run_client(name: str, url: str, workers: int, files: list[Path]) -> dict[str, float]:
    """One client, once."""
    command = [sys.executable, str(HERE / "clients.py"), name, url, str(workers), *map(str, files)]
    environ = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900, env=environ)
    seconds, cpu, memory = map(float, done.stdout.split())
    size = sum(file.stat().st_size for file in files)
    return {
        "mb_per_second": size / seconds / 1e6,
        "cpu_seconds_per_gib": cpu / size * 2**30,
        "memory_growth_mib": memory / 1024,
    }


def compare(clients: list[str], url: str, workers: int, files: list[Path], rounds: int) -> dict[str, object]:
    """All clients in turn, several times; medians, and the ratios of ours to each other within the rounds."""
    runs: dict[str, list[dict[str, float]]] = {client: [] for client in clients}
    for number in range(rounds + 1):
        for client in clients:
            result = run_client(client, url, workers, files)
            if number or rounds == 1:  # the first round warms up
                runs[client].append(result)
    ours = runs["mlflow-fireworks"]
    return {
        "clients": {
            client: {key: round(statistics.median(run[key] for run in done), 3) for key in done[0]}
            for client, done in runs.items()
        },
        "ratios": {
            client: {
                key: round(statistics.median(a[key] / b[key] for a, b in zip(ours, done, strict=True)), 2)
                for key in ("mb_per_second", "cpu_seconds_per_gib")
            }
            for client, done in runs.items()
            if client != "mlflow-fireworks"
        },
    }


def measure_loopback(folder: Path, quick: bool, secure: bool) -> dict[str, object]:
    files = make_files(folder, 8, 64 * MIB if quick else 256 * MIB)
    with sink(*(["--cert", os.environ["SSL_CERT_FILE"]] if secure else [])) as port:
        url = f"{'https' if secure else 'http'}://127.0.0.1:{port}"
        clients = ["mlflow-fireworks", "curl", "requests", *([] if secure else ["sendfile"])]
        return compare(clients, url, 8, files, 2 if quick else 5)


def measure_distant(folder: Path, quick: bool) -> dict[str, object]:
    """4 MB/s for each connection, 30 ms each way."""
    files = make_files(folder, 16, (4 if quick else 16) * MIB)
    with sink("--rate", str(CAP), "--delay", str(DELAY)) as port:
        url = f"http://127.0.0.1:{port}"
        result = compare(["mlflow-fireworks", "curl"], url, 16, files, 1)
        sequential = compare(["mlflow-fireworks", "requests"], url, 16, files, 1)
    result["ratios"] |= sequential["ratios"]
    result["clients"]["requests"] = sequential["clients"]["requests"]
    result["share_of_16_caps"] = round(result["clients"]["mlflow-fireworks"]["mb_per_second"] * 1e6 / (16 * CAP), 3)
    return result


def measure_one_file(folder: Path, quick: bool) -> dict[str, object]:
    """One large model.safetensors at 4 MB/s for each connection: as it is, and divided into 16 shards."""
    model = make_model(folder / "model", layers=2 if quick else 32)
    with sink("--rate", str(CAP), "--delay", str(DELAY)) as port:
        runs = {name: run_client(name, f"http://127.0.0.1:{port}", 16, [model]) for name in ("shards", "one file")}
    faster = runs["shards"]["mb_per_second"] / runs["one file"]["mb_per_second"]
    return {"bytes": model.stat().st_size, "clients": runs, "times_faster": round(faster, 1)}


def measure_memory(folder: Path, quick: bool) -> dict[str, object]:
    """Peak memory over the idle import with 16 streams: a 64 GiB sparse model, and 10,000 small files."""
    model = make_model(folder / "model", layers=8 if quick else 1024, sparse=True)
    small = [folder / f"small-{number:05}" for number in range(1_000 if quick else 10_000)]
    for file in small:
        file.write_bytes(b"x" * 4096)
    with sink() as port:
        url = f"http://127.0.0.1:{port}"
        runs = {
            f"{model.stat().st_size / 2**30:.0f} GiB sparse": run_client("shards", url, 16, [model]),
            f"{len(small)} files": run_client("mlflow-fireworks", url, 16, small),
        }
    return {"clients": runs}


def make_model(folder: Path, layers: int, *, sparse: bool = False) -> Path:
    """A Llama checkpoint with one weights file of 64 MiB for each layer; gives that file."""
    sys.path.insert(0, str(HERE.parent))
    from support.checkpoints import llama_config, make_tokenizer, write_json

    make_tokenizer(folder)
    write_json(folder / "config.json", llama_config(hidden=4096, layers=layers))
    size = 64 * MIB
    header = json.dumps(
        {
            f"model.layers.{number}.mlp.up_proj.weight": {
                "dtype": "F16", "shape": [8192, 4096], "data_offsets": [number * size, (number + 1) * size],
            }
            for number in range(layers)
        }
    ).encode()  # fmt: skip
    header += b" " * (-len(header) % 8)
    weights = folder / "model.safetensors"
    with weights.open("wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        if sparse:
            out.truncate(8 + len(header) + layers * size)
        else:
            block = os.urandom(MIB)
            for _ in range(layers * size // MIB):
                out.write(block)
    return weights


def draw(results: dict[str, dict[str, object]], file: Path) -> None:
    """One panel for each benchmark: throughput of every client."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(results), 3.2))
    panels = figure.subplots(1, len(results), squeeze=False)
    for panel, (title, result) in zip(panels[0], results.items(), strict=True):
        clients = result["clients"]
        bars = panel.barh(list(clients), [client["mb_per_second"] for client in clients.values()])
        panel.bar_label(bars, fmt="%.0f")
        panel.set(title=title, xlabel="MB/s")
        panel.margins(x=0.18)
    figure.tight_layout()
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small files and few rounds: does it run at all")
    parser.add_argument("--only", help="one benchmark by name")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the results")
    options = parser.parse_args()
    benchmarks = {
        "loopback-http": lambda folder: measure_loopback(folder, options.quick, secure=False),
        "loopback-https": lambda folder: measure_loopback(folder, options.quick, secure=True),
        "distant": lambda folder: measure_distant(folder, options.quick),
        "one-file": lambda folder: measure_one_file(folder, options.quick),
        "memory": lambda folder: measure_memory(folder, options.quick),
    }
    shared = Path("/dev/shm")
    results = {}
    for name, benchmark in benchmarks.items():
        if options.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
            certificate = str(make_certificate(Path(folder)))
            os.environ |= {"SSL_CERT_FILE": certificate, "REQUESTS_CA_BUNDLE": certificate}
            results[name] = benchmark(Path(folder))
        print(json.dumps({name: results[name]}, indent=2), flush=True)
    write_report(options.out / "benchmarks.json", results)
    draw(results, options.out / "benchmarks.svg")


if __name__ == "__main__":
    main()
