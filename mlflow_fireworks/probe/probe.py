"""The whole probe: every question in its order, and everything that was made deleted again."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from mlflow_fireworks.errors import DeadlineError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Timeouts
from mlflow_fireworks.local import local_state, local_url
from mlflow_fireworks.probe import about_account, about_files, about_models, about_serving
from mlflow_fireworks.probe.answers import Answer
from mlflow_fireworks.probe.points import Finding, Point
from mlflow_fireworks.probe.session import TRIES, NotAskedError, Session
from mlflow_fireworks.progress import Reporter
from mlflow_fireworks.signals import stopped_by_sigterm
from mlflow_fireworks.target import Target, load_api_key
from mlflow_fireworks.transfer.storage import make_storage_client
from mlflow_fireworks.waiting import Pending, Waiter

POINTS: tuple[Point, ...] = (
    *about_account.POINTS,
    *about_models.MAKING,
    *about_files.SENDING,
    *about_models.CHECKING,
    *about_files.CHECKING,
    *about_serving.POINTS,
    *about_models.ENDING,
)
MOST_MODELS = 13
"""How many models it makes, if the service takes those too that it should refuse."""

_TIMEOUTS = Timeouts(connect=10.0, quiet=30.0, answer=60.0)
_DELETING_SECONDS = 60.0


@dataclass(frozen=True)
class Asked:
    """A question and what came of it.

    Args:
        point: The question.
        finding: In words.
        answers: Every answer on the way, masked.
    """

    point: Point
    finding: Finding
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Result:
    """What a probe found.

    Args:
        asked: The questions in their order; fewer than all when it was interrupted.
        ways: Which way each fact is that could be settled.
        trouble: What had to be tried again, or took too long.
        left: Full names of what could not be deleted.
        interrupted: Whether it was stopped before its end.
    """

    asked: tuple[Asked, ...]
    ways: dict[str, str]
    trouble: tuple[str, ...]
    left: tuple[str, ...]
    interrupted: bool = False


@contextmanager
def open_session(target: Target, reporter: Reporter) -> Iterator[Session]:
    """A probe of an account, which is known to take the key once the block runs.

    Args:
        target: The account.
        reporter: Is told what happens.

    Raises:
        FireworksError: There is no key, or it is not taken, or there is no answer.
    """
    key = load_api_key(target)
    base_url = target.base_url or local_url(local_state())
    with (
        Gateway(base_url, key, target.account, retry=TRIES, timeouts=_TIMEOUTS, tell=reporter.note) as gateway,
        make_storage_client(1, _TIMEOUTS, gateway.transport.hostname) as storage,
    ):
        name = f"accounts/{gateway.account}"
        gateway.transport.send("GET", f"/v1/{name}/models", f"list the models of {name}", params={"pageSize": "1"})
        yield Session(gateway, storage, reporter, key, secrets.token_hex(4))


def run_probe(session: Session) -> Result:
    """Ask every question, then delete everything that was made for it, also after Ctrl-C.

    Args:
        session: Of the account.

    Returns:
        What was found, and what could not be deleted.
    """
    asked: list[Asked] = []
    interrupted = False
    with stopped_by_sigterm():
        try:
            for number, point in enumerate(POINTS, 1):
                asked.append(_ask(session, point))
                session.reporter.step(number, len(POINTS), f"{point.name}: {asked[-1].finding.text}")
        except KeyboardInterrupt:
            interrupted = True
        try:
            _delete_all(session)
        except KeyboardInterrupt:
            interrupted = True
    return Result(tuple(asked), dict(session.ways), tuple(session.trouble), tuple(session.made), interrupted)


def _ask(session: Session, point: Point) -> Asked:
    before = len(session.answers)
    try:
        finding = point.ask(session)
    except NotAskedError as reason:
        finding = Finding(f"not settled: {reason}")
    except Exception as error:  # noqa: BLE001 - an answer of a shape that nobody thought of does not end the others
        # Its text may quote the answer.
        finding = Finding(f"not settled: the reply was not understood ({type(error).__name__})")
    session.ways |= finding.ways
    return Asked(point, finding, tuple(session.answers[before:]))


def _delete_all(session: Session) -> None:
    """Delete what was made, the last first; what is still in `session.made` after it could not be."""
    if not session.made:
        return
    session.reporter.note(f"      deleting the {len(session.made)} models of this probe")
    session.allow(_DELETING_SECONDS)

    def look() -> Literal[True] | Pending:
        for name in reversed(session.made.copy()):
            with suppress(NotAskedError):
                session.delete(name)
        return Pending(f"{len(session.made)} could not be deleted yet") if session.made else True

    with suppress(DeadlineError):
        Waiter(session.reporter, session.clock, session.sleep).wait(look, _DELETING_SECONDS, lambda reason: reason)
