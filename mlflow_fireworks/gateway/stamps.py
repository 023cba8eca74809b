"""What the plugin writes into descriptions on Fireworks, so that any machine sees the same state.

A stamp is one line at the end of a description, below the user's own text: on a model, which revision of which
deployment it is, on which endpoint it was put and whether somebody took it off again; on what serves, to which endpoint
it belongs and since when it is the one that answers. A router has no description; its stamp is its display name.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from urllib.parse import quote, unquote, urlsplit

from typing_extensions import Self

from mlflow_fireworks.names import DeploymentName, EndpointName

# Fireworks docs: a description is shorter than 1,000 characters.
DESCRIPTION_MAX = 999
UNKNOWN = "unknown"
"""In place of what no stamp says about a model that this plugin did not make."""
_SOURCE_MAX = 200
_REVISION = re.compile(
    r"From (?P<source>\S+) \((?P<flavor>[^()]*)\) by mlflow-fireworks: "
    r"deployment=(?P<deployment>\S+) revision=(?P<revision>\d+) content=(?P<fingerprint>[0-9a-f]+)"
    r"(?: bytes=(?P<size>\d+))?(?: turn=(?P<turn>\d+))?(?: on=(?P<endpoint>\S+))?(?: off=(?P<off>\S+))?"
    r"(?: dim=(?P<vector_length>\d+))?(?: instead=(?P<instead>\S+))?"
)
_ENDPOINT = re.compile(r"Endpoint (?P<endpoint>\S+) by mlflow-fireworks: live=(?P<since>\S+)(?P<direct> router=no)?")
_ROUTER = re.compile(r"MLflow endpoint, by mlflow-fireworks(?P<keeps> \(keeps the previous\))?")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)$")
_TOLD = re.compile(r"(?P<reason>.+?)(?:, by (?P<by>[^\s,]+))?, (?P<since>\S+)", re.DOTALL)
_NOT_YET = "no"
_REASON_MAX = 120


class Hand(str, Enum):
    """What somebody did to what had been promoted."""

    ROLLBACK = "rollback"
    REMOVAL = "removal"
    PAUSE = "pause"
    REPLACEMENT = "replacement"


@dataclass(frozen=True)
class TakenOff:
    """That somebody took a revision off its endpoint, or off Fireworks: nobody but a person brings it back.

    Args:
        hand: What was done.
        reason: It in words.
        since: When (RFC 3339, UTC); "" when that is not known.
        by: Name of the user; "" when it was not done with this plugin.
    """

    hand: Hand
    reason: str
    since: str = ""
    by: str = ""

    @classmethod
    def read(cls, text: str) -> Self | None:
        """What `str()` has written; None for anything else."""
        hand, *parts = (unquote(part) for part in text.split(";"))
        if hand not in {known.value for known in Hand} or len(parts) != 3:  # noqa: PLR2004 - since, by, reason
            return None
        since, by, reason = parts
        return cls(Hand(hand), reason, since, by)

    @classmethod
    def of_text(cls, hand: Hand, text: str) -> Self:
        """What `describe()` has written: when, by whom, and all else in words."""
        found = _TOLD.fullmatch(text)
        if found is None or not parse_time(found["since"]):
            return cls(hand, text)
        return cls(hand, found["reason"], found["since"], found["by"] or "")

    def __str__(self) -> str:
        """In one word, for a stamp or a tag."""
        parts = (self.hand.value, self.since, self.by[:_REASON_MAX], self.reason[:_REASON_MAX])
        return ";".join(quote(part, safe=":") for part in parts)

    def describe(self) -> str:
        """`rolled back to revision 1, by alice, 2026-11-27T14:05:00Z`."""
        return ", ".join(part for part in (self.reason, self.by and f"by {self.by}", self.since) if part)


@dataclass(frozen=True)
class RevisionStamp:
    """Which revision of which deployment a model is.

    Args:
        deployment: The MLflow deployment the model belongs to.
        revision: Its number there, from 1.
        source: The model URI it was made from.
        flavor: The MLflow flavor the checkpoint was found in.
        fingerprint: Identifies the uploaded content.
        size: Its length in bytes, which Fireworks does not tell; None when it was not written down.
        turn: When it was last asked for, counted like the revisions; None when that was when it was made.
        endpoint: The endpoint that it was put on since; "" for none.
        taken_off: That somebody took it off again; None when nobody is known to have.
        vector_length: How many numbers the vectors of an embedding model have; None for others and where the files did
            not tell.
        instead: Of what somebody put by hand in the place of what had been promoted: that, by whom and when; None for
            what was promoted itself, or has been since.
    """

    deployment: DeploymentName
    revision: int
    source: str
    flavor: str
    fingerprint: str
    size: int | None = None
    turn: int | None = None
    endpoint: str = ""
    taken_off: TakenOff | None = None
    vector_length: int | None = None
    instead: TakenOff | None = None

    @classmethod
    def read(cls, description: str) -> Self | None:
        """The stamp in a description, or None when the plugin did not write it."""
        found = _REVISION.search(description)
        if not found:
            return None
        return cls(
            DeploymentName(found["deployment"]),
            int(found["revision"]),
            found["source"],
            found["flavor"],
            found["fingerprint"],
            int(found["size"]) if found["size"] else None,
            int(found["turn"]) if found["turn"] else None,
            found["endpoint"] or "",
            TakenOff.read(found["off"]) if found["off"] else None,
            int(found["vector_length"]) if found["vector_length"] else None,
            TakenOff.read(found["instead"]) if found["instead"] else None,
        )

    def asked_for_again(self, turn: int) -> Self:
        """The same, asked for once more: what was done to it before does not count any more."""
        return replace(self, turn=turn, endpoint="", taken_off=None, instead=None)

    @property
    def model_uri(self) -> str | None:
        """The source as it can be deployed again; None where it was written down shortened or with blanks escaped."""
        is_escaped = "%20" in self.source and not self.source.startswith("file:")
        return None if is_escaped or self.source.startswith("…") or self.source == UNKNOWN else self.source

    def describe(self, text: str = "") -> str:
        """The description: the user's text, cut where it would be too long, then the stamp."""
        size = "" if self.size is None else f" bytes={self.size}"
        turn = "" if self.turn is None else f" turn={self.turn}"
        place = f" on={self.endpoint}" if self.endpoint else ""
        off = f" off={self.taken_off}" if self.taken_off else ""
        length = "" if self.vector_length is None else f" dim={self.vector_length}"
        instead = f" instead={self.instead}" if self.instead else ""
        return _write_below(
            text,
            f"From {_shown_source(self.source)} ({re.sub(r'[()]', '', self.flavor)}) by mlflow-fireworks: "
            f"deployment={self.deployment} revision={self.revision} content={self.fingerprint}{size}{turn}{place}{off}"
            f"{length}{instead}",
        )


