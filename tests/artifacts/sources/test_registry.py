"""The registry, logged models and runs of a real MLflow with a database and artifacts in a local folder."""

import sqlite3

import mlflow
import pytest
from support.source_world import PLAIN, WEIGHTS, Remembers, build_world, needs_logged_models, picture

from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.artifacts.sources.source import Hint
from mlflow_fireworks.errors import InvalidConfigError, SourceError, UnavailableError
from mlflow_fireworks.registry.uri_types import RegisteredUri
from mlflow_fireworks.registry.versions import write_outcome

CHAT_WEIGHTS = "artifacts/ckpt/weights.safetensors"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def filled(home):
    world = build_world(f"sqlite:///{home}/mlflow.db", home, str(home / "artifacts"))
    yield world
    mlflow.set_tracking_uri(None)


@pytest.fixture
def world(filled, home, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
    return filled


def test_alias_is_resolved_once_and_stays_what_it_was(world):
    world.client.create_registered_model("moving")
    for _ in range(2):
        world.client.create_model_version("moving", world.plain_uri, world.run_id)
    world.client.set_registered_model_alias("moving", "prod", "1")

    source = open_source("models:/moving@prod")
    world.client.set_registered_model_alias("moving", "prod", "2")

    assert source.asked == "models:/moving@prod"
    assert source.resolved == "models:/moving/1"
    assert source.registered == RegisteredUri("moving", "1")
    assert open_source("models:/moving@prod").resolved == "models:/moving/2"


@pytest.mark.parametrize("uri", ["models:/chat/1", "models:/chat@champion", "models:/chat/latest", "models:/chat/1/"])
def test_version_of_a_logged_model_is_named_by_the_logged_model(world, uri):
    source = open_source(uri)

    assert source.resolved == "models:/chat/1"
    assert source.identity == world.identity()
    assert source.registered.version == "1"
    assert source.files[CHAT_WEIGHTS] == len(WEIGHTS)
    assert set(source.mlmodel["flavors"]) == {"python_function"}


@needs_logged_models
@pytest.mark.parametrize("spell", ["models:/{model_id}", "runs:/{run_id}/model", "runs:/{run_id}/model/"])
def test_logged_model_is_found_by_its_id_and_by_its_run(world, spell):
    source = open_source(spell.format(model_id=world.model_id, run_id=world.run_id))

    assert source.resolved == source.identity == f"models:/{world.model_id}"
    assert source.registered is None
    assert CHAT_WEIGHTS in source.files
    assert Hint("run param", "base", "org/param") in source.hints


def test_folder_of_a_run_has_no_lasting_identity(world):
    source = open_source(f"runs:/{world.run_id}/plain")

    assert source.files == {name: len(content) for name, content in PLAIN.items()}
    assert source.resolved == f"runs:/{world.run_id}/plain"
    assert source.identity is None
    assert source.mlmodel == {}


def test_version_of_a_plain_folder_is_read_in_place(world):
    source = open_source("models:/plain/1")

    assert source.identity is None
    assert source.registered == RegisteredUri("plain", "1")
    assert str(source.store.path("config.json")) == f"{world.plain_uri}/config.json"


def test_version_registered_from_a_run_uri_is_read_in_place(world):
    world.client.create_registered_model("indirect")
    world.client.create_model_version("indirect", f"runs:/{world.run_id}/plain")

    source = open_source("models:/indirect/1")

    assert source.resolved == "models:/indirect/1"
    assert source.store.path("config.json").is_file()
    assert Hint("run tag", "hf_repo", "org/from-run") in source.hints


def test_folder_inside_a_version_can_be_named(world):
    source = open_source("models:/chat@champion/artifacts/ckpt")

    assert source.files == {"weights.safetensors": len(WEIGHTS)}
    assert source.resolved == "models:/chat/1/artifacts/ckpt"
    assert source.identity == world.identity("/artifacts/ckpt")


def test_hints_come_in_the_order_of_their_weight_without_mlflows_own(world):
    of_logged_model = (
        Hint("logged model tag", "team", "search"),
        Hint("logged model param", "adapter", "lora"),
        Hint("logged model param", "base", "org/param"),
    )
    assert open_source("models:/chat/1").hints == (
        Hint("model version tag", "huggingFaceUrl", "https://huggingface.co/org/version"),
        Hint("registered model tag", "owner", "ml-platform"),
        Hint("run tag", "hf_repo", "org/from-run"),
        *(of_logged_model if world.model_id else ()),
        Hint("run param", "base", "org/param"),
    )


def test_run_that_is_gone_costs_only_its_hints(world):
    world.client.create_registered_model("orphan", tags={"k": "v"})
    world.client.create_model_version("orphan", world.plain_uri, "0123456789abcdef0123456789abcdef")

    assert open_source("models:/orphan/1").hints == (Hint("registered model tag", "k", "v"),)


def test_nothing_is_written_into_the_store(world, home):
    before = picture(home / "artifacts")

    uris = ["models:/chat@champion", world.identity(), f"runs:/{world.run_id}/model", "models:/plain/1"]
    for uri in filter(None, uris):
        source = open_source(uri)
        for name, size in source.files.items():
            with source.store.staged(name) as path:
                assert path.is_relative_to(home / "artifacts")
                assert path.stat().st_size == size
            assert len(source.store.read(name)) == size
        source.store.close()

    assert picture(home / "artifacts") == before


@needs_logged_models
def test_run_path_that_names_two_things_is_told(world):
    with mlflow.start_run(run_id=world.run_id):
        mlflow.log_text("x", "model/notes.txt")
    reporter = Remembers()

    source = open_source(f"runs:/{world.run_id}/model", reporter=reporter)

    assert source.resolved == f"models:/{world.model_id}"
    assert "names a logged model and a folder of the run" in reporter.warnings[0]


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("models:/nobody/1", "no registered model 'nobody' in the registry sqlite:.*MLFLOW_TRACKING_URI"),
        ("models:/chat/9", "models:/chat/9 does not exist .*aliases: champion → 1; versions: 1"),
        ("models:/chat@challenger", "models:/chat@challenger does not exist .*aliases: champion → 1"),
        ("models:/chat/Production", "models:/chat/Production does not exist .*versions: 1"),
        pytest.param(
            "models:/m-0000", "no logged model m-0000 in sqlite:.*MLFLOW_TRACKING_URI", marks=needs_logged_models
        ),
        ("models:/chat/1/nowhere", "there is no folder nowhere in .*; it has: MLmodel"),
        ("runs:/0000/model", "cannot read run 0000 in sqlite:.*MLFLOW_TRACKING_URI"),
        ("runs:/{run_id}/nowhere", "there is no folder nowhere in .*plain"),
    ],
)
def test_uri_that_leads_to_nothing_is_explained(world, uri, says):
    with pytest.raises(SourceError, match=says) as caught:
        open_source(uri.format(run_id=world.run_id))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("models:/", "is not a model URI"),
        ("models:chat/1", "is not a model URI"),
        ("models:/chat@", "is not a model URI"),
        ("models:/chat/1/../../x", "is not a model URI"),
        ("models:/chat", "names no version; .*versions: 1"),
        ("runs:/", "is not a run URI"),
        ("runs:/{run_id}/../x", "is not a run URI"),
    ],
)
def test_malformed_uri_is_a_configuration_error(world, uri, says):
    with pytest.raises(InvalidConfigError, match=says):
        open_source(uri.format(run_id=world.run_id))


