"""A real MLflow server's webhooks to the real receiver: what a team sees when it moves an alias."""

import json
import socket
import time
from datetime import datetime
from urllib.parse import urlsplit

import httpx
import pytest
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
from support.hooks_world import SECRET, alias_event, jobs_of, wait_until
from support.tcp_proxy import TcpProxy

from mlflow_fireworks.plugin import FireworksDeploymentClient

ALIAS_SET = WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED)
TAG_SET = WebhookEvent(WebhookEntity.MODEL_VERSION_TAG, WebhookAction.SET)


def ready(registry, version):
    return registry.tags(version).get("fireworks.state") == "READY"


def comparison(hooks):
    return httpx.get(f"http://127.0.0.1:{hooks.port}/status.json", timeout=30).json()["comparison"]


def current(registry):
    return FireworksDeploymentClient("fireworks").get_deployment(registry.name)


def models_made(fireworks):
    return [call for call in fireworks.calls("create_model") if call.status == 200]


@pytest.mark.slow
def test_moving_an_alias_ends_in_a_ready_model_and_keeps_the_old_version(fireworks, registry, hooks):
    hooks.start("--reconcile-every", "0")
    webhook = registry.client.create_webhook("promote", hooks.url, events=[ALIAS_SET, TAG_SET], secret=SECRET)
    tested = registry.client.test_webhook(webhook.webhook_id)
    assert (tested.success, tested.response_status) == (True, 200)
    registry.promote(1)
    wait_until(lambda: ready(registry, 1), "version 1 is READY")
    registry.promote(2)
    wait_until(lambda: ready(registry, 2), "version 2 is READY")
    assert current(registry)["source"] == f"models:/{registry.name}/2"
    assert registry.tags(1)["fireworks.model"].endswith(f"/{registry.name}")
    assert registry.tags(2)["fireworks.revision"] == "2"
    assert len(models_made(fireworks)) == 2
    # The tags that were written back are events too, and caused nothing.
    time.sleep(2)
    told = json.loads(hooks.command("jobs", "--json").stdout)
    assert [{field: job[field] for field in kept} for job, kept in zip(told, jobs_of(hooks), strict=True)] == jobs_of(
        hooks
    )
    assert [job["state"] for job in told] == ["done", "done"]


@pytest.mark.slow
def test_deliveries_that_are_forged_old_large_or_odd_change_nothing(fireworks, registry, hooks):
    hooks.start("--reconcile-every", "0")
    body = alias_event(registry, 1)
    refused = {
        "forged": (hooks.deliver(body, secret="not the secret"), 401),
        "unsigned": (hooks.deliver(body, **{"X-MLflow-Signature": ""}), 401),
        "odd signature": (hooks.deliver(body, **{"X-MLflow-Signature": b"v1,\xe9"}), 401),
        "another delivery's": (hooks.deliver(body, **{"X-MLflow-Delivery-Id": "d-2"}), 401),
        "too old": (hooks.deliver(body, age=3600), 401),
        "from the future": (hooks.deliver(body, age=-3600), 401),
        "too large": (hooks.deliver(body + b" " * (1 << 20)), 413),
        "not JSON": (hooks.deliver(b"{"), 422),
        "not an event": (hooks.deliver(b'{"a": 1}'), 422),
        "without a name": (hooks.deliver(body.replace(b'"name"', b'"title"')), 422),
    }
    assert {what: answer.status_code for what, (answer, _) in refused.items()} == {
        what: status for what, (_, status) in refused.items()
    }
    ignored = [
        hooks.deliver(alias_event(registry, 1, "nobody")),
        hooks.deliver(b'{"entity":"x","action":"y","data":{}}'),
    ]
    assert [answer.json()["status"] for answer in ignored] == ["ignored", "ignored"]
    assert jobs_of(hooks) == []
    assert not fireworks.calls("create_model")


@pytest.mark.slow
def test_deliveries_doubled_reordered_and_replayed_after_a_restart_end_where_the_alias_points(
    fireworks, registry, hooks
):
    hooks.start("--reconcile-every", "0")
    registry.promote(3)  # no webhook exists: this delivery is dropped
    accepted = hooks.deliver(alias_event(registry, 3), delivery_id="of 3")
    assert (accepted.status_code, accepted.json()["status"]) == (202, "accepted")
    doubled = hooks.deliver(alias_event(registry, 3), delivery_id="of 3")
    assert (doubled.status_code, doubled.json()["status"]) == (200, "duplicate")
    assert doubled.json()["jobs"] == accepted.json()["jobs"]
    late = hooks.deliver(alias_event(registry, 1), delivery_id="of 1, late")  # the alias moved on since
    assert late.status_code == 202
    wait_until(lambda: ready(registry, 3), "version 3 is READY")
    hooks.kill()
    hooks.start("--reconcile-every", "0")
    assert hooks.deliver(alias_event(registry, 3), delivery_id="of 3").json()["status"] == "duplicate"
    wait_until(lambda: all(job["state"] in ("done", "superseded") for job in jobs_of(hooks)), "all work is done")
    assert current(registry)["source"] == f"models:/{registry.name}/3"
    assert len(models_made(fireworks)) == 1


