"""The probe finds out which way the emulator was turned, for every fact that can be seen without GPUs."""

import pytest
from probe.test_probe import probe

from mlflow_fireworks.emulator.behaviours import Behaviours
from mlflow_fireworks.emulator.facts import FACTS, PROFILES

NEEDS_GPUS = {
    *("routing", "bare-model", "router-changes", "router-sleep", "auto-routers", "answering-deployment"),
    "projections",
}
NAMES = {fact.name for fact in FACTS} - NEEDS_GPUS
TOGETHER = {word for words in PROFILES.values() for word in words}
APART = [
    f"{fact.name}={way}"
    for fact in FACTS
    for way in fact.ways
    if fact.name in NAMES and way != fact.default and f"{fact.name}={way}" not in TOGETHER
]
# What cannot be known when something else is so.
HIDDEN = {
    "strict": {"landed-files"},  # signed once, since signing again is refused
    "second-signing=refused-405": {"landed-files"},
    "second-signing=refused-400": {"landed-files"},
    "account=suspended": NAMES - {"account"},
    "account=zero-data-retention": NAMES - {"account"},
    "account=other-region": NAMES - {"account"},
    "states=failed": NAMES - {"states"},
}


@pytest.mark.parametrize("word", [*PROFILES, "landed-files=forgotten", *APART])
def test_the_way_is_found(make_world, word):
    world = make_world(behaviours=(word,))
    found, turned = probe(world).ways, Behaviours((word,)).ways()
    assert found.items() <= turned.items()
    assert NAMES - set(found) <= HIDDEN.get(word, set())
    assert world.left() == []


def test_every_fact_is_found_when_nothing_is_turned(make_world):
    assert set(probe(make_world()).ways) == NAMES
