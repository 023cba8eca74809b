"""Names on Fireworks: which may be one, what each is the name of, and many of them in one message."""

import difflib
import re
from collections.abc import Iterable, Iterator
from itertools import count
from typing import NewType, TypeVar

from mlflow_fireworks.errors import InvalidConfigError

DeploymentName = NewType("DeploymentName", str)
"""Of an MLflow deployment, `chat`: all revisions of a model. Not the id of one of its models, such as `chat-r2`."""
EndpointName = NewType("EndpointName", str)
"""Of an MLflow endpoint, `prod`. Not the id of one of its Fireworks deployments, such as `prod-2`."""

NameT = TypeVar("NameT", bound=str)

_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_ID_MAX = 63
_SHOWN = 8


def check_name(name: NameT) -> NameT:
    """Check a name against Fireworks' id rule.

    Source: Fireworks docs, "concepts": 1 to 63 of a-z, 0-9 and hyphen, no hyphen at either end, no leading digit.

    Raises:
        InvalidConfigError: With a legal name that is close to it.
    """
    if _ID.fullmatch(name):
        return name
    raise InvalidConfigError(
        f"'{name}' cannot be a Fireworks name (1 to {_ID_MAX} of a-z, 0-9 and '-', starting with a letter, "
        f"not ending with '-'); try '{suggest_name(name)}'"
    )


def suggest_name(name: str) -> str:
    """The legal name nearest to `name`."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug[:1].isalpha():
        slug = f"model-{slug}"
    return slug[:_ID_MAX].strip("-")


def number_names(name: str) -> Iterator[str]:
    """The name, then `prod-2`, `prod-3` and so on, for who looks for a free one; without an end."""
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`did you mean 'prod'?` where a known name is close to one that is not; else empty."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean '{close[0]}'?" if close else ""


def enumerate_names(names: Iterable[object], most: int = _SHOWN) -> str:
    """Names in one line, for a message: `a, b and 3 more`.

    Args:
        names: In the order in which they are to be read.
        most: How many are written out.
    """
    words = [str(name) for name in names]
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more} more" if more > 0 else "")