@pytest.mark.slow
def test_reconciling_alone_brings_it_right_and_tells_while_the_registry_does_not_answer(fireworks, registry, hooks):
    registry.promote(2)
    with TcpProxy(urlsplit(registry.url).port) as door:
        door.refuse()
        hooks.environ |= {
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{door.port}",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        }
        hooks.start("--reconcile-every", "1s")
        told = wait_until(lambda: comparison(hooks), "the registry was asked")
        assert told["error"].startswith("rule 'champions': the MLflow server at http://127")
        assert told["succeeded"] is None
        door.open()
        wait_until(lambda: [job["state"] for job in jobs_of(hooks)] == ["done"], "version 2 is done")
        registry.promote(4)
        wait_until(lambda: ready(registry, 4), "version 4 is READY")
        time.sleep(3)
        assert len(jobs_of(hooks)) == 2  # what is right is left alone
        assert comparison(hooks)["error"] == ""
        succeeded = datetime.fromisoformat(comparison(hooks)["succeeded"].replace("Z", "+00:00"))
        assert time.time() - succeeded.timestamp() < 10


@pytest.mark.slow
def test_a_failure_is_tried_again_then_kept_and_can_be_retried_by_hand(fireworks, registry, hooks):
    fireworks.fault("validate_upload", status=400, times=1000)
    hooks.start("--reconcile-every", "0", "--retry-after", "0.1s")
    registry.promote(1)
    hooks.deliver(alias_event(registry, 1))
    dead = wait_until(lambda: [job for job in jobs_of(hooks) if job["state"] == "dead"], "the job is dead")[0]
    assert dead["error"]
    wait_until(lambda: registry.tags(1).get("fireworks.state") == "FAILED", "the tags tell it too")
    assert registry.tags(1)["fireworks.error"]
    fireworks.reset()
    retried = hooks.command("retry", dead["id"])
    assert retried.returncode == 0, retried.stderr
    wait_until(lambda: ready(registry, 1), "version 1 is READY")
    assert (
        "fireworks.error"
        not in wait_until(
            lambda: [tags for tags in [registry.tags(1)] if "fireworks.error" not in tags], "the error is taken away"
        )[0]
    )
    assert hooks.command("retry", dead["id"]).returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["MLFLOW_FIREWORKS_WEBHOOK_SECRET", "FIREWORKS_API_KEY"])
def test_it_refuses_to_start_without_a_secret_or_a_key(hooks, variable, tmp_path):
    del hooks.environ[variable]
    hooks.environ["HOME"] = str(tmp_path)
    with pytest.raises(AssertionError, match=f"Error: .*set {variable}"):
        hooks.start()
    assert hooks.log.count("\n") == 1


@pytest.mark.slow
def test_an_address_that_is_taken_is_told_before_any_work_begins(registry, hooks):
    registry.promote(1)
    with socket.create_server(("127.0.0.1", hooks.port)):
        told = hooks.command("serve", "--port", str(hooks.port), "--rules", str(hooks.folder / "hooks.yaml"))
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert f"port {hooks.port} (Address already in use): is another" in told.stderr
    assert jobs_of(hooks) == []


@pytest.mark.slow
def test_check_explains_an_event_and_the_registry(fireworks, registry, hooks, tmp_path):
    registry.promote(2)
    (tmp_path / "event.json").write_bytes(alias_event(registry, 1))
    rules = ["--rules", str(tmp_path / "hooks.yaml")]
    from click.testing import CliRunner

    from mlflow_fireworks.cli import main

    told = CliRunner().invoke(main, ["hooks", "check", *rules, "--event", str(tmp_path / "event.json")])
    assert told.output.startswith(f"promote  models:/{registry.name}@champion = 1 -> {registry.name} on fireworks")
    told = CliRunner().invoke(main, ["hooks", "check", *rules])
    assert f"= 2 -> {registry.name} on fireworks" in told.output
    assert "there is no deployment" in told.output
    assert not fireworks.calls("create_model")
