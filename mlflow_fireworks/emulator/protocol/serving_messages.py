"""The tables of the serving half: deployments, loaded adapters, shapes, routers, quotas.

Sources as in `messages`; of routers, Fireworks' api-reference and its SDK of November 2025, which is not on PyPI.
Regions are the union of the official SDK's and the newest public schema's.
"""

from __future__ import annotations

from mlflow_fireworks.emulator.protocol.fields import Enum, Field, Message
from mlflow_fireworks.emulator.protocol.messages import (
    BOOL,
    DEPLOYED_MODEL_STATE,
    INT32,
    INT64,
    LIST_QUERY,
    OUTPUT_STRING,
    OUTPUT_TIME,
    PRECISION,
    STATUS,
    STRING,
    STRINGS,
)

_REGIONS = """
    US_IOWA_1 US_VIRGINIA_1 US_VIRGINIA_2 US_ILLINOIS_1 AP_TOKYO_1 EU_LONDON_1 US_ARIZONA_1
    US_TEXAS_1 US_ILLINOIS_2 EU_FRANKFURT_1 US_TEXAS_2 EU_PARIS_1 EU_HELSINKI_1 US_NEVADA_1
    EU_ICELAND_1 EU_ICELAND_2 US_WASHINGTON_1 US_WASHINGTON_2 EU_ICELAND_DEV_1 US_WASHINGTON_3
    US_ARIZONA_2 AP_TOKYO_2 US_CALIFORNIA_1 US_MISSOURI_1 US_UTAH_1 US_TEXAS_3 US_ARIZONA_3
    US_GEORGIA_1 US_GEORGIA_2 US_WASHINGTON_4 US_GEORGIA_3 NA_BRITISHCOLUMBIA_1 US_GEORGIA_4
    EU_ICELAND_3 US_OHIO_1 US_NEWYORK_1 EU_NETHERLANDS_1 US_WASHINGTON_5 US_MINNESOTA_1
    US_CALIFORNIA_2 NA_BRITISHCOLUMBIA_2 AP_MALAYSIA_2 US_OREGON_1 NA_BRITISHCOLUMBIA_3
    AP_NEWSOUTHWALES_1 AP_TAIWAN_1
"""

REGION = Enum(("REGION_UNSPECIFIED", *_REGIONS.split()))
ACCELERATOR = Enum(
    (
        "ACCELERATOR_TYPE_UNSPECIFIED",
        "NVIDIA_A100_80GB",
        "NVIDIA_H100_80GB",
        "AMD_MI300X_192GB",
        "NVIDIA_A10G_24GB",
        "NVIDIA_A100_40GB",
        "NVIDIA_L4_24GB",
        "NVIDIA_H200_141GB",
        "NVIDIA_B200_180GB",
        "AMD_MI325X_256GB",
        "AMD_MI350X_288GB",
        "NVIDIA_B300_288GB",
        "NVIDIA_GB200",
        "NVIDIA_GB300",
    )
)
MULTI_REGION = Enum(("MULTI_REGION_UNSPECIFIED", "GLOBAL", "US", "EUROPE", "APAC"))
PRESET = Enum(
    (
        "PRESET_TYPE_UNSPECIFIED",
        "MINIMAL",
        "FAST",
        "THROUGHPUT",
        "FULL_PRECISION",
        "AGENTIC_CODING",
        "CHAT",
        "SUMMARIZATION",
    )
)
DEPLOYMENT_STATE = Enum(("STATE_UNSPECIFIED", "CREATING", "READY", "DELETING", "FAILED", "UPDATING", "DELETED"))
DIRECT_ROUTE = Enum(("DIRECT_ROUTE_TYPE_UNSPECIFIED", "INTERNET", "GCP_PRIVATE_SERVICE_CONNECT", "AWS_PRIVATELINK"))
BUCKET_TYPE = Enum(("BUCKET_TYPE_UNSPECIFIED", "MINIO", "S3", "NEBIUS", "FW_HOSTED"))

