"""Which files of a flat Hugging Face folder Fireworks needs, told by their names.

Fireworks needs `config.json`, the weights with their index, the tokenizer, the processors of multimodal models,
`generation_config.json` and `fireworks.json` (Fireworks docs, "uploading custom models"). The rest stays: MLflow's
own files, training state, caches and locks, licences, cards and pictures, and the same weights in a second format.
Python files go up only where a config names them (`auto_map`), because without them such a model cannot be read.
"""

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

_JUNK_FOLDER = re.compile(r"(\..+|__pycache__|checkpoint-\d+|global_step\d+)")
TRAINING_CHECKPOINT = re.compile(r"(?:^|/)(checkpoint-\d+|global_step\d+)(?=/)")
_TRAINING_STATE = (
    "optimizer*",
    "scheduler*",
    "scaler.pt",
    "rng_state*",
    "random_states*",
    "trainer_state.json",
    "training_args.*",
    "*.lock",
    "*.metadata",
)
_SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "fireworks.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*.json",
    "vocab*.txt",
    "merges*.txt",
    "bpe.codes",
    "*.model",
    "tokenizer.model.*",
    "*.tiktoken",
    "tekken.json",
    "normalizer.json",
    "chat_template.jinja",
    "chat_template.json",
    "*preprocessor_config.json",
    "processor_config.json",
)
_EMBEDDING_FILES = ("modules.json", "config_sentence_transformers.json", "sentence_*_config.json")
_VOCABULARIES = (
    "tokenizer.json",
    "*.model",
    "tokenizer.model.*",
    "*.tiktoken",
    "vocab.txt",
    "vocab.json",
    "tekken.json",
)
# What Fireworks serves, best first: (ending, the name of a lone file).
_FORMATS = ((".safetensors", "model.safetensors"), (".bin", "pytorch_model.bin"))
_FOREIGN_WEIGHTS = (
    ".gguf",
    ".ggml",
    ".onnx",
    ".h5",
    ".msgpack",
    ".pth",
    ".pt",
    ".ckpt",
    ".tflite",
    ".pdparams",
    ".distcp",
    ".nemo",
)
_SHARD = re.compile(r"-\d+-of-\d+\.")

# What trainers leave beside a model or an adapter that is a part of neither: TRL's value head, FSDP's own dump.
_OF_TRAINERS = ("value_head.*", "v_head.*", "pytorch_model_fsdp*")

ADAPTER_CONFIG = "adapter_config.json"
# The only way to set an adapter's generation defaults (Fireworks docs, "uploading custom models").
DEFAULTS_FILE = "fireworks.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class Weights:
    """The weights files of one folder.

    Args:
        files: Names of those that are there and go up.
        index: Name of the index that divides the tensors among them, if there is one.
        shards: Every name in that index, there or not.
        unused: Names of weights files that stay.
        lacks_index: There are several files and no index tells which tensors are where.
        rivals: The shards of a complete index that lose to a lone file.
    """

    files: tuple[str, ...]
    index: str | None = None
    shards: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()
    lacks_index: bool = False
    rivals: tuple[str, ...] = ()


def is_junk(path: str) -> bool:
    """Whether a file is training state, or lies in a cache or a training checkpoint, wherever it is."""
    *folders, name = path.split("/")
    return any(map(_JUNK_FOLDER.fullmatch, folders)) or _matches(name, _TRAINING_STATE)


def is_weights(name: str) -> bool:
    """Whether a name (without folders) is one of model weights that Fireworks can serve."""
    if name in ADAPTER_WEIGHTS or _matches(name, _TRAINING_STATE + _OF_TRAINERS):
        return False
    return name.endswith(".safetensors") or bool(re.fullmatch(r"(pytorch_)?model.*\.bin", name))


def lone_name(name: str) -> str:
    """What a weights file is called where it is the only one; a shard of several keeps its name."""
    if _SHARD.search(name) and "-00001-of-00001." not in name:
        return name
    return next(single for ending, single in _FORMATS if name.endswith(ending))


def is_foreign_weights(name: str) -> bool:
    """Whether a name is one of weights in a format that Fireworks does not take."""
    return name.endswith(_FOREIGN_WEIGHTS) and not _matches(name, _TRAINING_STATE)


def is_index(name: str) -> bool:
    """Whether a name is one of an index of weights that Fireworks can serve."""
    return name.endswith(tuple(f"{ending}.index.json" for ending, _ in _FORMATS))


def is_needed(name: str, *, embedding: bool) -> bool:
    """Whether a small file (without folders in its name) goes up."""
    return _matches(name, _SMALL_FILES + _EMBEDDING_FILES if embedding else _SMALL_FILES)


def has_vocabulary(names: Iterable[str]) -> bool:
    """Whether there is a tokenizer that can be loaded, not only its settings."""
    return any(_matches(name, _VOCABULARIES) for name in names)


def choose_weights(names: Collection[str], shards_of: Mapping[str, frozenset[str]]) -> Weights | None:
    """Choose the weights of one folder as transformers does: safetensors before .bin, one file before shards.

    Args:
        names: The folder's own files.
        shards_of: For each index among them the files that it names; empty when it cannot be read.

    Returns:
        What goes up, or None when there are no weights that Fireworks takes.
    """
    for ending, single in _FORMATS:
        found = sorted(name for name in names if name.endswith(ending) and is_weights(name))
        index = _pick_index(names, single)
        if not found and index is None:
            continue
        shards = shards_of[index] if index else frozenset()
        rivals: tuple[str, ...] = ()
        if single in found and single not in shards:
            if index == f"{single}.index.json" and shards and shards <= set(found):
                rivals = tuple(sorted(shards))
            chosen, index, shards = [single], None, frozenset()
        elif index:
            chosen = [name for name in found if name in shards]
        else:
            chosen = [name for name in found if _SHARD.search(name)] or found
        unused = tuple(sorted(name for name in names if _is_unused_weights(name) and name not in chosen))
        lacks_index = index is None and len(chosen) > 1
        return Weights(tuple(chosen), index, shards, unused, lacks_index, rivals)
    return None


def _pick_index(names: Collection[str], single: str) -> str | None:
    standard = f"{single}.index.json"
    others = sorted(name for name in names if name.endswith(standard[standard.index(".") :]))
    return standard if standard in others else others[0] if others else None


def _is_unused_weights(name: str) -> bool:
    return is_weights(name) or is_foreign_weights(name) or name.endswith(".bin")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
