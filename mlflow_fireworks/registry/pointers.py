"""What a pointer shows right now, without a look at any file: `models:/chat@champion` is version 3."""

import re
from dataclasses import dataclass

from huggingface_hub import HfApi
from huggingface_hub import errors as hub_errors
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import get_model_name_and_version

from mlflow_fireworks.artifacts.sources.source import RegisteredVersion
from mlflow_fireworks.errors import CredentialsError, InvalidConfigError, NotFoundError, UnavailableError
from mlflow_fireworks.redaction import brief

_MODEL = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))")
_HUB = re.compile(r"hf:/{0,2}(?P<repo>[^/@]+/[^/@]+)(?:@(?P<ref>.+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_GONE = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Pinned:
    """What a pointer showed.

    Args:
        uri: Names that version for ever.
        name: The registered model, or the repo's name without its owner.
        version: Number of the version, or the commit; "" when there is no such thing.
        registered: The registry's version, when it is one.
    """

    uri: str
    name: str
    version: str = ""
    registered: RegisteredVersion | None = None


def pin(uri: str) -> Pinned:
    """Read a pointer.

    Args:
        uri: `models:/name@alias`, `models:/name/version`, `hf:/org/name[@ref]`; anything else is taken as it is.

    Raises:
        NotFoundError: The alias, version or ref is not there.
        CredentialsError: The Hub shows no such repo.
        UnavailableError: The registry or the Hub does not answer.
    """
    if match := _MODEL.fullmatch(uri):
        return _pin_registered(uri, match)
    if match := _HUB.fullmatch(uri):
        return _pin_on_hub(uri, match)
    if not uri.strip():
        raise InvalidConfigError("the model URI is empty; write e.g. models:/NAME@ALIAS")
    return Pinned(uri, re.split(r"[/:]", uri.rstrip("/"))[-1])


def _pin_registered(uri: str, match: re.Match[str]) -> Pinned:
    name, alias, version = match.groups()
    try:
        client = MlflowClient()
        if alias:
            found = client.get_model_version_by_alias(name, alias)
        else:
            if not version.isdigit():
                _, version = get_model_name_and_version(client, uri)
            found = client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code in _GONE:
            raise NotFoundError(f"{uri} is not in the registry: {brief(error)}") from None
        raise UnavailableError(f"the registry does not answer for {uri}: {brief(error)}; is it running?") from None
    except Exception as error:  # noqa: BLE001 - whatever a store's driver raises
        raise UnavailableError(f"the registry cannot be asked for {uri}: {brief(error)}") from None
    number = str(found.version)
    return Pinned(f"models:/{name}/{number}", name, number, RegisteredVersion(name, number, alias))


def _pin_on_hub(uri: str, match: re.Match[str]) -> Pinned:
    repo, ref = match.groups()
    name = repo.rpartition("/")[2]
    if ref and _COMMIT.fullmatch(ref):
        return Pinned(f"hf:/{repo}@{ref}", name, ref)
    try:
        commit = HfApi().model_info(repo, revision=ref, timeout=_ANSWER_SECONDS).sha
    except hub_errors.RevisionNotFoundError:
        raise NotFoundError(f"{uri} is not on the Hugging Face Hub") from None
    except (hub_errors.RepositoryNotFoundError, hub_errors.HFValidationError):
        # The Hub answers the same for a repo that is gone and for one that the token may not see.
        raise CredentialsError(
            f"{uri} is not on the Hugging Face Hub, or may not be read; check its name and HF_TOKEN"
        ) from None
    except Exception as error:  # noqa: BLE001 - huggingface_hub passes on what its HTTP client raises
        raise UnavailableError(f"the Hugging Face Hub does not answer for {uri}: {brief(error)}") from None
    if commit is None:
        raise UnavailableError(f"the Hugging Face Hub tells no commit for {uri}")
    return Pinned(f"hf:/{repo}@{commit}", name, commit)
