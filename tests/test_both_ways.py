"""What is uncertain about Fireworks, turned each way, against every job: READY, or one line that says the next step.

`python tests/test_both_ways.py` writes what each of them ends in into the emulator's COVERAGE.md.
"""

import atexit
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.advice import can_run, find_commands, parse
from support.checkpoints import edit_json, make_adapter, make_embedder, make_llama, write_json
from support.crowd import crowd
from support.source_world import Remembers

import mlflow_fireworks.emulator
from mlflow_fireworks.commands import Commands
from mlflow_fireworks.deployments import Deployments
from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.emulator.facts import FACTS
from mlflow_fireworks.endpoint_config import parse_both, parse_endpoint_config
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry
from mlflow_fireworks.names import DeploymentName, EndpointName
from mlflow_fireworks.option_values import write_options
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving import endpoints
from mlflow_fireworks.waiting import Waiter

COVERAGE = Path(mlflow_fireworks.emulator.__file__).with_name("COVERAGE.md")
SECTION = re.compile(r"\n## Both ways\n.*<!-- end of both ways -->\n", re.DOTALL)
HEAD = """
## Both ways

How the plugin's jobs end with each `--behaviour FACT=WAY`: *create* a model; *resume* an interrupted upload; *update*
an endpoint to new content without downtime; put an *adapter* on an endpoint of its base model; create an *embedding*
model and an endpoint for it. *After 2 tries*: the first one failed with a one-line error, and the command in it led to
READY. Written by `python tests/test_both_ways.py`.

"""
END = "<!-- end of both ways -->\n"
WAYS = {fact.name: tuple(fact.ways) for fact in FACTS}
JOBS = ("create", "resume", "update", "adapter", "embedding")
CELLS = [(fact, way, job) for fact, ways in WAYS.items() for way in ways for job in JOBS]

BASE = "accounts/fireworks/models/llama-v3p1-8b-instruct"
QUIET = {"verify_hugging_face": "false", "max_workers": "1", "registry_tags": "false"}
QUICK = Retry(attempts=3, wait_initial=0.001, wait_max=0.002)
MORNING = 1_790_000_000.0
# Facts that show only in an upload that takes longer than URLs are wont to be used; all of it begins within the hour.
SLOW = {"url-life", "second-signing", "landed-files"}
SLOW_SECONDS = 58 * 60.0
MOST_TRIES = 3
_AGAIN = re.compile(r"same command again|run it again|try again")
_OPTION = re.compile(r"-C (\w+)=(\w+)")


class Line(Remembers):
    """A reporter, on whose line bytes take their time.

    It passes when the client next looks at its clock: in the middle of a request, what the server sees would be chance.
    """

    def __init__(self, seconds_per_byte):
        super().__init__()
        self.passed = 0.0
        self._seconds_per_byte = seconds_per_byte

    def bytes_moved(self, count):
        self.passed += max(count, 0) * self._seconds_per_byte


