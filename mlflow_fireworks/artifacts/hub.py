"""What the Hugging Face Hub knows about a repository, asked within a time limit."""

from dataclasses import dataclass

from huggingface_hub import HfApi
from huggingface_hub.errors import DisabledRepoError, GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from mlflow_fireworks.answers import EndlessAnswerError, within


@dataclass(frozen=True)
class HubAnswer:
    """What the Hub said.

    Args:
        exists: None when the Hub could not be asked.
        name: The repository's present name, where the Hub told it.
        reason: Why it could not be asked.
    """

    exists: bool | None
    name: str | None = None
    reason: str = ""


def ask_hub(name: str, api: HfApi, seconds: float) -> HubAnswer:
    """Ask whether a model repository exists.

    The call runs in a thread of its own, because looking up a host name can hang for longer than any timeout of
    the HTTP client.

    Args:
        name: `org/name`.
        api: The Hub's client.
        seconds: Longest wait.

    Returns:
        What it said. A gated repository exists; a private one that the present token cannot see does not.
    """
    try:
        return within(max(seconds, 0.01), lambda: _ask(name, api, seconds))
    except EndlessAnswerError:
        return HubAnswer(None, reason=f"no answer within {seconds:.0f} s")


def _ask(name: str, api: HfApi, seconds: float) -> HubAnswer:
    try:
        return HubAnswer(True, api.model_info(name, timeout=seconds).id)
    except (GatedRepoError, DisabledRepoError):
        return HubAnswer(True, name)
    except RepositoryNotFoundError:
        return HubAnswer(False)
    except OfflineModeIsEnabled:
        return HubAnswer(None, reason="HF_HUB_OFFLINE is set")
    except Exception as error:  # noqa: BLE001 - whatever keeps the Hub from answering must not stop a deployment
        return HubAnswer(None, reason=type(error).__name__)
