"""What a safetensors file says about itself in its header, without reading the tensors.

The format (github.com/huggingface/safetensors, README): eight bytes, the header's length N as a little-endian
unsigned integer; N bytes of JSON that name every tensor with its dtype, shape and place; then the tensors, without
holes. So the header alone tells how long the file must be. It is read here rather than with the safetensors
library because that maps whole files, while a remote file's first bytes are all that should be fetched.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mlflow_fireworks.artifacts.documents import LFS_POINTER, Fault, is_lfs_pointer
from mlflow_fireworks.progress import format_bytes

# Most headers fit: one read (or one range request) then does for the length and the JSON.
_FIRST_READ_BYTES = 64 * 1024
# The library's own limit (safetensors 0.8, MAX_HEADER_SIZE).
_MAX_HEADER_BYTES = 100_000_000
_LENGTH_BYTES = 8
_ALIGNMENT = 8

_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8"), 8),
    **dict.fromkeys(("F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}


@dataclass(frozen=True)
class Header:
    """What a header says.

    Args:
        shapes: Every tensor's shape by name.
        dtypes: Every tensor's dtype by name, as safetensors writes it (`BF16`).
        places: Where every tensor begins and ends in the file.
        size: How long the file must be, in bytes.
        metadata: Text that its maker left, such as `{"format": "pt"}`.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    places: Mapping[str, tuple[int, int]]
    size: int
    metadata: Mapping[str, str] = field(default_factory=dict)

    def elements(self) -> Counter[str]:
        """Number of elements by dtype."""
        count: Counter[str] = Counter()
        for name, shape in self.shapes.items():
            count[self.dtypes[name]] += math.prod(shape)
        return count


def read_header(head: Callable[[int], bytes], size: int) -> Header | Fault:
    """Read a header and check it, and the file's length, against each other.

    Args:
        head: Gives the file's first bytes, at most as many as asked for.
        size: The file's length in bytes.

    Returns:
        The header, or what is wrong with the file.
    """
    start = head(min(_FIRST_READ_BYTES, size))
    if is_lfs_pointer(start):
        return LFS_POINTER
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    if len(start) <= _LENGTH_BYTES or not 0 < length <= _MAX_HEADER_BYTES or start[_LENGTH_BYTES] != ord("{"):
        return Fault("is not a safetensors file (no readable header)")
    end = _LENGTH_BYTES + length
    if end > size:
        return Fault(f"is truncated: {format_bytes(size)}, and its header alone takes {format_bytes(end)}")
    if len(start) < end:
        start = head(end)
    try:
        entries = json.loads(start[_LENGTH_BYTES:end])
        header = _check_entries(entries, end)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Fault("has a damaged safetensors header")
    if isinstance(header, Header) and header.size != size:
        return _wrong_length(size, header.size)
    return header


def _wrong_length(size: int, expected: int) -> Fault:
    if size < expected:
        missing = format_bytes(expected - size)
        return Fault(f"is truncated: {size} bytes, but its header says {expected} ({missing} missing)")
    return Fault(f"is {size} bytes long, but its header says {expected}")


def _check_entries(entries: dict[str, dict[str, object]], begin: int) -> Header | Fault:
    """Raises whatever a header of the wrong shape causes; the caller turns that into one fault."""
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    places: dict[str, tuple[int, int]] = {}
    metadata = {str(key): str(value) for key, value in (entries.pop("__metadata__", None) or {}).items()}
    for name, entry in entries.items():
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not (isinstance(dtype, str) and isinstance(shape, list) and isinstance(offsets, list)):
            raise TypeError(name)
        first, last = offsets
        if dtype not in _BITS:
            return Fault(f"holds tensor {name} of unknown dtype {dtype[:20]}")
        if min(shape, default=0) < 0 or (last - first) * 8 != math.prod(shape) * _BITS[dtype]:
            return Fault(f"has a header in which the shape of tensor {name} does not match its size")
        shapes[name], dtypes[name] = tuple(shape), dtype
        places[name] = (begin + first, begin + last)
    position = begin
    for first, last in sorted(places.values()):
        if first != position:
            return Fault("has a header in which tensors overlap or leave gaps")
        position = last
    return Header(shapes, dtypes, places, position, metadata)


def write_header(header: Header, names: Mapping[str, str]) -> bytes:
    """The first bytes of a file that holds some tensors of another one, one behind the other.

    Args:
        header: Of the file that they are in.
        names: The tensors in their new order, and what each is called in the new file.

    Returns:
        Length and JSON, padded so that the tensors begin at a multiple of eight bytes.
    """
    entries: dict[str, object] = {"__metadata__": dict(header.metadata)} if header.metadata else {}
    position = 0
    for name, new_name in names.items():
        begin, end = header.places[name]
        offsets = [position, position := position + end - begin]
        entries[new_name] = {"dtype": header.dtypes[name], "shape": header.shapes[name], "data_offsets": offsets}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def width_of(dtype: str) -> int:
    """Bytes of one element, at least one; an element's address is best a multiple of it."""
    return max(1, _BITS[dtype] // 8)
