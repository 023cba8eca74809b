"""What is not known for certain about Fireworks, and each way in which the emulator can behave there.

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
        "what the first validateUpload calls after a good upload answer",
        {
            "complete": "the result of validation",
            "not-found": '400, code 3, "config.json not found" (of an adapter, adapter_config.json)',
            "answer-lost": "504 and 524, although the call was carried out",
            "precondition-412": '"not yet" (code 9), under HTTP 412 instead of 400',
        },
        "public clients retry each of them; nobody has documented when they occur",
        frozenset({"not-found", "answer-lost", "precondition-412"}),
    ),
    Fact(
        "unknown-fields",
        "JSON fields and query parameters that the service does not know",
        {"refused": "400, code 3", "ignored": "left out"},
        "protojson refuses them by default; not seen for models",
    ),
    Fact(
        "names",
        "subdirectories in the names of uploaded files",
        {
            "kept": "1_Pooling/config.json is stored under that name",
            "flattened": "it is stored as config.json; the file that is sent last wins",
        },
        "datasets keep base names only; a public tutorial uploaded a subdirectory that passed validation",
    ),
    Fact(
        "second-signing",
        "getUploadEndpoint, called again for a model whose URLs have been signed",
        {
            "accepted": "new URLs",
            "refused-409": "409, code 6, already exists",
            "refused-405": "405, as seen of a dataset",
            "refused-400": "400, code 9",
        },
        "the documentation says that the call may answer ALREADY_EXISTS, not when",
    ),
    Fact(
        "landed-files",
        "files that have landed, when URLs are signed again",
        {"kept": "they count", "forgotten": "they are gone and must be sent again"},
        "for datasets the new set of names replaces the old one; for models it is not known",
    ),
    Fact(
        "url-life",
        "how long a signed URL can be used",
        {"60m": "an hour", "15m": "15 minutes"},
        "an hour is known of datasets; 15 minutes is what Cloud Storage's own samples use",
    ),
    Fact(
        "routing",
        "what inference answers at first once a deployment is READY",
        {
            "at-once": "the model's answer",
            "503-first": "a plain 503, while replicaStats shows no ready replica",
            "404-first": "404, not found or not deployed; of a newly loaded adapter, too",
        },
        "both were observed for minutes; how often is not known",
        frozenset({"503-first", "404-first"}),
    ),
    Fact(
        "routers",
        "the calls for routers",
        {
            "offered": "work",
            "absent-404": "404, as a service answers that does not have them",
            "absent-501": "501",
        },
        "documented in 2026; the official SDK does not have them",
    ),
    Fact(
        "router-changes",
        "where requests to a router go once it points elsewhere",
        {
            "at-once": "there",
            "slow": "for a while still to where it pointed before; of a new one, 404",
        },
        "the documentation does not say how long a change takes",
        frozenset({"slow"}),
    ),
    Fact(
        "router-sleep",
        "a request to a router whose deployments are scaled to zero",
        {"ends": "503 of a deployment that wakes up", "lasts": "a plain 503, and nothing wakes up"},
        "the documentation does not say whether a router wakes what it points to",
    ),
    Fact(
        "auto-routers",
        "the routers that Fireworks itself makes for deployments",
        {"hidden": "cannot be seen", "listed": "have the deployment's id, and cannot be changed"},
        "documented as autoGenerated; of which deployments, and under which ids, is not",
    ),
    Fact(
        "answering-deployment",
        "whether an answer says which deployment it comes from",
        {"told": "in the header fireworks-deployment", "untold": "nowhere"},
        "a test in Fireworks' training SDK and two public proxies name the header; no documentation does",
    ),
    Fact(
        "shapes",
        "a deployment shape that is not validated for the model",
        {"kept": "refused", "dropped": "dropped without a word; the deployment has no shape, and takes no addons"},
        "the shape FAQ says dropped; refused is the stricter guess",
    ),
    Fact(
        "quota-status",
        "HTTP status of a refusal for want of GPU quota",
        {"429": "429, code 8", "403": "403, code 7"},
        "the text was observed without its status; training quotas answer 403",
    ),
    Fact(
        "states",
        "states of a model between UPLOADING and READY",
        {
            "plain": "none",
            "preparing": "PREPARING for a while",
            "failed": "FAILED, for good",
        },
        "the documentation mentions both, no schema has them",
        frozenset({"preparing"}),
    ),
    Fact(
        "adapter-files",
        "fireworks.json among the files of an adapter",
        {"strict": '400, code 3, "unexpected file"', "fireworks-json": "taken"},
        "documented as allowed; a production client leaves it out because of the refusal",
    ),
    Fact(
        "quantized",
        "a checkpoint whose config.json has a quantization_config",
        {"refused": "400, code 3", "accepted": "taken"},
        "the documentation refuses it; Fireworks' own fireworks-prequant writes such checkpoints",
    ),
    Fact(
        "many-files",
        "a model of more than 37 files",
        {"accepted": "taken", "refused": '400, code 3, "etcdserver: request is too large"'},
        "seen once with about 37 files, weeks later 37 files were taken",
    ),
    Fact(
        "name-filters",
        'a list of models with a filter for the beginning of their names, such as `name="…/chat*"`',
        {
            "heeded": "those whose names begin so",
            "literal": "those with a star in their name, so none",
            "ignored": "all models",
            "refused": "400, code 3",
        },
        "lists take a filter in the grammar of google.aip.dev/160; for names of models it was not seen",
    ),
    Fact(
        "embeddings",
        "an embedding model on hardware that is not meant for one",
        {
            "guarded": "refused",
            "silent": "deployed, and its vectors are wrong: the same for every text",
        },
        "a tutorial and the cookbook say silent; guarded is what a user would want",
    ),
    Fact(
        "projections",
        "a projection (Dense) among the modules of an embedding model",
        {"applied": "vectors have its length", "left-out": "they have the transformer's"},
        "no documentation says which modules of sentence-transformers are run",
    ),
    Fact(
        "account",
        "the state of every account",
        {
            "active": "in good standing",
            "suspended": "412 for inference and changes, and a suspendState",
            "zero-data-retention": "403 for custom models",
            "other-region": "403 for everything but whose key it is",
        },
        "documented but for other-region, a guess; the codes of the last two refusals are not stated",
    ),
    Fact(
        "bare-model",
        "inference that names a model without #deployment",
        {"refused": "404", "routed": "its default deployment answers"},
        "reports differ; Fireworks' own notebook warns of the 404",
    ),
    Fact(
        "chunked-uploads",
        "a PUT to a signed URL with Transfer-Encoding: chunked",
        {"dropped": "200, and nothing is stored", "stored": "taken"},
        "a production client reports the former; Fireworks' own old client sends it",
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
            raise ValueError(f"{fact.name}={match['way']} holds for good and takes no length")
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
