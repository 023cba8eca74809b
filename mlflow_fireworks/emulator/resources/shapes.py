"""Deployment shapes: validated hardware for the catalogue's models, and which of them fit a given model."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_fireworks.emulator.protocol import listing, serving_messages
from mlflow_fireworks.emulator.protocol.wire import ApiError, Call, Code, JsonObject
from mlflow_fireworks.emulator.resources import catalogue
from mlflow_fireworks.emulator.resources.models import Models
from mlflow_fireworks.emulator.storage.state import Resource, Store, Transaction

_PARENT = f"accounts/{catalogue.ACCOUNT}/deploymentShapes"
_VERSION = "v1"
_GPU_BYTES = 80_000_000_000
_WEIGHT_SHARE = 0.8
_EMBEDDING_MODELS = frozenset(model["name"] for model in catalogue.models() if model["kind"] == "EMBEDDING_MODEL")
_PRESETS = (("MINIMAL", "BF16", True, 2), ("FAST", "FP8", False, 1))
_UNKNOWN = "the deployment shape version does not exist or you do not have access to it"


@dataclass(frozen=True)
class Shapes:
    """The shape service.

    Args:
        store: To read the caller's models.
        models: Resolves model names.
    """

    store: Store
    models: Models

    def page(self, call: Call) -> JsonObject:
        """ListDeploymentShapes, of one account or of all with ``-``."""
        found = [version["snapshot"] for version in _versions() if _listed(call, version)]
        target = call.query.get("targetModel")
        if target:
            with self.store.transaction() as transaction:
                fitting = [version["snapshot"] for version in self.fitting(transaction, target)]
            found = [shape for shape in found if shape in fitting]
        return listing.page("deploymentShapes", serving_messages.SHAPE, found, call.query, order="create_time")

    def get(self, call: Call) -> JsonObject:
        """GetDeploymentShape."""
        shape = _find(f"accounts/{call.path['account']}/deploymentShapes/{call.path['shape']}")
        if shape is None:
            raise ApiError(Code.NOT_FOUND, f'deployment shape "{call.path["shape"]}" not found')
        mask = call.query.get("readMask", "")
        return listing.apply_mask(serving_messages.SHAPE, shape["snapshot"], mask)

    def page_versions(self, call: Call) -> JsonObject:
        """ListDeploymentShapeVersions, with ``-`` for any account or shape."""
        found = [version for version in _versions() if _listed(call, version)]
        return listing.page(
            "deploymentShapeVersions", serving_messages.SHAPE_VERSION, found, call.query, order="create_time"
        )

    def get_version(self, call: Call) -> JsonObject:
        """GetDeploymentShapeVersion."""
        parent = f"accounts/{call.path['account']}/deploymentShapes/{call.path['shape']}"
        version = _find(f"{parent}/versions/{call.path['version']}")
        if version is None:
            raise ApiError(Code.NOT_FOUND, f'deployment shape version "{call.path["version"]}" not found')
        mask = call.query.get("readMask", "")
        return listing.apply_mask(serving_messages.SHAPE_VERSION, version, mask)

    def match(self, call: Call) -> JsonObject:
        """MatchDeploymentShapeVersions: the shapes on which a model, an addon included, could be deployed."""
        deployment = call.body.get("createDeploymentRequest", {}).get("deployment", {})
        if not deployment.get("baseModel"):
            raise ApiError(Code.INVALID_ARGUMENT, "create_deployment_request.deployment.base_model is required")
        with self.store.transaction() as transaction:
            found = self.fitting(transaction, deployment["baseModel"], addons=deployment.get("enableAddons", False))
        return {"deploymentShapeVersions": found, "nextPageToken": "", "totalSize": len(found)}

    def fitting(self, transaction: Transaction, model: str, *, addons: bool = False) -> list[JsonObject]:
        """The validated versions for a model: its own, its base's, or those of the next larger of its type.

        For an embedding model, those of all larger embedding models; which ones are validated for it is not public.
        """
        base = self._base(transaction, self.models.find(transaction, model))
        details = base.body.get("baseModelDetails", {})
        size = details.get("parameterCount", 0)
        embeds = base.body.get("kind") == "EMBEDDING_MODEL"
        same_type = [
            version
            for version in _versions()
            if _embeds(version) == embeds
            and (embeds or version["snapshot"]["modelType"] == details.get("modelType"))
            and (not addons or version["snapshot"]["enableAddons"])
        ]
        exact = [version for version in same_type if version["snapshot"]["baseModel"] == base.name]
        if exact:
            return exact
        sizes = sorted({count for version in same_type if (count := version["snapshot"]["parameterCount"]) >= size})
        wanted = sizes if embeds else sizes[:1]
        fitting = [version for version in same_type if version["snapshot"]["parameterCount"] in wanted]
        return sorted(fitting, key=lambda version: int(version["snapshot"]["parameterCount"]))

    def resolve(self, transaction: Transaction, name: str, model: str) -> JsonObject:
        """The shape version that a deployment asks for; it need not fit.

        Args:
            transaction: To read models.
            name: A shape, a version of one, or ``default``.
            model: The model to deploy.

        Raises:
            ApiError: INVALID_ARGUMENT when there is none.
        """
        if name == "default":
            fitting = self.fitting(transaction, model)
            if fitting:
                return fitting[0]
            raise ApiError(Code.INVALID_ARGUMENT, f'no validated deployment shape for model "{model}"')
        version = _find(name)
        if version is None:
            raise ApiError(Code.INVALID_ARGUMENT, _UNKNOWN)
        return version

    def _base(self, transaction: Transaction, model: Resource) -> Resource:
        base = model.body.get("peftDetails", {}).get("baseModel")
        return self.models.find(transaction, base) if base else model


def is_for_embeddings(name: str) -> bool:
    """Whether a shape or version of that name serves embedding models."""
    version = _find(name)
    return version is not None and _embeds(version)


def _embeds(version: JsonObject) -> bool:
    return version["snapshot"]["baseModel"] in _EMBEDDING_MODELS


def _versions() -> list[JsonObject]:
    """Two shapes for each catalogue model: one that takes adapters, and a faster one that does not.

    An embedding model has the first only, which is the one that is known of the real catalogue.
    """
    found = []
    for model in catalogue.models():
        details = model["baseModelDetails"]
        for preset, precision, addons, share in _PRESETS[: 1 if model["kind"] == "EMBEDDING_MODEL" else 2]:
            gpus = 1
            while gpus * _GPU_BYTES * _WEIGHT_SHARE < details["parameterCount"] * share:
                gpus *= 2
            name = f"{_PARENT}/{model['name'].rpartition('/')[2]}-{preset.lower()}"
            shape = {
                "name": name,
                "displayName": f"{model['displayName']} {preset.lower()}",
                "createTime": model["createTime"],
                "updateTime": model["updateTime"],
                "baseModel": model["name"],
                "modelType": details["modelType"],
                "parameterCount": details["parameterCount"],
                "acceleratorCount": gpus,
                "acceleratorType": "NVIDIA_H100_80GB",
                "precision": precision,
                "presetType": preset,
                "enableAddons": addons and model["supportsLora"],
                "maxContextLength": model["contextLength"],
            }
            found.append(
                {
                    "name": f"{name}/versions/{_VERSION}",
                    "createTime": model["createTime"],
                    "snapshot": shape,
                    "validated": True,
                    "latestValidated": True,
                    "public": True,
                }
            )
    return found


def _find(name: str) -> JsonObject | None:
    return next((v for v in _versions() if name in (v["name"], v["snapshot"]["name"])), None)


def _listed(call: Call, version: JsonObject) -> bool:
    account, shape = call.path["account"], call.path.get("shape", "-")
    own = version["snapshot"]["name"].rpartition("/")[2]
    return account in ("-", catalogue.ACCOUNT) and shape in ("-", own)
