"""What pointers show: on a real MLflow, on Databricks' Unity Catalog and on the Hugging Face Hub, as stand-ins."""

import mlflow
import pytest
from mlflow.version import VERSION
from support.checkpoints import make_llama, read_files
from support.hub_server import SHA, HubServer
from support.source_world import needs_logged_models
from support.threaded_server import serving
from support.unity_catalog import TOKEN, Model, UnityCatalog, Version, Workspace

from mlflow_fireworks.artifacts.sources.artifact_repository import list_repository
from mlflow_fireworks.artifacts.sources.resolve import open_source
from mlflow_fireworks.errors import CredentialsError, InvalidConfigError, NotFoundError, SourceError, UnavailableError
from mlflow_fireworks.registry.mlflow_versions import open_artifacts
from mlflow_fireworks.registry.pointers import Pinned, pin
from mlflow_fireworks.registry.versions import write_outcome

NAME = "main.prod.chat"
BOTH_QUOTES = "both ' and \""


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A registry with two versions of `chat`: the first is champion, the second in Production, and of `my chat%20`."""
    folder = tmp_path_factory.mktemp("registry")
    files = make_llama(folder / "llama")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    for name in ("chat", "my chat%20", "it's", BOTH_QUOTES):
        client.create_registered_model(name)
        for _ in range(2):
            client.create_model_version(name, files.as_uri())
        client.set_registered_model_alias(name, "champion", "1")
    with pytest.warns(FutureWarning):
        client.transition_model_version_stage("chat", "2", "Production")
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def registry(database, monkeypatch):
    mlflow.set_tracking_uri(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    return mlflow.MlflowClient()


@pytest.mark.parametrize(
    ("uri", "pinned", "name"),
    [
        ("models:/chat@champion", "models:/chat/1", "chat"),
        ("models:/chat@champion/", "models:/chat/1", "chat"),
        ("  models:/chat@champion//", "models:/chat/1", "chat"),
        ("models:/chat/01/", "models:/chat/1", "chat"),
        ("models:/chat/latest", "models:/chat/2", "chat"),
        ("models:/chat@latest", "models:/chat/2", "chat"),
        ("models:/chat/production", "models:/chat/2", "chat"),
        ("models:/chat@champion/sub/folder/", "models:/chat/1/sub/folder", "chat"),
        ("models:/my chat%20@champion", "models:/my chat%20/1", "my chat%20"),
        ("models:/it's/latest", "models:/it's/2", "it's"),
    ],
)
def test_every_way_to_name_a_version_is_pinned(registry, uri, pinned, name):
    shown = pin(uri)
    assert (shown.uri, shown.name, shown.version) == (pinned, name, shown.registered.version)
    assert shown.registered.name == name


@pytest.mark.parametrize("uri", ["models:/chat@champion/", "models:/my chat%20/latest/", "models:/it's@champion"])
def test_what_was_pinned_is_what_is_opened(registry, uri):
    shown, source = pin(uri), open_source(uri)
    assert open_source(shown.uri).resolved == source.resolved == shown.uri
    assert source.registered == shown.registered


@pytest.mark.parametrize(
    "uri", ["models:/chat@nobody", "models:/chat/9", "models:/chat/Staging", "models:/nobody/1", "models:/no/latest"]
)
def test_a_pointer_to_nothing_is_gone(registry, uri):
    with pytest.raises(NotFoundError, match=f"{uri} is not in the registry"):
        pin(uri)
    with pytest.raises(SourceError, match=r"does not exist in the registry|no registered model"):
        open_source(uri)


@pytest.mark.parametrize("read", [pin, open_source])
@pytest.mark.parametrize("uri", ["models:/chat", "models:/chat/champion"])
def test_a_model_without_a_version_is_told_which_there_are(registry, read, uri):
    with pytest.raises(InvalidConfigError, match=r"names no version; .*aliases: champion → 1; versions: 2, 1$") as told:
        read(uri.replace("/champion", ""))
    with pytest.raises(InvalidConfigError, match="write models:/chat@champion; aliases: champion"):
        read("models:/chat/champion")
    assert "\n" not in told.value.message


@pytest.mark.parametrize(
    "uri",
    ["models:/chat@champion", "models:/chat/latest", pytest.param("models:/m-0123", marks=needs_logged_models)],
)
def test_a_registry_that_does_not_answer_is_not_one_without_the_model(monkeypatch, uri):
    mlflow.set_tracking_uri(None)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    with pytest.raises(UnavailableError, match=r"the MLflow server at http://127.0.0.1:9 does not answer") as silent:
        pin(uri)
    assert "hunter2" not in silent.value.message


@needs_logged_models
def test_a_logged_model_is_called_by_its_own_name(registry):
    logged = registry.create_logged_model("0", name="summarizer")
    assert pin(f"models:/{logged.model_id}/") == Pinned(f"models:/{logged.model_id}", "summarizer")
    assert pin(f"models:/{logged.model_id}/a").uri == f"models:/{logged.model_id}/a"
    assert pin("models:/m-0123") == Pinned("models:/m-0123", "m-0123")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("runs:/0123/models/llama/", Pinned("runs:/0123/models/llama", "llama")),
        ("/data/llama/", Pinned("/data/llama", "llama")),
        ("s3://me:hunter2@bucket/llama/", Pinned("s3://me:hunter2@bucket/llama", "llama")),
    ],
)
def test_what_has_no_versions_is_taken_as_it_is(uri, shown):
    assert pin(uri) == shown


@pytest.fixture
def hub(monkeypatch):
    server = HubServer("gpt2", {"config.json": b"{}"}, old_names=["org/name"])
    with server.running():
        server.repos["gpt2"].refs |= {"refs/heads/feature/x": SHA, "refs/tags/v1": SHA}
        server.stand_in(monkeypatch)
        yield server


@pytest.mark.parametrize(
    ("uri", "repo"),
    [
        ("hf:/gpt2@main", "gpt2"),
        ("hf:gpt2", "gpt2"),
        ("hf://gpt2/", "gpt2"),
        ("hf:/gpt2@v1", "gpt2"),
        ("hf:/gpt2@refs/pr/1", "gpt2"),
        ("hf:/gpt2@feature/x", "gpt2"),
        ("hf:/gpt2@feature%2Fx", "gpt2"),
        ("hf:/org/name@main/", "org/name"),
    ],
)
def test_a_branch_or_tag_on_the_hub_is_pinned_to_its_commit(hub, uri, repo):
    assert pin(uri) == Pinned(f"hf:/{repo}@{SHA}", repo.rpartition("/")[2], SHA)


def test_a_commit_is_not_asked_for(hub):
    assert pin(f"hf:/gpt2@{SHA}").version == SHA
    assert hub.requests == []


def test_what_the_hub_does_not_show_is_told_apart(hub):
    with pytest.raises(NotFoundError, match="hf:/gpt2@nowhere is not on the Hugging Face Hub"):
        pin("hf:/gpt2@nowhere")
    with pytest.raises(CredentialsError, match="hf:/org/nobody is not on the Hugging Face Hub, or cannot be read"):
        pin("hf:/org/nobody")
    hub.status = 503
    with pytest.raises(UnavailableError, match="did not answer for hf:/gpt2@main"):
        pin("hf:/gpt2@main")


@pytest.fixture
def catalog(registry, tmp_path, monkeypatch):
    """Unity Catalog in a workspace that a profile names; MLflow's current servers are elsewhere."""
    files = read_files(make_llama(tmp_path / "llama"))
    found = UnityCatalog("signed")
    found.models[NAME] = Model([Version("s3://x/1", files), Version("s3://x/2", files)], {"champion": "1"})
    with serving(Workspace, catalog=found) as found.url:
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "databrickscfg"))
        (tmp_path / "databrickscfg").write_text(f"[prof]\nhost = {found.url}\ntoken = {TOKEN}\n")
        mlflow.set_registry_uri(None)
        yield found


