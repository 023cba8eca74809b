"""The registry's tags tell the truth after something on Fireworks was deleted, whoever did it and by which door."""

import pytest
from click.testing import CliRunner
from support.local_registry import fill_registry, use_copy
from support.ports import free_port

from mlflow_fireworks.cli import main
from mlflow_fireworks.hooks.holding import resume_promotions
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.reconcile import reconcile
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.worker import Worker
from mlflow_fireworks.promotion import promote

QUIET = {"progress": "none"}


@pytest.fixture(scope="module")
def filled_registry(tmp_path_factory):
    """A registry with two models of two versions each."""
    return fill_registry(tmp_path_factory.mktemp("registry"), "chat", "other", versions=2)


@pytest.fixture
def registry(filled_registry, tmp_path, monkeypatch):
    return use_copy(filled_registry, tmp_path, monkeypatch)


def about(registry, name, version):
    """What the tags of a version say: its state and endpoint."""
    tags = registry.get_model_version(name, version).tags
    assert ("fireworks.address" in tags) == ("fireworks.endpoint" in tags)
    return tags.get("fireworks.state"), tags.get("fireworks.endpoint")


def deploy_all(client):
    promote("models:/chat/1", name="chat", config=QUIET)
    promote("models:/chat/2", name="chat", endpoint="prod", config=QUIET)
    promote("models:/other/1", name="other", config=QUIET)


def test_a_deleted_deployment_is_not_called_ready_any_more(registry, client):
    deploy_all(client)
    assert about(registry, "chat", "2") == ("READY", "prod")
    client.delete_deployment("chat", {"cascade": True})
    assert [about(registry, "chat", version) for version in "12"] == [("DELETED", None)] * 2
    assert about(registry, "other", "1") == ("READY", None)


@pytest.mark.parametrize("door", ["python", "command"])
def test_a_deleted_endpoint_is_taken_off_the_tags_of_what_it_served(registry, client, door):
    deploy_all(client)
    if door == "python":
        client.delete_endpoint("prod")
    else:
        assert CliRunner().invoke(main, ["endpoint", "delete", "-t", "fireworks", "--name", "prod"]).exit_code == 0
    assert about(registry, "chat", "2") == ("READY", None)


def test_a_version_that_is_elsewhere_by_now_keeps_what_its_tags_say(registry, client):
    promote("models:/chat/1", name="chat", config=QUIET)
    promote("models:/chat/1", name="chat-eu", config=QUIET)
    client.delete_deployment("chat")
    assert about(registry, "chat", "1") == ("READY", None)
    client.delete_deployment("chat-eu")
    assert about(registry, "chat", "1") == ("DELETED", None)


def test_tags_that_somebody_does_not_want_are_left_alone(registry, client):
    deploy_all(client)
    client.delete_endpoint("prod", {"registry_tags": False})
    assert about(registry, "chat", "2") == ("READY", "prod")
    client.delete_deployment("chat", {"registry_tags": "false"})
    assert about(registry, "chat", "2") == ("READY", "prod")


def test_a_registry_that_is_away_is_a_warning_and_the_deletion_is_done(registry, client, monkeypatch, caplog):
    deploy_all(client)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    client.delete_deployment("chat", {"cascade": True})
    assert [item["name"] for item in client.list_deployments()] == ["other"]
    (told,) = [record.getMessage() for record in caplog.records if "the tags" in record.getMessage()]
    assert "the tags of the versions of 'chat' were not corrected in the registry" in told
    assert "\n" not in told


def test_a_machine_without_a_registry_gets_none_by_deleting(registry, client, tmp_path, monkeypatch):
    deploy_all(client)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    client.delete_deployment("chat", {"cascade": True})
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("wanted", [True, False])
def test_comparing_notices_what_was_deleted_by_hand(fireworks, registry, client, tmp_path, wanted):
    fields = {"name": "r", "model": "chat", "alias": "champion", "endpoint": "prod"}
    rules = Rules.model_validate({"rules": [fields | {"config": {"registry_tags": wanted}}]})
    queue = open_queue(str(tmp_path / "queue.db"))
    (job,) = reconcile(queue, rules, dead_too=True, approve=True).enqueued
    Worker(queue, rules).work(job.id)
    if not wanted:
        promote("models:/chat/1", name="chat", endpoint="prod", config=QUIET)
    assert about(registry, "chat", "1") == ("READY", "prod")
    client.delete_endpoint("prod", {"registry_tags": False})
    reconcile(queue, rules, dead_too=True)
    assert about(registry, "chat", "1") == ("READY", None if wanted else "prod")
    client.delete_deployment("chat", {"registry_tags": False})
    assert reconcile(queue, rules, dead_too=True).enqueued == []
    assert about(registry, "chat", "1") == (("DELETED", None) if wanted else ("READY", "prod"))
    queue.close()


def test_comparing_notices_a_deployment_that_was_deleted_by_hand(fireworks, registry, client, tmp_path):
    rules = Rules.model_validate({"rules": [{"name": "r", "model": "chat", "alias": "champion"}]})
    queue = open_queue(str(tmp_path / "queue.db"))
    for version in ("1", "2"):
        registry.set_registered_model_alias("chat", "champion", version)
        (job,) = reconcile(queue, rules, dead_too=True).enqueued
        Worker(queue, rules).work(job.id)
    client.delete_deployment("chat", {"registry_tags": False})
    assert about(registry, "chat", "1") == ("READY", None)
    found = reconcile(queue, rules, dead_too=True)
    assert ([*found.enqueued], [hold.what for hold in found.holds]) == ([], ["chat"])
    assert [about(registry, "chat", version) for version in "12"] == [("DELETED", None)] * 2
    (resumed,) = resume_promotions(queue, "chat", lambda: rules, "alice")
    Worker(queue, rules).work(resumed.job)
    assert [about(registry, "chat", version) for version in "12"] == [("DELETED", None), ("READY", None)]
    queue.close()
