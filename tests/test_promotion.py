"""promote: from an alias to what it points to, through the command, the function and an alias that moves meanwhile."""

import json

import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from support.checkpoints import make_llama, read_files
from support.hub_server import SHA, HubServer
from support.local_registry import fill_registry, use_copy
from support.source_world import Remembers

from mlflow_fireworks.cli import main
from mlflow_fireworks.errors import ConflictError, FireworksError, InvalidConfigError, NotFoundError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.plugin import FireworksDeploymentClient
from mlflow_fireworks.promotion import promote
from mlflow_fireworks.registry.pointers import pin


@pytest.fixture(scope="module")
def filled_registry(tmp_path_factory):
    """A registry with three versions of `Chat_Model`; the first is the champion."""
    return fill_registry(tmp_path_factory.mktemp("registry"), "Chat_Model", versions=3)


@pytest.fixture
def registry(filled_registry, tmp_path, monkeypatch):
    return use_copy(filled_registry, tmp_path, monkeypatch)


def tags_of(registry, version):
    return registry.get_model_version("Chat_Model", version).tags


def models_made(fireworks):
    return len(fireworks.calls("create_model"))


def test_the_command_makes_updates_and_then_leaves_alone(fireworks, registry):
    def run():
        result = CliRunner().invoke(main, ["promote", "models:/Chat_Model@champion", "--json", "-C", "progress=none"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    first = run()
    assert (first["name"], first["action"], first["state"], first["version"]) == ("chat-model", "created", "READY", "1")
    assert first["pointer"] == "models:/Chat_Model@champion"
    assert run()["action"] == "unchanged"
    registry.set_registered_model_alias("Chat_Model", "champion", "2")
    second = run()
    assert (second["action"], second["revision"], second["version"]) == ("updated", 2, "2")
    assert models_made(fireworks) == 2
    for version in ("1", "2"):
        tags = tags_of(registry, version)
        assert tags["fireworks.state"] == "READY"
        assert tags["fireworks.started"] <= tags["fireworks.updated"]
    assert tags_of(registry, "2")["fireworks.model"].endswith("/chat-model-r2")


def test_an_endpoint_follows_the_alias(fireworks, registry):
    first = promote("models:/Chat_Model@champion", endpoint="prod", config={"progress": "none"})
    assert first["endpoint"] == "prod"
    registry.set_registered_model_alias("Chat_Model", "champion", "2")
    promote("models:/Chat_Model@champion", endpoint="prod", config={"progress": "none"})
    served = FireworksDeploymentClient("fireworks").get_endpoint("prod")
    assert served["model"].endswith("/chat-model-r2")
    assert tags_of(registry, "2")["fireworks.endpoint"] == "prod"
    assert tags_of(registry, "1")["fireworks.state"] == "READY"
    assert "fireworks.endpoint" not in tags_of(registry, "1")  # it is not there any more


def test_an_endpoint_of_another_deployment_is_refused_before_anything_is_sent(fireworks, registry):
    config = {"progress": "none"}
    promote("models:/Chat_Model@champion", endpoint="prod", config=config)
    made = models_made(fireworks)
    with pytest.raises(ConflictError, match="endpoint 'prod' serves accounts/acme/models/chat-model; choose another"):
        promote("models:/Chat_Model/2", name="other", endpoint="prod", config=config)
    assert models_made(fireworks) == made


class MovesTheAlias(Remembers):
    """Moves it as the first upload begins."""

    def __init__(self, registry):
        super().__init__()
        self.registry = registry

    def transfer_begins(self, doing, size):
        if self.registry:
            self.registry.set_registered_model_alias("Chat_Model", "champion", "3")
            self.registry = None


def test_an_upload_that_nobody_wants_any_more_is_stopped_and_gone_on_with_when_somebody_does(fireworks, registry):
    arguments = {"reporter": MovesTheAlias(registry), "look_every_seconds": 0}
    assert promote("models:/Chat_Model@champion", **arguments)["version"] == "3"
    assert [call.path.rpartition("/")[2] for call in fireworks.calls("validate_upload")] == [
        "chat-model-r2:validateUpload"
    ]
    revisions = FireworksDeploymentClient("fireworks").get_deployment("chat-model")["revisions"]
    assert sorted(revisions) == ["chat-model-r2:READY", "chat-model:UPLOADING"]
    registry.set_registered_model_alias("Chat_Model", "champion", "1")
    back = promote("models:/Chat_Model@champion", config={"progress": "none"})
    assert (back["version"], back["model"], back["state"]) == ("1", "accounts/acme/models/chat-model", "READY")
    assert models_made(fireworks) == 2


def test_an_alias_that_moves_meanwhile_is_followed_before_the_endpoint_moves(fireworks, registry):
    reporter = MovesTheAlias(registry)
    result = promote("models:/Chat_Model@champion", endpoint="prod", reporter=reporter)
    assert result["version"] == "3"
    assert any("moved from models:/Chat_Model/1 to models:/Chat_Model/3" in note for note in reporter.notes)
    assert FireworksDeploymentClient("fireworks").get_endpoint("prod")["model"].endswith("/chat-model-r2")
    assert len(fireworks.calls("create_deployment")) == 1  # version 1 was never put on GPUs


def test_a_failure_is_written_on_the_version_and_success_takes_it_away(fireworks, registry, tmp_path):
    broken = make_llama(tmp_path / "broken", seed=9)
    config = (broken / "config.json").read_bytes()
    (broken / "config.json").write_text("{")
    registry.create_model_version("Chat_Model", broken.as_uri())
    with pytest.raises(FireworksError):
        promote("models:/Chat_Model/4", config={"progress": "none"})
    tags = tags_of(registry, "4")
    assert tags["fireworks.state"] == "FAILED"
    assert "config.json" in tags["fireworks.error"]
    (broken / "config.json").write_bytes(config)
    promote("models:/Chat_Model/4", config={"progress": "none"})
    tags = tags_of(registry, "4")
    assert tags["fireworks.state"] == "READY"
    assert "fireworks.error" not in tags


def test_bad_input_is_refused_before_anything_remote_happens(fireworks, registry):
    for arguments in (
        {"name": "Not Legal"},
        {"endpoint": "Not Legal"},
        {"config": {"nonsense": 1}},
        {"config": {"synchronous": False}},
    ):
        with pytest.raises(InvalidConfigError):
            promote("models:/Chat_Model@champion", **arguments)
    with pytest.raises(NotFoundError, match="models:/Chat_Model@nobody is not in the registry"):
        promote("models:/Chat_Model@nobody")
    assert not fireworks.requests


def test_somebody_elses_model_of_that_name_is_left_alone(fireworks, registry):
    with Gateway(fireworks.url, SecretStr("fw_key"), "acme") as gateway:
        gateway.models.create(
            "chat-model", {"kind": "HF_BASE_MODEL", "baseModelDetails": {"checkpointFormat": "NATIVE"}}
        )
    with pytest.raises(ConflictError, match="did not create"):
        promote("models:/Chat_Model@champion", config={"progress": "none"})
    assert tags_of(registry, "1")["fireworks.state"] == "FAILED"


def test_a_dry_run_changes_nothing(fireworks, registry):
    result = promote("models:/Chat_Model@champion", endpoint="prod", config={"dry_run": True, "progress": "none"})
    assert result["state"] == "DRY_RUN"
    assert models_made(fireworks) == 0
    assert not any(key.startswith("fireworks.") for key in tags_of(registry, "1"))


def test_pointers_are_pinned(registry):
    assert pin("models:/Chat_Model@champion").uri == "models:/Chat_Model/1"
    assert pin("models:/Chat_Model/latest").version == "3"
    assert pin(f"hf:/org/name@{'a' * 40}").version == "a" * 40
    assert pin("/data/llama").name == "llama"


@pytest.mark.parametrize(
    "spelling", ["models:/Chat_Model@champion/", " models:/Chat_Model@champion//\n", "models:/Chat_Model/01/"]
)
def test_another_spelling_of_the_same_is_the_same_deployment(fireworks, registry, spelling):
    config = {"progress": "none"}
    first = promote("models:/Chat_Model@champion", config=config)
    again = promote(spelling, config=config)
    assert (again["name"], again["version"], again["action"]) == (first["name"], "1", "unchanged")
    assert models_made(fireworks) == 1


def test_what_is_no_model_uri_is_refused_before_anything_remote_happens(fireworks, registry):
    for uri, says in (
        ("models:/Chat_Model@a@b", "more than one @"),
        ("models://Chat_Model/1", "write models:/Chat_Model/1"),
        ("models:/Chat_Model", r"names no version; .*aliases: champion → 1; versions: 3, 2, 1"),
        ("hf:/a/b/c", "is not a Hub URI"),
    ):
        with pytest.raises(InvalidConfigError, match=says):
            promote(uri)
    assert not fireworks.requests


def test_a_branch_of_a_repo_without_an_owner_is_followed(fireworks, tmp_path, monkeypatch):
    with HubServer("gpt2", read_files(make_llama(tmp_path / "llama"))).running() as hub:
        hub.stand_in(monkeypatch)
        config = {"progress": "none", "hugging_face_url": "none"}
        first = promote("hf:/gpt2@main/", config=config)
        assert (first["name"], first["version"], first["pointer"]) == ("gpt2", SHA, "hf:/gpt2@main")
        assert promote("hf:gpt2", config=config)["action"] == "unchanged"
        pushed = hub.push("gpt2", read_files(make_llama(tmp_path / "tuned", seed=2)))
        assert promote("hf:/gpt2@main", config=config)["version"] == pushed
    assert models_made(fireworks) == 2
