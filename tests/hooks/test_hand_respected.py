"""What a person does to an endpoint, with all programs real: MLflow's server, webhooks, hooks and queue."""

import json
import time
from dataclasses import dataclass

import httpx
import pytest
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent
from support.hooks_world import SECRET, Hooks, Registry, wait_until

from mlflow_fireworks.plugin import FireworksDeploymentClient

pytestmark = pytest.mark.slow
QUIET = {"progress": "none"}
H100 = {"accelerator_type": "H100", "accelerator_count": 1}
ALIAS_SET = WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED)


@dataclass
class Scene:
    """An endpoint that follows an alias, and a person."""

    registry: Registry
    hooks: Hooks
    client: FireworksDeploymentClient

    @property
    def status(self):
        return httpx.get(f"http://127.0.0.1:{self.hooks.port}/status.json", timeout=30).json()

    @property
    def served(self):
        found = self.client.list_endpoints()
        return {item["name"]: (item["model"].rpartition("/")[2], item["max_replicas"]) for item in found}

    def promote(self, version, model):
        self.registry.promote(version)
        self.answers_with(model)

    def answers_with(self, model):
        wait_until(lambda: self.served == {"prod": (model, 1)}, f"{model} answers")
        wait_until(lambda: not self.status["holds"] and not self.status["queue"], "nothing is held or under way")
        time.sleep(1.1)  # what a person does is written down to the second

    def is_left_so(self, reason):
        """What the person did is seen, told, and the same after three more comparisons."""
        before = self.served
        wait_until(lambda: any(reason in hold["reason"] for hold in self.status["holds"]), f"it is seen: {reason}")
        for _ in range(3):
            last = self.status["comparison"]["succeeded"]
            wait_until(lambda last=last: self.status["comparison"]["succeeded"] != last, "it was compared once more")
        assert self.served == before

    def history(self):
        told = json.loads(self.hooks.command("history", "--json").stdout)
        return [(line["what"], line["who"], line["to"]) for line in told if line["outcome"] != "superseded"]


@pytest.fixture
def scene(fireworks, registry, hooks):
    def scene():
        rule = {"name": "r", "model": registry.name, "alias": "champion", "deployment": "chat", "endpoint": "prod"}
        (hooks.folder / "hooks.yaml").write_text(json.dumps({"rules": [rule | {"config": H100}]}))
        hooks.start("--reconcile-every", "1s")
        registry.client.create_webhook("hooks", hooks.url, events=[ALIAS_SET], secret=SECRET)
        return Scene(registry, hooks, FireworksDeploymentClient("fireworks"))

    return scene


def test_a_rollback_and_another_version_stay_until_the_alias_moves(scene, registry):
    scene = scene()
    scene.promote(1, "chat")
    scene.promote(2, "chat-r2")
    scene.client.update_deployment("chat", endpoint="prod", config={"revision": 1, **QUIET})
    scene.is_left_so("endpoint 'prod' was rolled back from revision 2 to 1")
    scene.promote(3, "chat-r3")
    scene.client.update_deployment("chat", f"models:/{registry.name}/1", endpoint="prod", config=QUIET)
    scene.is_left_so("revision 3 was replaced by revision 1")
    scene.promote(2, "chat-r2")
    assert scene.history() == [
        ("promotion", "event", "1"),
        ("promotion", "event", "2"),
        ("rollback", "person", "2"),
        ("promotion", "event", "3"),
        ("replacement", "person", "3"),
        ("promotion", "event", "2"),
    ]


def test_a_removal_and_a_pause_stay_until_somebody_asks_for_it_again_with_the_queue_on_redis(scene, hooks, redis_url):
    hooks.environ["MLFLOW_FIREWORKS_QUEUE"] = redis_url
    scene = scene()
    scene.promote(1, "chat")
    scene.client.delete_endpoint("prod", QUIET)
    scene.is_left_so("endpoint 'prod' was deleted")
    resumed = hooks.command("resume", "chat", "--rules", str(hooks.folder / "hooks.yaml"))
    assert resumed.returncode == 0, resumed.stderr
    scene.answers_with("chat")
    scene.client.update_endpoint("prod", {"max_replicas": 0, "min_replicas": 0, **QUIET})
    scene.is_left_so("endpoint 'prod' was scaled to zero")
    scene.promote(2, "chat-r2")
    assert scene.history() == [
        ("promotion", "event", "1"),
        ("removal", "person", "1"),
        ("resume", "person", "1"),
        ("promotion", "person", "1"),
        ("pause", "person", "1"),
        ("promotion", "event", "2"),
    ]
