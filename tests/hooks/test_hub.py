"""A Hugging Face Hub (a small one on loopback) whose pushes end on Fireworks: what a team sees without any MLflow."""

import json
import os
import time
from http.server import BaseHTTPRequestHandler

import httpx
import pytest
from pydantic import SecretStr
from support.checkpoints import make_llama, read_files
from support.hooks_world import SECRET, Hooks, jobs_of, wait_until
from support.hub_server import READ_TOKEN, TOKEN, HubServer
from support.threaded_server import serving

from mlflow_fireworks.errors import InvalidConfigError, UnavailableError
from mlflow_fireworks.hooks.registration import register_on_hub
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.plugin import FireworksDeploymentClient

REPO = "acme/chat"
NEVER = ("--reconcile-every", "0")


@pytest.fixture(scope="session")
def contents(tmp_path_factory):
    """The files of three different models."""
    folder = tmp_path_factory.mktemp("contents")
    return [read_files(make_llama(folder / str(seed), seed=seed)) for seed in range(3)]


@pytest.fixture
def hub(contents):
    with HubServer(REPO, contents[0]).running() as server:
        yield server


@pytest.fixture
def hooks(fireworks, hub, tmp_path):
    """Not started yet; the rule file follows main of acme/chat."""
    environ = os.environ | {
        "MLFLOW_FIREWORKS_HUB_SECRET": SECRET,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": TOKEN,
        "MLFLOW_FIREWORKS_QUEUE": str(tmp_path / "hooks.db"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/none.db",
    }
    hooks = Hooks(tmp_path, environ)
    write_rules(hooks, f"{{name: main, hub: {REPO}, branch: main}}")
    yield hooks
    hooks.close()
    assert SECRET not in hooks.log
    assert "fw_key" not in hooks.log
    assert TOKEN not in hooks.log
    assert "Traceback" not in hooks.log


def write_rules(hooks, *rules):
    (hooks.folder / "hooks.yaml").write_text("rules:\n" + "".join(f"- {rule}\n" for rule in rules))


def command(hooks, *arguments, **environ):
    again = Hooks(hooks.folder, hooks.environ | environ)
    done = again.command(*arguments, "--rules", str(hooks.folder / "hooks.yaml"))
    again.client.close()
    assert SECRET not in done.stdout + done.stderr
    return done


def register(hooks, **environ):
    return command(hooks, "register", "--url", f"http://127.0.0.1:{hooks.port}", "--json", **environ)


def watch(hooks, hub, watched=({"type": "model", "name": REPO},)):
    """As `hooks register` makes it, without the second that a process takes."""
    url = f"http://127.0.0.1:{hooks.port}/webhooks/huggingface"
    made = {"id": "1", "url": url, "watched": watched, "domains": ["repo"], "secret": SECRET, "disabled": False}
    hub.webhooks["1"] = made


def deployed(name="chat"):
    found = [model for model in FireworksDeploymentClient("fireworks").list_deployments() if model["name"] == name]
    return found[0] if found else None


def shows(sha, name="chat", repo=REPO):
    found = deployed(name)
    return found if found and (found["state"], found["source"]) == ("READY", f"hf:/{repo}@{sha}") else None


@pytest.mark.slow
def test_registering_makes_one_webhook_that_is_enabled_and_a_push_ends_in_a_ready_model(
    fireworks, hub, hooks, contents
):
    hooks.start(*NEVER)
    (made,) = json.loads(register(hooks).stdout)
    assert made["made"]
    (webhook,) = hub.webhooks.values()
    assert (webhook["watched"], webhook["domains"]) == ([{"type": "model", "name": REPO}], ["repo"])
    assert webhook["secret"] == SECRET
    webhook["disabled"] = True
    write_rules(hooks, f"{{name: main, hub: {REPO}, branch: main}}", "{hub: 'acme/*', tag: p, deployment: '{repo}-p'}")
    (again,) = json.loads(register(hooks).stdout)
    assert (again["id"], again["made"], len(hub.webhooks)) == (made["id"], False, 1)
    assert hub.webhooks[made["id"]]["watched"][1] == {"type": "org", "name": "acme"}
    assert not hub.webhooks[made["id"]]["disabled"]
    sha = hub.push(REPO, contents[1])
    assert hub.answers[-1].status_code == 202
    found = wait_until(lambda: shows(sha), "what was pushed is READY")
    assert found["hugging_face_url"] == f"https://huggingface.co/{REPO}"
    (job,) = wait_until(lambda: [job for job in jobs_of(hooks) if job["state"] == "done"], "the job is done")
    assert (job["version"], job["result"]["version"]) == (sha, sha)


@pytest.mark.slow
def test_registering_says_in_one_line_what_keeps_it(fireworks, hub, hooks):
    refused = register(hooks)
    assert "is the receiver running?" in refused.stderr
    hooks.start(*NEVER)
    cases = {
        "no token": (register(hooks, HF_TOKEN=""), "set HF_TOKEN"),
        "no right": (register(hooks, HF_TOKEN=READ_TOKEN), "has no permission to write webhooks"),
        "another secret": (register(hooks, MLFLOW_FIREWORKS_HUB_SECRET="x"), "answered 401 to a test"),
    }
    hub.organizations = set()
    write_rules(hooks, "{hub: 'acme/*', branch: main}")
    assert register(hooks).returncode == 0  # acme is a user
    assert next(iter(hub.webhooks.values()))["watched"] == [{"type": "user", "name": "acme"}]
    for what, (told, message) in cases.items():
        assert message in told.stderr, what
        assert (told.returncode, told.stderr.count("\n")) == (1, 1), (what, told.stderr)
        assert "hf_may" not in told.stderr


class InBetween(BaseHTTPRequestHandler):
    """A gateway that answers for the receiver."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        status, headers, body = self.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((200, {"Content-Type": "text/html"}, b"<title>Log in</title>"), "200 and “Log in”: something in between"),
        ((302, {"Location": "https://login.example/"}, b""), "answered a test with 302: something in between"),
        ((200, {"Content-Type": "application/json"}, b" " * (33 << 20)), "larger than 32.0 MiB"),
        ((404, {}, b"no such page"), "answered 404 to a test event; is it this receiver"),
    ],
)
def test_what_answers_for_the_receiver_is_named(answer, says, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "fe80::/10,[::1]")  # with which httpx alone ends in a traceback
    with serving(InBetween, answer=answer) as url, pytest.raises(UnavailableError) as failed:
        register_on_hub((Rule(hub=REPO, branch="main"),), url, SecretStr(SECRET))
    assert says in failed.value.message


@pytest.mark.parametrize(
    "url", ["hooks.example", "ftp://a", "http://[::1", "https://me:pa@a", "https://a/?x=1", "http://", ""]
)
def test_an_address_of_the_receiver_that_is_none_is_refused_and_no_password_repeated(url):
    with pytest.raises(InvalidConfigError, match="--url is the address of the receiver") as failed:
        register_on_hub((Rule(hub=REPO, branch="main"),), url, SecretStr(SECRET))
    assert "pa@" not in failed.value.message


@pytest.mark.slow
def test_a_push_during_a_promotion_ends_at_the_newer_commit(fireworks, hub, hooks, contents):
    hooks.start(*NEVER)
    watch(hooks, hub)
    fireworks.fault("put_object", stall_seconds=2)
    hub.push(REPO, contents[1])
    wait_until(lambda: fireworks.calls("get_upload_endpoint"), "the upload begins")
    sha = hub.push(REPO, contents[2])
    assert hub.answers[-1].status_code == 202
    wait_until(lambda: shows(sha), "the newer commit is READY")
    wait_until(lambda: all(job["state"] in ("done", "superseded") for job in jobs_of(hooks)), "all work is done")
    assert shows(sha)
    assert f"hf:/{REPO}@main moved from hf:/{REPO}@" in hooks.log


@pytest.mark.slow
def test_a_branch_that_goes_back_and_forth_is_followed_each_time_and_a_dead_event_may_be_replayed(
    fireworks, hub, hooks, contents
):
    hooks.start(*NEVER, "--retry-after", "0.1s")
    watch(hooks, hub)
    first = hub.push(REPO, contents[1])
    wait_until(lambda: shows(first), "the first commit is READY")
    # A job that is not over would follow the branch to the second commit, and be the one that is given up.
    wait_until(lambda: all(job["state"] == "done" for job in jobs_of(hooks)), "its job is over")
    fireworks.fault("validate_upload", status=400, times=1000)
    second = hub.push(REPO, contents[2])
    wait_until(lambda: [job for job in jobs_of(hooks) if job["state"] == "dead"], "the second push is given up")
    fireworks.reset()
    moved = {"ref": "refs/heads/main", "oldSha": first, "newSha": second}
    hub.tell(REPO, {"event": {"action": "update", "scope": "repo.content"}, "updatedRefs": [moved]})
    assert hub.answers[-1].json()["status"] == "accepted"  # replayed on the Hub's page
    wait_until(lambda: shows(second), "the second commit is READY")
    for sha in (first, second):  # the second of these has the id of the push above
        wait_until(lambda: all(job["state"] == "done" for job in jobs_of(hooks)), "all work is done")
        hub.point(REPO, "refs/heads/main", sha)
        assert hub.answers[-1].json()["status"] == "accepted"
        wait_until(lambda sha=sha: shows(sha), "the branch is followed")


@pytest.mark.slow
def test_events_that_are_forged_doubled_or_about_other_things_change_nothing(fireworks, hub, hooks, contents):
    write_rules(
        hooks,
        f"{{name: main, hub: {REPO}, branch: main}}",
        "{hub: 'acme/*', tag: 'prod-*', deployment: '{repo}-{tag}', when_removed: delete}",
    )
    hooks.start(*NEVER)
    watch(hooks, hub, [{"type": "org", "name": "acme"}])
    about = {"type": "model", "name": REPO}
    moved = {"ref": "refs/heads/main", "oldSha": "a" * 40, "newSha": "b" * 40}
    push = {"event": {"action": "update", "scope": "repo.content"}, "repo": about, "updatedRefs": [moved]}

    def deliver(**headers):
        return httpx.post(hub.webhooks["1"]["url"], json=push, headers=headers, timeout=30).status_code

    assert deliver() == 401
    assert deliver(**{"X-Webhook-Secret": "not the secret"}) == 401
    content = {"action": "update", "scope": "repo.content"}
    for ref in ("refs/pr/7", "refs/heads/dev", "refs/tags/dev-1", "refs/convert/parquet"):
        hub.tell(REPO, {"event": content, "updatedRefs": [moved | {"ref": ref}]})
    hub.tell(REPO, {"event": content, "updatedRefs": [moved]}, kind="dataset")
    hub.tell("acme/other", {"event": content, "updatedRefs": [moved]})
    hub.tell(REPO, {"event": {"action": "update", "scope": "repo.config"}, "updatedConfig": {"private": False}})
    hub.tell(REPO, {"event": {"action": "create", "scope": "discussion"}, "discussion": {"num": 7}})
    hub.tell(REPO, {"event": {"action": "delete", "scope": "repo"}})
    assert {answer.json()["status"] for answer in hub.answers} == {"ignored"}
    assert jobs_of(hooks) == []
    for status in ("accepted", "duplicate"):
        hub.tell(REPO, {"event": content, "updatedRefs": [moved]})
        assert hub.answers[-1].json()["status"] == status
    assert len(jobs_of(hooks)) == 1
    # A tag, in a repo that is as good as the rule's: set, then deleted; a deleted branch is kept by its rule.
    sha = hub.push("acme/coder", contents[1], "refs/tags/prod-1")
    wait_until(lambda: shows(sha, "coder-prod-1", "acme/coder"), "the tag is READY")
    hub.point("acme/coder", "refs/tags/prod-1", None)
    wait_until(lambda: deployed("coder-prod-1") is None, "the deployment of the deleted tag is gone")
    wait_until(lambda: deployed("chat"), "main is there")
    hub.point(REPO, "refs/heads/main", None)
    assert hub.answers[-1].json()["status"] == "ignored"
    assert deployed("chat")


@pytest.mark.slow
def test_looking_finds_lost_pushes_in_every_repo_and_a_repo_that_is_gone_holds_up_none(fireworks, hub, hooks, contents):
    hub.push("acme/b-coder", contents[1])
    hub.push("acme/c-draft", contents[2])
    hub.push("acme/d-coder", contents[2])
    hub.push("other/e-coder", contents[2])
    write_rules(
        hooks,
        "{hub: acme/deleted, branch: main}",
        f"{{hub: {REPO}, branch: main}}",
        "{hub: 'acme/*-coder', branch: main, deployment: '{owner}-{repo}'}",
    )
    hooks.start("--reconcile-every", "1s")
    wait_until(lambda: all(map(deployed, ("chat", "acme-b-coder", "acme-d-coder"))), "all are there")
    sha = hub.push("acme/b-coder", contents[0])  # there is no webhook
    wait_until(lambda: shows(sha, "acme-b-coder", "acme/b-coder"), "the lost push is READY")
    wait_until(lambda: all(job["state"] == "done" for job in jobs_of(hooks)), "all work is done")
    count = len(jobs_of(hooks))
    time.sleep(2.5)
    assert len(jobs_of(hooks)) == count == 4  # what is right is left alone
    assert "acme/deleted" in hooks.log
    told = command(hooks, "check")
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "rule 'acme/deleted branch main': acme/deleted is not on the Hugging Face Hub" in told.stderr


@pytest.mark.slow
def test_a_token_that_may_read_nothing_any_more_is_a_failure_that_is_told_and_deletes_nothing(
    fireworks, hub, hooks, contents
):
    write_rules(hooks, f"{{hub: {REPO}, branch: main, when_removed: delete}}")
    hooks.start("--reconcile-every", "1s")
    wait_until(lambda: deployed("chat"), "main is there")
    watch(hooks, hub)
    hidden = hub.repos.pop(REPO)
    hub.repos["acme/elsewhere"] = hidden  # as after a token was revoked: 404 for everything about the repo
    hub.tell(
        REPO,
        {
            "event": {"action": "update", "scope": "repo.content"},
            "updatedRefs": [{"ref": "refs/heads/main", "oldSha": "a" * 40, "newSha": None}],
        },
    )
    dead = wait_until(lambda: [job for job in jobs_of(hooks) if job["state"] == "dead"], "the job is dead")[0]
    assert "HF_TOKEN" in dead["error"]
    assert deployed("chat")


@pytest.mark.slow
def test_a_job_that_the_hub_starts_itself_needs_no_receiver(fireworks, hub, hooks, contents):
    sha = hub.push(REPO, contents[2])
    moved = {"ref": "refs/heads/main", "oldSha": None, "newSha": "f" * 40}  # main has moved on since
    payload = {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {"type": "model", "name": REPO},
        "updatedRefs": [moved],
    }
    environ = {"WEBHOOK_PAYLOAD": json.dumps(payload), "WEBHOOK_REPO_ID": REPO, "WEBHOOK_REPO_TYPE": "model"}
    done = command(hooks, "run", "--from-env", "--json", **environ)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["result"]["version"] == sha
    assert shows(sha)
