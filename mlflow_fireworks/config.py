"""Every `-C key=value` option of deployments, once: parsing, defaults and the help text are all made from `Config`.

To add an option, add a field with a description.
"""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mlflow_fireworks.option_values import AutoBool, Bool, Bytes, Options, Seconds, Word, parse_options, read_bytes


class Kind(str, Enum):
    """What a model is to Fireworks (`kind` of its Model resource); the kinds this plugin makes."""

    BASE = "HF_BASE_MODEL"
    ADDON = "HF_PEFT_ADDON"
    EMBEDDING = "EMBEDDING_MODEL"


_KIND_WORDS = {"base": Kind.BASE, "lora": Kind.ADDON, "addon": Kind.ADDON, "embedding": Kind.EMBEDDING}


def _read_shard_size(value: object) -> object:
    word = str(value).strip().lower()
    return word if word in ("auto", "off") else read_bytes(value)


def _read_kind(value: object) -> object:
    if isinstance(value, Kind):
        return value
    word = str(value).strip()
    return _KIND_WORDS.get(word.lower(), word.upper())


def _shaped(pattern: str, needed: str) -> BeforeValidator:
    def read(value: object) -> object:
        if not re.fullmatch(pattern, text := str(value).strip(), re.ASCII):
            raise ValueError(f"needs {needed}; the value is not shown, in case it is a secret")
        return text

    return BeforeValidator(read)


# An AWS access key id and many an AWS secret key could be a variable's name by their letters alone.
_VARIABLE = r"(?!(?:AKIA|ASIA)[A-Z0-9]{16}$|[A-Za-z0-9]{32,}$)[A-Za-z_]\w{0,99}"
_GUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