def test_artifacts_deleted_by_hand_are_explained(world, tmp_path):
    world.client.create_registered_model("deleted")
    world.client.create_model_version("deleted", str(tmp_path / "gone"))

    with pytest.raises(SourceError, match=r"gone does not exist on this machine; was it deleted, or created on"):
        open_source("models:/deleted/1")


def test_version_whose_registration_failed_is_refused(world, home):
    world.client.create_registered_model("failed")
    world.client.create_model_version("failed", world.plain_uri)
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute("UPDATE model_versions SET status = 'FAILED_REGISTRATION' WHERE name = 'failed'")

    with pytest.raises(SourceError, match="models:/failed/1 is FAILED_REGISTRATION"):
        open_source("models:/failed/1")


def test_registry_that_does_not_answer_is_one_line_without_its_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")

    with pytest.raises(UnavailableError, match=r"the MLflow server at http://127\.0\.0\.1:9 does not answer") as caught:
        open_source("models:/chat/1")
    assert "refused" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["models:/chat/1", "runs:/0000/model"])
@pytest.mark.parametrize("tracking", ["nonsense://me:hunter2@host/x", "mssql+nodriver://me:hunter2@127.0.0.1:9/db"])
def test_mlflow_that_cannot_use_its_own_address_is_one_line(monkeypatch, tracking, uri):
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)

    with pytest.raises((SourceError, UnavailableError), match="MLFLOW_TRACKING_URI") as caught:
        open_source(uri)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_outcome_is_written_on_the_version_that_was_resolved(world):
    source = open_source("models:/chat@champion")

    assert write_outcome(source.registered, {"fireworks.state": "READY", "fireworks.model": "chat"}) is None

    tags = world.client.get_model_version("chat", "1").tags
    assert (tags.pop("fireworks.state"), tags.pop("fireworks.model")) == ("READY", "chat")
    for key in ("fireworks.state", "fireworks.model"):
        world.client.delete_model_version_tag("chat", "1", key)


def test_registry_that_refuses_a_tag_is_a_warning_only(world):
    refusal = write_outcome(RegisteredUri("chat", "77"), {"fireworks.state": "READY"})

    assert refusal.startswith("the registry did not accept the tags for models:/chat/77: ")
    assert "\n" not in refusal


def test_outcome_of_what_is_not_registered_goes_nowhere():
    assert write_outcome(None, {"fireworks.state": "READY"}) is None


@pytest.mark.parametrize(
    ("spell", "says"),
    [
        ("file://{}/chat#2/1", "MLflow ignores everything after a #"),
        ("file://{}/chat?2/1", "MLflow ignores everything after a \\?"),
        ("{}/chat%202", "MLflow decodes percent signs and would read {}/chat 2"),
    ],
)
def test_source_of_a_version_is_read_exactly_as_it_is_named_or_not_at_all(world, tmp_path, spell, says):
    for name in ("chat", "chat 2", "chat%202", "chat#2/1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(name)
    name = f"odd-{len(spell)}-{ord(says[-1])}"
    world.client.create_registered_model(name)
    world.client.create_model_version(name, spell.format(tmp_path))

    with pytest.raises(SourceError, match=f"cannot be read under exactly that name: {says.format(tmp_path)}"):
        open_source(f"models:/{name}/1")
