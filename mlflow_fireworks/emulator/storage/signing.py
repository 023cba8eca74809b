"""V4 signed URLs in the shape of Google Cloud Storage, and the XML errors that go with them.

The canonical request and the string to sign are built as in "V4 signing process" of the Cloud Storage
documentation, so that any change of method, path, query, host or signed header gives another signature. Only
the last step differs: an HMAC with the state folder's secret takes the place of Google's private RSA key.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import time
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

from mlflow_fireworks.emulator.protocol.wire import Response

BUCKET = "fireworks-local"
LENGTH_RANGE = "x-goog-content-length-range"

_ALGORITHM = "GOOG4-RSA-SHA256"
_ACCOUNT = "uploads@fireworks-local.iam.gserviceaccount.com"
_DATE_FORMAT = "%Y%m%dT%H%M%SZ"


class StorageError(Exception):
    """A refusal of the storage side.

    Attributes:
        status: HTTP status.
        code: The ``Code`` of the XML body, such as ``SignatureDoesNotMatch``.
        message: The ``Message`` of the XML body.
    """

    def __init__(self, status: int, code: str, message: str, details: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self._details = details

    def response(self) -> Response:
        """The refusal as Cloud Storage writes it."""
        details = f"<Details>{html.escape(self._details, quote=False)}</Details>" if self._details else ""
        text = (
            "<?xml version='1.0' encoding='UTF-8'?><Error>"
            f"<Code>{self.code}</Code><Message>{html.escape(self.message, quote=False)}</Message>{details}</Error>"
        )
        headers = {"Content-Type": "application/xml; charset=UTF-8"}
        return Response(self.status, text.encode("utf-8", "replace"), headers, why=self.code)


@dataclass(frozen=True)
class Signer:
    """Makes and checks signed URLs.

    Args:
        secret: Shared by all processes over one state folder.
    """

    secret: bytes

    def sign(
        self, method: str, host: str, key: str, headers: Mapping[str, str], *, now: float, expires_seconds: int
    ) -> str:
        """The URL under which the holder may do one thing to one object.

        Args:
            method: HTTP method.
            host: ``Host`` header the request will carry.
            key: Object name.
            headers: Further headers that become part of the signature, lower case.
            now: Seconds since the epoch.
            expires_seconds: Life of the URL.
        """
        stamp = time.strftime(_DATE_FORMAT, time.gmtime(now))
        signed = sorted({**headers, "host": host})
        query = {
            "X-Goog-Algorithm": _ALGORITHM,
            "X-Goog-Credential": f"{_ACCOUNT}/{_scope(stamp)}",
            "X-Goog-Date": stamp,
            "X-Goog-Expires": str(expires_seconds),
            "X-Goog-SignedHeaders": ";".join(signed),
        }
        path = f"/{BUCKET}/{quote(key, safe='/~')}"
        text = _canonical_query(list(query.items()))
        signature = self._signature([method, path, text], {**headers, "host": host}, signed, stamp)
        return f"http://{host}{path}?{text}&X-Goog-Signature={signature}"

    def check(self, method: str, path: str, query: str, headers: Mapping[str, str], now: float) -> None:
        """Refuse a request whose URL is expired, tampered with, or used otherwise than it was signed for.

        Args:
            method: HTTP method.
            path: Path as sent, still percent-encoded.
            query: Query string as sent.
            headers: Request headers, names in lower case.
            now: Seconds since the epoch.

        Raises:
            StorageError: As Cloud Storage words it.
        """
        pairs = parse_qsl(query, keep_blank_values=True)
        values = dict(pairs)
        signature = values.get("X-Goog-Signature")
        if signature is None or values.get("X-Goog-Algorithm") != _ALGORITHM or len(values) != len(pairs):
            raise StorageError(403, "AccessDenied", "Access denied.", "Anonymous caller does not have access.")
        signed = values.get("X-Goog-SignedHeaders", "").split(";")
        missing = [name for name in signed if name not in headers]
        if missing:
            raise StorageError(
                400,
                "MalformedSecurityHeader",
                "Your request has a malformed header.",
                f"Header was included in signedheaders, but not in the request: {missing[0]}",
            )
        stamp = values.get("X-Goog-Date", "")
        without = _canonical_query([pair for pair in pairs if pair[0] != "X-Goog-Signature"])
        expected = self._signature([method, path, without], headers, signed, stamp)
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            raise StorageError(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. "
                "Check your Google secret key and signing method.",
            )
        expires_at = timegm(time.strptime(stamp, _DATE_FORMAT)) + int(values["X-Goog-Expires"])
        if now >= expires_at:
            raise StorageError(400, "ExpiredToken", "The provided token has expired.", "Request signature expired.")

    def _signature(self, parts: list[str], headers: Mapping[str, str], signed: list[str], stamp: str) -> str:
        lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in signed)
        canonical = "\n".join([*parts, lines, ";".join(signed), "UNSIGNED-PAYLOAD"])
        digest = hashlib.sha256(canonical.encode("utf-8", "replace")).hexdigest()
        to_sign = "\n".join([_ALGORITHM, stamp, _scope(stamp), digest]).encode("utf-8", "replace")
        # A real signature has 2048 bits; clients that store or log URLs should meet that length here too.
        return hmac.new(self.secret, to_sign, hashlib.sha256).hexdigest() * 8


def _scope(stamp: str) -> str:
    return f"{stamp[:8]}/auto/storage/goog4_request"


def _canonical_query(pairs: list[tuple[str, str]]) -> str:
    return "&".join(f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in sorted(pairs))
