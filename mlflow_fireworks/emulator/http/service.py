"""The emulated Fireworks without sockets: parsed requests in, answers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from mlflow_fireworks.emulator.answers.engines import Engines
from mlflow_fireworks.emulator.answers.inference import Inference, InferenceError, unauthorized
from mlflow_fireworks.emulator.http.faults import FaultScript
from mlflow_fireworks.emulator.http.record import Failure, Record
from mlflow_fireworks.emulator.http.request import Request
from mlflow_fireworks.emulator.options import Clock, Options
from mlflow_fireworks.emulator.protocol import fields, routes
from mlflow_fireworks.emulator.protocol.messages import NOTHING
from mlflow_fireworks.emulator.protocol.wire import ApiError, Call, Code, Response, UnknownFieldError, json_response
from mlflow_fireworks.emulator.resources.control_plane import ControlPlane
from mlflow_fireworks.emulator.storage.bucket import Bucket
from mlflow_fireworks.emulator.storage.resumable import Sessions
from mlflow_fireworks.emulator.storage.signing import BUCKET, Signer, StorageError
from mlflow_fireworks.emulator.storage.state import Store

_MAX_QUERY_FIELDS = 1000


class Service:
    """Everything behind the sockets.

    Args:
        folder: The state folder.
        options: How it behaves.
        clock: Seconds since the epoch.
    """

    def __init__(self, folder: Path, options: Options, clock: Clock) -> None:
        self.store = Store(folder)
        self.options = options
        self.clock = clock
        self.signer = Signer(self.store.secret)
        self.bucket = Bucket(self.store, options, clock)
        self.sessions = Sessions(self.bucket)
        self.control_plane = plane = ControlPlane(self.store, options, self.signer, clock)
        trusts_all = options.trust_remote_code
        self.engines = Engines(self.store, plane.models, trusts_all=trusts_all) if options.answers else None
        self.inference = Inference(
            self.store,
            plane.models,
            plane.deployments,
            plane.deployed_models,
            plane.routers,
            options,
            clock,
            self.engines,
        )
        self.faults = FaultScript(routes.OPERATIONS)
        self.record = Record()

    def control(self, request: Request, body: bytes) -> Response:
        """Carry out a control-plane request."""
        try:
            if request.method == "POST" and request.path in routes.INFERENCE:
                return self._infer(request, body)
            if request.route is None:
                return self._unknown_route(request)
            self._authenticate(request.headers)
            return self._run(request, body, *request.route)
        except ApiError as error:
            if isinstance(error, UnknownFieldError):
                self._fail("unknown_field", error.message, request)
            return error.response()

    def check_storage(self, request: Request) -> None:
        """Check everything about a storage request that can be known before its body.

        Raises:
            StorageError: The refusal to answer with.
        """
        if "authorization" in request.headers:
            self._fail("bearer_at_storage", "an Authorization header was sent to a signed URL", request)
            raise StorageError(400, "InvalidArgument", "A signed URL must not be used with an Authorization header.")
        if request.upload_id and request.method in ("PUT", "DELETE"):
            return  # the session URI is itself the credential
        self.signer.check(request.method, request.path, request.query, request.headers, self.clock())
        if request.method == "PUT":
            self.bucket.check_length(request.headers)
        if "transfer-encoding" in request.headers and self.options.behaviours.has("chunked-uploads", "dropped"):
            self._fail("chunked_upload", "the body was chunked and is not stored: send a Content-Length", request)

    def storage(self, request: Request, body: Iterable[bytes]) -> Response:
        """Carry out a storage request that `check_storage` has let pass.

        Raises:
            StorageError: The refusal to answer with.
        """
        key = unquote(request.path.removeprefix(f"/{BUCKET}/"))
        headers = request.headers
        if request.upload_id and request.method == "DELETE":
            return self.sessions.cancel(key, request.upload_id)
        if request.upload_id:
            return self.sessions.put(key, request.upload_id, headers, body)
        if request.method == "POST":
            return self.sessions.start(key, headers)
        if request.method in ("GET", "HEAD"):
            return self.bucket.read(key)
        return self.bucket.receive(key, headers, body)

    def reset(self) -> None:
        """Back to an empty account: resources, objects, faults, records and behaviours."""
        self.store.clear()
        self.control_plane.transitions.clear()
        self.faults.clear()
        self.options.behaviours.reset()
        self.record.clear()

    def close(self) -> None:
        """Stop the models that run and close the state."""
        if self.engines:
            self.engines.stop()
        self.store.close()

    def server_error(self, request: Request, error: BaseException) -> Response:
        """Answer for a defect of the emulator, and record it as one."""
        self._fail("server_error", f"{type(error).__name__}: {error}", request)
        if request.at_storage:
            return StorageError(500, "InternalError", "We encountered an internal error.").response()
        return ApiError(Code.INTERNAL, "internal error of the emulator").response()

    def _run(self, request: Request, raw: bytes, route: routes.Route, path: dict[str, str]) -> Response:
        if "account" in path and not (path["account"] == "-" and "/deploymentShapes" in route.pattern):
            self.control_plane.accounts.admit(path["account"])
            self.control_plane.accounts.check_standing(path["account"], request.method)
        try:
            pairs = parse_qsl(request.query, keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS)
        except ValueError as error:
            raise ApiError(Code.INVALID_ARGUMENT, "too many query parameters") from error
        lenient = self.options.behaviours.has("unknown-fields", "ignored")
        call = Call(
            path=path,
            query=fields.parse_query(route.query, pairs, ignore_unknown=lenient),
            body=fields.parse_json(route.body or NOTHING, raw, ignore_unknown=lenient),
            host=request.headers.get("host", ""),
        )
        answer = self.control_plane.operations[route.operation](call)
        return json_response(200, fields.render(route.answer, answer), call.headers_out)

    def _infer(self, request: Request, body: bytes) -> Response:
        try:
            try:
                self._authenticate(request.headers)
            except ApiError as error:
                raise unauthorized(error) from error
            return self.inference.answer(request.operation, body)
        except InferenceError as error:
            return error.response()

    def _authenticate(self, headers: Mapping[str, str]) -> None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        accepted = self.options.api_keys
        if scheme.lower() != "bearer" or not key.strip():
            raise ApiError(Code.UNAUTHENTICATED, "missing API key: send it as a bearer token")
        if accepted is not None and key.strip() not in accepted:
            raise ApiError(Code.UNAUTHENTICATED, "invalid API key")

    def _unknown_route(self, request: Request) -> Response:
        self._fail("unknown_route", "no such route in the emulator", request)
        if routes.known_path(request.path):
            # grpc-gateway answers 501, not 405, when a path is known under another method.
            return ApiError(Code.UNIMPLEMENTED, "Method Not Allowed").response()
        return ApiError(Code.NOT_FOUND, "Not Found").response()

    def _fail(self, kind: str, detail: str, request: Request) -> None:
        self.record.failure(Failure(kind, detail, request.method, request.path))
