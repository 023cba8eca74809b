"""What kind a model is to Fireworks. It can never change, so where the files leave it open the user is asked.

The name of a class alone does not tell: `Qwen3Model` has no head to generate with, and neither name nor head of
`ChatGLMModel`, `InternVLChatModel` and `MarianMTModel` says what these three do, which is to generate.
"""

import importlib.util
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from mlflow_fireworks.artifacts.documents import Document, child_of, text_of, texts_of, with_language_model
from mlflow_fireworks.config import Kind

_EMBEDDING_TASKS = ("feature-extraction", "sentence-similarity", "llm/v1/embeddings")
_GENERATING_TASKS = re.compile(
    r"text-generation|text2text-generation|conversational|summarization|translation.*|image-(text-)?to-text"
    r"|any-to-any|llm/v1/(chat|completions)"
)
# LlamaForCausalLM, GPT2LMHeadModel, Gemma3ForConditionalGeneration, LlavaLlamaForCausalLM; MarianMTModel and the two
# …EncoderDecoderModel are the only ones in transformers 5 that generate and end like a model without a head.
_GENERATES = re.compile(r"CausalLM|LMHead|ConditionalGeneration|Generation|MTModel$|EncoderDecoderModel$")
_GENERATING_AUTO = ("CausalLM", "Seq2SeqLM", "ConditionalGeneration", "Vision2Seq", "ImageTextToText")
# The last layer of a model that generates, under the names that it has in public checkpoints.
_HEAD = re.compile(
    r"(^|\.)(lm_head|output_layer|embed_out|final_logits_bias)(\.|$)|^(language_model\.|model\.)?output\.weight$"
)
# Encoders by `model_type`: whatever else their files say, they do not generate.
_ENCODERS = {
    *("albert", "bert", "big_bird", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra"),
    *(
        "ernie",
        "esm",
        "eurobert",
        "flaubert",
        "fnet",
        "funnel",
        "ibert",
        "jina_bert",
        "longformer",
        "luke",
        "megatron-bert",
    ),
    *("mobilebert", "modernbert", "mpnet", "mra", "new", "nezha", "nomic_bert", "nystromformer", "roberta", "roformer"),
    *("roberta-prelayernorm", "squeezebert", "xlm-roberta", "xlm-roberta-xl", "xmod", "yoso"),
}


@dataclass(frozen=True)
class Open:
    """The files do not decide.

    Args:
        why: For a person, e.g. `InternVLChatModel may generate text (it has a chat template) or make embeddings`.
    """

    why: str


def generates(names: Iterable[str], model_type: str | None) -> bool:
    """Whether classes of `config.json` may well generate text.

    False for classifiers (`…ForSequenceClassification`) and encoders; `MiniCPMV` does not say.
    """
    return any(_GENERATES.search(name) or ("For" not in name and model_type not in _ENCODERS) for name in names)


def infer_kind(
    config: Document,
    task: str | None,
    *,
    has_template: bool,
    list_tensors: Callable[[], Collection[str] | None],
) -> Kind | Open:
    """Tell a model that generates from one that makes embeddings.

    Args:
        config: The parsed `config.json`.
        task: What MLflow logged it for, if it said so.
        has_template: Whether a chat template is among the files.
        list_tensors: Gives the names of its tensors, or None when they cannot be read; asked only where needed.

    Returns:
        The kind, or that it stays open.
    """
    if task in _EMBEDDING_TASKS:
        return Kind.EMBEDDING
    heads = texts_of(config, "architectures")
    is_headless = bool(heads) and all(map(_is_headless, heads))
    if text_of(config, "model_type") in _ENCODERS or (heads and all(name.endswith("EncoderModel") for name in heads)):
        return _judge_encoder(heads, is_headless=is_headless)
    if not is_headless or _GENERATING_TASKS.fullmatch(task or "") or _is_declared_to_generate(config, heads):
        return Kind.BASE
    return _judge_headless(config, heads, list_tensors(), has_template=has_template)


def _judge_headless(
    config: Document, heads: Collection[str], tensors: Collection[str] | None, *, has_template: bool
) -> Kind | Open:
    if any(map(_HEAD.search, tensors or ())):
        return Kind.BASE
    why = _find_doubt(config, heads, has_template=has_template, tensors_are_known=tensors is not None)
    if why is None:
        return Kind.EMBEDDING
    if _transformers_knows_to_generate(heads):
        return Kind.BASE
    return Open(f"{', '.join(heads)} may generate text ({why}) or make embeddings")


def _judge_encoder(heads: Collection[str], *, is_headless: bool) -> Kind | Open:
    """One with a head for masked words or classes is as often an embedding model that was saved so as it is not."""
    if is_headless:
        return Kind.EMBEDDING
    if not heads or any(map(_GENERATES.search, heads)):
        return Kind.BASE
    return Open(f"{', '.join(heads)} does not generate text, and makes embeddings only without its head")


def _is_headless(name: str) -> bool:
    return name.endswith("Model") and not _GENERATES.search(name) and "Head" not in name


def _is_declared_to_generate(config: Document, heads: Collection[str]) -> bool:
    """By `auto_map`, or by the language model inside a multimodal one."""
    for auto, reference in child_of(config, "auto_map").items():
        if auto.endswith(_GENERATING_AUTO) and str(reference).rpartition(".")[2] in heads:
            return True
    nested = [part for part in with_language_model(config) if part is not config]
    return any(_GENERATES.search(name) for part in nested for name in texts_of(part, "architectures"))


def _transformers_knows_to_generate(heads: Collection[str]) -> bool:
    """By the tables of transformers, where it is installed; none of the checkpoint's code runs."""
    if importlib.util.find_spec("transformers") is None:
        return False
    tables = importlib.import_module("transformers.models.auto.modeling_auto")
    known: set[str] = set()
    for task in ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT"):
        for names in getattr(tables, f"MODEL_FOR_{task}_MAPPING_NAMES", {}).values():
            known.update([names] if isinstance(names, str) else names)
    return not known.isdisjoint(heads)


def _find_doubt(config: Document, heads: Collection[str], *, has_template: bool, tensors_are_known: bool) -> str | None:
    if has_template:
        return "it has a chat template"
    if any(auto.endswith(_GENERATING_AUTO) for auto in child_of(config, "auto_map")):
        return "its auto_map also names a class that generates"
    if config.get("is_encoder_decoder") is True:
        return "it has a decoder"
    if any(part is not config for part in with_language_model(config)) or child_of(config, "vision_config"):
        return "it is made of several models"
    if any("Chat" in name for name in heads):
        return "it is called a chat model"
    return None if tensors_are_known else "its weights could not be read for a head to generate with"