ShardSize = Annotated[int | Literal["auto", "off"], BeforeValidator(_read_shard_size), Word("size|auto|off")]
KindOption = Annotated[Kind, BeforeValidator(_read_kind), Word("kind")]
VariableName = Annotated[str, _shaped(_VARIABLE, "the NAME of an environment variable, e.g. AWS_ACCESS_KEY_ID")]
RoleArn = Annotated[
    str,
    _shaped(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", "a role's ARN, e.g. arn:aws:iam::123456789012:role/NAME"),
]
SecretName = Annotated[
    str,
    _shaped(r"accounts/[a-z0-9-]+/secrets/[\w-]+", "the NAME of a Fireworks secret, accounts/ACCOUNT/secrets/SECRET"),
]
Guid = Annotated[str, _shaped(_GUID, "an id such as 00000000-0000-0000-0000-000000000000")]


class Config(Options):
    """The options of one create or update, checked. Field descriptions are the users' help text."""

    kind: KindOption | None = Field(
        default=None,
        description="kind of model: base, lora or embedding (or a Fireworks kind, e.g. HF_BASE_MODEL); "
        "detected from the files when not given",
    )
    checkpoint_path: str | None = Field(
        default=None, description="folder of the checkpoint within the artifacts, if they hold several"
    )
    tokenizer_path: str | None = Field(
        default=None,
        description="folder of the tokenizer within the artifacts, if it is not next to the weights, or should replace "
        "the one that is",
    )
    base_model: str | None = Field(
        default=None,
        description="for a LoRA adapter: the Fireworks model it was trained on, e.g. "
        "accounts/fireworks/models/llama-v3p1-8b-instruct; looked up by its Hugging Face repo when not given",
    )
    hugging_face_url: str | None = Field(
        default=None,
        description="https://huggingface.co/ORG/NAME (or ORG/NAME) of the original; none = set no URL; "
        "inferred from the artifacts when not given",
    )
    verify_hugging_face: Bool = Field(
        default=True,
        description="check that the inferred repo exists on the Hugging Face Hub, if the Hub can be reached",
    )
    display_name: str | None = Field(default=None, max_length=63, description="name shown in the Fireworks console")
    description: str | None = Field(
        default=None, max_length=600, description="text before the line that records where the model came from"
    )
    github_url: str | None = Field(
        default=None, description="URL of the model's source code, shown in the Fireworks console"
    )
    public: Bool = Field(default=False, description="let every Fireworks account see and deploy the model")
    context_length: int | None = Field(
        default=None, gt=0, description="maximum context length in tokens; read from config.json when not given"
    )
    supports_tools: Bool | None = Field(default=None, description="the model is trained to call tools")
    supports_image_input: Bool | None = Field(
        default=None, description="the model accepts images; detected from the files when not given"
    )
    allow_quantized: Bool = Field(
        default=False,
        description="upload a checkpoint that is already quantised (fp8, mxfp4, …); Fireworks documents that it "
        "does not accept these, and may reject it after the upload",
    )
    force_adapter: Bool = Field(
        default=False,
        description="upload a LoRA adapter with settings that Fireworks is not known to apply (rsLoRA, fused "
        "experts, …); its answers may be wrong",
    )
    verify: Literal["auto", "headers", "load"] = Field(
        default="auto",
        description="how the tensors are checked before the upload: headers = names and shapes, by general rules; "
        "load = also against the architecture, as transformers and peft would load them here (takes about ten seconds; "
        "needs mlflow-fireworks[local]); auto = load if possible",
    )
    world_size: int = Field(default=1, gt=0, description="default number of GPUs per replica")
    trust_remote_code: Bool = Field(
        default=False,
        description="let Fireworks run the checkpoint's own code (auto_map); must be set if it has any; false = "
        "upload without that code, for a model that transformers supports without it",
    )
    skip_hf_config_validation: Bool = Field(
        default=False, description="ask Fireworks not to validate config.json against Hugging Face's classes"
    )
    transfer: Literal["upload", "import"] = Field(
        default="upload",
        description="upload = send the files from this machine; import = have Fireworks fetch them from the s3:// or "
        "Azure Blob folder where MLflow keeps the model",
    )
    import_timeout: Seconds = Field(default=7200.0, description="longest wait for an import, e.g. 2h")
    # `repr=False`: values that are no secrets, yet one could be written there by mistake, so no message repeats them.
    aws_role_arn: RoleArn | None = Field(
        default=None, repr=False, description="import from S3: the AWS role that Fireworks assumes to read the bucket"
    )
    aws_access_key_id_env: VariableName | None = Field(
        default=None, repr=False, description="import from S3: NAME of the environment variable with an access key id"
    )
    aws_secret_access_key_env: VariableName | None = Field(
        default=None, repr=False, description="import from S3: NAME of the environment variable with its secret key"
    )
    azure_sas_token_secret: SecretName | None = Field(
        default=None,
        repr=False,
        description="import from Azure: NAME of the Fireworks secret with a SAS token, accounts/ACCOUNT/secrets/SECRET",
    )
    azure_client_id: Guid | None = Field(
        default=None,
        repr=False,
        description="import from Azure: client id of the application that Fireworks authenticates as",
    )
    azure_tenant_id: Guid | None = Field(
        default=None, repr=False, description="import from Azure: tenant id of that application"
    )
    max_workers: int = Field(default=8, ge=1, le=64, description="files uploaded at the same time")
    resumable: AutoBool = Field(
        default="auto",
        description="use resumable upload sessions, so that an interrupted file continues from its last byte; auto = "
        "when a file is larger than 8 GiB (how Fireworks supports them is not documented; false = one PUT per file)",
    )
    resend: Bool = Field(
        default=False,
        description="upload all files again, including those uploaded by an earlier run; after FAILED, as the "
        "next revision",
    )
    shard_size: ShardSize = Field(
        default="auto",
        description="split large safetensors files into shards of about this size (500MB, 5GB) on the fly, because "
        "each file is a single stream; auto = a lone model.safetensors above 1 GiB, or one of several above 5 GB, "
        "into at most 32 shards of 128 MiB or more, and more than 32 files into 32; off = unchanged",
    )
    relay: Literal["auto", "off"] = Field(
        default="auto",
        description="auto = files are streamed from remote stores that support ranged reads, without temporary "
        "files; off = every remote file is downloaded first",
    )
    max_disk: Bytes | None = Field(
        default=None,
        description="limit of temporary disk space (in TMPDIR) for files that must be downloaded from a remote store "
        "first, e.g. 100GB; all free space but 256 MiB when not given",
    )
    synchronous: Bool = Field(
        default=True,
        description="wait for READY; false = return once the files are uploaded and validation has "
        "been requested (`get` shows the state, `update` finishes it)",
    )
    timeout: Seconds = Field(
        default=1800.0, description="longest wait for validation and READY after the upload, e.g. 30m"
    )
    dry_run: Bool = Field(default=False, description="check everything and show the plan, without changing anything")
    registry_tags: Bool = Field(
        default=True, description="write the outcome as fireworks.* tags to the model version in the registry"
    )
    progress: Literal["auto", "bar", "lines", "none"] = Field(
        default="auto", description="how progress is shown; auto = a bar on a terminal, lines elsewhere"
    )
    live_merge: Bool = Field(
        default=False,
        description="for a LoRA adapter with --endpoint: merge it into its base model on GPUs of its own, instead of "
        "loading it on an endpoint that serves its base model",
    )
    revision: int | None = Field(
        default=None, ge=1, description="for update with --endpoint and without -m: serve this revision (rollback)"
    )
    version: int | None = Field(
        default=None, ge=1, description="like revision, but by the registry version it was created from"
    )
    keep_previous: Bool = Field(
        default=False,
        description="with --endpoint: when it moves to this model, keep its previous GPUs running (and billed)",
    )
    watch_tunable: Bool = Field(
        default=False, description="after READY, wait until Fireworks says whether the model can be fine-tuned"
    )
    tunable_timeout: Seconds = Field(
        default=2700.0, description="longest wait of watch_tunable; Fireworks checks about every 30 minutes"
    )
    cascade: Bool = Field(default=False, description="for delete: first take down the endpoints that serve the model")
    force: Bool = Field(
        default=False,
        description="for delete and with --endpoint: also delete or move what this plugin did not create",
    )

    @model_validator(mode="before")
    @classmethod
    def _import_files_as_they_are(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"shard_size": "off", **given} if given.get("transfer") == "import" else given


def parse_config(options: Mapping[str, Any] | None) -> Config:
    """Check the options of one create, update or delete; see `parse_options`."""
    return parse_options(options, Config)
