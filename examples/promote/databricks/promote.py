"""Bring Fireworks up to date with an alias in Unity Catalog; run by the job in databricks.yml."""

import argparse
import json
import os

import mlflow
from databricks.sdk import WorkspaceClient

from mlflow_fireworks import promote

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True, help="catalog.schema.model")
parser.add_argument("--alias", required=True)
parser.add_argument("--endpoint", help="also move this endpoint, if any")
parser.add_argument("--registry", required=True, help="MLflow registry URI")
parser.add_argument("--scope", required=True, help="secret scope that contains api-key")
arguments = parser.parse_args()

mlflow.set_registry_uri(arguments.registry)
os.environ["FIREWORKS_API_KEY"] = WorkspaceClient().dbutils.secrets.get(arguments.scope, "api-key")
uri = f"models:/{arguments.model}@{arguments.alias}"
print(json.dumps(promote(uri, endpoint=arguments.endpoint or None), indent=2))
