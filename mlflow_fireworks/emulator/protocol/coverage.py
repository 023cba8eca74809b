"""Generates COVERAGE.md: every endpoint, whether it is emulated, where the knowledge comes from, how sure it is.

Run ``python -m mlflow_fireworks.emulator.protocol.coverage`` after changing the route table; a test compares the file.
"""

from __future__ import annotations

import re
from pathlib import Path

from mlflow_fireworks.emulator.facts import FACTS
from mlflow_fireworks.emulator.protocol.routes import INFERENCE, ROUTES, STORAGE_OPERATIONS

FILE = Path(__file__).parents[1] / "COVERAGE.md"

_BOTH_WAYS = re.compile(r"\n## Both ways\n.*<!-- end of both ways -->\n", re.DOTALL)
_PARTIAL = {
    "import_model": "no bucket is read; the operation just takes time",
    "get_operation": "operations of imports only",
    "prepare_model": "the precision appears; nothing is quantized",
    "get_download_endpoint": "small files only",
    "validate_upload": "no tokenizer is loaded; tensor names and shapes of six architectures",
    "validate_model_config": "the same checks of config.json as in validateUpload",
    "update_quota": "within the documented defaults",
    "create_secret": "the value is neither kept nor used",
    "set_deployment_tags": "the body's field names are a guess",
    "delete_deployment_tags": "the body's field names are a guess",
}
_STORAGE = {
    "put_object": ("V4 signature, exact length range, expiry, hashes", "observed"),
    "start_resumable": ("session start; which headers Fireworks signs is not public", "inferred"),
    "put_chunk": ("chunks of 256 KiB, 308 with Range, probes, expiry after a week", "documented"),
    "cancel_resumable": ("499", "documented"),
    "get_object": ("small files", "documented"),
}
_ABSENT = (
    ("GET", "/v1/accounts/{account}/deployments/{deployment}:metrics", "no traffic worth measuring"),
    ("GET", "/v1/accounts/{account}/deployments/{deployment}/terminationMessage", "no replicas that could terminate"),
    ("GET", "/v1/accounts/{account}/deployments/{deployment}/shards", "no shards"),
    ("POST", "/v1/accounts/{account}/models/{model}/versions", "model versions are not used by this project"),
    ("*", "/v1/accounts/{account}/datasets, fine-tuning jobs, evaluators, batch jobs, users", "out of scope"),
)
_HEAD = """# What the local Fireworks emulates

Generated from the route table by `python -m mlflow_fireworks.emulator.protocol.coverage`. Everything that is not
listed as emulated is refused (404, or 501 for a known path under another method) and recorded in `failures`.

*Observed*: responses of the live service have been quoted publicly. *Documented*: described by Fireworks' or Google's
documentation. *Schema*: fields and path are public, and the behaviour follows from them. *Inferred*: our best guess.

## Control plane

| call | path | operation | emulated | known from | how sure |
| --- | --- | --- | --- | --- | --- |
"""
_STORAGE_HEAD = """
## Storage

| call | address | operation | what is checked | how sure |
| --- | --- | --- | --- | --- |
"""
_FACTS_HEAD = """
## What is uncertain

Choose each of these with `--behaviour FACT=WAY`; the first way is the default. `strict` and `lenient` choose several at
once. Ways marked with * last for three polls of the same resource unless a length is given.

| fact | question | ways | why uncertain |
| --- | --- | --- | --- |
"""
_DATA_HEAD = """
## Data plane

Only the routing rules are emulated: which `model` strings reach which deployment, and the 404, 412 and 503 for the
rest. Answers are placeholders that say so, unless `--answer` runs the model.

| call | path | operation |
| --- | --- | --- |
"""


def table() -> str:
    """The complete document."""
    lines = [_HEAD]
    for route in ROUTES:
        how = f"in part: {_PARTIAL[route.operation]}" if route.operation in _PARTIAL else "yes"
        lines.append(
            f"| {route.method} | `{route.pattern}` | `{route.operation}` | {how} | {route.source} | {route.sure} |\n"
        )
    lines += [f"| {method} | `{path}` | | no: {why} | | |\n" for method, path, why in _ABSENT]
    lines.append(_STORAGE_HEAD)
    for (method, session), name in STORAGE_OPERATIONS.items():
        what, sure = _STORAGE[name]
        lines.append(f"| {method} | {'session URI' if session else 'signed URL'} | `{name}` | {what} | {sure} |\n")
    lines.append(_DATA_HEAD)
    lines += [f"| POST | `{path}` | `{operation}` |\n" for path, operation in INFERENCE.items()]
    lines.append(_FACTS_HEAD)
    for fact in FACTS:
        ways = "<br>".join(
            f"`{way}`{'*' if way in fact.passing else ''}: {meaning}" for way, meaning in fact.ways.items()
        )
        lines.append(f"| `{fact.name}` | {fact.about} | {ways} | {fact.source} |\n")
    return "".join([*lines, _both_ways()])


def _both_ways() -> str:
    """The part that is written by a test of the client, of which nothing is known here: kept as it is."""
    found = _BOTH_WAYS.search(FILE.read_text(encoding="utf-8"))
    return found[0] if found else ""


if __name__ == "__main__":
    FILE.write_text(table(), encoding="utf-8")