@pytest.mark.parametrize("uri", ["@champion/", "/latest", "/1/"])
@pytest.mark.parametrize(
    ("host", "current"), [("prof@databricks", ""), ("prof@databricks", "databricks-uc"), ("prof@databricks-uc", "")]
)
def test_a_profile_leads_to_the_registry_of_its_workspace(catalog, monkeypatch, host, current, uri):
    if current:
        monkeypatch.setenv("MLFLOW_REGISTRY_URI", current)
    version = "2" if uri == "/latest" else "1"
    shown = pin(f"models://{host}/{NAME}{uri}")
    assert (shown.uri, shown.name, shown.version) == (f"models://{host}/{NAME}/{version}", NAME, version)
    source = open_source(shown.uri)
    assert source.resolved == shown.uri
    assert "prof@databricks" in source.identity
    assert source.store.read("config.json") == catalog.models[NAME].versions[0].files["config.json"]
    source.store.close()
    assert write_outcome(shown.registered, {"fireworks.state": "READY"}) is None
    assert write_outcome(source.registered, {"fireworks.model": "chat"}) is None
    assert catalog.tags(NAME, version) == {"fireworks.state": "READY", "fireworks.model": "chat"}


@pytest.mark.parametrize("version", ["3.4.0", VERSION])
def test_unity_catalog_is_opened_before_and_since_servers_are_named(catalog, version):
    uri = f"models://prof@databricks/{NAME}/1"
    repository = open_artifacts(uri, "databricks://prof", "databricks-uc://prof", version)
    assert "config.json" in list_repository(getattr(repository, "repo", repository), "")  # since 3.5 it is wrapped


def test_what_a_profile_does_not_lead_to_is_told(catalog, tmp_path):
    with pytest.raises(NotFoundError, match=f"models://prof@databricks/{NAME}@nobody is not in the registry"):
        pin(f"models://prof@databricks/{NAME}@nobody")
    with pytest.raises(SourceError, match="does not exist in the registry databricks-uc://prof; aliases: champion → 1"):
        open_source(f"models://prof@databricks/{NAME}@nobody", workspace=tmp_path)
    with pytest.raises(InvalidConfigError, match=f"models://prof@databricks/{NAME}@ALIAS; aliases: champion → 1"):
        pin(f"models://prof@databricks/{NAME}")
    with pytest.raises(UnavailableError, match="could not look up models://nobody@databricks"):
        pin(f"models://nobody@databricks/{NAME}@champion")


@pytest.mark.parametrize("name", ["chat", "my chat%20", "it's", BOTH_QUOTES])
def test_the_hint_names_aliases_and_versions_whatever_is_in_the_name(registry, name):
    with pytest.raises(SourceError, match=r"does not exist in the registry .*; aliases: champion → 1; versions: 2, 1$"):
        open_source(f"models:/{name}@nobody")
