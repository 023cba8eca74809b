"""Resumable uploads as Cloud Storage's XML API does them.

A signed POST with ``x-goog-resumable: start`` opens a session; PUTs to the session URI carry the bytes with a
``Content-Range``; an incomplete one is answered 308 with the ``Range`` that has been persisted, which is always a
multiple of 256 KiB. ``Content-Range: bytes */N`` asks how far it got; DELETE cancels. A session lives a week.
The initiating headers of Fireworks' own URLs are not public: see "resumable" in the reference of this project.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from urllib.parse import quote

from mlflow_fireworks.emulator.protocol.wire import Response
from mlflow_fireworks.emulator.storage.bucket import Bucket, check_range, response_headers
from mlflow_fireworks.emulator.storage.intake import Intake, Progress
from mlflow_fireworks.emulator.storage.signing import BUCKET, LENGTH_RANGE, StorageError
from mlflow_fireworks.emulator.storage.state import Resource

CHUNK_BYTES = 256 * 1024
LIFE_SECONDS = 7 * 86400

_INCOMPLETE, _CANCELLED, _GONE = 308, 499, 410


class Sessions:
    """Open upload sessions, kept in the state folder so that another process can go on with them."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def start(self, key: str, headers: Mapping[str, str]) -> Response:
        """Open a session for one object.

        Raises:
            StorageError: The request does not ask for one.
        """
        if headers.get("x-goog-resumable") != "start":
            raise StorageError(400, "InvalidArgument", "A resumable upload starts with x-goog-resumable: start.")
        id_ = secrets.token_urlsafe(32)
        account = key.split("/")[1] if key.startswith("accounts/") else ""
        session = Resource("uploads", account, id_, asdict(Progress()))
        session.private = {
            "key": key,
            "range": headers.get(LENGTH_RANGE, ""),
            "kept": uuid.uuid4().hex,
            "opened_at": self._bucket.clock(),
        }
        with self._bucket.store.transaction() as transaction:
            transaction.put(session)
        location = f"http://{headers.get('host', '')}/{BUCKET}/{quote(key, safe='/~')}?upload_id={id_}"
        return Response(201, headers={"Location": location, "x-guploader-uploadid": id_})

    def put(self, key: str, id_: str, headers: Mapping[str, str], body: Iterable[bytes]) -> Response:
        """Take a chunk, or answer how far the session is.

        Raises:
            StorageError: The session does not exist or has expired, or the range is invalid.
        """
        session = self._open(key, id_)
        if session.private.get("complete"):
            return Response(200, headers=session.private["complete"])
        length = int(headers.get("content-length", 0))
        first, last, total = _content_range(headers.get("content-range"), length)
        if total is not None:
            check_range(total, session.private["range"])
        if first is None or last is None:
            return self._finish_empty(session) if total == 0 else _progress(session)
        persisted = session.body["size"]
        if last - first + 1 != length or first > persisted or (total is not None and last >= total):
            raise StorageError(400, "InvalidArgument", f"Invalid Content-Range: {persisted} bytes are persisted.")
        final = last + 1 == total
        if not final and length < CHUNK_BYTES:
            raise StorageError(
                400,
                "InvalidArgument",
                f"The number of bytes uploaded is required to be equal or greater than {CHUNK_BYTES}, except for "
                f"the final request. The received request contained {length} bytes.",
            )
        return self._take(session, body, skip=persisted - first, final=final)

    def cancel(self, key: str, id_: str) -> Response:
        """Forget a session; answers 499, as Cloud Storage does."""
        session = self._open(key, id_)
        with self._bucket.store.transaction() as transaction:
            transaction.remove(session)
        if not session.private.get("complete"):
            (self._bucket.store.kept / session.private["kept"]).unlink(missing_ok=True)
        return Response(_CANCELLED)

    def _open(self, key: str, id_: str) -> Resource:
        account = key.split("/")[1] if key.startswith("accounts/") else ""
        with self._bucket.store.transaction() as transaction:
            session = transaction.get("uploads", account, id_)
        if session is None or session.private["key"] != key:
            raise StorageError(404, "NoSuchUpload", "The specified upload does not exist.")
        if self._bucket.clock() >= session.private["opened_at"] + LIFE_SECONDS:
            raise StorageError(_GONE, "NoSuchUpload", "The upload session has expired.")
        return session

    def _take(self, session: Resource, body: Iterable[bytes], *, skip: int, final: bool) -> Response:
        store, private = self._bucket.store, session.private
        progress = Progress(**session.body)
        everything = self._bucket.options.keeps(int(private["range"].partition(",")[2]))
        with Intake(
            store.kept / private["kept"], private["key"], everything=everything, md5=False, progress=progress
        ) as intake:
            intake.keep()
            try:
                rest = _take_whole_chunks(intake, body, skip)
                if final:
                    intake.take(rest)
            finally:
                # Also when the connection was cut: what was persisted is not lost.
                session.body = asdict(intake.progress)
                with store.transaction() as transaction:
                    transaction.put(session)
            return self._complete(session, intake) if final else _progress(session)

    def _finish_empty(self, session: Resource) -> Response:
        """``bytes */0`` completes an empty object."""
        return self._take(session, (), skip=0, final=True)

    def _complete(self, session: Resource, intake: Intake) -> Response:
        check_range(intake.size, session.private["range"])
        stored = self._bucket.describe(session.private["key"], intake)
        self._bucket.land(stored)
        session.private["complete"] = response_headers(stored)
        with self._bucket.store.transaction() as transaction:
            transaction.put(session)
        return Response(200, headers=session.private["complete"])


def _take_whole_chunks(intake: Intake, body: Iterable[bytes], skip: int) -> bytes:
    """Take multiples of 256 KiB after skipping what is there already; returns what is left over."""
    rest = bytearray()
    for piece in body:
        fresh = piece[skip:]
        skip = max(0, skip - len(piece))
        rest += fresh
        whole = len(rest) - len(rest) % CHUNK_BYTES
        if whole:
            intake.take(bytes(rest[:whole]))
            del rest[:whole]
    return bytes(rest)


def _progress(session: Resource) -> Response:
    size = session.body["size"]
    return Response(_INCOMPLETE, headers={"Range": f"bytes=0-{size - 1}"} if size else {})


def _content_range(header: str | None, length: int) -> tuple[int | None, int | None, int | None]:
    """First and last byte and total; None for what the header leaves open."""
    if header is None:
        return (0, length - 1, length) if length else (None, None, 0)
    match = re.fullmatch(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18}|\*)", header)
    if not match:
        raise StorageError(400, "InvalidArgument", "Invalid Content-Range.")
    first, last, total = match[1], match[2], match[3]
    return (
        int(first) if first is not None else None,
        int(last) if last is not None else None,
        None if total == "*" else int(total),
    )