SCHEDULE = Message(
    "ScalingSchedule",
    {
        "duration": Field("duration"),
        "minReplicaCount": INT32,
        "schedule": STRING,
        "timezone": STRING,
        "description": STRING,
        "disabled": BOOL,
    },
)
AUTOSCALING = Message(
    "AutoscalingPolicy",
    {
        "scaleUpWindow": Field("duration"),
        "scaleDownWindow": Field("duration"),
        "scaleToZeroWindow": Field("duration"),
        "loadTargets": Field("double", many="map"),
        "scalingSchedules": Field(SCHEDULE, many="map", newer=True),
    },
)
PLACEMENT = Message(
    "Placement",
    {"region": Field(REGION), "multiRegion": Field(MULTI_REGION), "regions": Field(REGION, many="list")},
)
REPLICA_STATS = Message(
    "ReplicaStats",
    {
        "pendingSchedulingReplicaCount": INT32,
        "downloadingModelReplicaCount": INT32,
        "initializingReplicaCount": INT32,
        "readyReplicaCount": INT32,
        "effectiveReplicaCount": Field("int32", newer=True),
        "revocableReplicaCount": Field("int32", newer=True),
    },
)
DEPLOYMENT = Message(
    "Deployment",
    {
        "name": OUTPUT_STRING,
        "displayName": STRING,
        "description": STRING,
        "createTime": OUTPUT_TIME,
        "updateTime": OUTPUT_TIME,
        "expireTime": Field("timestamp"),
        "deleteTime": OUTPUT_TIME,
        "purgeTime": OUTPUT_TIME,
        "state": Field(DEPLOYMENT_STATE, output=True),
        "status": Field(STATUS, output=True, filled=True),
        "minReplicaCount": INT32,
        "maxReplicaCount": INT32,
        "maxWithRevocableReplicaCount": INT32,
        "desiredReplicaCount": Field("int32", output=True),
        "replicaCount": Field("int32", output=True),
        "replicaStats": Field(REPLICA_STATS, output=True, filled=True),
        "autoscalingPolicy": Field(AUTOSCALING),
        "baseModel": Field("string", immutable=True),
        "acceleratorCount": INT32,
        "acceleratorType": Field(ACCELERATOR),
        "precision": Field(PRECISION),
        "cluster": Field("string", output=True),
        "enableAddons": BOOL,
        "draftModel": STRING,
        "draftTokenCount": INT32,
        "ngramSpeculationLength": INT32,
        "enableSessionAffinity": BOOL,
        "directRouteType": Field(DIRECT_ROUTE),
        "directRouteApiKeys": STRINGS,
        "directRouteHandle": OUTPUT_STRING,
        "deploymentTemplate": STRING,
        "autoTune": Field(Message("AutoTune", {"longPrompt": BOOL})),
        "placement": Field(PLACEMENT, immutable=True),
        "region": Field(REGION, output=True),
        "maxContextLength": INT32,
        "disableDeploymentSizeValidation": BOOL,
        "enableMtp": BOOL,
        "enableHotLoad": BOOL,
        "enableHotReloadLatestAddon": BOOL,
        "hotLoadBucketType": Field(BUCKET_TYPE),
        "hotLoadBucketUrl": STRING,
        "hotLoadTrainerJob": Field("string", newer=True),
        "deploymentShape": STRING,
        "activeModelVersion": STRING,
        "targetModelVersion": STRING,
        "pricingPlanId": STRING,
        "numPeftDeviceCached": Field("int32", output=True),
        "maxConcurrencyPerReplica": Field("int32", newer=True),
        "preemptible": Field("bool", immutable=True, newer=True),
        "annotations": Field("string", many="map", newer=True),
    },
)
DEPLOYED_MODEL = Message(
    "DeployedModel",
    {
        "name": OUTPUT_STRING,
        "displayName": STRING,
        "description": STRING,
        "createTime": OUTPUT_TIME,
        "updateTime": OUTPUT_TIME,
        "createdBy": Field("string", output=True, newer=True),
        "model": Field("string", immutable=True),
        "deployment": Field("string", immutable=True),
        "default": BOOL,
        "public": BOOL,
        "serverless": BOOL,
        "state": Field(DEPLOYED_MODEL_STATE, output=True),
        "status": Field(STATUS, output=True, filled=True),
    },
)
SHAPE = Message(
    "DeploymentShape",
    {
        "name": STRING,
        "displayName": STRING,
        "description": STRING,
        "createTime": OUTPUT_TIME,
        "updateTime": OUTPUT_TIME,
        "baseModel": STRING,
        "modelType": STRING,
        "parameterCount": INT64,
        "acceleratorCount": INT32,
        "acceleratorType": Field(ACCELERATOR),
        "precision": Field(PRECISION),
        "presetType": Field(PRESET),
        "enableAddons": BOOL,
        "enableSessionAffinity": BOOL,
        "maxContextLength": INT32,
        "draftModel": STRING,
        "draftTokenCount": INT32,
        "ngramSpeculationLength": INT32,
        "numLoraDeviceCached": INT32,
        "disableDeploymentSizeValidation": BOOL,
    },
)
SHAPE_VERSION = Message(
    "DeploymentShapeVersion",
    {
        "name": STRING,
        "createTime": OUTPUT_TIME,
        "snapshot": Field(SHAPE),
        "validated": BOOL,
        "latestValidated": BOOL,
        "public": BOOL,
    },
)
_ROUTER_STATE = Enum(("STATE_UNSPECIFIED", "CREATING", "READY", "UPDATING", "DELETING"))
ROUTER = Message(
    "Router",
    {
        "name": OUTPUT_STRING,
        "displayName": STRING,
        "createTime": OUTPUT_TIME,
        "updateTime": Field("timestamp", output=True, newer=True),
        "createdBy": OUTPUT_STRING,
        "state": Field(_ROUTER_STATE, output=True),
        "status": Field(STATUS, output=True, filled=True),
        "deployments": STRINGS,
        "model": STRING,
        "weightedRandom": Field(Message("WeightedRandom")),
        "evenLoad": Field(Message("EvenLoad")),
        "aliases": Field("string", many="list", output=True),
        "autoGenerated": Field("bool", output=True),
        "public": Field("bool", newer=True),
    },
)
CREATE_ROUTER_QUERY = Message("CreateRouterRequest", {"routerId": STRING})
QUOTA = Message(
    "Quota",
    {
        "name": OUTPUT_STRING,
        "value": INT64,
        "maxValue": Field("int64", output=True),
        "usage": Field("double", output=True),
        "updateTime": OUTPUT_TIME,
    },
)
CREATE_DEPLOYMENT_QUERY = Message(
    "CreateDeploymentRequest",
    {
        "deploymentId": STRING,
        "disableAutoDeploy": BOOL,
        "disableSpeculativeDecoding": BOOL,
        "skipShapeValidation": BOOL,
        "skipImageTagValidation": BOOL,
        "acceptShapelessRisk": BOOL,
        "validateOnly": BOOL,
    },
)
UPDATE_DEPLOYMENT_QUERY = Message("UpdateDeploymentRequest", {"skipShapeValidation": BOOL})
DELETE_DEPLOYMENT_QUERY = Message("DeleteDeploymentRequest", {"hard": BOOL, "ignoreChecks": BOOL})
LIST_DEPLOYMENTS_QUERY = Message("ListDeploymentsRequest", {**LIST_QUERY.fields, "showDeleted": BOOL})
SCALE = Message("ScaleDeploymentRequest", {"replicaCount": INT32})
SET_TAGS = Message("SetDeploymentTagsRequest", {"tags": Field("string", many="map")})
DELETE_TAGS = Message("DeleteDeploymentTagsRequest", {"keys": STRINGS})
CREATE_DEPLOYED_MODEL_QUERY = Message("CreateDeployedModelRequest", {"replaceMergedAddon": BOOL})
LIST_SHAPES_QUERY = Message("ListDeploymentShapesRequest", {**LIST_QUERY.fields, "targetModel": STRING})
MATCH = Message(
    "MatchDeploymentShapeVersionsRequest",
    {
        "createDeploymentRequest": Field(
            Message("CreateDeploymentRequest", {"parent": STRING, "deployment": Field(DEPLOYMENT)})
        )
    },
)
