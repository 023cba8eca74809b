"""The grammar of model URIs: every form of every kind, and what is refused."""

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlflow_fireworks.errors import InvalidConfigError, NoVersionError
from mlflow_fireworks.registry.model_uri import parse_model_uri
from mlflow_fireworks.registry.uri_types import (
    FolderUri,
    HubUri,
    LoggedModelUri,
    RegisteredUri,
    RunUri,
    StoreUri,
    Workspace,
)

COMMIT = "c379e821c9c95d613899e8c4343e4bfee2b0c600"
RUN = "0123456789abcdef0123456789abcdef"
PROFILE = Workspace("prof")
UNITY = Workspace("prof", unity_catalog=True)

# What is written, what it names, how that is written canonically (None: as it was).
FORMS = [
    # registered models
    ("models:/chat/3", RegisteredUri("chat", "3"), None),
    ("models:/chat/3/", RegisteredUri("chat", "3"), "models:/chat/3"),
    ("  models:/chat/3//  ", RegisteredUri("chat", "3"), "models:/chat/3"),
    ("models:/chat/003", RegisteredUri("chat", "3"), "models:/chat/3"),
    ("models:/chat/0", RegisteredUri("chat", "0"), None),
    ("MODELS:/chat/3", RegisteredUri("chat", "3"), "models:/chat/3"),
    ("models:/chat@champion", RegisteredUri("chat", alias="champion"), None),
    ("models:/chat@champion/", RegisteredUri("chat", alias="champion"), "models:/chat@champion"),
    ("models:/chat@latest", RegisteredUri("chat", alias="latest"), None),
    ("models:/chat@v1", RegisteredUri("chat", alias="v1"), None),
    ("models:/chat/latest", RegisteredUri("chat", stage="latest"), None),
    ("models:/chat/LATEST/", RegisteredUri("chat", stage="latest"), "models:/chat/latest"),
    ("models:/chat/Production", RegisteredUri("chat", stage="Production"), None),
    ("models:/chat/staging", RegisteredUri("chat", stage="Staging"), "models:/chat/Staging"),
    ("models:/chat/none", RegisteredUri("chat", stage="None"), "models:/chat/None"),
    ("models:/main.prod.chat@champion", RegisteredUri("main.prod.chat", alias="champion"), None),
    ("models:/my chat/1", RegisteredUri("my chat", "1"), None),
    ("models:/ch%20at/1", RegisteredUri("ch%20at", "1"), None),
    ("models:/100%@champion", RegisteredUri("100%", alias="champion"), None),
    ("models:/chat%40champion/1", RegisteredUri("chat%40champion", "1"), None),
    ("models:/chat#2/1", RegisteredUri("chat#2", "1"), None),
    ("models:/été/1", RegisteredUri("été", "1"), None),
    ("models:/m-abc/1", RegisteredUri("m-abc", "1"), None),
    ("models:/m-abc@champion", RegisteredUri("m-abc", alias="champion"), None),
    ("models:/m-/1", RegisteredUri("m-", "1"), None),
    # … and a folder of theirs
    ("models:/chat/3/artifacts/ckpt", RegisteredUri("chat", "3", folder="artifacts/ckpt"), None),
    ("models:/chat@champion/artifacts/", RegisteredUri("chat", alias="champion", folder="artifacts"), None),
    ("models:/chat/latest/a", RegisteredUri("chat", stage="latest", folder="a"), None),
    ("models:/chat/3//etc", RegisteredUri("chat", "3", folder="etc"), "models:/chat/3/etc"),
    ("models:/chat/3/./a//b", RegisteredUri("chat", "3", folder="a/b"), "models:/chat/3/a/b"),
    ("models:/chat/3/sub%20dir", RegisteredUri("chat", "3", folder="sub%20dir"), None),
    ("models:/chat/3/me@home", RegisteredUri("chat", "3", folder="me@home"), None),
    ("models:/chat/3/4", RegisteredUri("chat", "3", folder="4"), None),
    # … in another workspace
    ("models://prof@databricks/chat/3", RegisteredUri("chat", "3", workspace=PROFILE), None),
    ("models://prof@databricks/chat@prod/", RegisteredUri("chat", alias="prod", workspace=PROFILE), None),
    ("models://prof@databricks/chat/latest", RegisteredUri("chat", stage="latest", workspace=PROFILE), None),
    ("models://prof@databricks/chat/3/a", RegisteredUri("chat", "3", folder="a", workspace=PROFILE), None),
    ("models://Prof@DataBricks/chat/3", RegisteredUri("chat", "3", workspace=Workspace("Prof")), None),
    ("models://databricks/chat/3", RegisteredUri("chat", "3", workspace=Workspace()), None),
    ("models://@databricks/chat/3", RegisteredUri("chat", "3", workspace=Workspace()), None),
    ("models://scope:key@databricks/chat/3", RegisteredUri("chat", "3", workspace=Workspace("scope:key")), None),
    ("models://prof@databricks-uc/a.b.c@prod", RegisteredUri("a.b.c", alias="prod", workspace=UNITY), None),
    # logged models
    ("models:/m-abc", LoggedModelUri("m-abc"), None),
    ("models:/m-abc/", LoggedModelUri("m-abc"), "models:/m-abc"),
    ("models:/m-abc/artifacts/ckpt", LoggedModelUri("m-abc", "artifacts/ckpt"), None),
    ("models://prof@databricks/m-abc", LoggedModelUri("m-abc", workspace=PROFILE), None),
    # runs
    (f"runs:/{RUN}/model", RunUri(RUN, "model"), None),
    (f"runs:/{RUN}/model/", RunUri(RUN, "model"), f"runs:/{RUN}/model"),
    (f"runs:/{RUN}", RunUri(RUN), None),
    (f"runs:/{RUN}//a/b", RunUri(RUN, "a/b"), f"runs:/{RUN}/a/b"),
    (f"runs:/{RUN}/my%20model", RunUri(RUN, "my%20model"), None),
    (f"runs:/{RUN}/my model", RunUri(RUN, "my model"), None),
    (f"runs://prof@databricks/{RUN}/model", RunUri(RUN, "model", PROFILE), None),
    # the Hugging Face Hub
    ("hf:/org/name", HubUri("org/name"), None),
    ("hf://org/name/", HubUri("org/name"), "hf:/org/name"),
    ("hf:org/name", HubUri("org/name"), "hf:/org/name"),
    ("HF:/org/name", HubUri("org/name"), "hf:/org/name"),
    ("hf:gpt2", HubUri("gpt2"), "hf:/gpt2"),
    ("hf:/gpt2@main", HubUri("gpt2", "main"), None),
    ("hf:/org/name@main/", HubUri("org/name", "main"), "hf:/org/name@main"),
    ("hf:/org/name@v1.0", HubUri("org/name", "v1.0"), None),
    (f"hf:/org/name@{COMMIT}", HubUri("org/name", COMMIT), None),
    ("hf://org/name@refs/pr/1", HubUri("org/name", "refs/pr/1"), "hf:/org/name@refs/pr/1"),
    ("hf:/org/name@feature/x", HubUri("org/name", "feature/x"), None),
    ("hf:/org/name@feature%2Fx", HubUri("org/name", "feature/x"), "hf:/org/name@feature/x"),
    ("hf:/org/name@me@home", HubUri("org/name", "me@home"), None),
    ("hf:/org/name@100%25", HubUri("org/name", "100%"), None),
    ("hf://models/org/name", HubUri("org/name"), "hf:/org/name"),
    # folders of this machine
    ("/data/llama", FolderUri("/data/llama"), None),
    ("/data/llama//", FolderUri("/data/llama"), "/data/llama"),
    ("/data/my%20llama", FolderUri("/data/my%20llama"), None),
    ("llama", FolderUri("llama"), None),
    ("./outputs/llama@champion", FolderUri("./outputs/llama@champion"), None),
    ("../llama", FolderUri("../llama"), None),
    ("~/llama", FolderUri("~/llama"), None),
    ("/", FolderUri("/"), None),
    (r"C:\models\llama", FolderUri(r"C:\models\llama"), None),
    ("C:/models/llama/", FolderUri("C:/models/llama"), "C:/models/llama"),
    ("c:llama", FolderUri("c:llama"), None),
    ("file:///data/my%20llama/", FolderUri("/data/my llama"), "/data/my llama"),
    ("file:/data/llama", FolderUri("/data/llama"), "/data/llama"),
    ("FILE://localhost/data/llama", FolderUri("/data/llama"), "/data/llama"),
    ("file:llama", FolderUri("llama"), "llama"),
    ("file:///data/x%20", FolderUri("/data/x "), "file:///data/x%20"),
    ("file:s3%3Ax", FolderUri("s3:x"), "file:s3%3Ax"),
    # stores, known to MLflow or not
    ("s3://bucket/llama", StoreUri("s3://bucket/llama"), None),
    ("s3://bucket/llama/", StoreUri("s3://bucket/llama"), "s3://bucket/llama"),
    ("s3://bucket/my%20llama", StoreUri("s3://bucket/my%20llama"), None),
    ("mlflow-artifacts:/", StoreUri("mlflow-artifacts:/"), None),
    ("dbfs:/Volumes/main/prod/llama", StoreUri("dbfs:/Volumes/main/prod/llama"), None),
    ("wasbs://box@acct.blob.core.windows.net/x", StoreUri("wasbs://box@acct.blob.core.windows.net/x"), None),
    ("nonsense:/x", StoreUri("nonsense:/x"), None),
]


