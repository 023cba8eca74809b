"""The chat template, which may stand in many places and which Fireworks reads in one.

Fireworks reads `chat_template` inside `tokenizer_config.json` (its docs know no other place). Newer transformers write
`chat_template.jinja`, and templates by another name into `additional_chat_templates/`; processors have had it in
`chat_template.json` and in `processor_config.json`. A `tokenizer_config.json` with the template folded in is made and
goes up; the other file goes up as well, because transformers' processors read only that. Where two places hold one,
the file wins, as it does in transformers.
"""

from collections.abc import Mapping

from mlflow_fireworks.artifacts.content import Made, Part, make_json
from mlflow_fireworks.artifacts.documents import Document, text_of

TOKENIZER_CONFIG = "tokenizer_config.json"
_JINJA = "chat_template.jinja"
_OF_PROCESSORS = ("chat_template.json", "processor_config.json")
_OTHERS = "additional_chat_templates/"


def has_template(settings: Document) -> bool:
    """Whether a parsed `tokenizer_config.json` holds a template that a chat without a choice would use."""
    template = settings.get("chat_template")
    if not isinstance(template, list):
        return text_of(settings, "chat_template") is not None
    default = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
    return any(text_of(entry, "template") is not None for entry in default)


def fold_template(
    files: Mapping[str, Part], contents: Mapping[str, bytes], documents: Mapping[str, Document]
) -> tuple[Made, str] | None:
    """The tokenizer's settings with the chat template in them, and a note; None when they are right as they are.

    Args:
        files: All files by name.
        contents: The bytes of the small ones.
        documents: Those of them that are JSON, parsed.
    """
    found = _find_template(contents, documents)
    settings = documents.get(TOKENIZER_CONFIG, {})
    if found is None or (TOKENIZER_CONFIG in files and TOKENIZER_CONFIG not in documents):
        return None
    name, template = found
    if settings.get("chat_template") == template:
        return None
    replaced = ", replacing the different one that it had" if has_template(settings) else ""
    return (
        make_json({**settings, "chat_template": template}, f"made with {files[name].origin}"),
        f"{TOKENIZER_CONFIG}: the chat template of {files[name].origin} is uploaded inside it{replaced}",
    )


def _find_template(contents: Mapping[str, bytes], documents: Mapping[str, Document]) -> tuple[str, str] | None:
    """The name of the file that holds it, and the template as it stands there."""
    template = contents.get(_JINJA, b"").decode("utf-8", "replace")
    if template.strip():
        return _JINJA, template
    for name in _OF_PROCESSORS:
        held = documents.get(name, {}).get("chat_template")
        if isinstance(held, str) and held.strip():
            return name, held
    return None


def list_other_templates(files: Mapping[str, Part]) -> list[str]:
    """The templates that a chat uses only when it asks for them by name; they have no place on Fireworks."""
    return sorted(name for name in files if name.startswith(_OTHERS) and name.endswith(".jinja"))
