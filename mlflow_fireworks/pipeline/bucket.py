"""Which bucket Fireworks would fetch a model from, and how it may read it (`-C transfer=import`).

Secrets come from environment variables, or stay with Fireworks; the options only name them.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from pydantic import SecretStr

from mlflow_fireworks.artifacts.sources.source import Source
from mlflow_fireworks.config import Config
from mlflow_fireworks.credentials import read_credential
from mlflow_fireworks.errors import CredentialsError, InvalidConfigError
from mlflow_fireworks.gateway.operations import AzureBlobSource, ImportSource, S3Source

UPLOAD_INSTEAD = "omit -C transfer=import to upload it from here"

_S3_OPTIONS = ("aws_role_arn", "aws_access_key_id_env", "aws_secret_access_key_env")
_AZURE_OPTIONS = ("azure_sas_token_secret", "azure_client_id", "azure_tenant_id")
# boto3 reads the last two itself.
_ENDPOINTS = ("MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_AZURE_HOSTS = (".blob.core.windows.net", ".dfs.core.windows.net")


def find_origin(
    source: Source, config: Config, *, api_is_here: bool, environ: Mapping[str, str] = os.environ
) -> ImportSource | None:
    """Where Fireworks would fetch a model from; reads no file, so a refusal costs nothing.

    Args:
        source: The model.
        config: Options of this run.
        api_is_here: The API is on this machine, so it can read the S3 server that this machine calls S3.
        environ: Holds the variables that the options name.

    Returns:
        The folder of the source, or None when the model is uploaded.

    Raises:
        InvalidConfigError: The model is in no bucket that Fireworks can read, or the options contradict each other.
        CredentialsError: A variable that an option names is not set.
    """
    given = [option for option in (*_S3_OPTIONS, *_AZURE_OPTIONS) if getattr(config, option) is not None]
    if config.transfer != "import":
        if given:
            raise InvalidConfigError(f"-C {given[0]} is for an import; add -C transfer=import")
        return None
    scheme = (source.location or "").partition("://")[0]
    if scheme == "s3":
        _refuse_options(given, _AZURE_OPTIONS, source)
        if not api_is_here:
            _refuse_other_endpoint(source, environ)
        parts = urlsplit(source.location or "")
        return _allow_s3(S3Source(parts.netloc, parts.path.strip("/")), config, environ)
    if scheme in ("wasbs", "abfss"):
        _refuse_options(given, _S3_OPTIONS, source)
        return _allow_azure(_read_azure_address(source.location or ""), config)
    raise InvalidConfigError(
        f"{source.resolved} cannot be imported by Fireworks, which reads s3:// and Azure Blob Storage only; "
        f"{_explain_place(source.location)}; {UPLOAD_INSTEAD}"
    )


def _refuse_options(given: Sequence[str], others: Sequence[str], source: Source) -> None:
    wrong = [option for option in given if option in others]
    if wrong:
        raise InvalidConfigError(
            f"-C {wrong[0]} does not apply to {source.location}, where {source.resolved} is stored"
        )


def _refuse_other_endpoint(source: Source, environ: Mapping[str, str]) -> None:
    """A bucket of MinIO is not the bucket of that name at AWS, which may be anybody's."""
    name = next((name for name in _ENDPOINTS if environ.get(name)), None)
    host = urlsplit(environ[name]).hostname or "another server" if name else ""
    if name and not host.endswith(".amazonaws.com"):
        raise InvalidConfigError(
            f"{name} says that {source.location} is at {host}, but Fireworks imports from AWS only; {UPLOAD_INSTEAD}"
        )


def _allow_s3(origin: S3Source, config: Config, environ: Mapping[str, str]) -> S3Source:
    names = (config.aws_access_key_id_env, config.aws_secret_access_key_env)
    if config.aws_role_arn and any(names):
        raise InvalidConfigError("set either -C aws_role_arn or an access key, not both")
    if names[0] is None and names[1] is None:
        return replace(origin, role_arn=config.aws_role_arn)
    if names[0] is None or names[1] is None:
        raise InvalidConfigError("-C aws_access_key_id_env and -C aws_secret_access_key_env must be set together")
    key = _read_variable(names[0], "aws_access_key_id_env", environ)
    secret = _read_variable(names[1], "aws_secret_access_key_env", environ)
    if key.get_secret_value().startswith("ASIA"):
        raise CredentialsError(
            f"the access key in {names[0]} is a temporary one, which only works with its session token, and an "
            "import accepts none; use the key of an IAM user, or -C aws_role_arn="
        )
    return replace(origin, access_key_id=key, access_secret=secret)


def _read_variable(name: str, option: str, environ: Mapping[str, str]) -> SecretStr:
    value = read_credential(name, environ).value
    if not value:
        raise CredentialsError(f"the environment variable {name} that -C {option} names is not set")
    return SecretStr(value)


def _read_azure_address(location: str) -> AzureBlobSource:
    parts = urlsplit(location)
    host = parts.hostname or ""
    account = next((host.removesuffix(ending) for ending in _AZURE_HOSTS if host.endswith(ending)), None)
    if not account or not parts.username:
        raise InvalidConfigError(
            f"{location} cannot be imported by Fireworks: an import names an account and a container of Azure's public "
            f"cloud (wasbs://CONTAINER@ACCOUNT.blob.core.windows.net/PATH); {UPLOAD_INSTEAD}"
        )
    return AzureBlobSource(account, parts.username, parts.path.strip("/"))


def _allow_azure(origin: AzureBlobSource, config: Config) -> AzureBlobSource:
    if (config.azure_client_id is None) != (config.azure_tenant_id is None):
        raise InvalidConfigError("-C azure_client_id and -C azure_tenant_id must be set together")
    if config.azure_client_id and config.azure_sas_token_secret:
        raise InvalidConfigError("set either -C azure_sas_token_secret or -C azure_client_id, not both")
    return replace(
        origin,
        sas_token_secret=config.azure_sas_token_secret,
        client_id=config.azure_client_id,
        tenant_id=config.azure_tenant_id,
    )


def _explain_place(location: str | None) -> str:
    if location is None:
        return "this model is on this machine or on the Hugging Face Hub"
    if location.startswith(("http", "mlflow-artifacts")):
        return (
            f"it comes through MLflow's server ({location}), which Fireworks cannot reach; if you know the bucket "
            "behind the server, use it: -m s3://BUCKET/PATH"
        )
    return f"this model is in {location}"