@pytest.mark.parametrize(("text", "named", "canonical"), FORMS)
def test_each_form_is_read_as_its_kind_and_written_canonically(text, named, canonical):
    assert parse_model_uri(text) == named
    assert parse_model_uri(str(named)) == named
    if canonical:
        assert str(named) == canonical


MODEL, RUN_URI, HUB, FOLDER = "is not a model URI", "is not a run URI", "is not a Hub URI", "is not a folder URI"
REFUSED = [
    ("", "the model URI is empty; write e.g. models:/NAME/VERSION"),
    (" \t\n", "the model URI is empty"),
    ("models:/chat\n/1", "contains a line break or a control character"),
    ("/data/a\0b", "contains a line break or a control character"),
    ("models:", f"{MODEL}: models: must be followed by a /; write models:/NAME/VERSION, models:/NAME@ALIAS"),
    ("models:chat/1", f"{MODEL}: models: must be followed by a /"),
    ("models:/", f"{MODEL}: it names nothing"),
    ("models:/ /1", f"{MODEL}: it names nothing"),
    ("models:/../1", f"{MODEL}: '..' cannot be a name"),
    ("models://chat/1", f"{MODEL}: only a Databricks workspace can follow //; write models:/chat/1"),
    ("models:///chat/1", f"{MODEL}: .*; write models:/chat/1"),
    ("models://chat@champion", f"{MODEL}: .*; write models:/chat@champion"),
    ("models://prof@elsewhere/chat/1", f"{MODEL}: only a Databricks workspace"),
    ("models://prof@databricks", f"{MODEL}: it names nothing"),
    ("models://my prof@databricks/chat/1", f"{MODEL}: a workspace is PROFILE@databricks"),
    ("models://a:b:c@databricks/chat/1", f"{MODEL}: a workspace is PROFILE@databricks"),
    ("models://scope:@databricks/chat/1", f"{MODEL}: a workspace is PROFILE@databricks"),
    ("models://scope:key@databricks-uc/a.b.c/1", f"{MODEL}: MLflow reads Unity Catalog with a profile only"),
    ("models:/chat//1", f"{MODEL}: a part of it is empty"),
    ("models:/chat/ /a", f"{MODEL}: a part of it is empty"),
    ("models:/chat@", f"{MODEL}: its alias is empty"),
    ("models:/chat@/1", f"{MODEL}: its alias is empty"),
    ("models:/chat@ champion", f"{MODEL}: its alias .* contains a space"),
    ("models:/@champion", f"{MODEL}: its name is empty"),
    ("models:/chat@a@b", f"{MODEL}: it has more than one @"),
    ("models:/chat@champion/3", f"{MODEL}: an alias and a version cannot be combined"),
    ("models:/chat@champion/latest", f"{MODEL}: an alias and a version cannot be combined"),
    ("models:/chat/3@champion", f"{MODEL}: a version and an alias cannot be combined"),
    ("models:/chat/@champion", f"{MODEL}: a version and an alias cannot be combined"),
    ("models:/chat/3?x=1", f"{MODEL}: MLflow ignores everything after a \\?"),
    ("models:/chat/3/../../x", f"{MODEL}: a folder cannot contain \\.\\."),
    ("models:/chat@champion/..", f"{MODEL}: a folder cannot contain \\.\\."),
    ("models:/chat/3/%2e%2E/x", f"{MODEL}: a folder cannot contain \\.\\."),
    ("models:/chat/3/%252e%252e/x", f"{MODEL}: a folder cannot contain \\.\\."),
    (r"models:/chat/3/a\..\x", f"{MODEL}: a folder cannot contain \\.\\."),
    ("models:/m-abc/../x", f"{MODEL}: a folder cannot contain \\.\\."),
    ("runs:/", f"{RUN_URI}: it names nothing; write runs:/RUN_ID/PATH"),
    ("runs:abc/model", f"{RUN_URI}: runs: must be followed by a /"),
    ("runs://abc/model", f"{RUN_URI}: .*; write runs:/abc/model"),
    ("runs:/abc/../x", f"{RUN_URI}: a folder cannot contain \\.\\."),
    ("runs:/abc/a?b", f"{RUN_URI}: MLflow ignores everything after a \\?"),
    ("runs:/abc/a#b", f"{RUN_URI}: MLflow ignores everything after a #"),
    ("runs://prof@databricks-uc/abc/model", f"{RUN_URI}: .* write @databricks"),
    ("hf:", f"{HUB}: .*; write hf:/ORG/NAME or hf:/ORG/NAME@REVISION"),
    ("hf:/", HUB),
    ("hf:/models", HUB),
    ("hf:///org/name", HUB),
    ("hf:/org//name", HUB),
    ("hf:/a/b/c", f"{HUB}: a repo has a name, or an owner and a name"),
    ("hf:/datasets/org/name", f"{HUB}: it names one of the Hub's datasets, not a model"),
    ("hf:/org/na me", f"{HUB}: its repo name is not allowed on the Hub"),
    ("hf:/org/na%20me", f"{HUB}: its repo name is not allowed on the Hub"),
    ("hf:/org/na--me", HUB),
    ("hf:/org/name?x=1", HUB),
    ("hf:/org/name@", f"{HUB}: '' cannot be a branch, tag or commit"),
    ("hf:/org/name@a b", f"{HUB}: 'a b' cannot be a branch"),
    ("hf:/org/name@../main", f"{HUB}: '../main' cannot be a branch"),
    ("hf:/org/name@main?x", f"{HUB}: 'main\\?x' cannot be a branch"),
    ("file://elsewhere/data", f"{FOLDER}: 'elsewhere' is another machine"),
    ("file:", f"{FOLDER}: it names no folder"),
    ("file:///data/a#b", f"{FOLDER}: write \\? as %3F and # as %23"),
    ("file:///data/a%0Ab", FOLDER),
    ("s3://bucket/chat ", "'s3://bucket/chat' ends with a space, which could mean a different folder"),
    ("/data/chat\t", "'/data/chat' ends with a space"),
    ("file:///data/chat ", "ends with a space"),
]


