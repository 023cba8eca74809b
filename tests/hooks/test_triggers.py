"""Every trigger and every way in which a pointer goes or moves, from a real MLflow server to an emulated Fireworks."""

import json
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
from support.hooks_world import SECRET, jobs_of, wait_until
from support.tcp_proxy import TcpProxy

from mlflow_fireworks.plugin import FireworksDeploymentClient

pytestmark = pytest.mark.slow
NEVER = ("--reconcile-every", "0", "--retry-after", "0.5s")
EVENTS = [
    WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED),
    WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.DELETED),
    WebhookEvent(WebhookEntity.MODEL_VERSION_TAG, WebhookAction.SET),
    WebhookEvent(WebhookEntity.MODEL_VERSION, WebhookAction.CREATED),
]


@pytest.fixture
def write_rules(hooks, registry):
    def write_rules(*rules):
        """Rules about the test's model: what they hold beside `model`."""
        lines = [f"- {{name: rule-{number}, model: {registry.name}, {rule}}}\n" for number, rule in enumerate(rules)]
        (hooks.folder / "hooks.yaml").write_text("rules:\n" + "".join(lines))

    return write_rules


def connect(registry, hooks):
    registry.client.create_webhook("hooks", hooks.url, events=EVENTS, secret=SECRET)


def finish(hooks):
    """Wait until nothing is to be done; the jobs, newest first."""

    def over():
        jobs = jobs_of(hooks)
        return jobs and all(job["state"] not in ("queued", "running") for job in jobs) and jobs

    return wait_until(over, "all work is done")


def sources():
    """Which version each deployment holds, of those that are READY."""
    found = FireworksDeploymentClient("fireworks").list_deployments()
    return {item["name"]: item["source"].rpartition("/")[2] for item in found if item["state"] == "READY"}


def everything():
    """The deployments there are, in whatever state."""
    return [item["name"] for item in FireworksDeploymentClient("fireworks").list_deployments()]


def endpoints():
    return {item["name"]: item["model"] for item in FireworksDeploymentClient("fireworks").list_endpoints()}


def alias_event(registry, version, alias="champion"):
    """As MLflow sends it; without a version, of an alias that was deleted."""
    data = {"name": registry.name, "alias": alias} | ({"version": str(version)} if version else {})
    event = {"entity": "model_version_alias", "action": "created" if version else "deleted", "data": data}
    return json.dumps(event).encode()


def deliver(hooks, registry, version, alias="champion", *, name):
    return hooks.deliver(alias_event(registry, version, alias), delivery_id=name)


def test_tags_new_versions_and_two_rules_about_one_alias(fireworks, registry, hooks, runs, write_rules):
    write_rules(
        "tag: stage=prod, deployment: tagged",
        "version: created, deployment: 'v-{version}'",
        "alias: champion, deployment: one",
        "alias: champion, deployment: two",
    )
    hooks.start(*NEVER)
    connect(registry, hooks)
    registry.client.set_model_version_tag(registry.name, "1", "stage", "prod")
    wait_until(lambda: sources() == {"tagged": "1"}, "the tagged version is READY")
    registry.client.set_model_version_tag(registry.name, "3", "stage", "prod")
    wait_until(lambda: sources() == {"tagged": "3"}, "the newest tagged version is READY")
    made = registry.client.create_model_version(registry.name, f"runs:/{runs[0]}/model", runs[0])
    registry.promote(2)
    expected = {"tagged": "3", f"v-{made.version}": made.version, "one": "2", "two": "2"}
    wait_until(lambda: sources() == expected, "the new version and both deployments of the alias are READY")
    finish(hooks)
    # Overwritten: no event tells that stage=prod is gone from version 3, but looking finds it.
    registry.client.set_model_version_tag(registry.name, "3", "stage", "archived")
    told = hooks.command("reconcile", "--json", "--rules", str(hooks.folder / "hooks.yaml"))
    assert [(job["deployment"], job["version"]) for job in json.loads(told.stdout)] == [("tagged", "1")]
    hooks.kill()
    hooks.start(*NEVER)
    wait_until(lambda: sources() == expected | {"tagged": "1"}, "the version that still has the tag is back")


