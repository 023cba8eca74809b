"""1,000 signed deliveries in a burst to `mlflow-fireworks hooks serve`: how long each waits for its answer.

    python tests/benchmarks/burst.py [DELIVERIES] [SENDERS]

MLflow sends from a pool of ten threads a process (MLFLOW_WEBHOOK_DELIVERY_MAX_WORKERS), and its server has four
processes unless told otherwise. MLFLOW_FIREWORKS_QUEUE=redis://… measures another queue. Each delivery is about another
deployment, so that none is dropped as superseded; the receiver has no workers of its own, as where several machines
share a Redis.
"""

import gc
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.hooks_world import SECRET, Hooks


def main(deliveries=1000, senders=10):
    gc.freeze()  # looking through all that MLflow has loaded stops the senders for 100 ms
    gc.disable()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "hooks.yaml").write_text(
            "rules:\n- {name: all, model: chat, alias: '*', deployment: 'd-{alias}', target: 'fireworks://local'}\n"
        )
        environ = os.environ | {"MLFLOW_FIREWORKS_WEBHOOK_SECRET": SECRET, "MLFLOW_FIREWORKS_HOME": folder}
        hooks = Hooks(Path(folder), environ)
        hooks.start("--workers", "0", "--reconcile-every", "0", "--max-queue", "100000")
        try:
            measure(hooks, deliveries, senders)
        finally:
            hooks.close()


def measure(hooks, deliveries, senders):
    def send(number):
        data = {"name": "chat", "alias": f"a{number}", "version": "1"}
        body = json.dumps({"entity": "model_version_alias", "action": "created", "data": data}).encode()
        began = time.perf_counter()
        status = hooks.deliver(body, delivery_id=f"d-{number}").status_code
        return status, time.perf_counter() - began

    began = time.perf_counter()
    with ThreadPoolExecutor(senders) as pool:
        answers = list(pool.map(send, range(deliveries)))
    seconds = time.perf_counter() - began
    times = sorted(taken * 1000 for _, taken in answers)
    statuses = {status: sum(1 for found, _ in answers if found == status) for status, _ in answers}
    written = len(json.loads(hooks.command("jobs", "--json").stdout))
    print(f"{deliveries} deliveries from {senders} senders in {seconds:.2f} s; answers {statuses}; jobs {written}")
    print(f"ms: median {statistics.median(times):.1f}, p99 {times[int(0.99 * len(times))]:.1f}, max {times[-1]:.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
