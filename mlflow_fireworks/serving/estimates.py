"""What GPUs an endpoint would get, asked before anything is started."""

from mlflow_fireworks.endpoint_config import EndpointConfig
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.gateway.serving_wire import OnDemandDeployment, Placement
from mlflow_fireworks.gateway.wire import READY, Model
from mlflow_fireworks.names import EndpointName
from mlflow_fireworks.run import Run
from mlflow_fireworks.serving.bringup import preview
from mlflow_fireworks.serving.prices import count_replicas


def estimate(run: Run, name: EndpointName, model: Model | None) -> OnDemandDeployment | None:
    """What a new endpoint would be, as far as it can be known before it is started; nothing is started.

    Args:
        run: The account and the options.
        name: The endpoint.
        model: What it would serve; None when that is not on Fireworks yet.
    """
    if model is not None and model.state == READY:
        try:
            return preview(run, name, model)
        except FireworksError:  # no shape fits, or the quota is used up: what it will be then is not known
            pass
    return preview_options(run.endpoint_config)


def preview_options(options: EndpointConfig) -> OnDemandDeployment | None:
    """What options alone say about new GPUs; None when they leave the choice to Fireworks."""
    if not options.accelerator_type or not options.accelerator_count:
        return None
    least = options.min_replicas or 0
    return OnDemandDeployment(
        name="",
        accelerator_type=options.accelerator_type,
        accelerator_count=options.accelerator_count,
        min_replica_count=least,
        max_replica_count=max(least, 1) if options.max_replicas is None else options.max_replicas,
        placement=Placement.model_validate(options.where),
    )


def describe_hardware(deployment: OnDemandDeployment | None) -> str:
    """`2 x NVIDIA_H100_80GB, up to 3 replicas`."""
    if deployment is None or not deployment.accelerator_type:
        return "GPUs of Fireworks' choice"
    replicas = count_replicas(deployment)
    gpus = f"{deployment.accelerator_count or '?'} x {deployment.accelerator_type}"
    return f"{gpus}, up to {replicas} replicas" if replicas > 1 else gpus
