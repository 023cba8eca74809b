"""Which buckets Fireworks can be sent to, and with what."""

import pytest
from pydantic import SecretStr

from mlflow_fireworks.artifacts.sources.folder import FolderStore
from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.config import Config, parse_config
from mlflow_fireworks.errors import CredentialsError, InvalidConfigError
from mlflow_fireworks.gateway.operations import AzureBlobSource, S3Source
from mlflow_fireworks.option_values import list_options
from mlflow_fireworks.pipeline.bucket import find_origin
from mlflow_fireworks.redaction import hide_credentials

KEY_ID = "AKIAQQQQEXAMPLE12345"
SECRET = "kR9+very/secret/key=of+forty/characters0"
ROLE = "arn:aws:iam::123456789012:role/fireworks-reader"
GUID = "12345678-abcd-4321-9876-0123456789ab"
SAS = "accounts/acme/secrets/sas-token"
KEYS = {"aws_access_key_id_env": "MY_KEY_ID", "aws_secret_access_key_env": "MY_SECRET"}


def find(location, environ=None, *, api_is_here=False, **options):
    source = Source("models:/chat/3", "models:/chat/3", None, {}, FolderStore("/"), {}, location=location)
    config = parse_config({"transfer": "import", **options})
    return find_origin(source, config, api_is_here=api_is_here, environ=environ or {})


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("s3://models/teams/chat", "teams/chat"),
        ("s3://models/teams/chat/", "teams/chat"),
        ("s3://models", ""),
        ("s3://models/a%20b/c d", "a%20b/c d"),
    ],
)
def test_a_folder_of_s3_is_named_by_bucket_and_path(location, path):
    assert find(location) == S3Source("models", path)


@pytest.mark.parametrize(
    "location",
    [
        "wasbs://models@contoso.blob.core.windows.net/teams/chat",
        "abfss://models@contoso.dfs.core.windows.net/teams/chat/",
    ],
)
def test_a_folder_of_azure_is_named_by_account_container_and_path(location):
    origin = find(location, azure_sas_token_secret=SAS)
    assert origin == AzureBlobSource("contoso", "models", "teams/chat", sas_token_secret=SAS)
    assert origin.address == "https://contoso.blob.core.windows.net/models/teams/chat"


def test_the_container_in_an_azure_address_is_not_taken_for_a_user():
    assert hide_credentials("wasbs://c@a.blob.core.windows.net/x?sig=1") == "wasbs://c@a.blob.core.windows.net/x"
    assert hide_credentials("https://user:pw@host/x") == "https://host/x"


@pytest.mark.parametrize(
    ("location", "says"),
    [
        (None, "is on this machine or on the Hugging Face Hub"),
        ("mlflow-artifacts:/1/models/m-1/artifacts", r"use it: -m s3://BUCKET/PATH"),
        ("http://mlflow.example/api/2.0/mlflow-artifacts/artifacts/1", "comes through MLflow's server"),
        ("gs://models/chat", "is in gs://models/chat"),
        ("r2://models@account.r2.cloudflarestorage.com/chat", "s3:// and Azure Blob Storage only"),
        ("dbfs:/Volumes/main/default/models", "is in dbfs:"),
        ("wasbs://models@contoso.blob.core.chinacloudapi.cn/chat", "Azure's public cloud"),
        ("wasbs://contoso.blob.core.windows.net/chat", "an account and a container"),
    ],
)
def test_a_place_that_fireworks_cannot_read_is_refused_with_the_way_out(location, says):
    with pytest.raises(InvalidConfigError, match=f"{says}.*omit -C transfer=import"):
        find(location)


