"""The route table: which request is which operation, what it may carry, and how sure that is.

The table is the single place from which requests are matched and parsed, answers are completed, faults and
records get their names, and the descriptions of the emulator (OpenAPI, coverage table) are generated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal
from urllib.parse import unquote

from mlflow_fireworks.emulator.protocol import messages
from mlflow_fireworks.emulator.protocol import serving_messages as serving
from mlflow_fireworks.emulator.protocol.fields import Message
from mlflow_fireworks.emulator.protocol.messages import NOTHING

STORAGE_OPERATIONS = {
    ("PUT", False): "put_object",
    ("POST", False): "start_resumable",
    ("PUT", True): "put_chunk",
    ("DELETE", True): "cancel_resumable",
    ("GET", False): "get_object",
}
"""Operation by method, and whether the request names a resumable session."""

Sureness = Literal["observed", "documented", "schema", "inferred"]


@dataclass(frozen=True)
class Route:
    """One operation of the control plane.

    Attributes:
        method: HTTP method.
        pattern: Path with ``{variables}``.
        operation: Its name in faults and records.
        answer: Table of the answer.
        body: Table of the request body; None when there is none.
        query: Table of the query parameters.
        source: Where the behaviour is known from.
        sure: How far that source carries.
    """

    method: str
    pattern: str
    operation: str
    answer: Message
    body: Message | None = None
    query: Message = NOTHING
    source: str = ""
    sure: Sureness = "documented"

    @property
    def regex(self) -> re.Pattern[str]:
        """The pattern as a regular expression over the raw path."""
        return _compile(self.pattern)


def match(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """Find the route of a request.

    Args:
        method: HTTP method.
        path: Raw path, still percent-encoded.

    Returns:
        The route and the decoded path variables, or None.
    """
    for route in ROUTES:
        if route.method == method and (found := route.regex.fullmatch(path)):
            return route, {name: unquote(value) for name, value in found.groupdict().items()}
    return None


def storage_operation(method: str, *, session: bool) -> str:
    """Name of a storage request: of a signed URL, or of a resumable session."""
    return STORAGE_OPERATIONS.get((method, session), "other_storage")


def known_path(path: str) -> bool:
    """Whether any method is served under the path."""
    return any(route.regex.fullmatch(path) for route in ROUTES)


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", pattern)
    text = "".join(f"(?P<{part}>[^/:]+)" if index % 2 else re.escape(part) for index, part in enumerate(parts))
    return re.compile(text)


INFERENCE_PATHS = {
    "chat_completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}
"""The paths of OpenAI's API, by operation."""

INFERENCE: dict[str, str] = {
    # The official SDK sends inference to /v1/… when its base URL is overridden, as it is to reach this server.
    prefix + path: operation
    for prefix in ("/inference", "")
    for operation, path in INFERENCE_PATHS.items()
}
"""Operation by path."""