@pytest.mark.parametrize(("text", "says"), REFUSED)
def test_what_can_mean_nothing_is_refused_in_one_line(text, says):
    with pytest.raises(InvalidConfigError, match=says) as caught:
        parse_model_uri(text)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("models:/chat", "chat", "names no version; write models:/chat/VERSION or models:/chat@ALIAS"),
        ("models:/chat/", "chat", "names no version"),
        ("models:/m-", "m-", "names no version"),
        ("models:/chat/champion", "chat", "is not a number, latest or a stage; .* write models:/chat@champion"),
        ("models:/chat/v1/a", "chat", "write models:/chat@v1"),
        ("models:/chat/-1", "chat", "names no version"),
        ("models:/chat/1.0", "chat", "write models:/chat@ALIAS"),
        ("models:/chat/٣", "chat", "names no version"),
        ("models://prof@databricks/chat", "chat", "write models://prof@databricks/chat/VERSION"),
    ],
)
def test_a_model_without_a_version_is_told_how_to_name_one(text, name, says):
    with pytest.raises(NoVersionError, match=says) as caught:
        parse_model_uri(text)
    assert caught.value.model.name == name


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("models:/chat@champion", "models:/chat/7"),
        ("models:/chat/latest/a/b", "models:/chat/7/a/b"),
        ("models:/chat/Production", "models:/chat/7"),
        ("models://prof@databricks/chat@prod", "models://prof@databricks/chat/7"),
        ("hf:gpt2", "hf:/gpt2@7"),
        ("hf:/org/name@feature/x", "hf:/org/name@7"),
    ],
)
def test_a_pointer_makes_its_pinned_form(text, pinned):
    assert str(parse_model_uri(text).at("7")) == pinned


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("models:/chat@champion/artifacts/ckpt/", "chat"),
        ("models://prof@databricks/main.prod.chat/3", "main.prod.chat"),
        ("models:/m-abc/artifacts", "m-abc"),
        ("runs:/abc/models/llama/", "llama"),
        ("runs:/abc", "abc"),
        ("hf:/org/name@refs/pr/1", "name"),
        ("hf:gpt2@main", "gpt2"),
        ("/data/llama/", "llama"),
        ("file:///data/my%20llama", "my llama"),
        (r"C:\models\llama", "llama"),
        ("C:/models/llama", "llama"),
        ("s3://bucket/models/llama/", "llama"),
        ("s3://bucket/llama?versionId=1", "llama"),
        ("sftp://me:hunter2@host", "host"),
        ("/", ""),
    ],
)
def test_a_deployment_is_called_after_what_the_uri_names(text, title):
    assert parse_model_uri(text).title == title