def test_an_alias_that_goes_does_what_its_rule_says(fireworks, registry, hooks, write_rules):
    write_rules(
        "alias: kept, deployment: kept",
        "alias: released, deployment: released, endpoint: prod, when_removed: release",
        "alias: deleted, deployment: deleted, when_removed: delete",
    )
    hooks.start(*NEVER)
    connect(registry, hooks)
    for number, alias in enumerate(("kept", "released", "deleted"), 1):
        registry.promote(number, alias)
    wait_until(lambda: len(sources()) == 3 and "prod" in endpoints(), "all three are READY, one on an endpoint")
    assert endpoints()["prod"].endswith("/released")
    finish(hooks)
    assert registry.tags(2)["fireworks.endpoint"] == "prod"
    for alias in ("kept", "released", "deleted"):
        registry.client.delete_registered_model_alias(registry.name, alias)
    wait_until(lambda: set(sources()) == {"kept", "released"} and not endpoints(), "what was to go is gone")
    assert all(job["state"] == "done" for job in finish(hooks))
    assert [registry.tags(number)["fireworks.state"] for number in (1, 2, 3)] == ["READY", "READY", "DELETED"]
    assert "fireworks.endpoint" not in registry.tags(2)
    # Set again, deleted and set once more at once: MLflow's ten senders bring it in any order.
    for _ in range(2):
        registry.promote(2, "deleted")
        registry.client.delete_registered_model_alias(registry.name, "deleted")
    registry.promote(3, "deleted")
    wait_until(lambda: sources().get("deleted") == "3", "it is there again")
    finish(hooks)
    assert sources()["deleted"] == "3"


def test_an_alias_that_goes_during_its_first_promotion_leaves_nothing_though_no_event_tells_of_it(
    fireworks, registry, hooks, write_rules
):
    write_rules("alias: '*', deployment: '{alias}', when_removed: delete")
    hooks.start(*NEVER)
    fireworks.fault("put_object", stall_seconds=2)
    registry.promote(1, "brief")
    deliver(hooks, registry, 1, "brief", name="brief")
    wait_until(lambda: fireworks.calls("get_upload_endpoint"), "the upload begins")
    registry.client.delete_registered_model_alias(registry.name, "brief")
    (job,) = finish(hooks)
    assert (job["state"], job["action"]) == ("done", "remove")
    assert everything() == []
    # Given up half-way, and gone then: looking finds it.
    fireworks.fault("validate_upload", status=400, times=1000)
    registry.promote(1, "broken")
    deliver(hooks, registry, 1, "broken", name="broken")
    assert finish(hooks)[0]["state"] == "dead"
    assert everything() == ["broken"]
    registry.client.delete_registered_model_alias(registry.name, "broken")
    looked = hooks.command("reconcile", "--json", "--rules", str(hooks.folder / "hooks.yaml"))
    assert [(job["action"], job["deployment"]) for job in json.loads(looked.stdout)] == [("remove", "broken")]
    wait_until(lambda: everything() == [], "what was left is gone")


def test_a_registry_in_which_the_whole_model_is_missing_removes_nothing(fireworks, registry, hooks, write_rules):
    write_rules("alias: champion, deployment: chat, when_removed: delete")
    hooks.start(*NEVER)
    registry.promote(1)
    deliver(hooks, registry, 1, name="set")
    wait_until(lambda: sources() == {"chat": "1"}, "version 1 is READY")
    finish(hooks)
    registry.client.rename_registered_model(registry.name, f"{registry.name}-2")  # or another, or an empty registry
    looked = hooks.command("reconcile", "--json", "--rules", str(hooks.folder / "hooks.yaml"))
    assert json.loads(looked.stdout) == []
    deliver(hooks, registry, None, name="deleted")
    assert finish(hooks)[0]["error"].startswith(f"'{registry.name}' is not in the registry at all")
    assert sources() == {"chat": "1"}
    registry.client.rename_registered_model(f"{registry.name}-2", registry.name)


def test_of_two_events_the_older_may_come_last(fireworks, registry, hooks, write_rules):
    write_rules("alias: '*', deployment: '{alias}', when_removed: delete")
    hooks.start(*NEVER)
    for alias in ("gone", "there"):
        registry.promote(1, alias)
        deliver(hooks, registry, 1, alias, name=f"first of {alias}")
    wait_until(lambda: sources() == {"gone": "1", "there": "1"}, "version 1 is READY")
    finish(hooks)
    hooks.kill()
    hooks.start(*NEVER, "--workers", "0")
    registry.client.delete_registered_model_alias(registry.name, "gone")
    registry.promote(2, "there")
    for alias, version in (("gone", None), ("gone", 2), ("there", 2), ("there", None)):
        assert deliver(hooks, registry, version, alias, name=f"{alias} {version}").status_code == 202
    hooks.kill()
    hooks.start(*NEVER)
    finish(hooks)
    assert sources() == {"there": "2"}


