"""The control plane: every resource service over one store, and which of their methods is which operation."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from mlflow_fireworks.emulator.options import Clock, Options
from mlflow_fireworks.emulator.protocol.wire import Call, JsonObject
from mlflow_fireworks.emulator.resources.accounts import Accounts
from mlflow_fireworks.emulator.resources.deployed_models import DeployedModels
from mlflow_fireworks.emulator.resources.deployments import Deployments
from mlflow_fireworks.emulator.resources.hardware import Hardware
from mlflow_fireworks.emulator.resources.imports import Imports
from mlflow_fireworks.emulator.resources.model_files import ModelFiles
from mlflow_fireworks.emulator.resources.models import Models
from mlflow_fireworks.emulator.resources.quotas import Quotas
from mlflow_fireworks.emulator.resources.routers import Routers
from mlflow_fireworks.emulator.resources.secrets import Secrets
from mlflow_fireworks.emulator.resources.shapes import Shapes
from mlflow_fireworks.emulator.resources.transitions import Transitions
from mlflow_fireworks.emulator.storage.signing import Signer
from mlflow_fireworks.emulator.storage.state import Store

Operation = Callable[[Call], JsonObject]


class ControlPlane:
    """The resource services, wired.

    Args:
        store: Where resources live.
        options: How it behaves.
        signer: Signs upload and download URLs.
        clock: Seconds since the epoch.

    Attributes:
        operations: What carries out each operation of the route table, by its name there.
        transitions: How long things take.
    """

    def __init__(self, store: Store, options: Options, signer: Signer, clock: Clock) -> None:
        ids = random.Random(options.seed)  # noqa: S311  # names, not secrets; seeded so that tests can repeat them
        self.transitions = Transitions()
        self.accounts = Accounts(store, options)
        self.models = Models(store, options, self.transitions, clock)
        shapes = Shapes(store, self.models)
        self.deployments = Deployments(
            store, self.models, Hardware(shapes, options.behaviours), options.behaviours, self.transitions, ids, clock
        )
        self.deployed_models = DeployedModels(store, self.models, self.deployments, self.transitions, ids, clock)
        self.routers = Routers(store, self.deployments, options.behaviours, ids, clock)
        self.operations: Mapping[str, Operation] = {
            **_of_accounts(self.accounts, Quotas(store), Secrets(store)),
            **_of_models(
                self.models,
                ModelFiles(store, options, self.models, signer, clock),
                Imports(store, self.models, self.transitions, ids, clock),
            ),
            **_of_deployments(self.deployments, shapes, self.deployed_models),
            **_of_routers(self.routers),
        }


def _of_accounts(accounts: Accounts, quotas: Quotas, secrets: Secrets) -> dict[str, Operation]:
    return {
        "verify_api_key": accounts.verify_api_key,
        "list_accounts": accounts.page,
        "get_account": accounts.get,
        "list_quotas": quotas.page,
        "get_quota": quotas.get,
        "update_quota": quotas.update,
        "create_secret": secrets.create,
        "list_secrets": secrets.page,
        "get_secret": secrets.get,
        "update_secret": secrets.update,
        "delete_secret": secrets.delete,
    }


def _of_models(models: Models, files: ModelFiles, imports: Imports) -> dict[str, Operation]:
    return {
        "create_model": models.create,
        "list_models": models.page,
        "get_model": models.get,
        "update_model": models.update,
        "delete_model": models.delete,
        "prepare_model": models.prepare,
        "get_upload_endpoint": files.get_upload_endpoint,
        "get_download_endpoint": files.get_download_endpoint,
        "validate_upload": files.validate_upload,
        "validate_model_config": files.validate_config,
        "import_model": imports.start,
        "get_operation": imports.get_operation,
    }


def _of_deployments(deployments: Deployments, shapes: Shapes, deployed_models: DeployedModels) -> dict[str, Operation]:
    return {
        "create_deployment": deployments.create,
        "list_deployments": deployments.page,
        "get_deployment": deployments.get,
        "update_deployment": deployments.update,
        "delete_deployment": deployments.delete,
        "scale_deployment": deployments.scale,
        "undelete_deployment": deployments.undelete,
        "set_deployment_tags": deployments.set_tags,
        "delete_deployment_tags": deployments.delete_tags,
        "create_deployed_model": deployed_models.create,
        "list_deployed_models": deployed_models.page,
        "get_deployed_model": deployed_models.get,
        "update_deployed_model": deployed_models.update,
        "delete_deployed_model": deployed_models.delete,
        "list_shapes": shapes.page,
        "get_shape": shapes.get,
        "list_shape_versions": shapes.page_versions,
        "get_shape_version": shapes.get_version,
        "match_shape_versions": shapes.match,
    }


def _of_routers(routers: Routers) -> dict[str, Operation]:
    return {
        "create_router": routers.create,
        "list_routers": routers.page,
        "get_router": routers.get,
        "update_router": routers.update,
        "delete_router": routers.delete,
    }