@pytest.mark.parametrize(
    "text",
    [
        "sftp://me:hunter2@host/x",
        "sftp://me:hunt@hunter2@host/x",
        "https://acct.example/x?sig=hunter2",
        "wasbs://box@acct.blob.core.windows.net/x?sv=1&sig=hunter2",
    ],
)
def test_credentials_of_a_store_are_for_mlflow_only(text):
    named = parse_model_uri(text)
    assert named.address == text
    for shown in (str(named), repr(named), named.title):
        assert "hunter2" not in shown


@pytest.mark.parametrize(
    "text", ["models://me:hunter2@elsewhere/chat/1", "runs://me:hunter2@elsewhere/a", "hf://me:hunter2@elsewhere/a"]
)
def test_a_refusal_repeats_no_password(text):
    with pytest.raises(InvalidConfigError) as caught:
        parse_model_uri(text)
    assert "hunter2" not in caught.value.message


def test_a_commit_is_told_from_a_branch():
    assert parse_model_uri(f"hf:/org/name@{COMMIT}").commit == COMMIT
    assert parse_model_uri("hf:/org/name@main").commit is None
    assert parse_model_uri(f"hf:/org/name@{COMMIT[:12]}").commit is None


def test_a_workspace_says_where_mlflow_finds_it():
    assert (PROFILE.tracking_uri, PROFILE.registry_uri) == ("databricks://prof", "databricks://prof")
    assert (UNITY.tracking_uri, UNITY.registry_uri) == ("databricks://prof", "databricks-uc://prof")
    assert (Workspace().tracking_uri, Workspace("", True).registry_uri) == ("databricks", "databricks-uc")


