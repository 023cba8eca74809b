"""What MLflow was told to do with every request to a model, which the files of the checkpoint do not say.

`log_model(model_config={"temperature": 0.2, "max_new_tokens": 64})` is kept in `MLmodel` and given to the pipeline by
MLflow's scoring server. Fireworks has a place for most of it, `defaults` in `fireworks.json` (its docs, "uploading
custom models"). `log_model(prompt_template="Q: {prompt} A:")` has none: a chat template is applied to chats only.
"""

from dataclasses import dataclass

from mlflow_fireworks.artifacts.content import Made, make_json
from mlflow_fireworks.artifacts.documents import Document, child_of, text_of
from mlflow_fireworks.artifacts.selection import DEFAULTS_FILE
from mlflow_fireworks.names import enumerate_names

# transformers' word for it, Fireworks' word for it.
_WORDS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}


@dataclass(frozen=True)
class LoggedDefaults:
    """What becomes of them.

    Args:
        made: A `fireworks.json` that holds those that Fireworks has a place for; None when there are none.
        notes: What goes up.
        warnings: What cannot.
    """

    made: Made | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def carry_defaults(mlmodel: Document, *, may_add: bool) -> LoggedDefaults:
    """Carry over what MLflow applies to each request.

    Args:
        mlmodel: The parsed `MLmodel`; empty when there is none.
        may_add: Whether a `fireworks.json` may be made; one that the checkpoint has is left as it is.
    """
    flavors = child_of(mlmodel, "flavors")
    logged = child_of(child_of(flavors, "python_function"), "config")
    is_pipeline = "transformers" in flavors
    defaults = _translate(logged) if may_add and is_pipeline else {}
    rest = [name for name in logged if name not in _WORDS or _WORDS[name] not in defaults]
    warnings = []
    if rest:
        warnings.append(
            f"the logged model_config sets {enumerate_names(rest)}, which Fireworks will not apply; "
            f"put defaults into {DEFAULTS_FILE} next to the weights, or send them with each request"
        )
    if text_of(child_of(mlmodel, "metadata"), "prompt_template"):
        warnings.append(
            "the model was logged with a prompt_template, which MLflow puts around each prompt and Fireworks will not; "
            "include it in your prompts, or log the model with a chat template"
        )
    if not defaults:
        return LoggedDefaults(warnings=tuple(warnings))
    made = make_json({"defaults": defaults}, "made from the model_config in MLmodel")
    note = f"{DEFAULTS_FILE}: made from the logged model_config, so that requests default to its {', '.join(defaults)}"
    return LoggedDefaults(made, (note,), tuple(warnings))


def _translate(logged: Document) -> dict[str, int | float]:
    return {
        word: value
        for name, word in _WORDS.items()
        if isinstance(value := logged.get(name), int | float) and not isinstance(value, bool)
    }
