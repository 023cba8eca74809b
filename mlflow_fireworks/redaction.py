"""What MLflow, boto, requests and huggingface_hub say in an exception, made fit for one line of ours."""

import re

_BEGINNING, _END = 150, 100
_QUERY = re.compile(r"\?[^\s'\")]+")
# What stands there in an address of Azure's file systems is the container, and in one of Databricks a profile's name.
_USER_IN_URI = re.compile(
    r"(?<=://)(?<!wasbs://)(?<!abfss://)(?<!models://)(?<!runs://)(?<!dbfs://)[^/\s]+@", re.IGNORECASE
)


def brief(error: BaseException) -> str:
    """An exception's text as one short line, without signatures (URL queries) and passwords (URL users).

    Args:
        error: Any exception, of any library.
    """
    text = hide_credentials(" ".join(str(error).split())) or type(error).__name__
    if len(text) <= _BEGINNING + _END:
        return text
    return f"{text[:_BEGINNING].rstrip()} … {text[-_END:].lstrip()}"  # nested exceptions tell the cause at the end


def hide_credentials(text: str) -> str:
    """`text` without the query and the user part of the URIs in it.

    requests quotes URLs without their host ("… exceeded with url: /bucket/key?X-Amz-Signature=…"), so every
    query goes, not only that of a complete URL.

    Args:
        text: A URI, or a sentence that holds some.
    """
    return _USER_IN_URI.sub("", _QUERY.sub("", text))
