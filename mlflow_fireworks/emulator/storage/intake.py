"""One body on its way in: counted, hashed, and kept only as far as validation will read it."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import google_crc32c
from typing_extensions import Self

from mlflow_fireworks.emulator.validation.safetensors import LENGTH_BYTES, MAX_HEADER_BYTES

KEEP_WHOLE_BYTES = 64 * 1024 * 1024
"""Tokenizers reach 35 MB and indexes of large models several; weights are never kept whole."""

MD5_LIMIT_BYTES = 16 * 1024 * 1024
"""Above it only crc32c is reported, as Cloud Storage does for composite objects: MD5 runs at a tenth of the
speed at which bytes arrive over loopback, and would be all that a benchmark against the emulator measures."""

_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".npz", ".tar", ".zip")


@dataclass(frozen=True)
class Progress:
    """How far a body has come; enough to go on later, in another process.

    Attributes:
        size: Bytes taken.
        crc: CRC32C of them.
        kept: How many leading bytes are in the file.
    """

    size: int = 0
    crc: int = 0
    kept: int = 0


class Intake:
    """Takes the pieces of one body. Leaves no file behind unless `keep` was called.

    Args:
        path: Where the kept bytes go.
        key: Object name; decides how much is worth keeping.
        everything: Keep all of it.
        md5: Also compute the MD5; only for a body that comes in one go.
        progress: Where an interrupted body stands.
    """

    def __init__(self, path: Path, key: str, *, everything: bool, md5: bool, progress: Progress | None = None) -> None:
        start = progress or Progress()
        self.size, self._crc, self._kept = start.size, start.crc, start.kept
        self._path = path
        self._file = path.open("r+b" if start.kept else "w+b", buffering=0)
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._leave = False
        self._header = bytearray(self._file.read(LENGTH_BYTES)) if start.kept else bytearray()
        self._file.seek(start.kept)
        self._reads_header = key.endswith(".safetensors") and not everything
        self._limit = KEEP_WHOLE_BYTES
        if everything:
            self._limit = 2**63
        elif self._reads_header:
            self._limit = self._header_end()
        elif key.endswith(_WEIGHTS):
            self._limit = 0

    @property
    def progress(self) -> Progress:
        """Where it stands."""
        return Progress(self.size, self._crc, self._kept)

    @property
    def crc32c(self) -> str:
        """As in ``x-goog-hash``."""
        return base64.b64encode(self._crc.to_bytes(4, "big")).decode()

    @property
    def md5(self) -> str:
        """As in ``x-goog-hash``; empty when it was not computed."""
        return base64.b64encode(self._md5.digest()).decode() if self._md5 else ""

    @property
    def kept_name(self) -> str:
        """Name of the file with the kept bytes; empty when none were worth keeping."""
        return self._path.name if self._kept else ""

    def take(self, piece: bytes) -> None:
        """Count, hash and perhaps keep the next bytes."""
        self.size += len(piece)
        self._crc = google_crc32c.extend(self._crc, piece)
        if self._md5:
            self._md5.update(piece)
        if self._reads_header and len(self._header) < LENGTH_BYTES:
            self._header += piece[: LENGTH_BYTES - len(self._header)]
            self._limit = self._header_end()
        if self._kept < self._limit:
            self._kept += self._file.write(piece[: self._limit - self._kept])

    def keep(self) -> None:
        """Leave the file in place at the end."""
        self._leave = True

    def _header_end(self) -> int:
        """How much of a safetensors file is header; known once its first eight bytes have arrived."""
        if len(self._header) < LENGTH_BYTES:
            return LENGTH_BYTES
        return LENGTH_BYTES + min(int.from_bytes(self._header, "little"), MAX_HEADER_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._leave or not self._kept:
            self._path.unlink(missing_ok=True)
