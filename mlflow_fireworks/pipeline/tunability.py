"""Whether Fireworks can fine-tune a model: it looks about every 30 minutes, and only at models with a Hugging Face URL.

Source: Fireworks docs, "uploading custom models"; the flags at the top of the Model resource are what counts.
"""

from mlflow_fireworks.errors import DeadlineError
from mlflow_fireworks.gateway.wire import READY, Model
from mlflow_fireworks.progress import format_seconds
from mlflow_fireworks.run import Run
from mlflow_fireworks.waiting import Pending


def describe_tunability(model: Model) -> str:
    """The kinds of fine-tuning that Fireworks offers for a model, or why there are none (yet)."""
    offered = {
        "supervised LoRA": model.supervised_lora_tunable,
        "supervised full": model.supervised_full_parameter_tunable,
        "RL LoRA": model.rl_lora_tunable,
        "RL full": model.rl_full_parameter_tunable,
    }
    kinds = [kind for kind, is_offered in offered.items() if is_offered]
    if kinds:
        return ", ".join(kinds)
    if model.peft_details.base_model:
        return "no: it is an adapter"
    if not model.hugging_face_url:
        return "no: it has no huggingFaceUrl (set one with -C hugging_face_url=ORG/NAME)"
    return "not yet: Fireworks looks about every 30 minutes" if model.state == READY else "not before it is READY"


def is_tunable(model: Model) -> bool:
    """Whether any kind of fine-tuning is offered."""
    flags = (
        model.supervised_lora_tunable,
        model.supervised_full_parameter_tunable,
        model.rl_lora_tunable,
        model.rl_full_parameter_tunable,
    )
    return any(flags)


def watch_tunability(run: Run, model: Model) -> str:
    """Wait until Fireworks offers to fine-tune a model; what it says in the end.

    A model that never becomes tunable looks the same as one that was not looked at yet, so the end of the time is no
    error: it is reported.

    Args:
        run: The account and the options (`tunable_timeout`).
        model: A READY base model.
    """
    if is_tunable(model) or model.peft_details.base_model or not model.hugging_face_url:
        return describe_tunability(model)

    def look() -> str | Pending:
        found = run.gateway.find_model(model.name) or model
        return describe_tunability(found) if is_tunable(found) else Pending(f"{model.name} is not tunable yet")

    limit = run.config.tunable_timeout
    try:
        return run.waiter.wait(look, limit, lambda reason: f"{reason} after {format_seconds(limit)}")
    except DeadlineError as error:
        run.reporter.warn(
            f"{error.message}; Fireworks may not know how to tune this architecture, or may be late: look with "
            f"mlflow deployments get -t {run.target_uri} --name {model.model_id}"
        )
        return describe_tunability(model)
