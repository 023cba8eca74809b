"""A stand-in for a Databricks workspace: the models in Unity Catalog, which run nowhere but there, and secrets.

It speaks as far as MLflow's own `databricks-uc` client (3.17) tells: the requests and answers are that client's
protobuf messages, at its addresses. Versions lie in an S3 bucket, to which it hands out keys (`storage="s3"`); or in
Databricks' default storage, whose files have a signed URL each (`"signed"`) or go through its Files API (`"files"`).
What the real one answers besides, its error codes above all, is not known here. Secrets are as databricks-sdk 0.162
asks for them (`dbutils.py`).
"""

import base64
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, quote, unquote, urlsplit

from google.protobuf import json_format
from mlflow.protos import databricks_filesystem_service_pb2 as files_pb2
from mlflow.protos import databricks_uc_registry_messages_pb2 as pb2
from mlflow.store._unity_catalog.registry.rest_store import _METHOD_TO_INFO
from mlflow.store.artifact.presigned_url_artifact_repo import FILESYSTEM_METHOD_TO_INFO

TOKEN = "dapi-secret-of-the-workspace"
_PAGE = 2  # small, so that whoever forgets the next page is seen
_ADDRESSES = _METHOD_TO_INFO | FILESYSTEM_METHOD_TO_INFO


class _RefusedError(Exception):
    def __init__(self, status, code, message):
        self.status = status
        self.body = {"error_code": code, "message": message}


@dataclass
class Version:
    """One version of a model; `files` are those that lie in the default storage."""

    source: str = ""
    files: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)


@dataclass
class Model:
    """One registered model: its versions from 1 on, and its aliases."""

    versions: list = field(default_factory=list)
    aliases: dict = field(default_factory=dict)


class UnityCatalog:
    """The registry of a workspace: models by `catalog.schema.name`; who serves it sets `url`."""

    def __init__(self, storage="s3"):
        self.storage = storage
        self.models = {}
        self.secrets = {}
        self.url = ""
        self.asked = []

    def point(self, name, alias, number):
        self.models[name].aliases[alias] = str(number)

    def tags(self, name, number):
        return self.models[name].versions[int(number) - 1].tags

    @property
    def environ(self):
        """What a client needs to know."""
        return {
            "DATABRICKS_HOST": self.url,
            "DATABRICKS_TOKEN": TOKEN,
            "MLFLOW_TRACKING_URI": "databricks",
            "MLFLOW_REGISTRY_URI": "databricks-uc",
        }

    def secret(self, scope, key):
        return {"key": key, "value": base64.b64encode(self.secrets[scope, key].encode()).decode()}

    def answer(self, kind, fields):
        """The fields of the message that answers one of MLflow's."""
        self.asked.append(kind.__name__)
        answer = _ANSWERS[kind](self, json_format.ParseDict(fields, kind(), ignore_unknown_fields=True))
        return json_format.MessageToDict(answer, preserving_proto_field_name=True)

    def get_model(self, request):
        model = self._model(request.name)
        aliases = [pb2.RegisteredModelAlias(alias=name, version=number) for name, number in model.aliases.items()]
        return pb2.GetRegisteredModelResponse(registered_model=pb2.RegisteredModel(name=request.name, aliases=aliases))

    def list_models(self, request):
        names, token = _page(sorted(self.models), request)
        found = [pb2.RegisteredModel(name=name) for name in names]  # neither aliases nor tags
        return pb2.SearchRegisteredModelsResponse(registered_models=found, next_page_token=token)

    def list_versions(self, request):
        name = request.filter.partition("=")[2].strip("'\" ")
        numbers, token = _page(range(1, len(self.models[name].versions) + 1 if name in self.models else 1), request)
        found = [self._version(name, number, listed=True) for number in numbers]
        return pb2.SearchModelVersionsResponse(model_versions=found, next_page_token=token)

    def get_version(self, request):
        return pb2.GetModelVersionResponse(model_version=self._version(request.name, request.version))

    def get_version_by_alias(self, request):
        number = self._model(request.name).aliases.get(request.alias)
        if number is None:
            raise _RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"Alias '{request.alias}' does not exist.")
        return pb2.GetModelVersionByAliasResponse(model_version=self._version(request.name, number))

    def set_tag(self, request):
        self._stored(request.name, request.version).tags[request.key] = request.value
        return pb2.SetModelVersionTagResponse()

    def delete_tag(self, request):
        del self._stored(request.name, request.version).tags[request.key]
        return pb2.DeleteModelVersionTagResponse()

    def tell_whether_files(self, _):
        return pb2.IsDatabricksSdkModelsArtifactRepositoryEnabledResponse(
            is_databricks_sdk_models_artifact_repository_enabled=self.storage == "files"
        )

    def take_lineage(self, _):
        return pb2.EmitModelVersionLineageResponse()

    def hand_out_keys(self, request):
        self._stored(request.name, request.version)
        if self.storage == "signed":
            credentials = pb2.TemporaryCredentials(storage_mode=pb2.StorageMode.DEFAULT_STORAGE)
        else:
            keys = pb2.AwsCredentials(access_key_id="ASIA", secret_access_key="secret", session_token="session")
            credentials = pb2.TemporaryCredentials(aws_temp_credentials=keys)
        return pb2.GenerateTemporaryModelVersionCredentialsResponse(credentials=credentials)

    def tell_source(self, request):
        source = self._stored(request.name, request.version).source
        return pb2.GetModelVersionDownloadUriResponse(artifact_uri=source)

    def sign_url(self, request):
        header = files_pb2.HttpHeader(name="x-of-the-store", value="1")
        return files_pb2.CreateDownloadUrlResponse(
            url=f"{self.url}/signed{quote(request.path)}?signature=secret", headers=[header]
        )

    def list_folder(self, path):
        """The Files API's listing of one folder below `/Models/catalog/schema/name/version`."""
        below, files = self._files(path)
        inside = {name[len(below) :] for name in files if name.startswith(below)}
        if not inside:
            raise _RefusedError(404, "NOT_FOUND", "The directory being accessed is not found.")
        folders = {name.partition("/")[0] for name in inside if "/" in name}
        entries = [{"path": f"{path}/{name}", "is_directory": True, "name": name} for name in sorted(folders)]
        entries += [
            {"path": f"{path}/{name}", "is_directory": False, "file_size": len(files[below + name]), "name": name}
            for name in sorted(inside)
            if "/" not in name
        ]
        return {"contents": entries}

    def read(self, path):
        below, files = self._files(path)
        name = below.rstrip("/")
        if name not in files:
            raise _RefusedError(404, "NOT_FOUND", "The file being accessed is not found.")
        return files[name]

    def _files(self, path):
        catalog, schema, name, number, *rest = path.removeprefix("/Models/").split("/")
        return "".join(f"{part}/" for part in rest), self._stored(f"{catalog}.{schema}.{name}", number).files

    def _model(self, name):
        if name not in self.models:
            raise _RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"Registered model '{name}' does not exist.")
        return self.models[name]

    def _stored(self, name, number):
        versions = self._model(name).versions
        if not 0 < int(number) <= len(versions):
            raise _RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"Model version '{name}' {number} does not exist.")
        return versions[int(number) - 1]

    def _version(self, name, number, *, listed=False):
        stored = self._stored(name, number)
        tags = [] if listed else [pb2.ModelVersionTag(key=key, value=value) for key, value in stored.tags.items()]
        return pb2.ModelVersion(
            name=name,
            version=str(number),
            source=stored.source,
            status=pb2.ModelVersionStatus.Value("READY"),
            tags=tags,
        )


