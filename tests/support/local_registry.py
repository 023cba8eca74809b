"""A registry in SQLite that is filled once for the tests of a module, and copied for each: making one takes seconds."""

import shutil

import mlflow
from support.checkpoints import make_llama


def fill_registry(folder, *models, versions, champion="1"):
    """Registered models, each with so many versions, each of which is another Llama."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    for number, model in enumerate(models):
        client.create_registered_model(model)
        for version in range(1, versions + 1):
            made = make_llama(folder / f"{model}-{version}", seed=10 * number + version)
            client.create_model_version(model, made.as_uri())
        if champion:
            client.set_registered_model_alias(model, "champion", champion)
    return folder / "mlflow.db"


def use_copy(registry, folder, monkeypatch):
    """Let a copy be MLflow's current registry, which a test may write to."""
    shutil.copy(registry, folder / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    return mlflow.MlflowClient()