class Site:
    """An account, and the machine that deploys to it; both live by one clock, and waiting costs nothing."""

    def __init__(self, folder, seconds_per_byte=0.0, **behaviours):
        self.folder = folder
        self.seconds_per_byte = seconds_per_byte
        self.clock = [MORNING]
        self.told = []
        self.emulator = Emulator(folder / "fireworks", clock=lambda: self.clock[0], behaviours=behaviours)

    def __enter__(self):
        self.emulator.start()
        return self

    def __exit__(self, *_):
        self.emulator.stop()

    def sleep(self, seconds):
        self.clock[0] += seconds

    @contextmanager
    def opened(self, options, endpoint=None):
        """A new client, as each command is one."""
        config, endpoint_config = parse_both(QUIET | options, endpoint)
        line = Line(self.seconds_per_byte)

        def clock():
            self.clock[0] += line.passed
            line.passed = 0.0
            return self.clock[0]

        with Gateway(self.emulator.url, SecretStr("fw_key"), "acme", retry=QUICK, tell=line.note) as gateway:
            commands = Commands("fireworks", write_options(config), write_options(endpoint_config), endpoint)
            run = Run(
                gateway,
                commands,
                line,
                Waiter(line, clock, self.sleep),
                self.folder / "state",
                config,
                endpoint_config,
                retry=QUICK,
                now=lambda: datetime.fromtimestamp(clock(), timezone.utc),
            )
            try:
                yield Deployments(run)
            finally:
                self.told += [*line.notes, *line.warnings]

    def do(self, words):
        """Carry out one command that a user would type."""
        endpoint = EndpointName(words.endpoint) if words.endpoint else None
        with self.opened(dict(words.options), endpoint) as deployments:
            name = DeploymentName(words.name)
            if words.verb == "create":
                return deployments.create(name, words.model, None, endpoint)
            return deployments.update(name, words.model, None, endpoint)

    def make_endpoint(self, name, **options):
        with self.opened({}) as deployments:
            run = Run(**{**deployments.run.__dict__, "endpoint_config": parse_endpoint_config(options)})
            endpoints.create_endpoint(run, EndpointName(name))

    def use_up_quota(self):
        """Lower the quota of GPUs to what is in use."""
        with self.opened({}) as deployments:
            send, path = deployments.run.gateway.transport.send, "/v1/accounts/acme/quotas/global--h100-count"
            send("PATCH", path, "the quota", {"value": int(send("GET", path, "the quota").json()["usage"])})

    def predict(self, endpoint):
        with self.opened({}) as deployments:
            return deployments.predict(None, ["one", "another"], EndpointName(endpoint)).to_dict()

    def sent_again(self):
        """The sizes of the files that storage took a second time, and the largest size of all."""
        seen, again, largest = set(), [], 0
        for call in self.emulator.calls("put_object"):
            if call.status == 200:
                again += [call.received] if call.path in seen else []
                largest = max(largest, call.received)
                seen.add(call.path)
        return again, largest


@dataclass(frozen=True)
class Words:
    """A command of `mlflow deployments`."""

    verb: str
    name: str
    model: str | None = None
    endpoint: str | None = None
    options: tuple[tuple[str, str], ...] = field(default=())


def read(command):
    """A command out of a message; None for one that a user would not follow to get READY."""
    name, parameters = parse(command)
    if name not in ("create", "update") or not command.startswith("mlflow deployments") or not can_run(command):
        return None
    pairs = tuple(tuple(pair.split("=", 1)) for pair in parameters["config"])
    return Words(name, parameters["name"], parameters["model_uri"], parameters["endpoint"], pairs)


