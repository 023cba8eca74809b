"""The public catalogue ``accounts/fireworks/models/*``: a handful of base models that addons can refer to.

Ids, Hugging Face repositories and sizes are those of the public models; everything else about them is what the
API shows for a READY base model. The catalogue is read-only.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_fireworks.emulator.protocol.wire import JsonObject

ACCOUNT = "fireworks"
_PUBLISHED = "2025-01-15T00:00:00.000000Z"


@dataclass(frozen=True)
class _Entry:
    id: str
    title: str
    hugging_face: str
    model_type: str
    parameters: int
    context: int
    layers: int
    kind: str = "HF_BASE_MODEL"
    lora: bool = True
    moe: bool = False
    tools: bool = True
    images: bool = False


_ENTRIES = (
    _Entry(
        "llama-v3p1-8b-instruct",
        "Llama 3.1 8B Instruct",
        "meta-llama/Llama-3.1-8B-Instruct",
        "llama",
        8_030_261_248,
        131_072,
        32,
    ),
    _Entry(
        "llama-v3p1-70b-instruct",
        "Llama 3.1 70B Instruct",
        "meta-llama/Llama-3.1-70B-Instruct",
        "llama",
        70_553_706_496,
        131_072,
        80,
    ),
    _Entry(
        "llama-v3p2-1b-instruct",
        "Llama 3.2 1B Instruct",
        "meta-llama/Llama-3.2-1B-Instruct",
        "llama",
        1_235_814_400,
        131_072,
        16,
    ),
    _Entry(
        "llama-v3p3-70b-instruct",
        "Llama 3.3 70B Instruct",
        "meta-llama/Llama-3.3-70B-Instruct",
        "llama",
        70_553_706_496,
        131_072,
        80,
    ),
    _Entry(
        "qwen2p5-0p5b-instruct",
        "Qwen2.5 0.5B Instruct",
        "Qwen/Qwen2.5-0.5B-Instruct",
        "qwen2",
        494_032_768,
        32_768,
        24,
    ),
    _Entry(
        "qwen2p5-7b-instruct",
        "Qwen2.5 7B Instruct",
        "Qwen/Qwen2.5-7B-Instruct",
        "qwen2",
        7_615_616_512,
        32_768,
        28,
    ),
    _Entry(
        "qwen3-8b",
        "Qwen3 8B",
        "Qwen/Qwen3-8B",
        "qwen3",
        8_190_735_360,
        40_960,
        36,
    ),
    _Entry(
        "qwen3-30b-a3b",
        "Qwen3 30B-A3B",
        "Qwen/Qwen3-30B-A3B",
        "qwen3_moe",
        30_532_122_624,
        40_960,
        48,
        moe=True,
    ),
    _Entry(
        "mixtral-8x7b-instruct",
        "Mixtral 8x7B Instruct",
        "mistralai/Mixtral-8x7B-Instruct-v0.1",
        "mixtral",
        46_702_792_704,
        32_768,
        32,
        moe=True,
    ),
    _Entry(
        "gpt-oss-20b",
        "gpt-oss-20b",
        "openai/gpt-oss-20b",
        "gpt_oss",
        20_914_757_184,
        131_072,
        24,
        moe=True,
    ),
    _Entry(
        "deepseek-v3",
        "DeepSeek V3",
        "deepseek-ai/DeepSeek-V3",
        "deepseek_v3",
        671_026_419_200,
        131_072,
        61,
        lora=False,
        moe=True,
    ),
    _Entry(
        "qwen2p5-vl-7b-instruct",
        "Qwen2.5-VL 7B Instruct",
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "qwen2_5_vl",
        8_292_166_656,
        128_000,
        28,
        images=True,
    ),
    _Entry(
        "qwen3-embedding-0p6b",
        "Qwen3 Embedding 0.6B",
        "Qwen/Qwen3-Embedding-0.6B",
        "qwen3",
        595_776_512,
        32_768,
        28,
        kind="EMBEDDING_MODEL",
        lora=False,
        tools=False,
    ),
    _Entry(
        "qwen3-embedding-8b",
        "Qwen3 Embedding 8B",
        "Qwen/Qwen3-Embedding-8B",
        "qwen3",
        7_567_295_488,
        40_960,
        36,
        kind="EMBEDDING_MODEL",
        lora=False,
        tools=False,
    ),
)


def models() -> list[JsonObject]:
    """Every catalogue model as a stored Model body."""
    return [_body(entry) for entry in _ENTRIES]


def model(id_: str) -> JsonObject | None:
    """One catalogue model, or None."""
    return next((_body(entry) for entry in _ENTRIES if entry.id == id_), None)


def layers(id_: str) -> int:
    """How many layers a catalogue model has; 0 for an unknown one."""
    return next((entry.layers for entry in _ENTRIES if entry.id == id_), 0)


def _body(entry: _Entry) -> JsonObject:
    trainable = entry.kind == "HF_BASE_MODEL" and entry.lora
    return {
        "name": f"accounts/{ACCOUNT}/models/{entry.id}",
        "displayName": entry.title,
        "createTime": _PUBLISHED,
        "updateTime": _PUBLISHED,
        "state": "READY",
        "status": {"code": "OK"},
        "kind": entry.kind,
        "huggingFaceUrl": f"https://huggingface.co/{entry.hugging_face}",
        "public": True,
        "contextLength": entry.context,
        "supportsImageInput": entry.images,
        "supportsTools": entry.tools,
        "supportsLora": entry.lora,
        "calibrated": True,
        "tunable": trainable,
        "supervisedLoraTunable": trainable,
        "rlLoraTunable": trainable,
        "rlTunable": trainable,
        "supportedPrecisions": ["BF16", "FP8"],
        "baseModelDetails": {
            "worldSize": 1,
            "checkpointFormat": "HUGGINGFACE",
            "parameterCount": entry.parameters,
            "moe": entry.moe,
            "modelType": entry.model_type,
            "supportsFireattention": True,
            "defaultPrecision": "BF16",
        },
    }
