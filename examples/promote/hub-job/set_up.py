"""Let the Hugging Face Hub promote what is pushed to it: a Job of its own, and a webhook that starts it.

HF_TOKEN, or else `hf auth login`, must be allowed to write webhooks and to start Jobs. Set FIREWORKS_API_KEY, and
JOB_HF_TOKEN where the repos are private: a token that may only read them, since the Job needs no more.
Run this again after each change of the rules: it takes away the webhook that it made before.
"""

import argparse
import os
from pathlib import Path

from huggingface_hub import HfApi

from mlflow_fireworks.hooks.registration import find_watched
from mlflow_fireworks.hooks.rules import load_rules

# A webhook is made from a Job that ran once. That first run has no event and only tells what the rules mean, so its log
# shows at once whether the plugin can be installed and the tokens and rules are right.
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
parser.add_argument("--plugin", required=True, help="what pip installs in the Job: a wheel's address, git+https://…")
parser.add_argument("--timeout", default="6h", help="of the Job; the Hub's default, 30 minutes, is short for an upload")
parser.add_argument("--flavor", default="cpu-basic", help="`hf jobs hardware` lists them; the disk holds a few shards")
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
# Of the Job the webhook takes everything but its secrets. The one before goes last, so that no push falls between.
webhook = api.create_webhook(job_id=job.id, watched=watched, domains=["repo"], secrets=secrets)
for webhook_before in old:
    api.delete_webhook(webhook_before.id)
print(f"webhook {webhook.id} starts a Job like {job.url} when {', '.join(item['name'] for item in watched)} changes")
