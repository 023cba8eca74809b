"""examples/promote as it stands there, each file in what runs it: real processes, and what they ask."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.checkpoints import make_llama, read_files
from support.hub_server import READ_TOKEN, TOKEN, HubServer
from support.job_runners import (
    SECONDS,
    HubJobs,
    Workflow,
    load_bundle_job,
    python_beside,
    run,
    run_gitlab_job,
    run_hub_job,
)
from support.threaded_server import serving
from support.unity_catalog import Model, UnityCatalog, Version, Workspace

from mlflow_fireworks.plugin import FireworksDeploymentClient

EXAMPLES = Path(__file__).parents[2] / "examples" / "promote"
KEY = "fw_key"
PLUGIN = "mlflow-fireworks"  # is there already: pip finds that out, and nothing is downloaded


@pytest.fixture
def machine(fireworks, tmp_path_factory):
    """Makes fresh machines that reach Fireworks and know no key: a folder and an environment for each."""

    def make(**more):
        folder = tmp_path_factory.mktemp("machine")
        kept = {name: os.environ[name] for name in ("PATH", "FIREWORKS_BASE_URL", "FIREWORKS_ACCOUNT_ID")}
        own = {"HOME": str(folder), "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1"}
        return folder, python_beside(kept | own | more)

    return make


def deployed():
    found = FireworksDeploymentClient("fireworks").list_deployments()
    return [(item["name"], item["state"], item["source"]) for item in found]


def check_schema(path, *options):
    command = [sys.executable, "-m", "check_jsonschema", *options, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        (EXAMPLES / "github-actions.yml", "vendor.github-workflows"),
        (EXAMPLES / "gitlab-ci.yml", "vendor.gitlab-ci"),
        (EXAMPLES.parent / "release.yml", "vendor.github-workflows"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_pipeline_is_what_the_vendors_schema_allows(tmp_path, path, schema):
    found = check_schema(path, "--builtin-schema", schema)
    assert found.returncode == 0, found.stdout
    broken = tmp_path / path.name
    broken.write_text(path.read_text().replace("timeout", "tiemout").replace("steps:", "setps:"))
    assert check_schema(broken, "--builtin-schema", schema).returncode == 1


@pytest.fixture
def workflow(registry):
    variables = {"MODEL": registry.name, "PLUGIN": PLUGIN, "MLFLOW_TRACKING_URI": registry.url, "ENDPOINT": ""}
    secrets = {"FIREWORKS_API_KEY": KEY, "MLFLOW_TRACKING_TOKEN": ""}
    return Workflow(EXAMPLES / "github-actions.yml", variables, secrets)


@pytest.mark.slow
def test_the_workflow_promotes_tells_it_in_its_summary_and_is_harmless_to_repeat(
    fireworks, registry, workflow, machine
):
    registry.promote(1)
    workflow.contexts["vars"]["ENDPOINT"] = "prod"
    done, summary = workflow.run(*machine(), {"model": registry.name})
    assert done.returncode == 0, done.stdout
    heading, _, result = summary.partition("```json")
    assert heading == f"### models:/{registry.name}@champion\n"
    told = json.loads(result.strip().removesuffix("```"))
    assert (told["state"], told["version"], told["endpoint"]) == ("READY", "1", "prod")
    assert registry.tags(1)["fireworks.state"] == "READY"
    done, summary = workflow.run(*machine())  # by the schedule
    assert done.returncode == 0, done.stdout
    assert '"action": "unchanged"' in summary
    assert len(fireworks.calls("create_model")) == 1
    assert workflow.group() == workflow.group({"model": registry.name}) != workflow.group({"model": "other"})


@pytest.mark.slow
def test_a_workflow_that_fails_says_why_in_one_line_and_runs_no_input_as_code(registry, workflow, machine):
    folder, environ = machine()
    done, summary = workflow.run(folder, environ, {"model": registry.name, "alias": '$(touch a)`touch b`"; touch c #'})
    assert done.returncode == 1
    _, error, end = summary.split("```")
    assert error.startswith("json\nError: 'models:/")
    assert (error.count("\n"), end) == (2, "\n")
    assert not {"a", "b", "c"} & {path.name for path in folder.iterdir()}
    assert KEY not in done.stdout + done.stderr + summary


@pytest.mark.slow
def test_the_pipeline_of_gitlab_promotes(registry, machine):
    registry.promote(2)
    folder, environ = machine(FIREWORKS_API_KEY=KEY, MLFLOW_TRACKING_URI=registry.url, PLUGIN=PLUGIN)
    done = run_gitlab_job(EXAMPLES / "gitlab-ci.yml", "promote", folder, environ, {"MODEL": registry.name})
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "result.json").read_text())["state"] == "READY"
    assert registry.tags(2)["fireworks.state"] == "READY"


@pytest.mark.slow
def test_the_job_of_databricks_follows_the_alias_that_starts_it(fireworks, machine, tmp_path):
    from databricks.sdk.service.jobs import JobSettings  # takes seconds

    name, folder = "main.prod.chat", EXAMPLES / "databricks"
    job = load_bundle_job(folder / "databricks.yml", "promote", {"model": name})
    assert JobSettings.from_dict(job).as_dict() == job  # which drops what it does not know
    trigger, (task,) = job["trigger"]["model"], job["tasks"]
    assert (trigger["securable_name"], trigger["aliases"]) == (name, ["champion"])
    assert [item["environment_key"] for item in job["environments"]] == [task["environment_key"]]
    catalog = UnityCatalog("files")
    catalog.models[name] = Model([Version(), Version(files=read_files(make_llama(tmp_path / "m")))])
    catalog.point(name, "champion", 2)
    catalog.secrets["fireworks", "api-key"] = KEY
    with serving(Workspace, catalog=catalog) as catalog.url:
        # As in a job: the workspace's registry is left to the example.
        place, environ = machine(**{key: text for key, text in catalog.environ.items() if key != "MLFLOW_REGISTRY_URI"})
        program = task["spark_python_task"]
        done = run([sys.executable, folder / program["python_file"], *program["parameters"]], place, environ)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pointer"] == f"models:/{name}@champion"
    assert catalog.tags(name, 2)["fireworks.state"] == "READY"
    assert KEY not in done.stdout + done.stderr


@pytest.fixture
def hub(tmp_path):
    """A Hub with the repo of the rules."""
    (rule,) = yaml.safe_load((EXAMPLES / "hub-job" / "hooks.yaml").read_text())["rules"]
    with HubServer(rule["hub"], read_files(make_llama(tmp_path / "first", seed=1))).running() as server:
        yield server


@pytest.fixture
def jobs():
    with HubJobs().running() as service:
        yield service


@pytest.mark.slow
def test_a_push_starts_the_job_on_the_hub_and_ends_in_a_ready_model(fireworks, hub, jobs, machine, tmp_path):
    (repo,) = hub.repos
    of_before, of_others = jobs.add_webhook(environment={"RULES": "of before"}), jobs.add_webhook(environment={})
    place, environ = machine(HF_ENDPOINT=jobs.url, HF_TOKEN=TOKEN, FIREWORKS_API_KEY=KEY, JOB_HF_TOKEN=READ_TOKEN)
    done = run([sys.executable, EXAMPLES / "hub-job" / "set_up.py", "--plugin", PLUGIN], place, environ)
    assert done.returncode == 0, done.stderr
    assert of_before not in jobs.webhooks
    assert jobs.webhooks.pop(of_others)
    (job,), (webhook,) = jobs.jobs.values(), jobs.webhooks.values()
    assert (webhook["watched"], webhook["domains"]) == ([{"type": "model", "name": repo}], ["repo"])
    secrets = {"FIREWORKS_API_KEY": KEY, "HF_TOKEN": READ_TOKEN}
    assert job["secrets"] == webhook["job"]["secrets"] == secrets
    assert not any(secret in str(job | {"secrets": ""}) + done.stdout for secret in (*secrets.values(), TOKEN))

    looked = run_hub_job(job, *machine(HF_ENDPOINT=hub.url))  # its first run, which nothing was pushed for
    assert (looked.returncode, deployed()) == (0, []), looked.stderr
    assert f"promote  hf:/{repo}@main" in looked.stdout

    def push(seed, ref="refs/heads/main"):
        sha = hub.push(repo, read_files(make_llama(tmp_path / str(seed), seed=seed)), ref)
        done = run_hub_job(webhook["job"], *machine(HF_ENDPOINT=hub.url), jobs.events.pop())
        assert done.returncode == 0, done.stderr
        return sha

    hub.webhooks["1"] = webhook | {"url": f"{jobs.url}/events", "secret": None}
    push(2, "refs/heads/dev")
    assert deployed() == []
    sha = push(3)
    assert deployed() == [("chat-7b", "READY", f"hf:/{repo}@{sha}")]
