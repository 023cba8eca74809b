"""Parts of a whole model that its tensors must have by any reading, or must not: no architecture is known here.

A merge that stopped half-way, a shard that was never written, or an adapter that was not merged leaves a model that
loads with random weights in the gaps. Names are those of transformers' decoders; other families have no such layers.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from itertools import islice

from mlflow_fireworks.artifacts.documents import Document, number_of, text_of, texts_of, with_language_model
from mlflow_fireworks.names import enumerate_names

_SHOWN = 5
# Decoders count their layers here; towers of other senses and drafting layers have names in front.
_LAYER = re.compile(r"(?:(?:model|language_model|transformer|gpt_neox)\.){0,3}(?:layers|h)\.(\d+)\.")
_INPUT = re.compile(r"emb|wte|shared\.weight")
_OUTPUT = re.compile(r"head|output|embed_out")
_OF_ADAPTER = re.compile(r"\.(lora_[AB]|lora_embedding_[AB])\.|\.base_layer\.(weight|bias)$")
# Phi-4-multimodal is published with the adapters of its senses inside.
_WITH_ADAPTERS = ("phi4mm", "phi4_multimodal")
_EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.")
_EXPERT_COUNTS = ("num_local_experts", "n_routed_experts", "num_experts")
# Decoders whose layers all have the same tensors, and a norm behind the last of them.
_UNIFORM = frozenset(
    ("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "granite", "starcoder2")
)
_BUFFERS = ("rotary_emb.inv_freq", ".masked_bias", ".attn.bias")
_ORIGINAL = re.compile(r"layers\.0\.attention\.wq\.weight")


def find_missing_parts(config: Document, names: Collection[str]) -> Iterator[str]:
    """Find what a whole model lacks.

    Args:
        config: The parsed `config.json`.
        names: All its tensors.

    Yields:
        One line each: what is wrong, what to do.
    """
    wrapped = sorted(name for name in names if _OF_ADAPTER.search(name))
    if wrapped and text_of(config, "model_type") not in _WITH_ADAPTERS:
        yield (
            f"the weights hold a LoRA that was not merged ({len(wrapped)} tensors, e.g. {wrapped[0]}), and loaders "
            "would leave it out: save the model after merge_and_unload(), or deploy the adapter alone"
        )
        return
    if any(map(_ORIGINAL.fullmatch, names)):
        yield (
            "the tensors have the names of Meta's and Mistral's own format (layers.0.attention.wq), which Fireworks "
            "does not read: convert the model to transformers' format"
        )
        return
    if "auto_map" in config:
        return  # code of its own may share layers
    numbers = {int(match[1]) for name in names if (match := _LAYER.match(name))}
    yield from _check_layers(config, numbers)
    yield from _check_experts(config, names)
    if text_of(config, "model_type") in _UNIFORM:
        yield from _check_uniform_layers(names)
    if numbers and not any(map(_INPUT.search, names)):
        yield "the weights hold layers but no input embeddings, so they are incomplete: save the model again"
    unties = any(part.get("tie_word_embeddings") is False for part in with_language_model(config))
    generates = any(name.endswith("ForCausalLM") for name in texts_of(config, "architectures"))
    if numbers and unties and generates and not any(map(_OUTPUT.search, names)):
        yield (
            "config.json says tie_word_embeddings=false and the weights hold no head (lm_head.weight): save the model "
            "again, or take the key out if head and embeddings are one"
        )


def _check_layers(config: Document, numbers: Collection[int]) -> Iterator[str]:
    counts = [count for part in with_language_model(config) if (count := number_of(part, "num_hidden_layers"))]
    if not counts or not numbers or "block_configs" in config:  # Nemotron-NAS leaves whole layers out
        return
    count = min(counts)
    found = sum(number < count for number in numbers)
    if found < count:
        missing = ", ".join(map(str, islice((number for number in range(count) if number not in numbers), _SHOWN)))
        yield (
            f"config.json says num_hidden_layers={count} and the weights hold {found} of these layers (not "
            f"{missing}{', …' if count - found > _SHOWN else ''}): a shard is missing, or the config is another model's"
        )


def _check_experts(config: Document, names: Collection[str]) -> Iterator[str]:
    """Each layer that has experts of its own has all of them; fused ones have no numbers."""
    found: dict[str, set[int]] = defaultdict(set)
    for name in names:
        if match := _EXPERT.match(name):
            found[match[1]].add(int(match[2]))
    counts = [count for part in with_language_model(config) if (count := number_of(part, *_EXPERT_COUNTS))]
    lacking = sorted(block for block, numbers in found.items() if counts and len(numbers) < min(counts))
    if lacking:
        yield (
            f"config.json says {min(counts)} experts and {lacking[0]} has {len(found[lacking[0]])} of them"
            f"{f' (so have {len(lacking) - 1} more layers)' if lacking[1:] else ''}: the weights are incomplete"
        )


def _check_uniform_layers(names: Collection[str]) -> Iterator[str]:
    layers: dict[str, set[str]] = defaultdict(set)
    for name in names:
        if (match := _LAYER.match(name)) and not name.endswith(_BUFFERS):
            layers[match[1]].add(name[match.end() :])
    every = set().union(*layers.values())
    if any(not name.endswith((".weight", ".bias")) for name in every):
        return  # quantised, and often not in all layers
    missing = sorted(f"{number}.{name}" for number, found in layers.items() for name in every - found)
    if missing:
        named = enumerate_names(missing, _SHOWN)
        yield f"{len(missing)} tensors are missing that other layers have (layer.name): {named}; save the model again"
    if layers and not any(name.endswith("norm.weight") and not _LAYER.match(name) for name in names):
        yield "the final norm is missing (model.norm.weight): the weights are incomplete"
