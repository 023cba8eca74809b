"""An import: where Fireworks fetches a checkpoint from, and the long-running operation that it answers with.

Source: the OpenAPI description of Fireworks' Gateway API (2026-09), GatewayModels ImportModel; no page of the
documentation shows the call, only `firectl model create ID s3://…`, which makes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from mlflow_fireworks.gateway.wire import Wire, drop_unset

_OPEN_TO_ALL = "without credentials, so it must be publicly readable"


@dataclass(frozen=True)
class S3Source:
    """A folder of an S3 bucket. Without a role and keys, the bucket must be readable for Fireworks as it is.

    Args:
        bucket: Its name.
        path: The folder in it, without slashes at its ends; empty for the whole bucket.
        role_arn: The AWS role that Fireworks takes on.
        access_key_id: Id of an access key.
        access_secret: Its secret.
    """

    bucket: str
    path: str
    role_arn: str | None = None
    access_key_id: SecretStr | None = None
    access_secret: SecretStr | None = None

    @property
    def address(self) -> str:
        """It as a URI, for a person."""
        return f"s3://{self.bucket}/{self.path}".rstrip("/")

    @property
    def access(self) -> str:
        """How Fireworks reads it, for a person."""
        if self.role_arn:
            return f"as {self.role_arn}"
        return "with an access key" if self.access_secret else _OPEN_TO_ALL

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """What no message may hold."""
        return tuple(secret for secret in (self.access_key_id, self.access_secret) if secret is not None)

    def to_wire(self) -> dict[str, dict[str, str]]:
        """The body of the call."""
        return {
            "awsS3Source": drop_unset(
                {
                    "s3Bucket": self.bucket,
                    # The slash, which Fireworks' documentation writes as well, keeps `chat` from meaning `chat-old`.
                    "s3Path": f"{self.path}/" if self.path else None,
                    "roleArn": self.role_arn,
                    "accessKeyId": self.access_key_id.get_secret_value() if self.access_key_id else None,
                    "accessSecret": self.access_secret.get_secret_value() if self.access_secret else None,
                }
            )
        }


@dataclass(frozen=True)
class AzureBlobSource:
    """A folder of a container of Azure Blob Storage.

    Args:
        storage_account: The account's name.
        container: The container's name.
        path: The folder in it, without slashes at its ends; empty for the whole container.
        sas_token_secret: Name of the Fireworks secret that holds a SAS token.
        client_id: Application that Fireworks acts as, when identities are federated.
        tenant_id: That application's tenant.
    """

    storage_account: str
    container: str
    path: str
    sas_token_secret: str | None = None
    client_id: str | None = None
    tenant_id: str | None = None

    @property
    def address(self) -> str:
        """It as a URI, for a person."""
        return f"https://{self.storage_account}.blob.core.windows.net/{self.container}/{self.path}".rstrip("/")

    @property
    def access(self) -> str:
        """How Fireworks reads it, for a person."""
        if self.sas_token_secret:
            return f"with the SAS token in {self.sas_token_secret}"
        return f"as application {self.client_id}" if self.client_id else _OPEN_TO_ALL

    @property
    def secrets(self) -> tuple[SecretStr, ...]:
        """None: Fireworks holds them."""
        return ()

    def to_wire(self) -> dict[str, dict[str, str]]:
        """The body of the call."""
        return {
            "azureBlobSource": drop_unset(
                {
                    "storageAccount": self.storage_account,
                    "container": self.container,
                    "path": self.path or None,
                    "sasTokenSecret": self.sas_token_secret,
                    "clientId": self.client_id,
                    "tenantId": self.tenant_id,
                }
            )
        }


ImportSource = S3Source | AzureBlobSource


class OperationError(Wire):
    """Why an operation failed; code 0 means that it did not."""

    code: int = 0
    message: str = ""


class Operation(Wire):
    """Something that Fireworks does for a while (google.longrunning.Operation)."""

    name: str = ""
    done: bool = False
    error: OperationError = OperationError()
    metadata: object = None

    @property
    def progress(self) -> str:
        """How far it is, in Fireworks' words; often empty."""
        message = self.metadata.get("statusMessage") if isinstance(self.metadata, Mapping) else None
        return " ".join(str(message or "").split())


def hide_secrets(text: str, secrets: Iterable[SecretStr]) -> str:
    """`text` without the given secrets; what a server says about a request may quote it."""
    for secret in secrets:
        text = text.replace(secret.get_secret_value(), "…")
    return text
