"""The MLflow door: what `mlflow deployments … -t fireworks` and `mlflow.deployments.get_deploy_client` reach.

MLflow looks for exactly three things in this module: one subclass of BaseDeploymentClient, `run_local` and
`target_help`. A second name for the class, or a second imported client class, would make it refuse the plugin.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mlflow.deployments import BaseDeploymentClient, PredictionsResponse
from mlflow.utils import AttrDict

from mlflow_fireworks.config import Config, parse_config
from mlflow_fireworks.deployments import Deployments
from mlflow_fireworks.endpoint_config import EndpointConfig, parse_both, parse_endpoint_config
from mlflow_fireworks.errors import FireworksError, UnsupportedError
from mlflow_fireworks.gateway.wire import READY
from mlflow_fireworks.installing import install
from mlflow_fireworks.local import can_answer, keep_answering, local_state, local_url
from mlflow_fireworks.names import DeploymentName, EndpointName
from mlflow_fireworks.opening import open_deployments
from mlflow_fireworks.option_values import Options, list_options
from mlflow_fireworks.pipeline.outcome import Outcome
from mlflow_fireworks.printable import make_all_printable
from mlflow_fireworks.progress import logger
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving import endpoints
from mlflow_fireworks.signals import stopped_by_sigterm, stopped_soon
from mlflow_fireworks.target import parse_target


class FireworksDeploymentClient(BaseDeploymentClient):
    """Deploys MLflow models to one Fireworks AI account.

    Making one does no I/O; the API key is looked for at the first call that needs it.

    Args:
        target_uri: `fireworks`, `fireworks:/ACCOUNT`, `fireworks://HOST[:PORT][/ACCOUNT]` or
            `fireworks://local[/ACCOUNT]`.

    Raises:
        InvalidConfigError: The URI, FIREWORKS_BASE_URL or FIREWORKS_ACCOUNT_ID cannot be used.
    """

    def __init__(self, target_uri: str) -> None:
        super().__init__(target_uri)  # type: ignore[no-untyped-call]  # MLflow's base has no annotations
        self._target = parse_target(target_uri)

    def create_deployment(
        self,
        name: str,
        model_uri: str,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Bring a model to READY on Fireworks. Running it again goes on where it stopped, or does nothing.

        Args:
            name: 1 to 63 of a-z, 0-9 and '-'; becomes the id of the Fireworks model.
            model_uri: `models:/name/version`, `models:/name@alias`, `models:/m-…`, `runs:/…`, a folder, a remote
                artifact URI, or `hf:/org/name[@revision]`.
            flavor: Expected MLflow flavor; found when None.
            config: Options as in `mlflow deployments help -t fireworks`.
            endpoint: Also serve it there: a base model on GPUs of that name, started when there are none (and billed);
                a LoRA adapter on an endpoint that serves its base.

        Returns:
            name, flavor, state, model (resource name), revision, action, source, kind, architecture,
            parameter_count, context_length, dtype, hugging_face_url with its evidence, warnings, and more.

        Raises:
            FireworksError: An MlflowException whose message says what happened and what to do.
        """
        with self._opened(*parse_both(config, endpoint), endpoint) as deployments:
            return _with_flavor(
                deployments.create(DeploymentName(name), model_uri, flavor, _endpoint(endpoint)), flavor
            )

    def update_deployment(
        self,
        name: str,
        model_uri: str | None = None,
        flavor: str | None = None,
        config: Mapping[str, Any] | None = None,
        endpoint: str | None = None,
    ) -> dict[str, Any]:
        """Make new content the next revision; without a model, finish one stuck in UPLOADING and set metadata.

        Args:
            name: An existing deployment.
            model_uri: New content, or None.
            flavor: Expected MLflow flavor; found when None.
            config: Options; without a model the metadata options among them are applied; `revision=N` puts an earlier
                one back on the endpoint.
            endpoint: Move that endpoint to it with no gap; started when there is none.

        Returns:
            As create_deployment.

        Raises:
            FireworksError: An MlflowException whose message says what happened and what to do.
        """
        with self._opened(*parse_both(config, endpoint), endpoint) as deployments:
            return _with_flavor(
                deployments.update(DeploymentName(name), model_uri, flavor, _endpoint(endpoint)), flavor
            )

    def delete_deployment(
        self, name: str, config: Mapping[str, Any] | None = None, endpoint: str | None = None
    ) -> None:
        """Delete all revisions of a deployment; one that does not exist is fine.

        Args:
            name: The deployment.
            config: `cascade=true` first takes down the endpoints that serve it; `force=true` also deletes what this
                plugin did not make.
            endpoint: Only take its adapter off that endpoint.

        Raises:
            FireworksError: It still serves, or is somebody else's.
        """
        options = parse_config(config)
        with self._opened(options, EndpointConfig(force=options.force)) as deployments:
            deployments.delete(DeploymentName(name), _endpoint(endpoint))

    def list_deployments(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """All deployments of the account, those made by others included (`managed` tells them apart).

        Args:
            endpoint: Only those that it serves.

        Returns:
            As `get_deployment` for each.
        """
        with self._opened() as deployments:
            return [_leave_out_empty(found) for found in deployments.list(_endpoint(endpoint))]

    def get_deployment(self, name: str, endpoint: str | None = None) -> dict[str, Any]:
        """One deployment, with the endpoints that serve it and whether Fireworks can fine-tune it.

        Returns:
            What is known of it; keys without a value are left out, because the `mlflow` command prints them all.

        Raises:
            NotFoundError: There is none of that name, or the endpoint does not serve it.
        """
        with self._opened() as deployments:
            return _leave_out_empty(deployments.get(DeploymentName(name), _endpoint(endpoint)))

    def plan_deployment(self, name: str, model_uri: str, options: Config) -> Outcome:
        """What create (or update, where the deployment exists) would do.

        Args:
            name: The deployment.
            model_uri: As for create_deployment.
            options: With `dry_run` set.
        """
        with self._opened(options) as deployments:
            return deployments.bring_up_to_date(DeploymentName(name), model_uri)

    def predict(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> PredictionsResponse:
        """Ask the model of a deployment, or of an endpoint.

        Args:
            deployment_name: The deployment; its current revision answers.
            inputs: A payload of the OpenAI shape (its whole answer is returned), a string, a list of strings, messages,
                chats or payloads, or a DataFrame. Embedding models answer vectors.
            endpoint: The endpoint; with a deployment too, that deployment on it.

        Returns:
            `predictions`, one for each row and None where one failed; `usage`, tokens added up; `errors`, which rows
            failed and why.

        Raises:
            FireworksError: Nothing serves it (with the command that would), or nothing answered.
        """
        with self._opened() as deployments:
            answers = deployments.predict(_deployment(deployment_name), inputs, _endpoint(endpoint))
            return PredictionsResponse(answers.to_dict())

    def predict_stream(
        self, deployment_name: str | None = None, inputs: Any = None, endpoint: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Ask for one answer, piece by piece, as chunks of the OpenAI shape; see `predict`."""
        with self._opened() as deployments:
            yield from deployments.predict_stream(_deployment(deployment_name), inputs, _endpoint(endpoint))

    def explain(self, deployment_name: str | None = None, df: Any = None, endpoint: str | None = None) -> Any:
        """Fireworks has no explanations: raises UnsupportedError."""
        raise UnsupportedError("explain is not supported: Fireworks AI serves language models, without explanations")

    def create_endpoint(self, name: str, config: Mapping[str, Any] | None = None) -> AttrDict:
        """Put a model on GPUs, which are billed while they are up; waits until it answers.

        Args:
            name: 1 to 63 of a-z, 0-9 and '-'.
            config: Options as in `mlflow-fireworks endpoint options`; `model` is needed.

        Returns:
            As get_endpoint.

        Raises:
            FireworksError: An MlflowException whose message says what happened and what to do.
        """
        with self._serving(config) as run:
            return _shown(endpoints.create_endpoint(run, EndpointName(name)))

    def update_endpoint(self, endpoint: str, config: Mapping[str, Any] | None = None) -> AttrDict:
        """Change an endpoint; another model or other GPUs come up and answer before the old ones go.

        Args:
            endpoint: Its name.
            config: Options as for create_endpoint; only those given change.

        Returns:
            As get_endpoint.

        Raises:
            FireworksError: An MlflowException whose message says what happened and what to do.
        """
        with self._serving(config) as run:
            return _shown(endpoints.update_endpoint(run, EndpointName(endpoint)))

    def delete_endpoint(self, endpoint: str, config: Mapping[str, Any] | None = None) -> None:
        """Take an endpoint's GPUs down; one that does not exist is fine.

        Args:
            endpoint: Its name.
            config: `force=true` also deletes one that this plugin did not make; `hard=true` frees its name at once.

        Raises:
            ConflictError: It was not made by this plugin, and `force` is not set.
        """
        options = parse_endpoint_config(config)
        shared = Config(progress=options.progress, registry_tags=options.registry_tags)
        with self._opened(shared, options) as deployments:
            deployments.delete_endpoint(EndpointName(endpoint))

    def undelete_endpoint(self, endpoint: str) -> AttrDict:
        """Bring back what was deleted of an endpoint last, within seven days; it is billed again while it is up.

        Args:
            endpoint: Its name.

        Returns:
            As get_endpoint.

        Raises:
            NotFoundError: Nothing of it can be brought back.
        """
        with self._serving(None) as run:
            return _shown(endpoints.undelete_endpoint(run, EndpointName(endpoint)))

    def list_endpoints(self) -> list[AttrDict]:
        """All endpoints of the account, those made by others included (`managed` tells them apart)."""
        with self._serving(None) as run:
            return [_shown(endpoint) for endpoint in endpoints.list_all(run)]

    def get_endpoint(self, endpoint: str) -> AttrDict:
        """One endpoint, with attributes and keys, as MLflow's judges read it (`endpoints:/NAME`).

        Raises:
            NotFoundError: There is none of that name.
        """
        with self._serving(None) as run:
            return _shown(endpoints.get_endpoint(run, EndpointName(endpoint)))

    @contextmanager
    def _serving(self, config: Mapping[str, Any] | None) -> Iterator[Run]:
        options = parse_endpoint_config(config)
        with self._opened(Config(progress=options.progress), options) as deployments:
            yield deployments.run

    @contextmanager
    def _opened(
        self,
        options: Config | None = None,
        endpoint_options: EndpointConfig | None = None,
        endpoint: str | None = None,
    ) -> Iterator[Deployments]:
        opened = open_deployments(self._target, options, endpoint_options, endpoint=_endpoint(endpoint))
        with stopped_soon(), opened as deployments:  # in this order: the connections are closed first
            yield deployments


def run_local(
    name: str, model_uri: str, flavor: str | None = None, config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Rehearse a deployment: the whole pipeline against the embedded local Fireworks.

    With the packages of the extra `local` the model then runs on the CPU and answers until Ctrl-C.

    Args:
        name: As for create_deployment.
        model_uri: As for create_deployment.
        flavor: As for create_deployment.
        config: As for create_deployment.

    Returns:
        As create_deployment.
    """
    client = FireworksDeploymentClient("fireworks://local")
    result = client.create_deployment(name, model_uri, flavor, config)
    if result["state"] != READY:
        return result
    if not can_answer():
        logger.info(
            "no model runs here, so nothing answers; install what that needs: %s", install("mlflow-fireworks[local]")
        )
        return result
    try:
        served = client.update_deployment(name, endpoint=name, config={"live_merge": True})
    except FireworksError as error:
        logger.warning("%s; it is READY nevertheless, but nothing answers here", error.message)
        return result
    with stopped_by_sigterm():
        keep_answering(local_url(local_state()), served["address"])
    return result | {"endpoint": name, "address": served["address"]}


def target_help() -> str:
    """The text of `mlflow deployments help -t fireworks`."""
    return f"""\
Fireworks AI: deploys a model from an MLflow registry (or the Hugging Face Hub) to a Fireworks account.

  mlflow deployments create -t fireworks -m models:/chat@champion --name chat

Targets (-t)
  fireworks                          account from FIREWORKS_ACCOUNT_ID, else asked of the API with the key
  fireworks:/ACCOUNT                 that account on api.fireworks.ai
  fireworks://HOST[:PORT][/ACCOUNT]  that API address (https; plain http on loopback only)
  fireworks://local[/ACCOUNT]        the embedded local Fireworks: no account, no network, no cost

Credentials
  FIREWORKS_API_KEY: a variable, else a file of that name in $CREDENTIALS_DIRECTORY, else firectl's
  ~/.fireworks/auth.ini. Never in -t or -C.

Models (-m)
  models:/NAME/VERSION   models:/NAME@ALIAS   models:/m-ID   runs:/RUN/PATH   a folder   s3://… and other stores
  hf:/ORG/NAME[@REVISION]

Options (-C name=value)
{_option_lines(Config)}

Endpoints: a deployment is served with --endpoint NAME, which starts GPUs where there are none. They are billed while
they are up. MLflow's own create-endpoint command fails for every plugin; use this one, or create_endpoint in Python:

  mlflow-fireworks endpoint create -t fireworks --name prod -C model=chat

Options of endpoints (also for create and update with --endpoint)
{_option_lines(EndpointConfig)}
"""


def _option_lines(table: type[Options]) -> str:
    return "\n".join(
        f"  {name}  ({kind}, default {default})\n      {text}" for name, kind, default, text in list_options(table)
    )


def _deployment(name: str | None) -> DeploymentName | None:
    return DeploymentName(name) if name else None


def _endpoint(name: str | None) -> EndpointName | None:
    return EndpointName(name) if name else None


def _with_flavor(result: dict[str, Any], flavor: str | None) -> dict[str, Any]:
    """MLflow's command prints "FLAVOR deployment NAME is created"; after a dry run that must not read as if it were."""
    shown = "(dry run, nothing was changed)" if result["dry_run"] else flavor
    return make_all_printable(result | ({"flavor": shown} if shown else {}))


def _shown(endpoint: dict[str, Any]) -> AttrDict:
    return AttrDict(make_all_printable(endpoint))


def _leave_out_empty(found: dict[str, Any]) -> dict[str, Any]:
    return make_all_printable({key: value for key, value in found.items() if value not in (None, {}, [])})