_ACCOUNT = "/v1/accounts/{account}"
_MODEL = _ACCOUNT + "/models/{model}"
_DEPLOYMENT = _ACCOUNT + "/deployments/{deployment}"
_DEPLOYED_MODEL = _ACCOUNT + "/deployedModels/{deployed_model}"
_SHAPE = _ACCOUNT + "/deploymentShapes/{shape}"
_ROUTER = _ACCOUNT + "/routers/{router}"
_QUOTA = _ACCOUNT + "/quotas/{quota}"
_SECRET = _ACCOUNT + "/secrets/{secret}"

ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/verifyApiKey", "verify_api_key", NOTHING, source="fireworks-ai 0.19", sure="observed",
    ),
    Route(
        "GET", "/v1/accounts", "list_accounts", messages.list_of("accounts", messages.ACCOUNT),
        query=messages.LIST_QUERY, source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "GET", _ACCOUNT, "get_account", messages.ACCOUNT, query=messages.READ_MASK_QUERY, source="fireworks-ai 1.2",
        sure="schema",
    ),
    Route(
        "POST", _ACCOUNT + "/models", "create_model", messages.MODEL, body=messages.CREATE_MODEL,
        source="docs, cookbook notebook", sure="observed",
    ),
    Route(
        "GET", _ACCOUNT + "/models", "list_models", messages.list_of("models", messages.MODEL),
        query=messages.LIST_QUERY, source="fireworks-ai 1.2, public callers", sure="observed",
    ),
    Route(
        "GET", _MODEL, "get_model", messages.MODEL, query=messages.READ_MASK_QUERY, source="docs, cookbook notebook",
        sure="observed",
    ),
    Route(
        "PATCH", _MODEL, "update_model", messages.MODEL, body=messages.MODEL,
        source="fireworks-ai 1.2, cookbook notebook", sure="observed",
    ),
    Route(
        "DELETE", _MODEL, "delete_model", NOTHING, source="docs, cookbook notebook", sure="observed",
    ),
    Route(
        "POST", _MODEL + ":getUploadEndpoint", "get_upload_endpoint", messages.UPLOAD_ENDPOINT,
        body=messages.GET_UPLOAD_ENDPOINT, source="docs, cookbook notebook", sure="observed",
    ),
    Route(
        "GET", _MODEL + ":validateUpload", "validate_upload", messages.VALIDATE_UPLOAD,
        query=messages.VALIDATE_UPLOAD_QUERY, source="docs, public clients",
    ),
    Route(
        "GET", _MODEL + ":getDownloadEndpoint", "get_download_endpoint", messages.DOWNLOAD_ENDPOINT,
        query=messages.READ_MASK_QUERY, source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "POST", _MODEL + ":prepare", "prepare_model", NOTHING, body=messages.PREPARE, source="docs, fireworks-ai 1.2",
        sure="documented",
    ),
    Route(
        "POST", _MODEL + ":import", "import_model", messages.OPERATION, body=messages.IMPORT, source="public OpenAPI",
        sure="schema",
    ),
    Route(
        "GET", _ACCOUNT + "/operations/{operation}", "get_operation", messages.OPERATION, source="training SDK",
        sure="inferred",
    ),
    Route(
        "POST", "/v1/validateModelConfig", "validate_model_config", NOTHING, body=messages.VALIDATE_CONFIG,
        source="public OpenAPI", sure="schema",
    ),
    Route(
        "POST", _ACCOUNT + "/deployments", "create_deployment", serving.DEPLOYMENT, body=serving.DEPLOYMENT,
        query=serving.CREATE_DEPLOYMENT_QUERY, source="fireworks-ai 1.2, public clients", sure="observed",
    ),
    Route(
        "GET", _ACCOUNT + "/deployments", "list_deployments", messages.list_of("deployments", serving.DEPLOYMENT),
        query=serving.LIST_DEPLOYMENTS_QUERY, source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "GET", _DEPLOYMENT, "get_deployment", serving.DEPLOYMENT, query=messages.READ_MASK_QUERY,
        source="fireworks-ai 1.2, public clients", sure="observed",
    ),
    Route(
        "PATCH", _DEPLOYMENT, "update_deployment", serving.DEPLOYMENT, body=serving.DEPLOYMENT,
        query=serving.UPDATE_DEPLOYMENT_QUERY, source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "DELETE", _DEPLOYMENT, "delete_deployment", NOTHING, query=serving.DELETE_DEPLOYMENT_QUERY,
        source="fireworks-ai 1.2, public clients", sure="observed",
    ),
    Route(
        "PATCH", _DEPLOYMENT + ":scale", "scale_deployment", NOTHING, body=serving.SCALE, source="fireworks-ai 1.2",
        sure="schema",
    ),
    Route(
        "POST", _DEPLOYMENT + ":undelete", "undelete_deployment", serving.DEPLOYMENT, body=NOTHING,
        source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "POST", _DEPLOYMENT + ":setTags", "set_deployment_tags", serving.DEPLOYMENT, body=serving.SET_TAGS,
        source="docs", sure="inferred",
    ),
    Route(
        "POST", _DEPLOYMENT + ":deleteTags", "delete_deployment_tags", serving.DEPLOYMENT, body=serving.DELETE_TAGS,
        source="docs", sure="inferred",
    ),
    Route(
        "POST", _ACCOUNT + "/deployedModels", "create_deployed_model", serving.DEPLOYED_MODEL,
        body=serving.DEPLOYED_MODEL, query=serving.CREATE_DEPLOYED_MODEL_QUERY, source="fireworks-ai 1.2, docs",
        sure="documented",
    ),
    Route(
        "GET", _ACCOUNT + "/deployedModels", "list_deployed_models",
        messages.list_of("deployedModels", serving.DEPLOYED_MODEL), query=messages.LIST_QUERY,
        source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "GET", _DEPLOYED_MODEL, "get_deployed_model", serving.DEPLOYED_MODEL, query=messages.READ_MASK_QUERY,
        source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "PATCH", _DEPLOYED_MODEL, "update_deployed_model", serving.DEPLOYED_MODEL, body=serving.DEPLOYED_MODEL,
        source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "DELETE", _DEPLOYED_MODEL, "delete_deployed_model", NOTHING, source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "GET", _ACCOUNT + "/deploymentShapes", "list_shapes", messages.list_of("deploymentShapes", serving.SHAPE),
        query=serving.LIST_SHAPES_QUERY, source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "GET", _SHAPE, "get_shape", serving.SHAPE, query=messages.READ_MASK_QUERY, source="fireworks-ai 1.2",
        sure="schema",
    ),
    Route(
        "GET", _SHAPE + "/versions", "list_shape_versions",
        messages.list_of("deploymentShapeVersions", serving.SHAPE_VERSION), query=messages.LIST_QUERY,
        source="fireworks-ai 1.2, public callers", sure="schema",
    ),
    Route(
        "GET", _SHAPE + "/versions/{version}", "get_shape_version", serving.SHAPE_VERSION,
        query=messages.READ_MASK_QUERY, source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "POST", _ACCOUNT + "/deploymentShapeVersions:match", "match_shape_versions",
        messages.list_of("deploymentShapeVersions", serving.SHAPE_VERSION), body=serving.MATCH,
        source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "POST", _ACCOUNT + "/routers", "create_router", serving.ROUTER, body=serving.ROUTER,
        query=serving.CREATE_ROUTER_QUERY, source="docs, SDK of 2025",
    ),
    Route(
        "GET", _ACCOUNT + "/routers", "list_routers", messages.list_of("routers", serving.ROUTER),
        query=messages.LIST_QUERY, source="SDK of 2025", sure="schema",
    ),
    Route(
        "GET", _ROUTER, "get_router", serving.ROUTER, query=messages.READ_MASK_QUERY, source="SDK of 2025",
        sure="schema",
    ),
    Route(
        "PATCH", _ROUTER, "update_router", serving.ROUTER, body=serving.ROUTER, source="docs, SDK of 2025",
        sure="schema",
    ),
    Route(
        "DELETE", _ROUTER, "delete_router", NOTHING, source="docs, SDK of 2025",
    ),
    Route(
        "GET", _ACCOUNT + "/quotas", "list_quotas", messages.list_of("quotas", serving.QUOTA),
        query=messages.LIST_QUERY, source="fireworks-ai 0.19, docs", sure="schema",
    ),
    Route(
        "GET", _QUOTA, "get_quota", serving.QUOTA, query=messages.READ_MASK_QUERY, source="fireworks-ai 0.19",
        sure="schema",
    ),
    Route(
        "PATCH", _QUOTA, "update_quota", serving.QUOTA, body=serving.QUOTA, source="fireworks-ai 0.19", sure="schema",
    ),
    Route(
        "POST", _ACCOUNT + "/secrets", "create_secret", messages.SECRET, body=messages.SECRET,
        source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "GET", _ACCOUNT + "/secrets", "list_secrets", messages.list_of("secrets", messages.SECRET),
        query=messages.LIST_QUERY, source="fireworks-ai 1.2", sure="schema",
    ),
    Route(
        "GET", _SECRET, "get_secret", messages.SECRET, query=messages.READ_MASK_QUERY, source="fireworks-ai 1.2",
        sure="schema",
    ),
    Route(
        "PATCH", _SECRET, "update_secret", messages.SECRET, body=messages.SECRET, source="fireworks-ai 1.2",
        sure="schema",
    ),
    Route(
        "DELETE", _SECRET, "delete_secret", NOTHING, source="fireworks-ai 1.2", sure="schema",
    ),
)  # fmt: skip

OPERATIONS: frozenset[str] = frozenset(
    {route.operation for route in ROUTES} | set(STORAGE_OPERATIONS.values()) | set(INFERENCE.values())
)
