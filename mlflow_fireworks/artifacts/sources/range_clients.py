"""How each kind of store sends a range of a file: 64 KiB of header, or the 5 GB of a shard, out of 60 GB of weights.

MLflow's artifact repositories (3.17) fetch whole files only. So a store is asked through the client that its repository
has made, with that one's address, credentials, TLS settings and patience. Stores that are not here (HDFS, SFTP, …) and
those that turn out otherwise than expected are left to the whole fetch.
"""

import logging
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import requests
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_S3_IGNORE_TLS
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.azure_blob_artifact_repo import AzureBlobArtifactRepository
from mlflow.store.artifact.azure_data_lake_artifact_repo import AzureDataLakeArtifactRepository
from mlflow.store.artifact.databricks_sdk_models_artifact_repo import DatabricksSDKModelsArtifactRepository
from mlflow.store.artifact.gcs_artifact_repo import GCSArtifactRepository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.store.artifact.optimized_s3_artifact_repo import OptimizedS3ArtifactRepository
from mlflow.store.artifact.presigned_url_artifact_repo import PresignedUrlArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.request_utils import cloud_storage_http_request
from mlflow.utils.rest_utils import http_request

from mlflow_fireworks.artifacts.sources.ranges import PIECE, Answer, OpenRange, read_pieces, whole_files_only
from mlflow_fireworks.artifacts.sources.tries import status_of
from mlflow_fireworks.errors import SourceError
from mlflow_fireworks.registry.mlflow_versions import bucket_owner_of, signs_downloads
from mlflow_fireworks.registry.reach import require_host

# Azure's client reads all of a range into memory, twice, before it gives the first byte.
_AZURE_BYTES = 768 << 10
# What MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=true gets from a server whose files are on its own disk.
_SIGNS_NOTHING = {requests.codes.not_found, requests.codes.not_implemented}
# Tries are counted by who reads: MLflow's own would add up to minutes, and hide what the server says.
_ONE_TRY: dict[str, Any] = {"max_retries": 0, "raise_on_status": False}


def find_opener(repository: ArtifactRepository) -> OpenRange:
    """How to read ranges of a repository's files; `whole_files_only` where that cannot be done.

    Args:
        repository: Any.
    """
    with suppress(Exception):  # a repository that is not as in MLflow 3.17; whole files can still be fetched
        for kind, make_opener in _OPENERS.items():
            if isinstance(repository, kind):
                return make_opener(repository)
    return whole_files_only


def find_encoded(repository: ArtifactRepository, folder: str) -> set[str]:
    """The files of a repository that its client gives decoded, so that they have another length than is listed.

    Args:
        repository: Any.
        folder: POSIX path inside it, "" for all.

    Returns:
        Their paths; those of Google's and Azure's object stores, whose clients decode.
    """
    with suppress(Exception):  # as above; a file of another length is refused when it comes
        if isinstance(repository, GCSArtifactRepository):
            bucket, root = repository.parse_gcs_uri(repository.artifact_uri)
            blobs = repository.client.list_blobs(
                bucket, prefix=posixpath.join(root, folder, ""), fields="items(name,contentEncoding),nextPageToken"
            )
            return {posixpath.relpath(blob.name, root or ".") for blob in blobs if blob.content_encoding}
        if isinstance(repository, AzureBlobArtifactRepository):
            container, _, root, _ = repository.parse_wasbs_uri(repository.artifact_uri)
            client = repository.client.get_container_client(container)
            blobs = client.list_blobs(name_starts_with=posixpath.join(root, folder, ""))
            return {
                posixpath.relpath(blob.name, root or ".") for blob in blobs if blob.content_settings.content_encoding
            }
    return set()


def _open_in_s3(repository: Any) -> OpenRange:
    get_object = _make_get_object(repository)

    def open_range(path: str, begin: int, end: int, version: str | None) -> Answer:
        condition = {"IfMatch": version} if _is_strong(version) else {}
        answer = get_object(path, Range=_range(begin, end), **condition)
        body, headers = answer["Body"], answer["ResponseMetadata"]["HTTPHeaders"]
        return Answer(body.read, body.close, headers, _find_version(headers))

    return open_range


def _make_get_object(repository: Any) -> Callable[..., Any]:
    # The client is private, and so are the keyword arguments for MLFLOW_S3_EXPECTED_BUCKET_OWNER; nothing public
    # gives one that is configured like it. MLflow keeps it for some minutes; a new one has read new credentials.
    client = repository._get_s3_client()  # noqa: SLF001 - see above
    owner = bucket_owner_of(repository)
    bucket, root = repository.parse_s3_compliant_uri(repository.artifact_uri)

    def get_object(path: str, **options: str) -> Any:
        return client.get_object(Bucket=bucket, Key=posixpath.join(root, path), **options, **owner)

    return get_object


