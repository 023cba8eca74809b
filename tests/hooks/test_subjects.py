"""What globs find in a real MLflow server is what they match, though the server is asked for less than everything."""

from fnmatch import fnmatchcase

import mlflow
import pytest

from mlflow_fireworks.hooks.jobs import Subject
from mlflow_fireworks.hooks.rule import Rule
from mlflow_fireworks.hooks.subjects import find_subjects, look_up

pytestmark = pytest.mark.slow
NAMES = [
    "a_b-chat",
    "axb-chat",
    "A_B-chat",
    "100% chat",
    "1000 chat",
    "it's chat",
    'say "chat"',
    "back\\slash",
    "[x]chat",
]
VALUES = ["prod", "50%_off", "Prod", "it's", ""]
NAME_GLOBS = ["*", "a_b*", "[aA]_b*", "100%*", "it's*", "?t's*", 'say "*', "back\\*", "[[]x]*", "*c*", "none*"]
VALUE_GLOBS = ["*", "prod", "p*", "50%*", "50%_off", "it's*", "[pP]rod", "?rod"]
KEY = "a stage.of-it"


@pytest.fixture(scope="module")
def client(mlflow_server):
    client = mlflow.MlflowClient(mlflow_server)
    for number, name in enumerate(NAMES):
        client.create_registered_model(name)
        for value in (*VALUES[number % len(VALUES) :], *VALUES[: number % len(VALUES)]):
            made = client.create_model_version(name, "s3://nowhere/at-all")
            client.set_model_version_tag(name, made.version, KEY, value)
        client.create_model_version(name, "s3://nowhere/at-all")
        client.set_registered_model_alias(name, "champion", str(1 + number % 3))
    client.create_registered_model("without-versions")
    yield client
    for name in (*NAMES, "without-versions"):
        client.delete_registered_model(name)


def found(client, monkeypatch, **rule):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    mlflow.set_tracking_uri(None)
    pointers = list(find_subjects(Rule(name="r", deployment="{model}-{value}-{alias}", **rule)))
    assert len(pointers) == len(set(pointers))
    return {(subject.name, subject.ref, version) for subject, version in pointers if subject.name in NAMES}


@pytest.mark.parametrize("glob", NAME_GLOBS)
def test_models_by_globs(client, monkeypatch, glob):
    names = [name for name in NAMES if fnmatchcase(name, glob)]
    aliases = {(name, "champion", str(1 + NAMES.index(name) % 3)) for name in names}
    newest = {(name, "", str(len(VALUES) + 1)) for name in names}
    assert found(client, monkeypatch, model=glob, alias="champion") == aliases
    assert found(client, monkeypatch, model=glob, version="created") == newest


@pytest.mark.parametrize("glob", VALUE_GLOBS)
@pytest.mark.parametrize("model", ["*", "a_b*", "axb-chat"])
def test_versions_by_globs_of_their_tag(client, monkeypatch, glob, model):
    expected = {
        (name, f"{KEY}={value}", str(1 + (VALUES.index(value) - number) % len(VALUES)))
        for number, name in enumerate(NAMES)
        for value in VALUES
        if fnmatchcase(name, model) and fnmatchcase(value, glob)
    }
    assert expected
    assert found(client, monkeypatch, model=model, tag=f"{KEY}={glob}") == expected


@pytest.mark.parametrize(
    ("kind", "ref", "text", "pinned"),
    [
        ("alias", "champion", "models:/my chat@champion", "models:/my chat/7"),
        ("version", "3", "models:/my chat/3", "models:/my chat/7"),
        ("version", "", "models:/my chat/latest", "models:/my chat/7"),
        ("tag", "stage=prod", "models:/my chat with tag stage=prod", "models:/my chat/7"),
        ("branch", "feature/x", "hf:/my chat@feature/x", "hf:/my chat@7"),
        ("hub_tag", "v1", "hf:/my chat@v1", "hf:/my chat@7"),
    ],
)
def test_a_pointer_is_written_as_its_model_uri(kind, ref, text, pinned):
    subject = Subject(kind=kind, name="my chat", ref=ref)
    assert (str(subject), subject.pin("7")) == (text, pinned)


def test_what_was_found_is_looked_up_whatever_its_name_holds(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    mlflow.set_tracking_uri(None)
    rules = [
        Rule(name="r", deployment="{model}", model="*", **how)
        for how in ({"alias": "champion"}, {"version": "created"})
    ]
    pointers = [pointer for rule in rules for pointer in find_subjects(rule) if pointer[0].name in NAMES]
    assert len(pointers) == 2 * len(NAMES)
    for subject, version in pointers:
        shown = look_up(subject)
        assert (shown.name, shown.version, shown.uri) == (subject.name, version, subject.pin(version))
    assert look_up(Subject(kind="alias", name=NAMES[0], ref="nobody")) is None