@dataclass(frozen=True)
class EndpointStamp:
    """To which endpoint a deployment, or an adapter loaded on one, belongs.

    Args:
        endpoint: The MLflow endpoint.
        since: When it became the one that answers (RFC 3339, UTC); empty before.
        direct: Whether somebody wants no router in front of it.
    """

    endpoint: EndpointName
    since: str = ""
    direct: bool = False

    @classmethod
    def read(cls, description: str) -> Self | None:
        """The stamp in a description, or None when the plugin did not write it."""
        found = _ENDPOINT.search(description)
        if not found:
            return None
        return cls(EndpointName(found["endpoint"]), found["since"].replace(_NOT_YET, ""), bool(found["direct"]))

    def describe(self, text: str = "") -> str:
        """The description: the user's text, cut where it would be too long, then the stamp."""
        direct = " router=no" if self.direct else ""
        return _write_below(
            text, f"Endpoint {self.endpoint} by mlflow-fireworks: live={self.since or _NOT_YET}{direct}"
        )


@dataclass(frozen=True)
class RouterStamp:
    """That a router is an endpoint's; it has the endpoint's name.

    Args:
        keeps_previous: Whether what it pointed to before is to stay up, because somebody asked for that.
    """

    keeps_previous: bool = False

    @classmethod
    def read(cls, display_name: str) -> Self | None:
        """The stamp in a display name, or None when the plugin did not write it."""
        found = _ROUTER.fullmatch(display_name)
        return cls(bool(found["keeps"])) if found else None

    def describe(self) -> str:
        """The display name; shorter than 64 characters, as Fireworks wants it."""
        return f"MLflow endpoint, by mlflow-fireworks{' (keeps the previous)' if self.keeps_previous else ''}"


def parse_time(text: str) -> float:
    """RFC 3339 as Unix time in seconds; 0 for anything else.

    Fractions of a second do not count; they may have nine digits, which Python 3.10 cannot read by itself.
    """
    found = _TIME.match(text)
    try:
        return datetime.fromisoformat(f"{found[1]}{found[2].replace('Z', '+00:00')}").timestamp() if found else 0.0
    except ValueError:
        return 0.0


def text_of(description: str) -> str:
    """The user's part of a description."""
    return _ENDPOINT.sub("", _REVISION.sub("", description)).strip()


def _write_below(text: str, stamp: str) -> str:
    return f"{text[: DESCRIPTION_MAX - len(stamp) - 1]}\n{stamp}" if text else stamp


def _shown_source(source: str) -> str:
    """A source URI without what may be secret in it (user, password, query), blanks or undue length."""
    parts = urlsplit(source)
    if parts.netloc:
        source = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    source = re.sub(r"\s", "%20", source)
    return source if len(source) <= _SOURCE_MAX else f"…{source[-_SOURCE_MAX:]}"
