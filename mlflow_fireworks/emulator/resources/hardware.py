"""On what a new deployment runs: a shape, or an accelerator named without one; and whether that fits its model."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_fireworks.emulator.behaviours import Behaviours
from mlflow_fireworks.emulator.protocol.wire import ApiError, Code, JsonObject
from mlflow_fireworks.emulator.resources.shapes import Shapes, is_for_embeddings
from mlflow_fireworks.emulator.storage.state import Resource, Transaction

_QUANTIZED = ("FP8", "FP4", "NF4")


@dataclass(frozen=True)
class Hardware:
    """Chooses and checks the hardware of deployments.

    Args:
        shapes: Resolves deployment shapes.
        behaviours: What becomes of a shape, or of an embedding model, that does not fit.
    """

    shapes: Shapes
    behaviours: Behaviours

    def choose(self, transaction: Transaction, deployment: Resource, base: Resource, query: JsonObject) -> None:
        """Fill in the hardware of a deployment.

        Args:
            transaction: To read models.
            deployment: Gets its hardware; ``wrong_vectors`` is noted in it where embeddings would be wrong.
            base: The model that it runs, or that its adapter changes.
            query: The parameters of the create call.

        Raises:
            ApiError: It cannot be had, or does not fit.
        """
        body = deployment.body
        shape, accelerator = body.get("deploymentShape", ""), body.get("acceleratorType", "")
        if shape:
            if accelerator or body.get("acceleratorCount"):
                raise ApiError(
                    Code.INVALID_ARGUMENT,
                    "accelerator_type and accelerator_count must not be set with deployment_shape",
                )
            if query.get("acceptShapelessRisk"):
                raise ApiError(Code.INVALID_ARGUMENT, "accept_shapeless_risk must not be set with deployment_shape")
            self._take_shape(transaction, body, checked=not query.get("skipShapeValidation"))
            embeds = is_for_embeddings(body["deploymentShape"])
        else:
            embeds = accelerator in ("", "ACCELERATOR_TYPE_UNSPECIFIED")
            if embeds and base.body["kind"] != "EMBEDDING_MODEL":
                raise ApiError(Code.INVALID_ARGUMENT, "accelerator_type must be specified for non-embeddings engines")
            body.setdefault("acceleratorCount", 1)
            _check_precision(body, base)
        if base.body["kind"] == "EMBEDDING_MODEL" and not embeds:
            if self.behaviours.has("embeddings", "guarded"):
                raise ApiError(
                    Code.INVALID_ARGUMENT,
                    f'invalid deployment: embedding model "{base.name}" requires an embedding deployment shape',
                )
            deployment.private["wrong_vectors"] = True

    def _take_shape(self, transaction: Transaction, body: JsonObject, *, checked: bool) -> None:
        version = self.shapes.resolve(transaction, body["deploymentShape"], body["baseModel"])
        fits = version in self.shapes.fitting(transaction, body["baseModel"])
        snapshot = version["snapshot"]
        for key in ("acceleratorType", "acceleratorCount", "precision", "maxContextLength"):
            body[key] = body.get(key) or snapshot[key]
        if fits or not checked:
            body["deploymentShape"] = version["name"]
        elif self.behaviours.has("shapes", "dropped"):
            body["deploymentShape"] = ""
            if body.get("enableAddons"):
                raise ApiError(Code.INVALID_ARGUMENT, "addons are not supported for this model")
        else:
            raise ApiError(
                Code.INVALID_ARGUMENT,
                f'deployment shape "{version["name"]}" is not validated for model "{body["baseModel"]}"',
            )


def _check_precision(body: JsonObject, base: Resource) -> None:
    wanted = body.get("precision", "")
    if wanted.startswith(_QUANTIZED) and wanted not in base.body.get("supportedPrecisions", []):
        raise ApiError(
            Code.FAILED_PRECONDITION,
            f'model "{base.name}" is not available in precision {wanted}, prepare the model first',
        )
