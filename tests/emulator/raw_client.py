"""A client of a few lines over plain httpx, and the smallest checkpoint that validation accepts."""

import json
import struct

import httpx

OCTETS = "application/octet-stream"


def safetensors(tensors):
    """Bytes of a safetensors file; `tensors` maps a name to (dtype, shape, bytes)."""
    header, offset = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


def base_files():
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 512}
    return {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors": safetensors({"model.embed_tokens.weight": ("BF16", [8, 4], 64)}),
    }


def lora_tensors(*modules):
    sides = {"A": [8, 4], "B": [4, 8]}
    return {
        f"base_model.model.{module}.lora_{side}.weight": ("BF16", shape, 64)
        for module in modules
        for side, shape in sides.items()
    }


def adapter_files():
    config = {"r": 8, "target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": "x"}
    return {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": safetensors(lora_tensors("model.layers.0.self_attn.q_proj")),
    }


BASE = {"kind": "HF_BASE_MODEL", "baseModelDetails": {"checkpointFormat": "HUGGINGFACE", "worldSize": 1}}
ADDON = {
    "kind": "HF_PEFT_ADDON",
    "peftDetails": {"baseModel": "accounts/fireworks/models/qwen3-8b", "r": 8, "targetModules": ["q_proj"]},
}


class Api:
    """The few calls that nearly every test makes, over plain httpx."""

    def __init__(self, url, account="acme", key="a-key"):
        self.account = account
        # Without verify=False each client loads all certificates, which takes longer than most tests.
        self.http = httpx.Client(verify=False, base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20)
        self.storage = httpx.Client(verify=False, timeout=20)

    def call(self, method, path="", **kwargs):
        return self.http.request(method, f"/v1/accounts/{self.account}{path}", **kwargs)

    def create(self, id_, model=BASE):
        return self.call("POST", "/models", json={"modelId": id_, "model": model})

    def get(self, id_):
        return self.call("GET", f"/models/{id_}")

    def sign(self, id_, files):
        sizes = {name: len(content) if isinstance(content, bytes) else content for name, content in files.items()}
        return self.call("POST", f"/models/{id_}:getUploadEndpoint", json={"filenameToSize": sizes})

    def put(self, url, content, **headers):
        size = len(content)
        signed = {"Content-Type": OCTETS, "x-goog-content-length-range": f"{size},{size}"}
        return self.storage.put(url, content=content, headers={**signed, **headers})

    def upload(self, id_, files):
        urls = self.sign(id_, files).json()["filenameToSignedUrls"]
        for name, content in files.items():
            assert self.put(urls[name], content).status_code == 200

    def validate(self, id_, **query):
        return self.call("GET", f"/models/{id_}:validateUpload", params=query)

    def ready(self, id_, model=BASE, files=None):
        assert self.create(id_, model).status_code == 200
        self.upload(id_, files or base_files())
        answer = self.validate(id_)
        assert answer.status_code == 200, answer.text
        return self.get(id_).json()

    def close(self):
        self.http.close()
        self.storage.close()