@pytest.mark.parametrize("name", ["MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_a_bucket_of_another_s3_server_is_not_taken_for_that_of_aws(name):
    other = {name: "http://user:pw@minio.example:9000"}
    with pytest.raises(InvalidConfigError, match=rf"{name} says .* at minio\.example, .*from AWS only") as caught:
        find("s3://models/chat", other)
    assert "user:pw" not in str(caught.value)
    assert find("s3://models/chat", other, api_is_here=True)
    assert find("s3://models/chat", {name: "https://s3.eu-west-1.amazonaws.com"})


def test_keys_come_from_the_variables_that_are_named():
    origin = find("s3://models/chat", {"MY_KEY_ID": f" {KEY_ID}\n", "MY_SECRET": SECRET}, **KEYS)
    assert origin.access_key_id == SecretStr(KEY_ID)
    assert origin.to_wire() == {
        "awsS3Source": {"s3Bucket": "models", "s3Path": "chat/", "accessKeyId": KEY_ID, "accessSecret": SECRET}
    }
    assert SECRET not in repr(origin)
    assert KEY_ID not in repr(origin)


def test_only_what_is_given_travels():
    assert find("s3://models/chat", aws_role_arn=ROLE).to_wire() == {
        "awsS3Source": {"s3Bucket": "models", "s3Path": "chat/", "roleArn": ROLE}
    }
    assert find("s3://models").to_wire() == {"awsS3Source": {"s3Bucket": "models"}}
    azure = find("wasbs://m@c.blob.core.windows.net/x", azure_client_id=GUID, azure_tenant_id=GUID)
    assert azure.to_wire() == {
        "azureBlobSource": {
            "storageAccount": "c",
            "container": "m",
            "path": "x",
            "clientId": GUID,
            "tenantId": GUID,
        }
    }


@pytest.mark.parametrize("environ", [{}, {"MY_KEY_ID": KEY_ID}, {"MY_KEY_ID": KEY_ID, "MY_SECRET": "  "}])
def test_a_variable_that_is_not_set_is_named(environ):
    missing = "MY_SECRET" if environ else "MY_KEY_ID"
    with pytest.raises(CredentialsError, match=f"{missing} that -C aws_.*_env names is not set") as caught:
        find("s3://models/chat", environ, **KEYS)
    assert KEY_ID not in str(caught.value)


def test_a_temporary_key_is_refused_because_its_token_cannot_travel():
    temporary = KEY_ID.replace("AKIA", "ASIA")
    with pytest.raises(CredentialsError, match=r"MY_KEY_ID is a temporary one.*aws_role_arn=") as caught:
        find("s3://models/chat", {"MY_KEY_ID": temporary, "MY_SECRET": SECRET}, **KEYS)
    assert temporary not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "options", "says"),
    [
        ("s3://m/x", {"azure_sas_token_secret": SAS}, "azure_sas_token_secret does not apply to s3://m/x"),
        ("wasbs://m@c.blob.core.windows.net/x", {"aws_role_arn": ROLE}, "aws_role_arn does not apply to wasbs://m@c"),
        ("s3://m/x", {"aws_role_arn": ROLE, **KEYS}, "either -C aws_role_arn or an access key"),
        ("s3://m/x", {"aws_access_key_id_env": "A"}, "must be set together"),
        ("s3://m/x", {"aws_secret_access_key_env": "A"}, "must be set together"),
        ("wasbs://m@c.blob.core.windows.net/x", {"azure_client_id": GUID}, "must be set together"),
        (
            "wasbs://m@c.blob.core.windows.net/x",
            {"azure_client_id": GUID, "azure_tenant_id": GUID, "azure_sas_token_secret": SAS},
            "not both",
        ),
        ("s3://m/x", {"aws_role_arn": ROLE, "transfer": "upload"}, "aws_role_arn is for an import; add"),
    ],
)
def test_options_that_contradict_each_other_are_refused(location, options, says):
    with pytest.raises(InvalidConfigError, match=says):
        find(location, **options)


def test_an_upload_has_no_origin():
    assert find("s3://models/chat", transfer="upload") is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("aws_access_key_id_env", KEY_ID),
        ("aws_access_key_id_env", KEY_ID.replace("AKIA", "ASIA")),
        ("aws_secret_access_key_env", SECRET),
        ("aws_secret_access_key_env", "wJalrXUtnFEMIzK7MDENGzbPxRfiCYzzzzzKEYab"),
        ("azure_sas_token_secret", "sv=2024-11-04&ss=b&sig=c2VjcmV0"),
        ("azure_client_id", "abc8Q~client-secret"),
        ("aws_role_arn", SECRET),
        ("aws_role_arn", "arn:aws:iam::123456789012:user/me"),
    ],
)
def test_what_is_no_name_is_refused_and_not_repeated(option, value):
    with pytest.raises(InvalidConfigError, match=f"-C {option}: needs .*the value is not shown") as caught:
        parse_config({option: value})
    assert value not in str(caught.value)


def test_names_are_taken():
    config = parse_config({**KEYS, "azure_sas_token_secret": SAS, "azure_client_id": GUID, "aws_role_arn": ROLE})
    assert config.aws_access_key_id_env == "MY_KEY_ID"
    assert SAS not in repr(config)


def test_an_import_leaves_files_undivided_unless_told_otherwise():
    assert parse_config({"transfer": "import"}).shard_size == "off"
    assert parse_config({"transfer": "import", "shard_size": "5GB"}).shard_size == 5_000_000_000
    assert parse_config({}).shard_size == "auto"


def test_durations_are_shown_as_they_are_written():
    defaults = {name: default for name, _, default, _ in list_options(Config)}
    assert (defaults["timeout"], defaults["import_timeout"]) == ("30m", "2h")
