"""The four steps of a deployment, as people see them."""

from enum import IntEnum

from mlflow_fireworks.progress import Reporter


class Step(IntEnum):
    """Number and meaning of each."""

    CREATE = 1
    """The model is registered."""
    PREPARE = 2
    """Upload URLs are signed, or Fireworks is asked to import."""
    TRANSFER = 3
    """Bytes move."""
    VALIDATE = 4
    """Until it is READY."""


def begin(reporter: Reporter, step: Step, text: str) -> None:
    """Say that a step begins."""
    reporter.step(step, len(Step), text)
