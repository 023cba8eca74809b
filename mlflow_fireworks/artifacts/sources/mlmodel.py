"""The `MLmodel` file, in which MLflow writes what a model's artifacts are."""

import yaml

from mlflow_fireworks.artifacts.documents import Document, most_bytes
from mlflow_fireworks.artifacts.sources.source import Store
from mlflow_fireworks.errors import SourceError

MLMODEL = "MLmodel"


def read_mlmodel(store: Store, place: str, folder: str = "") -> Document:
    """Read and parse it.

    Args:
        store: Holds the files of the model.
        place: What they are called, for messages.
        folder: POSIX path of the folder that it is in, "" for the top.

    Raises:
        SourceError: It cannot be read, or is not the mapping that MLflow writes.
    """
    name = f"{folder}/{MLMODEL}" if folder else MLMODEL
    try:
        data = store.read(name, most_bytes(name))
        if len(data) > most_bytes(name):
            raise SourceError(f"{place}: its {name} file is too large for one of MLflow's; log the model again")
        content = yaml.safe_load(data.decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SourceError(f"{place}: its {name} file is not YAML; log the model again") from error
    if not isinstance(content, dict):
        raise SourceError(f"{place}: its {name} file is not a mapping; log the model again")
    return content
