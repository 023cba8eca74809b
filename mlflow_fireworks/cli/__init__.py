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
            "Show what the rules would do about an event, or about the registry as it is now, and what the GPUs "
            "would cost."
        ),
        "dismiss": "Dismiss a failed job: it is not retried unless its alias, tag or branch moves, or someone "
        "retries it.",
        "events": (
            "Show the last webhooks and what became of each, newest first; look here first when nothing happened."
        ),
        "history": (
            "Show every promotion, hold, rollback and removal, oldest first: who requested it, and how it ended."
        ),
        "hold": ("Pause a rule or a deployment; events are kept, and the newest one is acted on afterwards."),
        "jobs": "Show the jobs, newest first.",
        "reconcile": "Compare the registry with Fireworks once and queue what is missing; needs no webhooks.",
        "register": (
            "Create the webhooks that the rules need, on the MLflow server and the Hub, and test them end to end."
        ),
        "resume": "End a hold, or bring back what someone rolled back, deleted or scaled to zero.",
        "retry": "Retry a failed job now.",
        "run": ("Act on one event immediately, without a receiver; for a job that the event itself started."),
        "serve": "Receive webhooks (POST /webhooks/mlflow and /webhooks/huggingface) and run the promotions.",
        "worker": "Run the queued promotions; any number of workers can share one Redis.",
    },
    help="Promote by rules: when an alias or a tag is set in MLflow, or a branch moves on the Hugging Face Hub.",
)

main = Menu(
    "main",
    lambda: load_command("mlflow_fireworks.cli.commands", "main"),
    {
        "doctor": (
            "Find out why something does not work: check the account, this machine and the registries, "
            "or the deployment NAME."
        ),
        "emulator": "Run the local Fireworks as a server; --help shows its options.",
        "endpoint": "Put models on GPUs (Fireworks on-demand deployments), which are billed while they are up.",
        "logs": "Show what happened to the deployment NAME, oldest first: on Fireworks, and in the hooks' queue.",
        "plan": "Show what a create or update would do and every file it would upload; changes nothing.",
        "probe": (
            "Find out what Fireworks really does where its documentation is silent, and print a report for an issue."
        ),
        "promote": (
            "Bring a deployment up to date with MODEL_URI (e.g. models:/chat@champion); safe to re-run (idempotent)."
        ),
        "resume": "Resume an interrupted deployment NAME: upload the missing files, and validate.",
        "revisions": "Show every revision of the deployment NAME; `rollback` puts one back on its endpoint.",
        "rollback": (
            "Put an earlier REVISION of the deployment NAME back on its endpoint without downtime; see `revisions`."
        ),
        "status": (
            "Show all deployments, or NAME, one line each: its state, what serves it, and what is happening to it now."
        ),
    },
    {"hooks": _HOOKS},
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Put MLflow models on Fireworks AI.\n\n"
        "Deployments are created, updated and deleted through MLflow. For their options, run:\n\n"
        "\b\n"
        "mlflow deployments help -t fireworks"  # as `Commands.help` writes it, which is not loaded for a help text
    ),
)
click.version_option(package_name="mlflow-fireworks")(main)
