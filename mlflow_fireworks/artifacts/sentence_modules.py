"""What sentence-transformers says of a model in `modules.json`, and whether Fireworks can serve that.

The file names the steps from text to vector, each with its class and its folder. It is not only written for dense
embeddings: sentence-transformers 6 writes it for cross-encoders, sparse and multi-vector encoders as well and puts the
class of the whole into `config_sentence_transformers.json` (`model_type`); version 5 did so for sparse encoders.
(Seen in what sentence-transformers 6.2 saves; PyLate's models name modules of its own.)
"""

import json
from collections.abc import Iterable, Mapping, Sequence

from mlflow_fireworks.artifacts.content import Made, Part
from mlflow_fireworks.artifacts.documents import Document, Fault, text_of

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
_DENSE = {"Transformer", "Pooling", "WeightedLayerPooling", "Dense", "LayerNorm", "Normalize", "Dropout"}
_WITH_SETTINGS = {"Pooling", "WeightedLayerPooling", "Dense", "LayerNorm"}
_WITH_WEIGHTS = {"Dense", "LayerNorm", "WeightedLayerPooling"}
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_CROSS = "a cross-encoder, which scores pairs of texts"
_SPARSE = "a sparse encoder, which gives each text a weight for each word"
_MULTI = "a multi-vector encoder, which gives each token a vector"
_ROUTER = "a router, which has one model for queries and another for documents"
_WHOLES = {"CrossEncoder": _CROSS, "SparseEncoder": _SPARSE, "MultiVectorEncoder": _MULTI, "ColBERT": _MULTI}
# What gives a module away where the whole is not named; found in the path of its class.
_MARKS = {
    "cross_encoder.": _CROSS,
    "sparse_encoder.": _SPARSE,
    "multi_vector_encoder.": _MULTI,
    "pylate.": _MULTI,
    ".Router": _ROUTER,
    ".Asym": _ROUTER,
}


def read_modules(files: Mapping[str, Part]) -> list[Document]:
    """The entries of `modules.json`; none when there is no readable one."""
    return parse_modules(files[MODULES].read()) if MODULES in files else []


def parse_modules(data: bytes) -> list[Document]:
    """The entries of a `modules.json`: {"idx", "name", "path", "type"} each; none when it is not readable."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return []
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []


def lift_transformer(files: dict[str, Part]) -> tuple[dict[str, Part], list[Document], list[str]]:
    """Put the transformer at the top, where Fireworks looks; older sentence-transformers keep it in a folder.

    Args:
        files: All files by name.

    Returns:
        The files, their modules, and a note where something was moved.
    """
    modules = read_modules(files)
    low = next((text_of(module, "path") for module in modules if class_of(module) == "Transformer"), None)
    if not low or "config.json" in files or f"{low}/config.json" not in files:
        return files, modules, []
    lifted = {name.removeprefix(f"{low}/"): part for name, part in files.items()}
    modules = [{**module, "path": ""} if module.get("path") == low else module for module in modules]
    lifted[MODULES] = Made(json.dumps(modules, indent=2).encode(), f"made from {files[MODULES].origin}")
    return lifted, modules, [f"{low}/ was moved to the top folder, where Fireworks looks, and {MODULES} was adapted"]


def list_module_folders(files: Iterable[str], modules: Sequence[Document]) -> list[str]:
    """The folders of the modules and those inside them, each with its slash."""
    paths = [f"{path}/" for module in modules if (path := text_of(module, "path"))]
    below = {name[: name.rindex("/") + 1] for name in files if "/" in name}
    return sorted(folder for folder in below if folder.startswith(tuple(paths)))


def find_misfit(modules: Sequence[Document], settings: Document) -> str | None:
    """What a model is instead of a dense embedding model, in words; None when it is one.

    Args:
        modules: From `lift_transformer`.
        settings: The parsed `config_sentence_transformers.json`.
    """
    whole = text_of(settings, "model_type") or ""
    if whole in _WHOLES:
        return f"{_WHOLES[whole]} ({whole})"
    for module in modules:
        path = _path_of(module)
        for mark, what in _MARKS.items():
            if path.startswith(mark) or f".{mark}" in f".{path}." or path.endswith(mark):
                return f"{what} ({class_of(module)})"
    if "maxsim" in str(settings.get("similarity_fn_name")).lower():
        return f"{_MULTI} (MaxSim)"
    for module in modules:
        if is_own_class(module) or class_of(module) in _DENSE:
            continue
        return f"a model with the module {class_of(module)}, which is not part of a dense embedding model"
    return None


def find_module_fault(files: Mapping[str, Part], modules: Sequence[Document]) -> Fault | None:
    """What modules lack; without its pooling or projection a model gives other vectors, and no error."""
    if MODULES not in files:
        return None
    if not modules:
        return Fault("is not a list of modules")
    for module in modules:
        path, kind = text_of(module, "path"), class_of(module)
        if not path:
            continue
        if kind in _WITH_SETTINGS and f"{path}/config.json" not in files:
            return Fault(f"names {path}/, and {path}/config.json is missing")
        if kind in _WITH_WEIGHTS and not any(f"{path}/{name}" in files for name in _WEIGHTS):
            return Fault(f"names {path}/ ({kind}), and its weights are missing ({path}/{_WEIGHTS[0]})")
    return None


def is_own_class(module: Document) -> bool:
    """Whether a module is made by code of the checkpoint's own, as with `custom_st.Transformer`."""
    return not _path_of(module).startswith(("sentence_transformers.", "pylate."))


def class_of(module: Document) -> str:
    """The name of a module's class, without its path, which differs between versions of sentence-transformers."""
    return _path_of(module).rpartition(".")[2]


def _path_of(module: Document) -> str:
    return text_of(module, "type") or ""
