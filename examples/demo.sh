#!/bin/sh
# The main job, with real input and no account: two models go from a fresh MLflow registry to READY on the embedded
# local Fireworks. `make demo` sets up what this needs and runs it.
set -eu

BIN=${BIN:?the folder with python and mlflow in it}
DEMO=$(mkdir -p "${DEMO:-.demo}" && cd "${DEMO:-.demo}" && pwd)

export MLFLOW_TRACKING_URI="sqlite:///$DEMO/mlflow.db"
export MLFLOW_FIREWORKS_HOME="$DEMO/fireworks"
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"

show() {
    printf '\n$ %s\n' "$*"
    program=$1
    shift
    "$BIN/$program" "$@"
}

rm -rf "$DEMO/mlflow.db" "$DEMO/artifacts" "$DEMO/fireworks"
echo "registering two models in a fresh registry ($MLFLOW_TRACKING_URI)"
"$BIN/python" examples/register_models.py "$DEMO/artifacts"

show mlflow deployments create -t fireworks://local -m models:/minilm/1 --name minilm
show mlflow deployments create -t fireworks://local -m models:/tiny-llama@champion --name tiny-llama
show mlflow deployments get -t fireworks://local --name minilm
show mlflow deployments get -t fireworks://local --name tiny-llama

echo "The same with your account: export FIREWORKS_API_KEY=..., then -t fireworks instead of -t fireworks://local"
