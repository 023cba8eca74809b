"""The tables of the model half: every field of accounts, models, imports and their requests, with type and behaviour.

Sources: the official SDK ``fireworks-ai`` 1.2 (``fireworks/types``), the protobufs inside ``fireworks-ai``
0.19.20 (field behaviour), and the public OpenAPI of September 2026 (fields marked ``newer``).
"""

from __future__ import annotations

from mlflow_fireworks.emulator.protocol.fields import Enum, Field, Message

STRING = Field("string")
BOOL = Field("bool")
INT32 = Field("int32")
INT64 = Field("int64")
STRINGS = Field("string", many="list")
OUTPUT_STRING = Field("string", output=True)
OUTPUT_BOOL = Field("bool", output=True)
OUTPUT_TIME = Field("timestamp", output=True)

NOTHING = Message("Empty")

PRECISION = Enum(
    (
        "PRECISION_UNSPECIFIED",
        "FP16",
        "FP8",
        "FP8_MM",
        "FP8_AR",
        "FP8_MM_KV_ATTN",
        "FP8_KV",
        "FP8_MM_V2",
        "FP8_V2",
        "FP8_MM_KV_ATTN_V2",
        "NF4",
        "FP4",
        "BF16",
        "FP4_BLOCKSCALED_MM",
        "FP4_MX_MOE",
    )
)
STATUS_CODE = Enum(
    (
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
    )
)
MODEL_KIND = Enum(
    (
        "KIND_UNSPECIFIED",
        "HF_BASE_MODEL",
        "HF_PEFT_ADDON",
        "HF_TEFT_ADDON",
        "FLUMINA_BASE_MODEL",
        "FLUMINA_ADDON",
        "DRAFT_ADDON",
        "FIRE_AGENT",
        "LIVE_MERGE",
        "CUSTOM_MODEL",
        "EMBEDDING_MODEL",
        "SNAPSHOT_MODEL",
    )
)
# No schema has the last two; see the fact "states".
MODEL_STATE = Enum(("STATE_UNSPECIFIED", "UPLOADING", "READY", "PREPARING", "FAILED"))
CHECKPOINT_FORMAT = Enum(("CHECKPOINT_FORMAT_UNSPECIFIED", "NATIVE", "HUGGINGFACE", "UNINITIALIZED"))
DEPLOYED_MODEL_STATE = Enum(("STATE_UNSPECIFIED", "UNDEPLOYING", "DEPLOYING", "DEPLOYED", "UPDATING"))

STATUS = Message("Status", {"code": Field(STATUS_CODE), "message": STRING})
DATE = Message("Date", {"year": INT32, "month": INT32, "day": INT32})

ACCOUNT = Message(
    "Account",
    {
        "name": OUTPUT_STRING,
        "displayName": STRING,
        "email": STRING,
        "accountType": Field(Enum(("ACCOUNT_TYPE_UNSPECIFIED", "ENTERPRISE"))),
        "createTime": OUTPUT_TIME,
        "updateTime": OUTPUT_TIME,
        "state": Field(Enum(("STATE_UNSPECIFIED", "CREATING", "READY", "UPDATING", "DELETING")), output=True),
        "status": Field(STATUS, output=True, filled=True),
        "suspendState": Field(
            Enum(
                (
                    "UNSUSPENDED",
                    "FAILED_PAYMENTS",
                    "CREDIT_DEPLETED",
                    "MONTHLY_SPEND_LIMIT_EXCEEDED",
                    "BLOCKED_BY_ABUSE_RULE",
                )
            ),
            output=True,
        ),
    },
)

BASE_MODEL_DETAILS = Message(
    "BaseModelDetails",
    {
        "worldSize": INT32,
        "checkpointFormat": Field(CHECKPOINT_FORMAT),
        "huggingfaceFiles": Field("string", many="list", newer=True),
        "parameterCount": INT64,
        "moe": BOOL,
        "tunable": BOOL,
        "modelType": STRING,
        "supportsFireattention": BOOL,
        "defaultPrecision": Field(PRECISION, output=True),
        "supportsMtp": BOOL,
    },
)
PEFT_DETAILS = Message(
    "PEFTDetails",
    {
        "baseModel": STRING,
        "r": INT32,
        "targetModules": STRINGS,
        "baseModelType": OUTPUT_STRING,
        "mergeAddonModelName": STRING,
    },
)
CONVERSATION_CONFIG = Message(
    "ConversationConfig",
    {"style": STRING, "system": STRING, "template": STRING},
)
DEPLOYED_MODEL_REF = Message(
    "DeployedModelRef",
    {
        "name": STRING,
        "deployment": STRING,
        "state": Field(DEPLOYED_MODEL_STATE),
        "default": BOOL,
        "public": BOOL,
    },
)

