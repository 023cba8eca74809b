"""Whether a checkpoint is quantised already: by its configuration, by a file beside it, or by its tensors.

Tools say it in different places. transformers writes `quantization_config` into `config.json`, MLX `quantization`;
older AutoGPTQ and AutoAWQ and NVIDIA's ModelOpt write a file of their own. The tensors always show it: packed weights
are integers or eight-bit floats and have scales beside them, though most elements of a model may still be plain (its
embeddings). A configuration can also be left over from the copy that was tuned and merged.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from mlflow_fireworks.artifacts.checkpoint import Checkpoint
from mlflow_fireworks.artifacts.content import Part
from mlflow_fireworks.artifacts.documents import (
    Document,
    Fault,
    child_of,
    number_of,
    parse_document,
    text_of,
    with_language_model,
)
from mlflow_fireworks.artifacts.safetensors import Header
from mlflow_fireworks.config import Kind

WHAT_IS_KNOWN_OF_QUANTISED = (
    "Fireworks documents that it accepts FP16 or BF16 weights and quantises them itself, yet its own tool "
    "fireworks-prequant writes fp8 and nvfp4 checkpoints for it"
)
_PLAIN = {"F64", "F32", "F16", "BF16", "BOOL"}
_KEYS = ("quantization_config", "compression_config", "quantization")
_SIDE_FILES = (
    "quantize_config.json",  # AutoGPTQ
    "quant_config.json",  # AutoAWQ
    "hf_quant_config.json",  # ModelOpt, fireworks-prequant
    "quantization_config.json",
    "quanto_qmap.json",
    "quant_strategy.json",
)
# What packed weights and their scales are called by GPTQ and AWQ; compressed-tensors; fp8; bitsandbytes; HQQ; gpt-oss.
_PACKED = re.compile(
    r"\.(qweight|qzeros|g_idx|weight_packed|weight_scale(_inv|_2)?|weight_zero_point|weight\.(absmax|nested_absmax"
    r"|quant_map|quant_state\..+|_data|_scale)|SCB|W_q|[a-z_]+_proj_(blocks|scales))$"
)
_MATRIX = 2
_NO_WEIGHT = re.compile(r"(mask|bias|position|ids|idx|index|indices|table|count)[^.]*$|rotary|tid2eid")


def find_quantisation(
    checkpoint: Checkpoint, headers: Mapping[str, Header | Fault], files: Mapping[str, Part]
) -> str | None:
    """What shows that a checkpoint is quantised, in words; None when nothing does.

    Args:
        checkpoint: What is to go up.
        headers: Of its weights, as far as they were read.
        files: All files that were found beside them, by name.
    """
    read = [header for header in headers.values() if isinstance(header, Header) and header.shapes]
    packed = _describe_packed(read)
    if checkpoint.kind is Kind.ADDON:
        return packed
    are_known = bool(read) and len(read) == len(checkpoint.weight_names())
    if method := _find_method(checkpoint.document("config.json")):
        origin = checkpoint.files["config.json"].origin
        said = f"{origin} has a {method}"
        return said if packed or not are_known else f"{said}, and its weights are {_describe_plain(read)}"
    if packed or are_known:
        return packed
    named = [name for index in _list_indexes(checkpoint) for name in child_of(index, "weight_map")]
    if scales := next(filter(_PACKED.search, named), None):
        return f"its weights are packed ({scales})"
    return _describe_side_file(files)


def _find_method(config: Document) -> str | None:
    for part in with_language_model(config):
        for key in _KEYS:
            settings = part.get(key)
            if isinstance(settings, dict) and (key != "quantization" or "bits" in settings):
                return f"{key} ({_name_method(settings)})"
    return None


def _name_method(settings: Document) -> str:
    inner = child_of(settings, "quantization") or settings
    method = text_of(inner, "quant_method", "quant_algo", "quant_type", "format", "version")
    bits = number_of(inner, "bits", "w_bit")
    return ", ".join([*([method] if method else []), *([f"{bits} bits"] if bits else [])]) or "unknown method"


def _describe_plain(headers: Iterable[Header]) -> str:
    stored = sorted({dtype for header in headers for dtype in header.dtypes.values() if dtype in _PLAIN})
    return (
        f"plain {' and '.join(stored)}: if it is left over from a quantised copy, remove that key from "
        "config.json and log the model again"
    )


def _describe_packed(headers: Iterable[Header]) -> str | None:
    elements: dict[str, int] = defaultdict(int)
    shown: tuple[str, str] | None = None
    for header in headers:
        for dtype, count in header.elements().items():
            elements[dtype] += count
        shown = shown or next(((name, header.dtypes[name]) for name in header.shapes if _is_packed(name, header)), None)
    if sum(count for dtype, count in elements.items() if dtype not in _PLAIN) > sum(elements.values()) / 2:
        return f"most weights are stored as {max(elements, key=lambda dtype: elements[dtype])}"
    return f"its weights are packed ({shown[0]}, {shown[1]})" if shown else None


def _is_packed(name: str, header: Header) -> bool:
    """Integers that are no weights are masks and positions."""
    if _PACKED.search(name):
        return True
    is_weight = len(header.shapes[name]) >= _MATRIX and not _NO_WEIGHT.search(name)
    return is_weight and header.dtypes[name] not in _PLAIN


def _list_indexes(checkpoint: Checkpoint) -> list[Document]:
    return [checkpoint.document(folder + group.index) for folder, group in checkpoint.weights.items() if group.index]


def _describe_side_file(files: Mapping[str, Part]) -> str | None:
    for name in _SIDE_FILES:
        if name not in files:
            continue
        settings = parse_document(files[name].read())
        if isinstance(settings, Fault):
            return f"{files[name].origin} is present, as it is with quantised weights"
        inner = child_of(settings, "quantization")
        if "quant_algo" in inner and not inner["quant_algo"]:  # ModelOpt's word for what it left alone
            continue
        return f"{files[name].origin} says that its weights are quantised ({_name_method(settings)})"
    return None