NAMES = st.text(string.ascii_letters + string.digits + " %.-_#&+é", min_size=1).filter(
    lambda name: name.strip() and name not in (".", "..")
)
WORDS = st.text(string.ascii_letters + string.digits + "-_", min_size=1)
PARTS = st.text(string.ascii_letters + string.digits + " .@-_é", min_size=1).filter(
    lambda part: part == part.strip() and ".." not in part and part != "."
)
PATHS = st.lists(PARTS, max_size=3).map("/".join)
# Of a logged model or below an alias, a number or stage in the first place would be a version.
FOLDERS = st.lists(PARTS.map("x{}".format), max_size=3).map("/".join)
WORKSPACES = st.none() | st.builds(Workspace, WORDS | st.just(""), st.booleans())
STAGES = st.sampled_from(["latest", "None", "Staging", "Production", "Archived"])
NUMBERS = st.integers(0, 10**20).map(str)
REPOS = st.from_regex(r"[a-zA-Z0-9]{1,20}(/[a-zA-Z0-9_]{1,20})?", fullmatch=True).filter(
    lambda repo: repo.partition("/")[0] not in ("models", "datasets", "spaces", "kernels", "buckets")
)
REVISIONS = st.from_regex(r"[a-zA-Z0-9%@_-]{1,10}(/[a-zA-Z0-9%_-]{1,10}){0,2}", fullmatch=True)
LINES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1)

URIS = (
    st.builds(RegisteredUri, NAMES, version=NUMBERS, folder=PATHS, workspace=WORKSPACES)
    | st.builds(RegisteredUri, NAMES, alias=WORDS, folder=FOLDERS, workspace=WORKSPACES)
    | st.builds(RegisteredUri, NAMES, stage=STAGES, folder=PATHS, workspace=WORKSPACES)
    | st.builds(LoggedModelUri, WORDS.map("m-{}".format), FOLDERS, WORKSPACES)
    | st.builds(RunUri, WORDS, PATHS, st.none() | st.builds(Workspace, WORDS))
    | st.builds(HubUri, REPOS, st.none() | REVISIONS)
    | st.builds(FolderUri, LINES.filter(lambda path: not path.endswith("/")))
)


@given(URIS)
@example(FolderUri("//x:y "))
@example(RegisteredUri("a:b", "1"))
@example(HubUri("gpt2", "%2F"))
def test_what_is_written_is_read_back_the_same(named):
    assert parse_model_uri(str(named)) == named


@given(
    st.text() | st.tuples(st.sampled_from(["models:", "runs:", "hf:", "file:"]), st.text("/@:.%?# ab1")).map("".join)
)
def test_any_text_is_read_or_refused(text):
    try:
        named = parse_model_uri(text)
    except InvalidConfigError as refused:
        assert "\n" not in refused.message  # noqa: PT017 - the other half of the same claim
        return
    if not isinstance(named, StoreUri):
        assert parse_model_uri(str(named)) == named
    assert len(str(named).splitlines()) == 1