MODEL = Message(
    "Model",
    {
        "name": OUTPUT_STRING,
        "displayName": STRING,
        "description": STRING,
        "createTime": OUTPUT_TIME,
        "updateTime": OUTPUT_TIME,
        "createdBy": Field("string", output=True, newer=True),
        "state": Field(MODEL_STATE, output=True),
        "status": Field(STATUS, output=True, filled=True),
        "kind": Field(MODEL_KIND, immutable=True),
        "githubUrl": STRING,
        "huggingFaceUrl": STRING,
        "baseModelDetails": Field(BASE_MODEL_DETAILS, immutable=True, filled=True),
        "peftDetails": Field(PEFT_DETAILS, immutable=True, filled=True),
        "teftDetails": Field(Message("TEFTDetails"), immutable=True),
        "public": BOOL,
        "conversationConfig": Field(CONVERSATION_CONFIG, immutable=True),
        "contextLength": INT32,
        "supportsImageInput": BOOL,
        "supportsTools": BOOL,
        "importedFrom": OUTPUT_STRING,
        "fineTuningJob": OUTPUT_STRING,
        "defaultDraftModel": STRING,
        "defaultDraftTokenCount": INT32,
        "deployedModelRefs": Field(DEPLOYED_MODEL_REF, many="list", output=True),
        "cluster": OUTPUT_STRING,
        "deprecationDate": Field(DATE),
        "calibrated": OUTPUT_BOOL,
        "tunable": OUTPUT_BOOL,
        "supervisedLoraTunable": Field("bool", output=True, newer=True),
        "supervisedFullParameterTunable": Field("bool", output=True, newer=True),
        "rlLoraTunable": Field("bool", output=True, newer=True),
        "rlFullParameterTunable": Field("bool", output=True, newer=True),
        "rlTunable": OUTPUT_BOOL,
        "supportsLora": BOOL,
        "useHfApplyChatTemplate": BOOL,
        "trainingContextLength": INT32,
        "defaultSamplingParams": Field("double", many="map", output=True),
        "supportedPrecisions": Field(PRECISION, many="list", output=True),
        "supportedPrecisionsWithCalibration": Field(PRECISION, many="list", output=True),
        "snapshotType": Field(Enum(("FULL_SNAPSHOT", "INCREMENTAL_SNAPSHOT"))),
        "supportsServerless": OUTPUT_BOOL,
        "serverlessModes": Field("string", many="list", output=True, newer=True),
        "encryptionState": Field(
            Enum(("ENCRYPTION_STATE_UNSPECIFIED", "ENCRYPTION_STATE_PLAINTEXT", "ENCRYPTION_STATE_CMEK")),
            output=True,
            newer=True,
        ),
        "useTrainingV2": Field("bool", newer=True),
    },
)

SECRET = Message("Secret", {"name": STRING, "keyName": STRING, "value": Field("string")})

LIST_QUERY = Message(
    "ListRequest",
    {"pageSize": INT32, "pageToken": STRING, "filter": STRING, "orderBy": STRING, "readMask": STRING},
)
READ_MASK_QUERY = Message("GetRequest", {"readMask": STRING})
CREATE_MODEL = Message("CreateModelRequest", {"modelId": STRING, "model": Field(MODEL), "cluster": STRING})
GET_UPLOAD_ENDPOINT = Message(
    "GetModelUploadEndpointRequest",
    {
        "filenameToSize": Field("int64", many="map"),
        "enableResumableUpload": BOOL,
        "readMask": STRING,
    },
)
UPLOAD_ENDPOINT = Message(
    "GetModelUploadEndpointResponse",
    {
        "filenameToSignedUrls": Field("string", many="map"),
        "filenameToUnsignedUris": Field("string", many="map"),
    },
)
VALIDATE_UPLOAD_QUERY = Message(
    "ValidateModelUploadRequest",
    {"skipHfConfigValidation": BOOL, "trustRemoteCode": BOOL, "configOnly": BOOL},
)
VALIDATE_UPLOAD = Message("ValidateModelUploadResponse", {"warnings": STRINGS})
VALIDATE_CONFIG = Message("ValidateModelConfigRequest", {"configJson": STRING, "tokenizerConfigJson": STRING})

OPERATION = Message(
    "Operation",
    {
        "name": STRING,
        "metadata": Field("any"),
        "done": BOOL,
        "error": Field(Message("rpc.Status", {"code": INT32, "message": STRING})),
        "response": Field("any"),
    },
)
PREPARE = Message("PrepareModelRequest", {"precision": Field(PRECISION), "readMask": STRING})
DOWNLOAD_ENDPOINT = Message("GetModelDownloadEndpointResponse", {"filenameToSignedUrls": Field("string", many="map")})
S3_SOURCE = Message(
    "AwsS3Source",
    {"s3Bucket": STRING, "s3Path": STRING, "roleArn": STRING, "accessKeyId": STRING, "accessSecret": STRING},
)
AZURE_SOURCE = Message(
    "AzureBlobSource",
    {
        "storageAccount": STRING,
        "container": STRING,
        "path": STRING,
        "sasTokenSecret": STRING,
        "clientId": STRING,
        "tenantId": STRING,
    },
)
IMPORT = Message("ImportModelRequest", {"awsS3Source": Field(S3_SOURCE), "azureBlobSource": Field(AZURE_SOURCE)})


def list_of(plural: str, item: Message) -> Message:
    """The answer of a list call: ``{<plural>: [...], "nextPageToken": "", "totalSize": n}``."""
    return Message(
        f"List{plural[0].upper()}{plural[1:]}Response",
        {plural: Field(item, many="list"), "nextPageToken": STRING, "totalSize": INT32},
    )
