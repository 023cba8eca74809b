"""The beginning of a file in a remote store without the rest of it: 64 KiB of header out of 60 GB of weights.

MLflow's artifact repositories (3.17) fetch whole files only. So a store is asked through the client that its repository
has made, with that one's address, credentials, TLS settings and patience. Stores that are not here (HDFS, SFTP, …) and
those that turn out otherwise than expected are left to the whole fetch.
"""

import posixpath
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from http import HTTPStatus
from typing import Any

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
from mlflow.utils.request_utils import augmented_raise_for_status, cloud_storage_http_request
from mlflow.utils.rest_utils import http_request

from mlflow_fireworks.artifacts.sources.staging import ReadBeginning, whole_files_only
from mlflow_fireworks.errors import SourceError
from mlflow_fireworks.registry.mlflow_versions import bucket_owner_of, signs_downloads, signs_uploads

_PLAIN = {"Accept-Encoding": "identity"}  # an encoded answer would be a range of other bytes


def find_reader(repository: ArtifactRepository) -> ReadBeginning:
    """How to read the beginnings of a repository's files; `whole_files_only` where that cannot be done.

    Args:
        repository: Any.
    """
    with suppress(Exception):  # a repository that is not as in MLflow 3.17; whole files can still be fetched
        for kind, make_reader in _READERS.items():
            if isinstance(repository, kind):
                return make_reader(repository)
    return whole_files_only


def _read_from_s3(repository: Any) -> ReadBeginning:
    # The client is private, and so are the keyword arguments for MLFLOW_S3_EXPECTED_BUCKET_OWNER; nothing public
    # gives one that is configured like it. All threads share it: making clients is not safe in several at once.
    client = repository._get_s3_client()  # noqa: SLF001 - see above
    owner = bucket_owner_of(repository)
    bucket, root = repository.parse_s3_compliant_uri(repository.artifact_uri)

    def read(path: str, size: int) -> bytes:
        answer = client.get_object(Bucket=bucket, Key=posixpath.join(root, path), Range=_range(size), **owner)
        with closing(answer["Body"]) as body:
            return bytes(body.read(size))

    return read


def _read_from_azure(repository: AzureBlobArtifactRepository) -> ReadBeginning:
    container, _, root, _ = repository.parse_wasbs_uri(repository.artifact_uri)
    client = repository.client.get_container_client(container)

    def read(path: str, size: int) -> bytes:
        return bytes(client.download_blob(posixpath.join(root, path), offset=0, length=size).readall())

    return read


def _read_from_data_lake(repository: AzureDataLakeArtifactRepository) -> ReadBeginning:
    client, root = repository.fs_client, repository.base_data_lake_directory

    def read(path: str, size: int) -> bytes:
        file = client.get_file_client(posixpath.join(root, path))
        return bytes(file.download_file(offset=0, length=size).readall())

    return read


def _read_from_signed(repository: PresignedUrlArtifactRepository) -> ReadBeginning:
    """From Databricks' default storage, which has a signed URL for each file."""

    def read(path: str, size: int) -> bytes:
        signed = repository._get_download_presigned_url_and_headers(path)  # noqa: SLF001 - nothing public gives it
        headers = {header.name: header.value for header in signed.headers}
        return _take(_get_signed(signed.url, {**headers, **_PLAIN, "Range": _range(size)}), size)

    return read


def _read_from_databricks(repository: DatabricksSDKModelsArtifactRepository) -> ReadBeginning:
    """Through Databricks' Files API, which streams: what is not read is not sent."""

    def read(path: str, size: int) -> bytes:
        with repository.client.files.download(posixpath.join(repository.model_base_path, path)).contents as body:
            return bytes(body.read(size))

    return read


def _read_from_gcs(repository: GCSArtifactRepository) -> ReadBeginning:
    bucket, root = repository.parse_gcs_uri(repository.artifact_uri)
    client = repository.client.bucket(bucket)

    def read(path: str, size: int) -> bytes:
        return bytes(client.blob(posixpath.join(root, path)).download_as_bytes(start=0, end=size - 1))

    return read


def _read_from_server(repository: HttpArtifactRepository) -> ReadBeginning:
    """From a tracking server; straight from the S3 bucket behind it where the server signs URLs for that."""

    def read(path: str, size: int) -> bytes:
        headers = {**_PLAIN, "Range": _range(size)}
        # What its server can do is asked as `_download_file` asks it: by private methods, over the network once.
        if isinstance(repository, MlflowArtifactsRepository):
            if signs_downloads(repository):
                signed = repository._get_presigned_download_url(path)  # noqa: SLF001 - see above
                return _take(_get_signed(signed.url, {**signed.headers, **headers}), size)
            if signs_uploads(repository):
                raise SourceError("this server keeps its files in a store from which it would fetch all of one first")
        creds = get_default_host_creds(repository.artifact_uri)
        return _take(http_request(creds, f"/{path}", "GET", extra_headers=headers, stream=True), size)

    return read


def _get_signed(url: str, headers: dict[str, str]) -> Any:
    seconds, verify = MLFLOW_HTTP_REQUEST_TIMEOUT.get(), not MLFLOW_S3_IGNORE_TLS.get()
    return cloud_storage_http_request("get", url, headers=headers, timeout=seconds, verify=verify, stream=True)


def _take(response: Any, size: int) -> bytes:
    """The bytes of an answer of requests."""
    with response:
        augmented_raise_for_status(response)
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:
            # MLflow's server answers 206 for files on its own disk. What it keeps elsewhere it fetches as a whole
            # before it sends the first byte, so that reading 1,000 beginnings would move the model twice.
            raise SourceError("this server sends whole files only")
        return bytes(response.raw.read(size))


def _range(size: int) -> str:
    return f"bytes=0-{size - 1}"


_READERS: Mapping[type[ArtifactRepository], Callable[[Any], ReadBeginning]] = {
    S3ArtifactRepository: _read_from_s3,
    OptimizedS3ArtifactRepository: _read_from_s3,
    AzureBlobArtifactRepository: _read_from_azure,
    AzureDataLakeArtifactRepository: _read_from_data_lake,
    GCSArtifactRepository: _read_from_gcs,
    HttpArtifactRepository: _read_from_server,
    PresignedUrlArtifactRepository: _read_from_signed,
    DatabricksSDKModelsArtifactRepository: _read_from_databricks,
}
