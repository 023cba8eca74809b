"""Let the Hugging Face Hub promote what is pushed to it, with a Job on the Hub and a webhook that starts it.

The token in HF_TOKEN, or from `hf auth login`, must be allowed to write webhooks and to start Jobs. Set
FIREWORKS_API_KEY, and for private repos JOB_HF_TOKEN: a token that can only read them, because the Job needs no more.
Run this again after each change to the rules: it replaces the webhook that it created before.
"""

import argparse
import os
from pathlib import Path

from huggingface_hub import HfApi

from mlflow_fireworks.hooks.registration import find_watched
from mlflow_fireworks.hooks.rules import load_rules

# A webhook is created from a Job that ran once. That first run has no event and only shows what the rules would do, so
# its log shows immediately whether the plugin can be installed and the tokens and rules are right.
SCRIPT = """\
set -e
pip install --quiet "$PLUGIN"
export MLFLOW_FIREWORKS_RULES=/tmp/hooks.yaml
printf %s "$RULES" >"$MLFLOW_FIREWORKS_RULES"
if [ -z "$WEBHOOK_PAYLOAD" ]; then exec mlflow-fireworks hooks check; fi
exec mlflow-fireworks hooks run --from-env
"""

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rules", type=Path, default=Path(__file__).with_name("hooks.yaml"))
parser.add_argument(
    "--plugin", required=True, help="what pip installs in the Job: the URL of a wheel, or git+https://…"
)
parser.add_argument("--timeout", default="6h", help="of the Job; the Hub's default, 30 minutes, is short for an upload")
parser.add_argument("--flavor", default="cpu-basic", help="see `hf jobs hardware`; its disk must hold a few shards")
arguments = parser.parse_args()

rules = load_rules(arguments.rules)
secrets = {"FIREWORKS_API_KEY": os.environ["FIREWORKS_API_KEY"]}
if token := os.environ.get("JOB_HF_TOKEN"):
    secrets["HF_TOKEN"] = token

api = HfApi()
watched = find_watched(rules, api)
old = [webhook for webhook in api.list_webhooks() if webhook.job and "RULES" in (webhook.job.environment or {})]
job = api.run_job(
    image="python:3.12",
    command=["bash", "-c", SCRIPT],
    env={"PLUGIN": arguments.plugin, "RULES": arguments.rules.read_text(encoding="utf-8")},
    secrets=secrets,
    flavor=arguments.flavor,
    timeout=arguments.timeout,
)
# The webhook copies everything from the Job but its secrets. The old one is deleted last, so that no push is missed.
webhook = api.create_webhook(job_id=job.id, watched=watched, domains=["repo"], secrets=secrets)
for webhook_before in old:
    api.delete_webhook(webhook_before.id)
print(f"webhook {webhook.id} starts a Job like {job.url} when {', '.join(item['name'] for item in watched)} changes")
