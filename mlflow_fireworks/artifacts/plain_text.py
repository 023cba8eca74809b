"""Small files that are not what they are called, or not written as their readers need them."""

import codecs
import json
import re

from mlflow_fireworks.artifacts.documents import LFS_POINTER, Fault, is_lfs_pointer

START_BYTES = 512
# What a download that failed leaves under the name of the file: the server's answer.
_ANSWERS = (
    "entry not found",
    "repository not found",
    "revision not found",
    "file not found",
    "404: not found",
    "404 not found",
    "access to model",
    "access denied",
    "access is denied",
    "invalid username or password",
    "invalid credentials",
    "unauthorized",
    "forbidden",
)
# What a file begins with that was packed and never unpacked.
_ARCHIVES = (
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"\xfd7zXZ", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5/\xfd", "zstd"),
)
_ERROR_KEYS = {"error", "errors", "message", "detail"}
_BESIDE_ERRORS = {"code", "status", "statuscode", "documentation_url", "requestid", "request_id", "type", "success"}
_PAGE = re.compile(r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<(!doctype html|html|head|error)\b", re.DOTALL)
# What is left of a link where links are not followed; Hugging Face's cache and git-annex keep files behind links.
_LINK = re.compile(
    r"(\.{1,2}/)*(\.git/annex/objects|annex/objects|blobs)/\S+|/annex/objects/\S+|# xet version \S+.*", re.DOTALL
)
_TEXTS = (".json", ".txt", ".jinja", ".tiktoken")
# The longest first: the mark of UTF-32 begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def find_stand_in(data: bytes) -> Fault | None:
    """What lies under a file's name in its place: a pointer, a link's text, or a server's answer."""
    if is_lfs_pointer(data):
        return LFS_POINTER
    start = data[:START_BYTES].decode("utf-8", "replace").lstrip("\ufeff").strip().lower()
    if _PAGE.match(start):
        return Fault("is a web page, not the file itself; download it again and log the model again")
    if start.startswith(_ANSWERS) or _is_error(start, len(data)):
        said = start.splitlines()[0][:60]
        return Fault(f'holds a server\'s reply ("{said}"), not the file itself; download it and log the model again')
    if len(data) < START_BYTES and _LINK.fullmatch(start):
        return Fault(
            "only says where the file is stored, and is not the file itself; copy what it points to and log the "
            "model again"
        )
    return None


def _is_error(start: str, size: int) -> bool:
    """Whether a file is an answer such as `{"error": "Entry not found"}`; its start is in lower case."""
    if size >= START_BYTES or not start.startswith("{"):
        return False
    try:
        content = json.loads(start)
    except (ValueError, RecursionError):
        return False
    return (
        isinstance(content, dict)
        and not _ERROR_KEYS.isdisjoint(content)
        and set(content) <= _ERROR_KEYS | _BESIDE_ERRORS
    )


def find_text_fault(name: str, data: bytes) -> Fault | None:
    """What a small file is that no loader can read: packed, or text in an encoding of old.

    Args:
        name: Its name.
        data: Its bytes, after `rewrite_plainly`.
    """
    if packed := next((kind for start, kind in _ARCHIVES if data.startswith(start)), None):
        return Fault(f"is packed ({packed}); unpack it and log the model again")
    if name.endswith(_TEXTS) and not name.endswith(".json"):  # JSON is told where its parser fails
        try:
            data.decode()
        except UnicodeDecodeError as error:
            return Fault(f"is not UTF-8 text (byte {error.start}); save it as UTF-8 and log the model again")
    return None


def rewrite_plainly(name: str, data: bytes) -> bytes | None:
    """The same text in UTF-8 without a byte-order mark, which no loader expects; None when it is that already.

    Windows' tools write such files. transformers, tokenizers and sentence-transformers open theirs as UTF-8.

    Args:
        name: The file's name; what is no text stays.
        data: Its bytes.
    """
    if not name.endswith(_TEXTS):
        return None
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    if encoding is None and name.endswith(".json"):
        encoding = json.detect_encoding(data)
    if encoding in (None, "utf-8"):
        return None
    try:
        return data.decode(encoding or "").encode()
    except UnicodeError:
        return None
