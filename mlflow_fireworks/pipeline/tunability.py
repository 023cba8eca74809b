"""Whether Fireworks can fine-tune a model: it looks about every 30 minutes, and only at models with a Hugging Face URL.

Source: Fireworks docs, "uploading custom models"; the flags at the top of the Model resource are what counts.
"""

from mlflow_fireworks.errors import DeadlineError
from mlflow_fireworks.gateway.revisions import Revision
from mlflow_fireworks.gateway.wire import READY, Model
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.run import Run
from mlflow_fireworks.waiting import Pending


def find_offers(model: Model) -> list[str]:
    """The kinds of fine-tuning that Fireworks offers for a model."""
    flags = {
        "supervised LoRA": model.supervised_lora_tunable,
        "supervised full": model.supervised_full_parameter_tunable,
        "RL LoRA": model.rl_lora_tunable,
        "RL full": model.rl_full_parameter_tunable,
    }
    return [kind for kind, is_offered in flags.items() if is_offered]


def describe_tunability(model: Model) -> str:
    """The kinds of fine-tuning that Fireworks offers for a model, or why there are none (yet)."""
    if offers := find_offers(model):
        return ", ".join(offers)
    if model.peft_details.base_model:
        return "no: it is an adapter"
    if not model.hugging_face_url:
        return "no: it has no huggingFaceUrl (set one with -C hugging_face_url=ORG/NAME)"
    return "not yet: Fireworks checks about every 30 minutes" if model.state == READY else "not before it is READY"


def watch_tunability(run: Run, model: Model) -> str:
    """Wait until Fireworks offers to fine-tune a model; what it says in the end.

    A model that never becomes tunable looks the same as one that was not looked at yet, so the end of the time is no
    error: it is reported.

    Args:
        run: The account and the options (`tunable_timeout`).
        model: A READY base model.
    """
    if find_offers(model) or model.peft_details.base_model or not model.hugging_face_url:
        return describe_tunability(model)

    def look() -> str | Pending:
        found = run.gateway.models.find(model.name) or model
        return describe_tunability(found) if find_offers(found) else Pending(f"{model.name} is not tunable yet")

    limit = run.config.tunable_timeout
    try:
        return run.waiter.wait(look, limit, lambda reason: f"{reason} after {format_seconds(limit)}")
    except DeadlineError as error:
        run.reporter.warn(
            f"{error.message}; Fireworks may not support tuning this architecture, or may not have checked yet: "
            "look with " + run.commands.get(Revision.of(model).deployment)
        )
        return describe_tunability(model)
