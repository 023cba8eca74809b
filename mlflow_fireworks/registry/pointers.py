"""What a pointer shows right now, without a look at any file: `models:/chat@champion` is version 3."""

from dataclasses import dataclass

from huggingface_hub import HfApi
from huggingface_hub import errors as hub_errors

from mlflow_fireworks.errors import CredentialsError, NotFoundError, UnavailableError
from mlflow_fireworks.redaction import brief
from mlflow_fireworks.registry.advice import unanswered
from mlflow_fireworks.registry.clients import open_client
from mlflow_fireworks.registry.hub_versions import explain
from mlflow_fireworks.registry.lookup import find_version, is_gone, read_model_uri
from mlflow_fireworks.registry.mlflow_versions import require_logged_models
from mlflow_fireworks.registry.uri_types import HubUri, LoggedModelUri, ModelUri, RegisteredUri, StoreUri

_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Pinned:
    """What a pointer showed.

    Args:
        uri: Names that version for ever. It is for opening: that of a store may hold credentials.
        name: What to call a deployment of it: the registered model, the repo without its owner, the end of a path.
        version: Number of the version, or the commit; "" when there is no such thing.
        registered: The registry's version by its number, when it is one.
    """

    uri: str
    name: str
    version: str = ""
    registered: RegisteredUri | None = None


def is_pointer(uri: ModelUri) -> bool:
    """Whether what a URI names may change: an alias, a stage, the newest version, a branch."""
    match uri:
        case RegisteredUri():
            return not uri.version
        case HubUri():
            return not uri.commit
    return False


def pin(uri: str | ModelUri) -> Pinned:
    """Read a pointer.

    Args:
        uri: A model URI. What has no versions (a run, a folder, a store) is taken as it is.

    Raises:
        InvalidConfigError: It is not a model URI.
        NotFoundError: The alias, version or revision does not exist.
        SourceError: It is a logged model, and this MLflow is too old to know any.
        CredentialsError: The Hub shows no such repo.
        UnavailableError: The registry or the Hub does not answer.
    """
    if isinstance(uri, str):
        uri = read_model_uri(uri)
    match uri:
        case RegisteredUri():
            return _pin_registered(uri)
        case LoggedModelUri():
            return Pinned(str(uri), _find_logged_name(uri))
        case HubUri():
            return _pin_on_hub(uri)
        case StoreUri():
            return Pinned(uri.address, uri.title)
    return Pinned(str(uri), uri.title)


def _pin_registered(uri: RegisteredUri) -> Pinned:
    try:
        found = find_version(open_client(uri.home), uri)
    except Exception as error:  # noqa: BLE001 - whatever a store's driver raises
        if is_gone(error):
            raise NotFoundError(f"{uri} is not in the registry: {brief(error)}") from None
        raise unanswered(f"the registry could not look up {uri}", error) from None
    number = str(found.version)
    registered = RegisteredUri(uri.name, number, workspace=uri.home)
    return Pinned(str(uri.at(number)), uri.title, number, registered)


def _find_logged_name(uri: LoggedModelUri) -> str:
    """The name that a logged model was given; its id where it has none.

    A server that does not answer is an error, since a name that depends on the weather makes a second deployment. One
    that does not know the model is not: opening it says so.
    """
    require_logged_models(uri)
    try:
        return open_client(uri.workspace).get_logged_model(uri.model_id).name or uri.title
    except Exception as error:  # noqa: BLE001 - whatever a store's driver raises
        if is_gone(error):
            return uri.title
        raise unanswered(f"MLflow could not look up {uri}", error) from None


def _pin_on_hub(uri: HubUri) -> Pinned:
    if uri.commit:
        return Pinned(str(uri), uri.title, uri.commit)
    try:
        commit = HfApi().model_info(uri.repo, revision=uri.revision, timeout=_ANSWER_SECONDS).sha
    except hub_errors.RevisionNotFoundError:
        raise NotFoundError(f"{uri} is not on the Hugging Face Hub") from None
    except (hub_errors.RepositoryNotFoundError, hub_errors.HFValidationError):
        # The Hub answers the same for a repo that is gone and for one that the token may not see.
        raise CredentialsError(
            f"{uri} is not on the Hugging Face Hub, or cannot be read with this token; check its name and HF_TOKEN"
        ) from None
    except Exception as error:  # noqa: BLE001 - huggingface_hub passes on what its HTTP client raises
        raise UnavailableError(f"the Hugging Face Hub did not answer for {uri}: {explain(error)}") from None
    if commit is None:
        raise UnavailableError(f"the Hugging Face Hub returned no commit for {uri}; run the same command again")
    return Pinned(str(uri.at(commit)), uri.title, commit)
