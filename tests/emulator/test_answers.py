"""Uploaded models that really run: generation by transformers, embeddings by sentence-transformers, on the CPU."""

import time

import pytest
from emulator.raw_client import ADDON, BASE
from support.checkpoints import edit_json, make_llama, read_files

# peft and transformers warn each other of renamed attributes.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
PROD = "accounts/acme/deployments/prod"
GPU = {"acceleratorType": "NVIDIA_H100_80GB"}
DEADLINE_SECONDS = 120


def upload(api, id_, model, folder):
    api.ready(id_, model, read_files(folder))
    body = {"baseModel": f"accounts/acme/models/{id_}", **GPU}
    if model["kind"] != "HF_PEFT_ADDON":
        assert api.call("POST", "/deployments?deploymentId=prod", json=body).status_code == 200
        api.call("GET", "/deployments/prod")


def ask(api, operation, **body):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        answer = api.http.post(f"/inference/v1/{operation}", json=body, timeout=DEADLINE_SECONDS)
        if answer.status_code != 503:
            return answer
        assert answer.json()["error"]["code"] == "DEPLOYMENT_SCALING_UP"
        time.sleep(0.5)
    raise AssertionError("the model did not start")


@pytest.mark.torch
def test_a_language_model_says_what_transformers_says(start, tmp_path):
    import torch
    import transformers

    folder = make_llama(tmp_path / "llama")
    _, api = start(answers=True)
    upload(api, "chat", BASE, folder)
    model = f"accounts/acme/models/chat#{PROD}"
    answer = ask(api, "completions", model=model, prompt="hello", max_tokens=8, temperature=0).json()
    assert answer["model"] == model
    assert answer["usage"]["completion_tokens"] == 8

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    own = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer("hello", return_tensors="pt")
    with torch.no_grad():
        generated = own.generate(**ids, max_new_tokens=8, do_sample=False)
    expected = tokenizer.decode(generated[0][ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer["choices"][0]["text"] == expected

    said = ask(api, "chat/completions", model=PROD, messages=[{"role": "user", "content": "hi"}], max_tokens=4)
    assert said.json()["choices"][0]["message"]["role"] == "assistant"
    streamed = ask(api, "completions", model=PROD, prompt="hello", max_tokens=4, stream=True)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert "data: [DONE]" in streamed.text
    assert ask(api, "embeddings", model=PROD, input="x").status_code == 501


@pytest.mark.torch
def test_an_adapter_changes_what_its_base_says(start, tmp_path):
    import peft
    import torch
    import transformers

    folder = make_llama(tmp_path / "llama")
    base = transformers.AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False, lora_alpha=512)
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "lora")
    adapter = tmp_path / "lora"
    for path in adapter.iterdir():
        if not path.name.startswith("adapter_"):
            path.unlink()
    edit_json(adapter / "adapter_config.json", base_model_name_or_path="acme/base")

    _, api = start(answers=True)
    upload(api, "chat", BASE, folder)
    details = {"baseModel": "accounts/acme/models/chat", "r": 8, "targetModules": ["q_proj", "v_proj"]}
    upload(api, "lora", ADDON | {"peftDetails": details}, adapter)
    body = {"baseModel": "accounts/acme/models/lora", **GPU}
    assert api.call("POST", "/deployments?deploymentId=merged", json=body).status_code == 200
    api.call("GET", "/deployments/merged")
    question = {"prompt": "hello there", "max_tokens": 12, "temperature": 0}
    plain = ask(api, "completions", model=PROD, **question).json()["choices"][0]["text"]
    answer = ask(api, "completions", model="accounts/acme/deployments/merged", **question)
    assert answer.status_code == 200, answer.text
    tuned = answer.json()["choices"][0]["text"]
    assert tuned != plain


def test_a_model_that_was_not_uploaded_here_is_not_made_up(start):
    _, api = start(answers=True)
    body = {"baseModel": "accounts/fireworks/models/qwen3-8b", **GPU}
    api.call("POST", "/deployments?deploymentId=prod", json=body)
    api.call("GET", "/deployments/prod")
    refused = ask(api, "completions", model=PROD, prompt="x")
    assert refused.status_code == 501
    assert "only uploaded models can be run" in refused.json()["error"]["message"]


def test_a_model_that_does_not_run_says_why(start, files):
    """The smallest checkpoint that validation accepts is no model that anything could run."""
    _, api = start(answers=True)
    api.ready("chat", BASE, files)
    body = {"baseModel": "accounts/acme/models/chat", **GPU}
    api.call("POST", "/deployments?deploymentId=prod", json=body)
    api.call("GET", "/deployments/prod")
    refused = ask(api, "completions", model=PROD, prompt="x")
    assert refused.status_code in (501, 500)
    assert refused.json()["error"]["message"]
