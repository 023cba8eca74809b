"""The ways in which an emulator behaves where Fireworks is uncertain.

A way is chosen by a word: ``FACT=WAY``, or the name of a profile, which is several of them. Ways that only hold for a
while last for three polls of the same resource; ``FACT=WAY:5`` makes it five, and ``FACT=WAY:180s`` 180 seconds of the
emulator's clock.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from mlflow_fireworks.emulator.facts import FACTS, PROFILES

POLLS = 3
"""How many polls a passing way lasts unless told otherwise."""

_CHOICE = re.compile(r"(?P<fact>[^=:]+)=(?P<way>[^=:]+)(?::(?P<count>[0-9]{1,6})(?P<seconds>s)?)?")
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
