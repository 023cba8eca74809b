"""Secrets: variables of the environment, or files of the same names in one folder.

The folder is where `CREDENTIALS_DIRECTORY` says. systemd sets that for `LoadCredential=`; a container gets its secrets
mounted there (`/run/secrets` of Compose, a volume of Kubernetes). A variable wins over a file. Unlike variables, files
are not shown by `docker inspect`, `kubectl describe` or `/proc`, and are not handed on to other processes.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_fireworks.errors import CredentialsError
from mlflow_fireworks.file_errors import describe

_FOLDER = "CREDENTIALS_DIRECTORY"
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Credential:
    """A secret, and where it was found.

    Args:
        value: The secret, without the line feed at its end; empty when there is none.
        where: The variable or the file, for messages.
    """

    value: str = field(repr=False)
    where: str


def read_credential(name: str, environ: Mapping[str, str] = os.environ) -> Credential:
    """A secret by the name of its variable.

    Args:
        name: Of the variable, and of the file.
        environ: The variables.

    Raises:
        CredentialsError: There is a file for it that cannot be read.
    """
    folder = environ.get(_FOLDER, "").strip()
    if (value := environ.get(name, "").strip()) or not folder:
        return Credential(value, name)
    path = Path(folder) / name
    try:
        with path.open("rb") as file:
            return Credential(file.read(_MOST_BYTES).decode().strip(), str(path))
    except FileNotFoundError:
        return Credential("", name)
    except OSError as error:
        raise CredentialsError(f"cannot read {path}: {describe(error)}") from None
    except UnicodeDecodeError:
        raise CredentialsError(f"{path} is not text; write the secret into it, and nothing else") from None
