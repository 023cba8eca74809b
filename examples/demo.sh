#!/bin/sh
# The main use case, with real input and no account: two models go from a fresh MLflow registry to READY on the embedded
# local Fireworks, one answers a question, and an endpoint follows an alias that moves. `make demo` installs what this needs
# and runs it.
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

echo "
Ask it a question. Without the extra 'local' (torch) no model runs here: the answer only says which deployment was reached."
show mlflow deployments update -t fireworks://local -m models:/tiny-llama/1 --name tiny-llama --endpoint prod
echo '{"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}' > "$DEMO/ask.json"
show mlflow deployments predict -t fireworks://local --endpoint prod -I "$DEMO/ask.json"

echo "
Move the alias 'champion' to version 2, and promote it: the endpoint follows."
"$BIN/python" examples/register_models.py --next-version
show mlflow-fireworks promote models:/tiny-llama@champion -t fireworks://local --endpoint prod
show mlflow-fireworks status -t fireworks://local

echo "
The same with your account: export FIREWORKS_API_KEY=..., then -t fireworks instead of -t fireworks://local.
An endpoint is billed there while it is up."
