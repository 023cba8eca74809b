"""The bucket: takes the bytes of signed uploads in passing and remembers what landed. Knows nothing of sockets.

A 100 GB checkpoint must not need 100 GB here. Every body is counted and hashed while it streams by; only
what validation reads is written to disk: configuration, tokenizer, index, and the header of safetensors files.
"""

from __future__ import annotations

import base64
import re
import time
import uuid
from collections.abc import Iterable, Mapping

from mlflow_fireworks.emulator.options import Clock, Options
from mlflow_fireworks.emulator.protocol.wire import Response
from mlflow_fireworks.emulator.storage.intake import MD5_LIMIT_BYTES, Intake
from mlflow_fireworks.emulator.storage.signing import LENGTH_RANGE, StorageError
from mlflow_fireworks.emulator.storage.state import Store, StoredObject

_LENGTH_UNKNOWN = 2**63


class Bucket:
    """Uploaded objects of one state folder."""

    def __init__(self, store: Store, options: Options, clock: Clock) -> None:
        self.store = store
        self.options = options
        self.clock = clock

    def check_length(self, headers: Mapping[str, str]) -> None:
        """Hold the announced body length against the signed range.

        Raises:
            StorageError: EntityTooLarge, EntityTooSmall, or MissingContentLength.
        """
        chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        if length is None and not chunked:
            raise StorageError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
        if length is not None:
            check_range(int(length), headers.get(LENGTH_RANGE, ""))

    def receive(self, key: str, headers: Mapping[str, str], body: Iterable[bytes]) -> Response:
        """Take one complete PUT body.

        Args:
            key: Object name, from the signed path.
            headers: Request headers, names in lower case.
            body: The bytes in pieces; must raise if the connection ends early.

        Returns:
            A 200 without a body.

        Raises:
            StorageError: The body does not fit its signed range or the hash that came with it.
        """
        dropped = "transfer-encoding" in headers and self.options.behaviours.has("chunked-uploads", "dropped")
        md5 = int(headers.get("content-length", 0)) <= MD5_LIMIT_BYTES
        everything = self.options.keeps(int(headers.get("content-length", _LENGTH_UNKNOWN)))
        path = self.store.kept / uuid.uuid4().hex
        with Intake(path, key, everything=everything, md5=md5) as intake:
            for piece in body:
                intake.take(piece)
            check_range(intake.size, headers.get(LENGTH_RANGE, ""))
            stored = self.describe(key, intake)
            _check_hash(stored, headers.get("x-goog-hash", ""))
            if not dropped:
                self.land(stored)
                intake.keep()
        return Response(200, headers=response_headers(stored))

    def describe(self, key: str, intake: Intake) -> StoredObject:
        """The object that a complete body becomes."""
        landed_at = self.clock() + self.options.landing_seconds
        return StoredObject(key, intake.size, intake.crc32c, intake.md5, time.time_ns(), landed_at, intake.kept_name)

    def land(self, stored: StoredObject) -> None:
        """Put an object in its place; it counts from its landing time on."""
        with self.store.transaction() as transaction:
            transaction.put_object(stored)

    def read(self, key: str) -> Response:
        """The bytes of a small object.

        Raises:
            StorageError: There is no such object, or its bytes were not kept.
        """
        with self.store.transaction() as transaction:
            stored = transaction.object(key)
            path = self.store.kept / stored.kept if stored and stored.kept else None
            if stored and path and path.stat().st_size == stored.size:
                headers = {"Content-Type": "application/octet-stream", **response_headers(stored)}
                return Response(200, path.read_bytes(), headers)
        if stored is None:
            raise StorageError(404, "NoSuchKey", "The specified key does not exist.")
        raise StorageError(
            404,
            "NoSuchKey",
            "The emulator keeps no bytes of large files: start it with keep_everything to change that.",
        )


def check_range(size: int, allowed: str) -> None:
    """Hold a body length against an ``x-goog-content-length-range``.

    Raises:
        StorageError: EntityTooLarge or EntityTooSmall.
    """
    match = re.fullmatch(r"([0-9]{1,19}),([0-9]{1,19})", allowed)
    if match and size < int(match[1]):
        raise StorageError(
            400,
            "EntityTooSmall",
            "Your proposed upload is smaller than the minimum allowed object size.",
            f"Content-length {size} is below {match[1]}.",
        )
    if match and size > int(match[2]):
        raise StorageError(
            400,
            "EntityTooLarge",
            "Your proposed upload is larger than the maximum object size specified in your Policy Document.",
            f"Content-length {size} exceeds {match[2]}.",
        )


def response_headers(stored: StoredObject) -> dict[str, str]:
    """What Cloud Storage says of an object that it took."""
    hashes = f"crc32c={stored.crc32c}" + (f",md5={stored.md5}" if stored.md5 else "")
    etag = base64.b64decode(stored.md5).hex() if stored.md5 else f"-{stored.generation:x}"
    return {
        "ETag": f'"{etag}"',
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": "1",
        "x-goog-hash": hashes,
        "x-goog-stored-content-encoding": "identity",
        "x-goog-stored-content-length": str(stored.size),
        "x-guploader-uploadid": uuid.uuid4().hex,
    }


def _check_hash(stored: StoredObject, sent: str) -> None:
    """A client may send ``x-goog-hash`` with its own sums; storage refuses a body that differs."""
    for part in sent.split(","):
        kind, _, value = part.strip().partition("=")
        actual = {"crc32c": stored.crc32c, "md5": stored.md5}.get(kind)
        if actual and value != actual:
            raise StorageError(
                400,
                "BadDigest",
                f"The {kind} you specified did not match what we received.",
                f"Expected {value}, received {actual}.",
            )
