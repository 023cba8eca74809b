"""What runs the examples of promotions elsewhere: runners of GitHub and GitLab, a bundle's job, and Jobs on the Hub."""

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import yaml
from support.threaded_server import serving

SECONDS = 120


def run(command, folder, environ):
    """Run a command on a machine that has nothing but `environ`."""
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def fill(text, contexts):
    """Fill in GitHub's `${{ … }}`: `inputs.model`, or a text in quotes, with `||` between; a KeyError is a typo."""

    def evaluate(match):
        values = [part[1:-1] if part[0] == "'" else _find(part, contexts) for part in re.split(r"\s*\|\|\s*", match[1])]
        return next(filter(None, values), "")

    return re.sub(r"\$\{\{\s*(.*?)\s*\}\}", evaluate, text)


def _find(name, contexts):
    context, _, field = name.partition(".")
    return contexts[context][field]


_SHELLS = {None: "bash -e", "bash": "bash --noprofile --norc -eo pipefail"}


class Workflow:
    """A workflow of GitHub Actions; its `run:` steps are done as GitHub's runner does them.

    Args:
        path: Its file.
        variables: The repository's.
        secrets: The environment's; as at GitHub, one that is named in the file and not set is "".
    """

    def __init__(self, path, variables, secrets):
        self.content = yaml.safe_load(path.read_text())
        self.contexts = {"vars": variables, "secrets": secrets}

    def _with_inputs(self, inputs):
        """What `inputs.x` stands for in a run that somebody starts, or (None) that the schedule starts."""
        declared = self.content[True]["workflow_dispatch"]["inputs"]  # for YAML 1.1, `on` is a boolean
        if inputs is None:
            return self.contexts | {"inputs": dict.fromkeys(declared, "")}
        return self.contexts | {"inputs": {name: about.get("default", "") for name, about in declared.items()} | inputs}

    def group(self, inputs=None):
        return fill(self.content["concurrency"]["group"], self._with_inputs(inputs))

    def run(self, folder, environ, inputs=None):
        """Do all steps on a machine; returns the last one that ran, and the summary."""
        (job,) = self.content["jobs"].values()
        contexts, summary, script = self._with_inputs(inputs), folder / "summary.md", folder / "step.sh"
        summary.touch()
        for step in job["steps"]:
            if "uses" in step:
                assert re.search("@[0-9a-f]{40}$", step["uses"]), "a tag of somebody else's action can be moved"
                continue
            assert "${{" not in step["run"], "an expression in a script is a way to run an input as code"
            script.write_text(step["run"])
            own = {name: fill(text, contexts) for name, text in step.get("env", {}).items()}
            shell = _SHELLS[step.get("shell", self.content.get("defaults", {}).get("run", {}).get("shell"))]
            done = run([*shell.split(), script], folder, environ | {"GITHUB_STEP_SUMMARY": str(summary)} | own)
            if done.returncode:
                break
        return done, summary.read_text()


def run_gitlab_job(path, name, folder, environ, variables):
    """Do the script of a job as GitLab's runner does it where there is a bash; returns how it ended."""
    content = yaml.safe_load(path.read_text())
    defaults = {key: value["value"] for key, value in content["variables"].items()}
    script = "\n".join(["set -eo pipefail", *content[name]["script"]])
    return run(["bash", "-c", script], folder, environ | defaults | variables)


def load_bundle_job(path, name, variables):
    """The settings of a job in a Databricks Asset Bundle, with its `${var.x}` filled in."""
    content = yaml.safe_load(path.read_text())
    values = {key: about["default"] for key, about in content["variables"].items()} | variables
    text = re.sub(r"\$\{var\.(\w+)\}", lambda match: values[match[1]], json.dumps(content["resources"]["jobs"][name]))
    assert "${" not in text
    return json.loads(text)


class _Handler(BaseHTTPRequestHandler):
    service: "Service"

    def do_GET(self):
        self._answer(self.service.get(self.path))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(self.service.post(self.path, body))

    def do_DELETE(self):
        self._answer(self.service.delete(self.path))

    def _answer(self, content):
        data = json.dumps(content or {}).encode()
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Service:
    """A small HTTP service on loopback; None is a 404."""

    url = ""

    @contextmanager
    def running(self):
        with serving(_Handler, service=self) as self.url:
            yield self

    def get(self, path):
        return None

    def post(self, path, body):
        return None

    def delete(self, path):
        return None


class HubJobs(Service):
    """The Hub's Jobs, and the webhooks that start them, as huggingface_hub 2.4 asks for them.

    As there, a webhook has the command, environment, flavor and timeout of its Job, and secrets of its own.
    """

    def __init__(self):
        self.jobs = {}
        self.webhooks = {}
        self.events = []
        self.made = 0

    def add_webhook(self, **job):
        """A webhook that was made some time ago; returns its id."""
        name = self._name()
        about = {"watched": [], "domains": ["repo"], "disabled": False}
        self.webhooks[name] = about | {"id": name, "job": {"secrets": {}} | job}
        return name

    def _name(self):
        self.made += 1
        return f"{self.made:024x}"

    def get(self, path):
        if path == "/api/whoami-v2":
            return {"name": "acme", "type": "user"}
        return [self._show(webhook) for webhook in self.webhooks.values()] if path == "/api/settings/webhooks" else None

    def post(self, path, body):
        name = self._name()
        if path == "/api/jobs/acme":
            self.jobs[name] = body
            owner = {"id": "5", "name": "acme", "type": "user"}
            return body | {"id": name, "owner": owner, "status": {"stage": "SCHEDULING"}, "secrets": []}
        if path == "/api/settings/webhooks":
            job = self.jobs[body.pop("jobSourceId")] | {"secrets": body.pop("secrets", {})}
            self.webhooks[name] = body | {"id": name, "job": job, "disabled": False}
            return {"webhook": self._show(self.webhooks[name])}
        if path == "/events":  # where a `hub_server.HubServer` tells of its pushes
            self.events.append(body)
            return {"status": "accepted"}
        return None

    def delete(self, path):
        return self.webhooks.pop(path.removeprefix("/api/settings/webhooks/"), None) and {"success": True}

    def _show(self, webhook):
        return webhook | {"job": webhook["job"] | {"secrets": [*webhook["job"]["secrets"]]}}  # never their values


def run_hub_job(job, folder, environ, event=None):
    """Do what a Job does in its container, with the event that started it, if any."""
    told = {}
    if event is not None:
        about = event["repo"]
        told = {
            "WEBHOOK_PAYLOAD": json.dumps(event),
            "WEBHOOK_REPO_ID": about["name"],
            "WEBHOOK_REPO_TYPE": about["type"],
        }
    return run(job["command"], folder, environ | job["environment"] | job["secrets"] | told)


def python_beside(environ):
    """`environ` with the commands of this Python first in its PATH."""
    return environ | {"PATH": f"{Path(sys.executable).parent}:{environ['PATH']}"}
