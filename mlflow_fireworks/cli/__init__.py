"""The people's door: `mlflow-fireworks …`, for what MLflow's own command has no word for.

Only what its help says is here, word for word as at the commands themselves (`tests/test_startup.py` compares them):
importing MLflow takes seconds, and nobody should wait for a list of commands.
"""

import click

from mlflow_fireworks.cli.menu import Menu, load_command

_HOOKS = Menu(
    "hooks",
    lambda: load_command("mlflow_fireworks.hooks.commands", "hooks"),
    {
        "approve": "Let RULE start GPUs, within its limits; without RULE, all rules that wait for it.",
        "check": (
            "Explain what the rules would do to an event, or to the registry as it is now, and what the GPUs would "
            "cost."
        ),
        "dismiss": "End a job that failed: it is not tried again, unless its pointer moves or somebody retries it.",
        "events": (
            "Show the last webhooks and what became of each, newest first; the first place to look when nothing "
            "happened."
        ),
        "history": (
            "Show every promotion, hold, rollback and removal, oldest first: who asked for it, and how it ended."
        ),
        "hold": (
            "Promote nothing of a rule or a deployment for now; events are kept, and the newest counts afterwards."
        ),
        "jobs": "Show the jobs, newest first.",
        "reconcile": "Compare the registry with Fireworks and enqueue what is missing; needs no webhooks.",
        "register": (
            "Make the webhooks that the rules need, on the MLflow server and on the Hub, and test them end to end."
        ),
        "resume": "End a hold, or bring back what somebody rolled back, deleted or scaled to zero.",
        "retry": "Try a job that failed again, at once.",
        "run": (
            "Do what the rules say about one event, here and now, without a receiver; for a job that was started by it."
        ),
        "serve": "Take webhooks and do the work: POST /webhooks/mlflow and /webhooks/huggingface.",
        "worker": "Do the work that other processes take in; any number may run on one Redis.",
    },
    help="Promote by rules: when an alias or a tag is set in MLflow, or a branch moves on the Hugging Face Hub.",
)

main = Menu(
    "main",
    lambda: load_command("mlflow_fireworks.cli.commands", "main"),
    {
        "doctor": (
            "Find out why something does not work: the account, this machine and the registries, or the "
            "deployment NAME."
        ),
        "emulator": "Run the local Fireworks on its own; --help shows its options.",
        "endpoint": "Put models on GPUs (Fireworks' on-demand deployments); they are billed while they are up.",
        "logs": "Show what happened to the deployment NAME, oldest first: on Fireworks, and in the hooks' queue.",
        "plan": "Show what a create or update would do, and every file it would send; change nothing.",
        "probe": (
            "Find out what Fireworks really does where its documentation is silent, and print a report for an issue."
        ),
        "promote": (
            "Bring a deployment to what MODEL_URI (e.g. models:/chat@champion) points to now; harmless to repeat."
        ),
        "resume": "Finish what was interrupted of the deployment NAME: send the files that are missing, and validate.",
        "revisions": "Show every revision of the deployment NAME; `rollback` puts one of them back on an endpoint.",
        "rollback": (
            "Put an earlier REVISION of the deployment NAME back on its endpoint, with no gap; see `revisions`."
        ),
        "status": (
            "Show all deployments, or NAME, in one line each: what is there, what serves it, and what happens to it "
            "now."
        ),
    },
    {"hooks": _HOOKS},
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Put MLflow models on Fireworks AI.\n\n"
        "The deployments themselves go through MLflow: mlflow deployments create -t fireworks …"
    ),
)
click.version_option(package_name="mlflow-fireworks")(main)