def download_in_one(repository: ArtifactRepository, path: str, target: Path) -> bool:
    """Fetch a file of S3 in a single request.

    boto3 fetches what has more than 8 MiB in ranges, and writes whatever answers them, one over the other.

    Args:
        repository: Any.
        path: Inside it.
        target: Where it is written to.

    Returns:
        Whether the repository is one of S3; nothing is done for others.
    """
    if not isinstance(repository, S3ArtifactRepository | OptimizedS3ArtifactRepository):
        return False
    with _make_get_object(repository)(path)["Body"] as body, target.open("wb") as file:
        shutil.copyfileobj(body, file, PIECE)
    return True


def _open_in_azure(repository: AzureBlobArtifactRepository) -> OpenRange:
    container, _, root, _ = repository.parse_wasbs_uri(repository.artifact_uri)
    client = repository.client.get_container_client(container)
    return _open_by_pieces(lambda path, **options: client.download_blob(posixpath.join(root, path), **options))


def _open_in_data_lake(repository: AzureDataLakeArtifactRepository) -> OpenRange:
    client, root = repository.fs_client, repository.base_data_lake_directory

    def download(path: str, **options: Any) -> Any:
        return client.get_file_client(posixpath.join(root, path)).download_file(**options)

    return _open_by_pieces(download)


def _open_by_pieces(download: Callable[..., Any]) -> OpenRange:
    """From Azure, whose client decodes what was stored with an encoding unless it is told not to."""
    from azure.core import MatchConditions  # noqa: PLC0415 - who has no Azure need not have its client

    def open_range(path: str, begin: int, end: int, version: str | None) -> Answer:
        headers: dict[str, str] = {}

        def note(response: Any) -> None:
            headers.update({name.lower(): value for name, value in response.http_response.headers.items()})

        def ask(position: int, etag: str | None) -> bytes:
            condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified} if _is_strong(etag) else {}
            length = min(_AZURE_BYTES, end - position)
            asked = download(
                path, offset=position, length=length, decompress=False, raw_response_hook=note, **condition
            )
            return b"".join(asked.chunks())  # `readall` copies it twice more

        def ask_on(piece: bytes) -> Iterator[bytes]:
            position = begin
            while piece:
                yield piece
                position += len(piece)
                piece = ask(position, headers.get("etag")) if position < end else b""

        first = ask(begin, version)
        if encoding := headers.get("content-encoding"):
            _refuse_encoded(path, encoding)
        # Of the whole range, where the client has asked for a first piece.
        told = re.sub(rf"-{begin + len(first) - 1}/", f"-{end - 1}/", headers.get("content-range", ""))
        return Answer(read_pieces(ask_on(first)), lambda: None, {"content-range": told}, _find_version(headers))

    return open_range


def _open_signed(repository: PresignedUrlArtifactRepository) -> OpenRange:
    """From Databricks' default storage, which signs a URL for each file, and another one for each range here."""

    def open_range(path: str, begin: int, end: int, version: str | None) -> Answer:
        signed = repository._get_download_presigned_url_and_headers(path)  # noqa: SLF001 - nothing public gives it
        headers = {header.name: header.value for header in signed.headers}
        return _get_signed(signed.url, {**headers, **_conditions(begin, end, version)})

    return open_range


def _open_in_databricks(repository: DatabricksSDKModelsArtifactRepository) -> OpenRange:
    """Through Databricks' Files API, of which the SDK's `files.download` gives whole files only."""

    def open_range(path: str, begin: int, end: int, version: str | None) -> Answer:
        told = ["content-range", "content-length", "content-encoding", "etag", "last-modified"]
        answer = repository.client.api_client.do(
            "GET",
            f"/api/2.0/fs/files{quote(posixpath.join(repository.model_base_path, path))}",
            headers={"Accept": "application/octet-stream", **_conditions(begin, end, version)},
            raw=True,
            response_headers=told,
        )
        headers = {name: answer[name] for name in told if answer.get(name)}
        response = answer["contents"]._response  # noqa: SLF001 - what it gives itself is read through a buffer
        return Answer(response.raw.read, response.close, headers, _find_version(headers))

    return open_range


