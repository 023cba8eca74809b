"""The header of a safetensors file: which tensors it holds, and whether they fill the file exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mlflow_fireworks.emulator.validation.files import UploadedFile, invalid, parse_object

LENGTH_BYTES = 8
"""The file starts with the length of its header, a little-endian number of so many bytes."""

MAX_HEADER_BYTES = 100_000_000
"""As in the safetensors library."""

_MAX_DIMENSIONS = 16
_DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F4": 4,
    "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One entry of a safetensors header."""

    dtype: str
    shape: tuple[int, ...]


def read_tensors(name: str, file: UploadedFile) -> dict[str, Tensor]:
    """Parse a safetensors header and hold it against the file's length.

    Raises:
        ApiError: INVALID_ARGUMENT when it is no safetensors file, or shorter or longer than its header says.
    """
    length = int.from_bytes(file.head[:LENGTH_BYTES], "little")
    start_of_data = LENGTH_BYTES + length
    fits = len("{}") <= length <= MAX_HEADER_BYTES and start_of_data <= file.size
    if not fits or len(file.head) < start_of_data:
        raise invalid(f"{name} is not a valid safetensors file: its header does not fit into {file.size} bytes")
    header = parse_object(name, file.head[LENGTH_BYTES:start_of_data])
    spans: list[tuple[int, int]] = []
    tensors: dict[str, Tensor] = {}
    for key, value in header.items():
        if key != "__metadata__":
            tensors[key], span = _tensor(name, key, value)
            spans.append(span)
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise invalid(f"{name} is not a valid safetensors file: its tensors overlap or leave gaps")
        end = stop
    if start_of_data + end != file.size:
        raise invalid(
            f"{name} is {file.size} bytes long but its header describes {start_of_data + end}: truncated or corrupt"
        )
    return tensors


def _tensor(file: str, key: str, value: Any) -> tuple[Tensor, tuple[int, int]]:
    try:
        dtype, shape, (start, stop) = value["dtype"], value["shape"], value["data_offsets"]
        numbers = [*shape, start, stop]
        sane = len(shape) <= _MAX_DIMENSIONS and all(type(n) is int and 0 <= n < 2**63 for n in numbers)
        if sane and (stop - start) * 8 == math.prod(shape) * _DTYPE_BITS[dtype]:
            return Tensor(dtype, tuple(shape)), (start, stop)
    except (KeyError, TypeError, ValueError):
        pass
    raise invalid(f"{file} is not a valid safetensors file: tensor {key!r} has a bad entry")
