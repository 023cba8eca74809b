"""Addresses of which MLflow would read another place than they name, without a word.

MLflow's repositories (3.17, `store/artifact/*_artifact_repo.py`) parse them with `urlparse` and use its path only, so a
`#` or `?` ends it, and a `;` in some of them: `s3://models/chat#2/1` is the folder `chat` to them. Its server decodes
percent signs as often as it finds some, and a plain local path is decoded once. All of this was run.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urlparse, urlsplit

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from mlflow_fireworks.errors import InvalidConfigError, SourceError
from mlflow_fireworks.redaction import hide_credentials

_DROPPED_BY_URLPARSE = re.compile(r"[\t\r\n]|^\s")
_BUCKETS = ("s3", "gs")
_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def check_address(repository: ArtifactRepository) -> None:
    """Refuse a repository that reads another place than its address names.

    Args:
        repository: As MLflow made it.

    Raises:
        SourceError: It does; says why.
    """
    address = repository.artifact_uri
    if isinstance(repository, LocalArtifactRepository) and not _HAS_SCHEME.match(address):
        if _decoded(address) and Path(address).is_dir():
            raise _misread(address, f"MLflow decodes percent signs and would read {repository.artifact_dir}")
        return
    # Of the last part only, and of some schemes (`urllib.parse.uses_params`): those of FTP and SFTP.
    drops_params = bool(urlparse(address).params) and not isinstance(repository, HttpArtifactRepository)
    for mark in "?#;" if drops_params else "?#":
        if mark in address:
            shown = hide_credentials(address).partition(mark)[0]  # hidden first: a password may hold the mark
            raise _misread(f"{shown}{mark}…", f"MLflow ignores everything after a {mark}")
    if _DROPPED_BY_URLPARSE.search(address):
        raise _misread(" ".join(address.split()), "MLflow ignores the spaces, tabs or line breaks in it")
    if isinstance(repository, MlflowArtifactsRepository):  # an address of any other web server is written encoded
        check_folder(repository, address)


def check_bucket(address: str) -> None:
    """Refuse an address of a bucket that names none, or holds a user as those of Hadoop could.

    The store's client would quote all of it.

    Raises:
        InvalidConfigError: It does; does not repeat the user.
    """
    parts = urlsplit(address)
    if parts.scheme not in _BUCKETS:
        return
    if not parts.netloc:
        raise InvalidConfigError(f"{hide_credentials(address)} names no bucket; write {parts.scheme}://BUCKET/PATH")
    if "@" in parts.netloc:
        raise InvalidConfigError(
            f"{hide_credentials(address)} holds a user or a key; take it out: credentials come from the environment, "
            "as the store's own client reads them"
        )


def check_folder(repository: ArtifactRepository, folder: str) -> None:
    """Refuse a folder that MLflow's server would take for another one.

    Args:
        repository: Which holds it.
        folder: Path inside it.

    Raises:
        SourceError: The server would decode it.
    """
    if isinstance(repository, HttpArtifactRepository) and (decoded := _decoded(folder)):
        raise _misread(folder, f"MLflow's server decodes percent signs and would read {hide_credentials(decoded)}")


def _decoded(text: str) -> str | None:
    """What is left when nothing can be decoded any more; None when there is nothing to decode."""
    plain = text
    while (further := unquote(plain)) != plain:
        plain = further
    return plain if plain != text else None


def _misread(address: str, why: str) -> SourceError:
    return SourceError(
        f"{hide_credentials(address)} cannot be read under exactly that name: {why}; "
        "copy or move it to a name without such characters"
    )