def make_folder(prefix):
    """One that lasts as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def models():
    """The checkpoints, made once."""
    folder = make_folder("both-ways-")
    adapter = make_adapter(folder / "adapter")
    write_json(adapter / "fireworks.json", {"defaults": {"temperature": 0.5}})
    quantized = make_llama(folder / "quantized")
    edit_json(quantized / "config.json", quantization_config={"quant_method": "fp8", "fmt": "e4m3"})
    return {
        "first": str(make_llama(folder / "first", shards=4)),
        "second": str(make_llama(folder / "second", shards=4, seed=2)),
        "many": str(make_llama(folder / "many", shards=45, layers=6)),
        "quantized": str(quantized),
        "adapter": str(adapter),
        "embedder": str(make_embedder(folder / "embedder")),
        "projected": str(make_embedder(folder / "projected", projection=8)),
    }


def content_of(fact, job):
    if job == "adapter":
        return models()["adapter"]
    if job == "embedding":
        return models()["projected" if fact == "projections" else "embedder"]
    return models().get({"many-files": "many", "quantized": "quantized"}.get(fact, "second"))


@cache
def before(job, *, crowded=False):
    """The folder of an account as it is before a job, made while nothing is uncertain; crowded: of 500 other models."""
    folder = make_folder(f"before-{job}-")
    with Site(folder) as site:
        if crowded:
            site.do(Words("create", "stranger", models()["first"]))
            crowd(folder / "fireworks", "stranger", 500)
        if job == "update":
            site.do(Words("create", "chat", models()["first"], "prod"))
        elif job == "adapter":
            site.make_endpoint("prod", model=BASE, enable_addons="true")
    return folder


def first_words(job, model):
    endpoint = None if job in ("create", "resume") else "prod"
    return Words("update" if job == "update" else "create", "chat", model, endpoint)


def perform(site, words):
    """Do what a user does who follows the messages; what it ends in."""
    first, tried = words, []
    while True:
        tried.append(words)
        try:
            result = site.do(words)
        except FireworksError as error:
            check_message(error.message)
            is_same = bool(_AGAIN.search(error.message))
            words = next((step for step in next_steps(first, error.message) if is_same or step not in tried), None)
            if words is None or len(tried) == MOST_TRIES:
                return f"refused: {shorten(error.message)}"
            site.clock[0] += 300
            continue
        assert result["state"] == "READY", result
        assert result["revision"] == (2 if first.verb == "update" else 1), "READY is the model of before"
        return "READY" if len(tried) == 1 else f"READY after {len(tried)} tries"


def next_steps(first, text):
    """What a message says to do: its commands, the same command again, or the same one with an option."""
    found = [words for words in map(read, find_commands(text)) if words]
    if not found and _AGAIN.search(text):
        found.append(first)
    if not found:
        found += [replace(first, options=(*first.options, pair)) for pair in _OPTION.findall(text)]
    return found


def check_message(text):
    assert "\n" not in text, text
    assert len(text) < 900, text


def shorten(text):
    """What happened, in the first words of a message."""
    words = re.sub(r"127\.0\.0\.1:\d+", "HOST", text).replace("|", "/")
    words = re.sub(r"both-ways-\w+", "TMP", words)
    return words if len(words) <= 120 else words[:120].rsplit(" ", 1)[0] + " …"


def run_cell(fact, way, job):
    turned = None if way == WAYS[fact][0] else (fact, way)
    slow = fact in SLOW and job in ("create", "resume", "update")
    special = {"scarce": fact == "quota-status", "crowded": fact == "name-filters"}
    return run(turned, job, content_of(fact, job), SLOW_SECONDS if slow else 0.0, **special)


@cache
def run(turned, job, model, seconds, *, scarce, crowded):
    """What a job ends in; the ways that are the emulator's own are one and the same run."""
    folder = Path(tempfile.mkdtemp(prefix="cell-"))
    try:
        shutil.copytree(before(job, crowded=crowded), folder, dirs_exist_ok=True)
        size = sum(path.stat().st_size for path in Path(model).rglob("*") if path.is_file())
        with Site(folder, seconds / size, **dict([turned] if turned else [])) as site:
            if scarce:
                site.use_up_quota()
            return play(site, job, first_words(job, model))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def play(site, job, words):
    if job == "resume":
        third = 0 if (Path(words.model) / "model.safetensors").exists() else 2
        cut = {"after_bytes": 500, "drop": "reset", "times": QUICK.attempts, "skip": third}
        site.emulator.fault("put_object", path_contains="/model", **cut)
        with suppress(FireworksError):
            site.do(words)
        site.emulator.clear_faults()
    outcome = perform(site, words)
    again, largest = site.sent_again()
    if sum(again) > largest:  # how many depends on the course of time
        assert site.emulator._options.behaviours.has("landed-files", "forgotten"), again
        outcome += ", files sent again"
    elif again:  # not the file that was cut off, which storage had not taken
        outcome += f", {len(again)} {'file' if len(again) == 1 else 'files'} sent again"
    return outcome


def recorded():
    """The outcomes that COVERAGE.md tells, by fact, way and job."""
    section = SECTION.search(COVERAGE.read_text(encoding="utf-8"))
    rows = [line.strip("| ").split(" | ") for line in section[0].splitlines() if line.startswith("| `")]
    return {
        (fact.strip("`"), way.strip("`"), job): outcome
        for fact, way, *outcomes in rows
        for job, outcome in zip(JOBS, outcomes, strict=True)
    }


def write_section():
    lines = [f"| fact | way | {' | '.join(JOBS)} |\n", "| --- " * (2 + len(JOBS)) + "|\n"]
    for fact, ways in WAYS.items():
        for way in ways:
            outcomes = " | ".join(run_cell(fact, way, job) for job in JOBS)
            lines.append(f"| `{fact}` | `{way}` | {outcomes} |\n")
    text = COVERAGE.read_text(encoding="utf-8")
    section = "".join([HEAD, *lines, END])
    COVERAGE.write_text(SECTION.sub("", text) + section, encoding="utf-8")


def test_the_table_is_about_every_way():
    assert list(recorded()) == CELLS, "run: python tests/test_both_ways.py"


@pytest.mark.slow
@pytest.mark.parametrize(("fact", "way", "job"), CELLS)
def test_a_job_ends_in_ready_or_in_one_line_that_says_what_to_do(fact, way, job):
    outcome = run_cell(fact, way, job)
    assert outcome == recorded()[fact, way, job], "if that is right, run: python tests/test_both_ways.py"


if __name__ == "__main__":
    write_section()
