"""What is uncertain about Fireworks, and each way in which the emulator can behave there.

`FACTS` is the table from which options, help and COVERAGE.md are made. A way is chosen by a word: ``FACT=WAY``, or the
name of a profile, which is several of them. Ways that only hold for a while last for three polls of the same
resource; ``FACT=WAY:5`` makes it five, and ``FACT=WAY:180s`` 180 seconds of the emulator's clock.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

POLLS = 3
"""How many polls a passing way lasts unless told otherwise."""

_CHOICE = re.compile(r"(?P<fact>[^=:]+)=(?P<way>[^=:]+)(?::(?P<count>[0-9]{1,6})(?P<seconds>s)?)?")


@dataclass(frozen=True)
class Fact:
    """Something about Fireworks that is uncertain.

    Attributes:
        name: How it is called in ``FACT=WAY``.
        about: What the question is.
        ways: The answers and what each means; the first is the default.
        source: Where both ways are known from, or why it is uncertain.
        passing: The ways that only hold for a while and may therefore be given with a length.
    """

    name: str
    about: str
    ways: Mapping[str, str]
    source: str
    passing: frozenset[str] = field(default_factory=frozenset)

    @property
    def default(self) -> str:
        """The way of an emulator that was told nothing."""
        return next(iter(self.ways))


FACTS: tuple[Fact, ...] = (
    Fact(
        "validation",
        "what the first validateUpload calls after a complete upload return",
        {
            "complete": "the result of validation",
            "not-found": '400, code 3, "config.json not found" (of an adapter, adapter_config.json)',
            "answer-lost": "504 and 524, although the call takes effect",
            "precondition-412": '"not yet" (code 9), under HTTP 412 instead of 400',
        },
        "public clients retry each of these; when they occur is not documented",
        frozenset({"not-found", "answer-lost", "precondition-412"}),
    ),
    Fact(
        "unknown-fields",
        "unknown JSON fields and query parameters",
        {"refused": "400, code 3", "ignored": "ignored"},
        "protojson refuses them by default; not observed for models",
    ),
    Fact(
        "names",
        "subdirectories in the names of uploaded files",
        {
            "kept": "1_Pooling/config.json is stored under that name",
            "flattened": "it is stored as config.json; the file uploaded last wins",
        },
        "datasets keep base names only; a public tutorial uploads a subdirectory, and it passes validation",
    ),
    Fact(
        "second-signing",
        "calling getUploadEndpoint again for the same model",
        {
            "accepted": "new URLs",
            "refused-409": "409, code 6, already exists",
            "refused-405": "405, as observed for a dataset",
            "refused-400": "400, code 9",
        },
        "the documentation says that the call may return ALREADY_EXISTS, but not when",
    ),
    Fact(
        "landed-files",
        "files already uploaded when URLs are signed again",
        {"kept": "they still count", "forgotten": "they are dropped and must be uploaded again"},
        "for datasets the new set of names replaces the old one; for models it is unknown",
    ),
    Fact(
        "url-life",
        "lifetime of a signed URL",
        {"60m": "an hour", "15m": "15 minutes"},
        "an hour is known for datasets; 15 minutes is what Cloud Storage's own samples use",
    ),
    Fact(
        "routing",
        "what inference first returns once a deployment is READY",
        {
            "at-once": "the model's answer",
            "503-first": "a plain 503, while replicaStats shows no ready replica",
            "404-first": "404, not found or not deployed; also for a newly loaded adapter",
        },
        "both were observed for minutes; how often they occur is unknown",
        frozenset({"503-first", "404-first"}),
    ),
    Fact(
        "routers",
        "the API calls for routers",
        {
            "offered": "they work",
            "absent-404": "404, as from a service that does not have them",
            "absent-501": "501",
        },
        "documented in 2026, but missing from the official SDK",
    ),
    Fact(
        "router-changes",
        "where requests to a router go after it was pointed elsewhere",
        {
            "at-once": "to the new target",
            "slow": "for a while still to the previous target; for a new router, 404",
        },
        "the documentation does not say how long a change takes",
        frozenset({"slow"}),
    ),
    Fact(
        "router-sleep",
        "a request to a router whose deployments are scaled to zero",
        {"ends": "503 while the deployment scales up", "lasts": "a plain 503, and nothing scales up"},
        "the documentation does not say whether a request to a router scales up its targets",
    ),
    Fact(
        "auto-routers",
        "routers that Fireworks itself creates for deployments",
        {"hidden": "not visible", "listed": "listed under the deployment's id; they cannot be changed"},
        "documented as autoGenerated, but not for which deployments and under which ids",
    ),
    Fact(
        "answering-deployment",
        "whether a response says which deployment it comes from",
        {"told": "yes, in the header fireworks-deployment", "untold": "no"},
        "a test in Fireworks' training SDK and two public proxies name the header; the documentation does not",
    ),
    Fact(
        "shapes",
        "a deployment shape that is not validated for the model",
        {"kept": "refused", "dropped": "silently dropped; the deployment has no shape and accepts no addons"},
        "the shape FAQ says it is dropped; refused is the stricter guess",
    ),
    Fact(
        "quota-status",
        "HTTP status if the GPU quota is exceeded",
        {"429": "429, code 8", "403": "403, code 7"},
        "the text was observed without its status; training quotas return 403",
    ),
    Fact(
        "states",
        "states of a model between UPLOADING and READY",
        {
            "plain": "none",
            "preparing": "PREPARING for a while",
            "failed": "FAILED, permanently",
        },
        "the documentation mentions both, but no schema has them",
        frozenset({"preparing"}),
    ),
    Fact(
        "adapter-files",
        "fireworks.json among the files of an adapter",
        {"strict": '400, code 3, "unexpected file"', "fireworks-json": "accepted"},
        "documented as allowed; a production client omits it because it was refused",
    ),
    Fact(
        "quantized",
        "a checkpoint whose config.json has a quantization_config",
        {"refused": "400, code 3", "accepted": "accepted"},
        "refused according to the documentation; Fireworks' own fireworks-prequant writes such checkpoints",
    ),
    Fact(
        "many-files",
        "a model with more than 37 files",
        {"accepted": "accepted", "refused": '400, code 3, "etcdserver: request is too large"'},
        "observed once with about 37 files; weeks later 37 files were accepted",
    ),
    Fact(
        "name-filters",
        'listing models with a filter for a name prefix, such as `name="…/chat*"`',
        {
            "heeded": "returns those whose names start with it",
            "literal": "returns those with an asterisk in their name, so none",
            "ignored": "returns all models",
            "refused": "400, code 3",
        },
        "lists accept filters in the grammar of google.aip.dev/160; not observed for model names",
    ),
    Fact(
        "embeddings",
        "an embedding model on hardware without an embedding shape",
        {
            "guarded": "refused",
            "silent": "deployed, but its vectors are wrong: the same for every text",
        },
        "according to a tutorial and the cookbook it is deployed; refusing it is what a user would want",
    ),
    Fact(
        "projections",
        "a projection (Dense) among the modules of an embedding model",
        {"applied": "vectors have its dimension", "left-out": "they have the transformer's"},
        "which modules of sentence-transformers are run is not documented",
    ),
    Fact(
        "account",
        "the state of every account",
        {
            "active": "in good standing",
            "suspended": "412 for inference and changes, and a suspendState",
            "zero-data-retention": "403 for custom models",
            "other-region": "403 for everything except verifying the key",
        },
        "documented, except other-region, which is a guess; the codes of the last two are not documented",
    ),
    Fact(
        "bare-model",
        "inference for a model name without #deployment",
        {"refused": "404", "routed": "the model's default deployment answers"},
        "reports differ; Fireworks' own notebook warns about the 404",
    ),
    Fact(
        "chunked-uploads",
        "a PUT to a signed URL with Transfer-Encoding: chunked",
        {"dropped": "200, but nothing is stored", "stored": "stored"},
        "a production client reports that it is dropped; Fireworks' own old client sends it",
    ),
)

PROFILES: Mapping[str, tuple[str, ...]] = {
    "strict": (
        "unknown-fields=refused",
        "names=flattened",
        "second-signing=refused-409",
        "landed-files=forgotten",
        "url-life=15m",
        "shapes=kept",
        "adapter-files=strict",
        "quantized=refused",
        "many-files=refused",
        "embeddings=guarded",
        "bare-model=refused",
        "chunked-uploads=dropped",
    ),
    "lenient": (
        "unknown-fields=ignored",
        "names=kept",
        "second-signing=accepted",
        "landed-files=kept",
        "url-life=60m",
        "shapes=dropped",
        "adapter-files=fireworks-json",
        "quantized=accepted",
        "many-files=accepted",
        "embeddings=silent",
        "bare-model=routed",
        "chunked-uploads=stored",
    ),
}
"""Several choices under one name."""

_BY_NAME = {fact.name: fact for fact in FACTS}


@dataclass(frozen=True)
class _Choice:
    way: str
    polls: int = POLLS
    seconds: int | None = None


class Behaviours:
    """The ways in force. They change while the emulator runs; a change is one assignment, so readers need no lock.

    Args:
        chosen: What it starts with, and goes back to on `reset`: ways by fact, or words as `choose` takes them.

    Raises:
        ValueError: A fact or way does not exist.
    """

    def __init__(self, chosen: Mapping[str, str] | Iterable[str] = ()) -> None:
        if isinstance(chosen, Mapping):
            chosen = [f"{fact}={way}" for fact, way in chosen.items()]
        self._first = tuple(chosen)
        self._chosen: Mapping[str, _Choice] = {}
        self.reset()

    def choose(self, *words: str) -> None:
        """Change some; later words win.

        Args:
            *words: ``FACT=WAY``, ``FACT=WAY:POLLS``, ``FACT=WAY:SECONDSs``, or a profile's name.

        Raises:
            ValueError: A fact or way does not exist; nothing has changed then.
        """
        self._chosen = {**self._chosen, **_read(words)}

    def reset(self) -> None:
        """Back to what it started with."""
        self._chosen = {**{fact.name: _Choice(fact.default) for fact in FACTS}, **_read(self._first)}

    def of(self, fact: str) -> str:
        """The way of a fact."""
        return self._chosen[fact].way

    def has(self, fact: str, *ways: str) -> bool:
        """Whether one of these is the way of a fact."""
        return self.of(fact) in ways

    def ways(self) -> dict[str, str]:
        """The way of every fact."""
        return {fact: choice.way for fact, choice in self._chosen.items()}

    def length(self, fact: str) -> tuple[int, int]:
        """How long a passing way lasts: polls and seconds, one of them zero."""
        choice = self._chosen[fact]
        return (choice.polls, 0) if choice.seconds is None else (0, choice.seconds)

    def lasts(self, fact: str, counted: MutableMapping[str, Any], now: float, since: float) -> bool:
        """Whether a passing way still holds for a resource; counts the poll.

        Args:
            fact: Its way must be a passing one.
            counted: Where the resource keeps how often it was polled; the caller stores it.
            now: Seconds since the epoch.
            since: When the way began to hold.
        """
        choice = self._chosen[fact]
        if choice.seconds is not None:
            return now < since + choice.seconds
        key = f"polls of {fact}"
        counted[key] = counted.get(key, 0) + 1
        return bool(counted[key] <= choice.polls)


def listing() -> str:
    """All facts and ways as plain text, for help and error messages."""
    lines = []
    for fact in FACTS:
        lines.append(f"{fact.name}: {fact.about}")
        lines += [f"  {way}: {meaning}" for way, meaning in fact.ways.items()]
    return "\n".join(lines)


def _read(words: Iterable[str]) -> dict[str, _Choice]:
    found: dict[str, _Choice] = {}
    for word in words:
        if word in PROFILES:
            found.update(_read(PROFILES[word]))
            continue
        match = _CHOICE.fullmatch(word)
        if match is None:
            raise ValueError(_unknown("behaviour", word, [*PROFILES, *(f"{fact}=WAY" for fact in _BY_NAME)]))
        fact = _BY_NAME.get(match["fact"])
        if fact is None:
            raise ValueError(_unknown("fact", match["fact"], _BY_NAME))
        if match["way"] not in fact.ways:
            raise ValueError(_unknown(f"way of {fact.name}", match["way"], fact.ways))
        if match["count"] is None:
            found[fact.name] = _Choice(match["way"])
        elif match["way"] not in fact.passing:
            raise ValueError(f"{fact.name}={match['way']} is not temporary and takes no length")
        elif match["seconds"]:
            found[fact.name] = _Choice(match["way"], seconds=int(match["count"]))
        else:
            found[fact.name] = _Choice(match["way"], polls=int(match["count"]))
    return found


def _unknown(kind: str, word: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"unknown {kind} {word!r}{meant} (known: {', '.join(known)})"
