"""A point that is uncertain: the question, how it is asked, and what came out."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mlflow_fireworks.probe.session import Session


@dataclass(frozen=True)
class Finding:
    """What came out.

    Args:
        text: In a few words.
        ways: Which way it is, by the names of facts and ways of `mlflow-fireworks emulator --behaviour FACT=WAY`.
    """

    text: str
    ways: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """One row of the table of questions.

    Args:
        name: A word or two, for the report.
        question: What is uncertain.
        how: Which calls settle it.
        ask: Makes them. Raises NotAskedError when an earlier point did not lay the ground for it.
    """

    name: str
    question: str
    how: str
    ask: Callable[[Session], Finding]