def _page(everything, request):
    start = int(request.page_token or 0)
    end = start + _PAGE
    return everything[start:end], str(end) if end < len(everything) else ""


_ANSWERS = {
    pb2.GetRegisteredModelRequest: UnityCatalog.get_model,
    pb2.SearchRegisteredModelsRequest: UnityCatalog.list_models,
    pb2.SearchModelVersionsRequest: UnityCatalog.list_versions,
    pb2.GetModelVersionRequest: UnityCatalog.get_version,
    pb2.GetModelVersionByAliasRequest: UnityCatalog.get_version_by_alias,
    pb2.SetModelVersionTagRequest: UnityCatalog.set_tag,
    pb2.DeleteModelVersionTagRequest: UnityCatalog.delete_tag,
    pb2.IsDatabricksSdkModelsArtifactRepositoryEnabledRequest: UnityCatalog.tell_whether_files,
    pb2.EmitModelVersionLineageRequest: UnityCatalog.take_lineage,
    pb2.GenerateTemporaryModelVersionCredentialsRequest: UnityCatalog.hand_out_keys,
    pb2.GetModelVersionDownloadUriRequest: UnityCatalog.tell_source,
    files_pb2.CreateDownloadUrlRequest: UnityCatalog.sign_url,
}
_REQUESTS = {(_ADDRESSES[kind][1], _ADDRESSES[kind][0]): kind for kind in _ANSWERS}


class Workspace(BaseHTTPRequestHandler):
    """What serves it; `catalog` is set by `serving`."""

    catalog: UnityCatalog
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, body = unquote(urlsplit(self.path).path), self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._route(path, body)
        except _RefusedError as refused:
            self._send(refused.body, refused.status)

    def do_POST(self):
        self.do_GET()

    def do_DELETE(self):
        self.do_GET()

    def do_HEAD(self):
        self.do_GET()

    def _route(self, path, body):
        if path.startswith("/signed/"):
            assert self.headers["x-of-the-store"] == "1"
            assert "Authorization" not in self.headers  # the store is somebody else
            self._send_file(self.catalog.read(path.removeprefix("/signed")))
            return
        if path == "/.well-known/databricks-config":
            self._send({"oidc_endpoint": f"{self.catalog.url}/oidc"})
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise _RefusedError(401, "UNAUTHENTICATED", "Credential was not sent or was of an unsupported type.")
        query = parse_qs(urlsplit(self.path).query)
        fields = json.loads(body) if body else {name: values[0] for name, values in query.items()}
        if kind := _REQUESTS.get((self.command, path)):
            self._send(self.catalog.answer(kind, fields))
        elif path == "/api/2.0/secrets/get":
            self._send(self.catalog.secret(**fields))
        elif path.startswith("/api/2.0/fs/directories/"):
            self._send(self.catalog.list_folder(path.removeprefix("/api/2.0/fs/directories").rstrip("/")))
        elif path.startswith("/api/2.0/fs/files/"):
            self._send_file(self.catalog.read(path.removeprefix("/api/2.0/fs/files")))
        else:  # the tracking server knows nothing of where a version came from
            raise _RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"nothing is known of {path}")

    def _send(self, answer, status=200):
        self._send_bytes(json.dumps(answer).encode(), status, {"Content-Type": "application/json"})

    def _send_file(self, content):
        headers = {"Last-Modified": "Tue, 24 Nov 2026 01:02:03 GMT"}
        asked, status = self.headers.get("Range"), 200
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[int(first) : int(last or len(content)) + 1], 206
        self._send_bytes(content, status, {**headers, "Content-Type": "application/octet-stream"})

    def _send_bytes(self, content, status, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass
