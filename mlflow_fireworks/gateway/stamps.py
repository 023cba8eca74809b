"""What the plugin writes into descriptions on Fireworks, so that any machine sees the same state.

A stamp is one line at the end of a description, below the user's own text: on a model, which revision of which
deployment it is; on what serves, to which endpoint it belongs and since when it is the one that answers.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

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
    r"(?: bytes=(?P<size>\d+))?(?: turn=(?P<turn>\d+))?"
)
_ENDPOINT = re.compile(r"Endpoint (?P<endpoint>\S+) by mlflow-fireworks: live=(?P<since>\S+)")
_NOT_YET = "no"


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
    """

    deployment: DeploymentName
    revision: int
    source: str
    flavor: str
    fingerprint: str
    size: int | None = None
    turn: int | None = None

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
        )

    @property
    def model_uri(self) -> str | None:
        """The source as it can be deployed again; None where it was written down shortened or with blanks escaped."""
        is_escaped = "%20" in self.source and not self.source.startswith("file:")
        return None if is_escaped or self.source.startswith("…") or self.source == UNKNOWN else self.source

    def describe(self, text: str = "") -> str:
        """The description: the user's text, cut where it would be too long, then the stamp."""
        size = "" if self.size is None else f" bytes={self.size}"
        turn = "" if self.turn is None else f" turn={self.turn}"
        return _write_below(
            text,
            f"From {_shown_source(self.source)} ({re.sub(r'[()]', '', self.flavor)}) by mlflow-fireworks: "
            f"deployment={self.deployment} revision={self.revision} content={self.fingerprint}{size}{turn}",
        )


@dataclass(frozen=True)
class EndpointStamp:
    """To which endpoint a deployment, or an adapter loaded on one, belongs.

    Args:
        endpoint: The MLflow endpoint.
        since: When it became the one that answers (RFC 3339, UTC); empty before.
    """

    endpoint: EndpointName
    since: str = ""

    @classmethod
    def read(cls, description: str) -> Self | None:
        """The stamp in a description, or None when the plugin did not write it."""
        found = _ENDPOINT.search(description)
        return cls(EndpointName(found["endpoint"]), found["since"].replace(_NOT_YET, "")) if found else None

    def describe(self, text: str = "") -> str:
        """The description: the user's text, cut where it would be too long, then the stamp."""
        return _write_below(text, f"Endpoint {self.endpoint} by mlflow-fireworks: live={self.since or _NOT_YET}")


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
