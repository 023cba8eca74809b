"""The Fireworks model that a LoRA adapter belongs to."""

from collections.abc import Callable

from mlflow_fireworks.errors import CheckpointError
from mlflow_fireworks.gateway.models import Models
from mlflow_fireworks.gateway.wire import READY, Model

PUBLIC_CATALOGUE = "fireworks"
_ADDON_KINDS = {"HF_PEFT_ADDON", "HF_TEFT_ADDON", "FLUMINA_ADDON", "DRAFT_ADDON"}
_SAY_WHICH = "name the Fireworks model with -C base_model=accounts/fireworks/models/NAME"


def find_base_model(models: Models, named: str | None, repo: str | None, warn: Callable[[str], None]) -> Model:
    """The base model of an adapter: the one the user names, or one that was made from the same Hugging Face repo.

    The account's own models come first, then the public catalogue; one that is READY and takes adapters wins.

    Args:
        models: The account's.
        named: Model id or full name, if the user gave one.
        repo: Hugging Face repo (`org/name`) that the adapter says it was trained on.
        warn: Is told what may fail later.

    Raises:
        CheckpointError: There is none, or it is not READY.
    """
    if named:
        found = models.find(named)
        if found is None:
            raise CheckpointError(f"base model {models.full_name(named)} does not exist; {_SAY_WHICH}")
    elif repo:
        found = _search(models, repo)
        if found is None:
            raise CheckpointError(
                f"no model on account {models.account} or in Fireworks' catalogue was created from {repo}, the "
                f"adapter's base; deploy that first, or {_SAY_WHICH}"
            )
    else:
        raise CheckpointError(f"the adapter does not record which model it was trained on; {_SAY_WHICH}")
    if found.state != READY:
        raise CheckpointError(f"base model {found.name} is {found.state}, not READY; finish it first")
    if not found.supports_lora:
        warn(f"{found.name} does not support LoRA adapters (supportsLora is false)")
    return found


def _search(models: Models, repo: str) -> Model | None:
    for account in (models.account, PUBLIC_CATALOGUE):
        matches = [
            model
            for model in models.list(account)
            if model.kind not in _ADDON_KINDS and _repo_of(model.hugging_face_url) == repo.lower()
        ]
        if matches:
            return max(matches, key=lambda model: (model.state == READY, model.supports_lora))
    return None


def _repo_of(url: str) -> str:
    """`org/name` in lower case, as the Hub compares them."""
    return url.lower().partition("huggingface.co/")[2].strip("/")