def _open_in_gcs(repository: GCSArtifactRepository) -> OpenRange:
    bucket, root = repository.parse_gcs_uri(repository.artifact_uri)

    def open_range(path: str, begin: int, end: int, version: str | None) -> Answer:
        blob = repository.client.bucket(bucket).blob(posixpath.join(root, path))
        # What the client has for reading gives whole pieces in memory; these are the parts that it is made of.
        transport = blob._get_transport(repository.client)  # noqa: SLF001 - see above
        generation = version if version and version.isdigit() else None
        url = blob._get_download_url(repository.client, if_generation_match=generation)  # noqa: SLF001 - see above
        # Asked for gzip, it does not decode what was stored that way, and sends a range of what is stored.
        headers = {"Range": _range(begin, end), "Accept-Encoding": "gzip"}
        seconds = repository._GCS_DEFAULT_TIMEOUT  # noqa: SLF001 - MLflow's setting for it
        answer = _take(transport.get(url, headers=headers, stream=True, timeout=seconds), "x-goog-generation")
        if (encoding := answer.headers.get("content-encoding")) is not None:
            answer.close()
            _refuse_encoded(path, encoding)
        return answer

    return open_range


def _open_on_server(repository: HttpArtifactRepository) -> OpenRange:
    """From a tracking server; straight from the S3 bucket behind it where the server signs URLs for that."""

    def open_range(path: str, begin: int, end: int, version: str | None) -> Answer:
        headers = _conditions(begin, end, version)
        if isinstance(repository, MlflowArtifactsRepository) and (signed := _sign(repository, path)):
            return _get_signed(signed.url, {**signed.headers, **headers})
        creds = get_default_host_creds(repository.artifact_uri)
        return _take(http_request(creds, f"/{path}", "GET", extra_headers=headers, stream=True, **_ONE_TRY))

    return open_range


def _sign(repository: MlflowArtifactsRepository, path: str) -> Any:
    """What a server signs for the download of a file; None where it signs nothing, whatever was set here."""
    # What it can do is asked as `_download_file` asks it: by private methods, over the network once.
    if not signs_downloads(repository):
        return None
    try:
        return repository._get_presigned_download_url(path)  # noqa: SLF001 - see above
    except requests.HTTPError as error:
        if status_of(error) not in _SIGNS_NOTHING:
            raise
        return None


def _get_signed(url: str, headers: Mapping[str, str]) -> Answer:
    require_host(url)
    seconds, verify = MLFLOW_HTTP_REQUEST_TIMEOUT.get(), not MLFLOW_S3_IGNORE_TLS.get()
    return _take(
        cloud_storage_http_request("get", url, headers=headers, timeout=seconds, verify=verify, stream=True, **_ONE_TRY)
    )


def _take(response: Any, version: str = "") -> Answer:
    """The answer of a `requests.Response`."""
    try:
        response.raise_for_status()
    except BaseException:
        response.close()
        raise
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.raw.read, response.close, headers, headers.get(version) or _find_version(headers))


def _find_version(headers: Mapping[str, str]) -> str:
    """What names a file's content: its ETag; when it was last modified, where a gateway has taken that out."""
    return headers.get("etag") or headers.get("last-modified", "")


def _is_strong(version: str | None) -> bool:
    """Whether a version is an ETag to ask for: a weak one matches nothing (RFC 9110, section 13.1.1)."""
    return bool(version and version.startswith('"'))


def _conditions(begin: int, end: int, version: str | None) -> dict[str, str]:
    """An encoded answer would be a range of other bytes."""
    condition = {"If-Match": version} if version and _is_strong(version) else {}
    if version and not version.startswith(('"', "W/")):
        condition = {"If-Unmodified-Since": version}
    return {"Range": _range(begin, end), "Accept-Encoding": "identity", **condition}


def _range(begin: int, end: int) -> str:
    return f"bytes={begin}-{end - 1}"


def _refuse_encoded(path: str, encoding: str) -> NoReturn:
    raise SourceError(f"{path} is stored with Content-Encoding: {encoding}; store it as it is")


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """What the clients warn about that costs nothing, or that is told in the line of a try that failed."""
    return not record.getMessage().startswith(("Connection pool is full", "Unable to stream download"))


for _name in ("urllib3.connectionpool", "azure.core.pipeline.transport._requests_basic"):
    logging.getLogger(_name).addFilter(_is_worth_a_line)

_OPENERS: Mapping[type[ArtifactRepository], Callable[[Any], OpenRange]] = {
    S3ArtifactRepository: _open_in_s3,
    OptimizedS3ArtifactRepository: _open_in_s3,
    AzureBlobArtifactRepository: _open_in_azure,
    AzureDataLakeArtifactRepository: _open_in_data_lake,
    GCSArtifactRepository: _open_in_gcs,
    HttpArtifactRepository: _open_on_server,
    PresignedUrlArtifactRepository: _open_signed,
    DatabricksSDKModelsArtifactRepository: _open_in_databricks,
}
