"""A deployment and its revisions: how one MLflow name maps to Fireworks models.

A Fireworks model cannot change once it is READY, so new content under the same name becomes the next model:
`chat`, `chat-r2`, `chat-r3`, … Which model belongs to which deployment, and what is in it, is written into the
model's own description (the stamp), so that any machine sees the same state.

Content that has been up before is not sent again: its revision only takes a new turn. So there are two orders, the one
they were made in (their numbers) and the one they were last asked for in (their turns), which is the same until then.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlflow_fireworks.gateway.wire import READY, Model

# Fireworks docs: a description is shorter than 1,000 characters.
DESCRIPTION_MAX = 999
_SOURCE_MAX = 200
_STAMP = re.compile(
    r"From (?P<source>\S+) \((?P<flavor>[^()]*)\) by mlflow-fireworks: "
    r"deployment=(?P<deployment>\S+) revision=(?P<revision>\d+) content=(?P<fingerprint>[0-9a-f]+)"
    r"(?: bytes=(?P<size>\d+))?(?: turn=(?P<turn>\d+))?"
)


@dataclass(frozen=True)
class Stamp:
    """What the plugin writes into a model's description.

    Args:
        deployment: The MLflow deployment the model belongs to.
        revision: Its number there, from 1.
        source: The model URI it was made from.
        flavor: The MLflow flavor the checkpoint was found in.
        fingerprint: Identifies the uploaded content.
        size: Its length in bytes, which Fireworks does not tell; None when it was not written down.
        turn: When it was last asked for, counted like the revisions; None when that was when it was made.
    """

    deployment: str
    revision: int
    source: str
    flavor: str
    fingerprint: str
    size: int | None = None
    turn: int | None = None

    def describe(self, text: str = "") -> str:
        """The description: the user's text, cut where it would be too long, then the stamp."""
        size = "" if self.size is None else f" bytes={self.size}"
        turn = "" if self.turn is None else f" turn={self.turn}"
        stamp = (
            f"From {_shown_source(self.source)} ({re.sub(r'[()]', '', self.flavor)}) by mlflow-fireworks: "
            f"deployment={self.deployment} revision={self.revision} content={self.fingerprint}{size}{turn}"
        )
        return f"{text[: DESCRIPTION_MAX - len(stamp) - 1]}\n{stamp}" if text else stamp


def read_stamp(description: str) -> Stamp | None:
    """The stamp in a description, or None when the plugin did not write it."""
    found = _STAMP.search(description)
    if not found:
        return None
    parts = found.groupdict()
    return Stamp(
        parts["deployment"],
        int(parts["revision"]),
        parts["source"],
        parts["flavor"],
        parts["fingerprint"],
        int(parts["size"]) if parts["size"] else None,
        int(parts["turn"]) if parts["turn"] else None,
    )


def text_of(description: str) -> str:
    """The user's part of a description."""
    return _STAMP.sub("", description).strip()


@dataclass(frozen=True)
class Revision:
    """One model of a deployment.

    Args:
        model: The Fireworks model.
        stamp: What the plugin wrote into it; None for a model that it did not make.
    """

    model: Model
    stamp: Stamp | None

    @property
    def number(self) -> int:
        """1 for the first."""
        return self.stamp.revision if self.stamp else 1

    @property
    def turn(self) -> int:
        """When it was last asked for; its number when it was not asked for again since."""
        return self.stamp.turn if self.stamp and self.stamp.turn is not None else self.number

    @property
    def is_ready(self) -> bool:
        """Whether it can be deployed on GPUs."""
        return self.model.state == READY


@dataclass(frozen=True)
class Deployment:
    """All revisions of one name, oldest first; never empty."""

    name: str
    revisions: tuple[Revision, ...]

    @property
    def newest(self) -> Revision:
        """The last one made, READY or not."""
        return self.revisions[-1]

    @property
    def latest(self) -> Revision:
        """The one asked for last, READY or not."""
        return max(self.revisions, key=_order)

    @property
    def current(self) -> Revision:
        """The READY one that was asked for last; before any is READY, the newest."""
        ready = [revision for revision in self.revisions if revision.is_ready]
        return max(ready, key=_order, default=self.newest)

    @property
    def is_managed(self) -> bool:
        """Whether this plugin made all of it."""
        return all(revision.stamp for revision in self.revisions)


def _order(revision: Revision) -> tuple[int, int]:
    """Two machines may have taken the same turn; then all must see the same one ahead."""
    return revision.turn, revision.number


def group_deployments(models: Iterable[Model]) -> dict[str, Deployment]:
    """The deployments that an account's models make up, by name. A model without a stamp is one of its own."""
    groups: dict[str, list[Revision]] = {}
    for model in models:
        stamp = read_stamp(model.description)
        groups.setdefault(stamp.deployment if stamp else model.model_id, []).append(Revision(model, stamp))
    return {
        name: Deployment(name, tuple(sorted(revisions, key=lambda revision: revision.number)))
        for name, revisions in sorted(groups.items())
    }


def model_id_of(deployment: str, revision: int) -> str:
    """The model id of a revision: the bare name for the first, `name-rN` for later ones."""
    return deployment if revision == 1 else f"{deployment}-r{revision}"


def _shown_source(source: str) -> str:
    """A source URI without what may be secret in it (user, password, query), blanks or undue length."""
    parts = urlsplit(source)
    if parts.netloc:
        source = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    source = re.sub(r"\s", "%20", source)
    return source if len(source) <= _SOURCE_MAX else f"…{source[-_SOURCE_MAX:]}"