def test_a_rule_that_allows_one_at_a_time_is_kept_to(fireworks, registry, hooks, write_rules):
    write_rules("alias: 'a*', deployment: '{alias}', concurrency: 1")
    fireworks.fault("put_object", stall_seconds=0.3, times=12)
    hooks.start(*NEVER, "--workers", "3")
    for alias in ("a1", "a2", "a3"):
        registry.promote(alias[1], alias)
        deliver(hooks, registry, int(alias[1]), alias, name=alias)
    wait_until(lambda: len(sources()) == 3, "all three are READY")
    worked = []
    for alias in sources():
        calls = [call for call in fireworks.calls("*") if f"/models/{alias}:" in call.path]
        worked.append((min(call.started for call in calls), max(call.started + call.seconds for call in calls)))
    worked.sort()
    assert all(end <= begin for (_, end), (begin, _) in pairwise(worked))


def test_a_full_queue_makes_mlflow_send_again_and_what_is_gone_by_then_is_not_deployed(
    fireworks, registry, hooks, write_rules
):
    write_rules("alias: '*', deployment: '{alias}'")
    hooks.start(*NEVER, "--workers", "0", "--max-queue", "2")
    connect(registry, hooks)
    registry.promote(1, "gone")
    registry.promote(4, "deleted")
    wait_until(lambda: len(jobs_of(hooks)) == 2, "two jobs wait")
    registry.promote(2, "late")
    refused = deliver(hooks, registry, 2, "late", name="by hand")
    assert (refused.status_code, refused.json()["status"]) == (503, "busy")
    assert int(refused.headers["Retry-After"]) > 0
    registry.client.delete_registered_model_alias(registry.name, "gone")
    registry.client.delete_model_version(registry.name, "4")
    hooks.kill()
    hooks.start(*NEVER)
    wait_until(lambda: sources() == {"late": "2"}, "what was refused came again and is READY")
    jobs = {job["deployment"]: job for job in finish(hooks)}
    assert {name: job["state"] for name, job in jobs.items()} == {
        "gone": "superseded",
        "deleted": "superseded",
        "late": "done",
    }
    assert jobs["deleted"]["error"] == f"models:/{registry.name}@deleted no longer exists"
    assert not [call for call in fireworks.calls("*") if "/models/gone" in call.path or "/models/deleted" in call.path]


def test_a_model_that_is_renamed_while_its_job_waits_is_found_under_its_new_name(
    fireworks, registry, hooks, write_rules
):
    (hooks.folder / "hooks.yaml").write_text(f"rules:\n- {{model: '{registry.name[:20]}*', alias: champion}}\n")
    hooks.start(*NEVER, "--workers", "0")
    registry.promote(1)
    deliver(hooks, registry, 1, name="before")
    registry.client.rename_registered_model(registry.name, f"{registry.name[:40]}-o'neil")
    hooks.kill()
    hooks.start("--reconcile-every", "1s")
    name = f"{registry.name[:40]}-o-neil"
    wait_until(lambda: name in sources(), "the renamed model is READY")
    assert list(sources()) == [name]
    assert {job["state"] for job in finish(hooks)} == {"done", "superseded"}
    registry.client.rename_registered_model(f"{registry.name[:40]}-o'neil", registry.name)


def test_a_version_that_the_alias_left_during_the_upload_is_never_served_and_a_registry_that_is_away_is_waited_for(
    fireworks, registry, hooks, write_rules
):
    write_rules("alias: champion, deployment: chat, endpoint: prod")
    hooks.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"  # MLflow's own would outlast the test
    with TcpProxy(urlsplit(registry.url).port) as door:
        hooks.environ["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{door.port}"
        fireworks.fault("put_object", stall_seconds=3)
        hooks.start(*NEVER)
        registry.promote(1)
        deliver(hooks, registry, 1, name="of 1")
        wait_until(lambda: fireworks.calls("get_upload_endpoint"), "the upload begins")
        registry.promote(2)  # no event tells of it
        door.refuse()
        failed = wait_until(lambda: [job for job in jobs_of(hooks) if job["attempts"]], "a try has failed")
        assert str(door.port) in failed[0]["error"]
        door.open()
        wait_until(lambda: "prod" in endpoints(), "the endpoint is there")
        (job,) = finish(hooks)
        assert (job["state"], job["version"]) == ("done", "2")
    assert sources() == {"chat": "2"}
    assert endpoints()["prod"].endswith("/chat-r2")
    (served,) = fireworks.calls("create_deployment")
    assert served.started > max(call.started for call in fireworks.calls("validate_upload"))
