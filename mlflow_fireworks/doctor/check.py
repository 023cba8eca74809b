"""What was looked at, and what was seen."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.redaction import brief


class Verdict(str, Enum):
    """How it is."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        subject: What it is about: `API key`.
        verdict: How it is.
        text: What was seen, in one line; of a problem, also what to do.
        command: The command that goes on from there, if there is one.
    """

    subject: str
    verdict: Verdict
    text: str
    command: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self) | {"verdict": self.verdict.value}


def ok(subject: str, text: str) -> Check:
    """Nothing to do."""
    return Check(subject, Verdict.OK, text)


def note(subject: str, text: str, command: str | None = None) -> Check:
    """Worth knowing, and nothing that keeps anything from working."""
    return Check(subject, Verdict.NOTE, text, command)


def problem(subject: str, text: str, command: str | None = None) -> Check:
    """Something does not work."""
    return Check(subject, Verdict.PROBLEM, text, command)


def look(subject: str, question: Callable[[], Check]) -> Check:
    """Ask a question; an error is a problem with the error's own words.

    Args:
        subject: What it is about.
        question: Looks.
    """
    (found,) = look_through(subject, lambda: [question()])
    return found


def look_through(subject: str, questions: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Ask several questions; an error ends them, as of `look`.

    Args:
        subject: What they are about.
        questions: Look.
    """
    try:
        yield from questions()
    except Exception as error:  # noqa: BLE001 - whoever asks what is wrong is told that, and no traceback
        yield problem(subject, error.message if isinstance(error, FireworksError) else brief(error))
