"""What the tests of the sources share: a registry with real models in it, and a reporter that remembers."""

from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.version import VERSION

from mlflow_fireworks.progress import Silent
from mlflow_fireworks.registry.mlflow_versions import has_logged_models

WEIGHTS = bytes(range(256)) * 1024
needs_logged_models = pytest.mark.skipif(not has_logged_models(), reason=f"MLflow {VERSION} has no logged models")
PLAIN = {"config.json": b'{"model_type": "llama"}', "empty.txt": b"", "sub/model.safetensors": WEIGHTS}


class Remembers(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.notes = []
        self.warnings = []

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)


class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str]) -> list[str]:  # MLflow 2.19 passes the context to all
        return model_input


@dataclass(frozen=True)
class World:
    """A registry with `chat` (a logged model, alias champion) and `plain` (a folder of a run).

    MLflow 2 keeps the files of `chat` with those of the run.
    """

    client: MlflowClient
    run_id: str
    model_id: str | None
    plain_uri: str

    def identity(self, folder=""):
        """What names the content of `chat` for ever, where MLflow has such a name."""
        return f"models:/{self.model_id}{folder}" if self.model_id else None


def write_files(folder, files):
    for name, content in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def build_world(tracking_uri, scratch, artifact_location=None):
    """Fill the registry at `tracking_uri`; leaves it as MLflow's current one."""
    mlflow.set_tracking_uri(tracking_uri)
    experiment = mlflow.create_experiment(f"sources {scratch.name}", artifact_location=artifact_location)
    write_files(scratch / "files", PLAIN)
    write_files(scratch / "ckpt", {"weights.safetensors": WEIGHTS})
    with mlflow.start_run(experiment_id=experiment) as run:
        mlflow.set_tag("hf_repo", "org/from-run")
        mlflow.log_param("base", "org/param")
        info = mlflow.pyfunc.log_model(
            **({"name": "model", "params": {"adapter": "lora"}} if has_logged_models() else {"artifact_path": "model"}),
            python_model=Echo(),
            artifacts={"ckpt": str(scratch / "ckpt")},
            pip_requirements=[],
            registered_model_name="chat",
        )
        mlflow.log_artifacts(str(scratch / "files"), "plain")
        model_id = info.model_id if has_logged_models() else None
        if model_id:
            mlflow.set_logged_model_tags(model_id, {"team": "search"})
    client = MlflowClient()
    client.set_registered_model_alias("chat", "champion", "1")
    client.set_model_version_tag("chat", "1", "huggingFaceUrl", "https://huggingface.co/org/version")
    client.set_registered_model_tag("chat", "owner", "ml-platform")
    client.create_registered_model("plain")
    plain = f"{run.info.artifact_uri}/plain"
    client.create_model_version("plain", plain, run.info.run_id)
    return World(client, run.info.run_id, model_id, plain)


def picture(folder):
    """Names, sizes and times of everything below a folder: equal pictures, untouched folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns, path.lstat().st_mode)
        for path in sorted(Path(folder).rglob("*"))
    }
