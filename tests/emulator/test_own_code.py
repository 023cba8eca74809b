"""Code in a checkpoint is found before any loader sees the folder, and what is found does not run."""

import json

import pytest
from emulator.raw_client import BASE
from support.checkpoints import (
    CHAT_TEMPLATE,
    edit_json,
    make_adapter,
    make_embedder,
    make_llama,
    read_files,
    write_json,
)

from mlflow_fireworks.emulator.answers.own_code import find_own_code

MAPPED = {"AutoModel": "modeling.Mine"}


def set_modules(folder, **changes):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1] |= changes
    (folder / "modules.json").write_text(json.dumps(modules))


def write(folder, name, text):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def set_template(folder, template):
    edit_json(folder / "tokenizer_config.json", chat_template=template)


CODE = {
    "auto_map of the model": ("config.json", lambda folder: edit_json(folder / "config.json", auto_map=MAPPED)),
    "auto_map of a part": (
        "config.json",
        lambda folder: edit_json(folder / "config.json", text_config={"deeper": [{"auto_map": MAPPED}]}),
    ),
    "auto_map of the tokenizer": (
        "tokenizer_config.json",
        lambda folder: edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Mine", None]}),
    ),
    "auto_map of a processor": (
        "preprocessor_config.json",
        lambda folder: write_json(folder / "preprocessor_config.json", {"auto_map": MAPPED}),
    ),
    "a pipeline of its own": (
        "config.json",
        lambda folder: edit_json(folder / "config.json", custom_pipelines={"chat": {"impl": "pipe.Mine"}}),
    ),
    "its own way to generate": (
        "custom_generate/generate.py",
        lambda folder: write(folder, "custom_generate/generate.py", "raise SystemExit"),
    ),
    "a class beside the weights": ("modules.json", lambda folder: set_modules(folder, type="modeling.Mine")),
    "a class of any package": ("modules.json", lambda folder: set_modules(folder, type="os.system")),
    "a class of a package with a similar name": (
        "modules.json",
        lambda folder: set_modules(folder, type="sentence_transformers_evil.models.Pooling"),
    ),
    "no class": ("modules.json", lambda folder: set_modules(folder, type=["sentence_transformers.models.Pooling"])),
    "a module somewhere else": ("modules.json", lambda folder: set_modules(folder, path="/tmp/another")),
    "a module above": ("modules.json", lambda folder: set_modules(folder, path="../another")),
    "a class of a router": (
        "1_Router/router_config.json",
        lambda folder: write_json(folder / "1_Router" / "router_config.json", {"types": {"query_0": "evil.Module"}}),
    ),
    "a function for an activation": (
        "2_Dense/config.json",
        lambda folder: write_json(folder / "2_Dense" / "config.json", {"activation_function": "os.abort"}),
    ),
    "a tokenizer of a words module": (
        "0_Words/wordembedding_config.json",
        lambda folder: write_json(folder / "0_Words" / "wordembedding_config.json", {"tokenizer_class": "evil.Words"}),
    ),
    "trust that it grants itself": (
        "sentence_bert_config.json",
        lambda folder: edit_json(folder / "sentence_bert_config.json", model_args={"trust_remote_code": True}),
    ),
    "machine code of the Hub": (
        "config.json",
        lambda folder: edit_json(folder / "config.json", _attn_implementation="evil/attention"),
    ),
    "a library of Megatron": (
        "adapter_config.json",
        lambda folder: write_json(
            folder / "adapter_config.json", {"megatron_config": {"x": 1}, "megatron_core": "evil"}
        ),
    ),
    "a template that climbs": (
        "tokenizer_config.json",
        lambda folder: set_template(folder, "{{ messages.__class__.__mro__ }}"),
    ),
    "a template that climbs by index": (
        "chat_template.jinja",
        lambda folder: write(folder, "chat_template.jinja", "{{ messages['__class__'] }}"),
    ),
    "a template that climbs by a filter": (
        "chat_template.jinja",
        lambda folder: write(folder, "chat_template.jinja", "{% if x %}{{ x | attr(y) }}{% endif %}"),
    ),
    "a template that climbs by a path": (
        "additional_chat_templates/tools.jinja",
        lambda folder: write(
            folder, "additional_chat_templates/tools.jinja", "{{ x | map(attribute='a.__class__') | list }}"
        ),
    ),
    "one of several templates": (
        "tokenizer_config.json",
        lambda folder: set_template(
            folder, [{"name": "default", "template": CHAT_TEMPLATE}, {"name": "tools", "template": "{% include 'x' %}"}]
        ),
    ),
    "what cannot be parsed": ("generation_config.json", lambda folder: write(folder, "generation_config.json", "{")),
    "what is nested too deeply": ("a_config.json", lambda folder: write(folder, "a_config.json", "[" * 200_000)),
    "what is no text": ("b_config.json", lambda folder: (folder / "b_config.json").write_bytes(b"\xff\xfe{\x00")),
    "what is too large": ("c_config.json", lambda folder: write(folder, "c_config.json", '"' + "x" * 9_000_000 + '"')),
}
HARMLESS = {
    "as it is": lambda folder: None,
    "code that nothing names": lambda folder: write(folder, "modeling.py", "raise SystemExit"),
    "an empty map": lambda folder: edit_json(folder / "config.json", auto_map={}),
    "a known attention": lambda folder: edit_json(folder / "config.json", _attn_implementation="flash_attention_2"),
    "an activation of torch": lambda folder: write_json(
        folder / "2_Dense" / "config.json", {"activation_function": "torch.nn.modules.activation.Tanh"}
    ),
    "an activation by its name": lambda folder: edit_json(folder / "config.json", activation_function="gelu_new"),
    "a tokenizer by its name": lambda folder: edit_json(
        folder / "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer"
    ),
    "a library that PEFT notes": lambda folder: write_json(
        folder / "adapter_config.json",
        {"auto_mapping": {"parent_library": "transformers.models.llama.modeling_llama"}, "megatron_config": None},
    ),
    "a template of transformers": lambda folder: set_template(
        folder,
        "{%- for message in messages if loop.index0 > 0 %}{% if message['role'] == 'x' %}{% continue %}{% endif %}"
        "{%- generation -%}{{- message['content'] | trim | replace('_', ' ') }}{%- endgeneration -%}{% endfor %}"
        "{{ tools | map(attribute='name') | join(', ') }}{{ raise_exception('no') if not messages }}"
        "{{ messages | selectattr('role', 'equalto', '_user') | list | tojson(indent=2) }}",
    ),
    "large data": lambda folder: write(folder, "vocab.json", '"' + "x" * 9_000_000 + '"'),
}


@pytest.fixture
def checkpoint(tmp_path):
    make_llama(tmp_path / "model")
    return make_embedder(tmp_path / "model")


@pytest.mark.parametrize("kind", CODE)
def test_code_is_found_with_the_name_of_its_file(checkpoint, kind):
    name, change = CODE[kind]
    change(checkpoint)
    (found,) = find_own_code(checkpoint)
    assert found.startswith(f"{name} ")


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_names_no_code_is_left_alone(checkpoint, kind):
    HARMLESS[kind](checkpoint)
    assert find_own_code(checkpoint) == []


def refused(api, question="completions", **body):
    model = api.call("POST", "/deployments?deploymentId=prod", json={"acceleratorType": "NVIDIA_H100_80GB", **body})
    assert model.status_code == 200, model.text
    api.call("GET", "/deployments/prod")
    body = {"model": "accounts/acme/deployments/prod", "prompt": "x", "input": "x"}
    return api.http.post(f"/inference/v1/{question}", json=body)


def test_a_checkpoint_with_code_is_refused_before_any_process_is_started(start, tmp_path):
    folder = make_llama(tmp_path / "llama")
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Mine", None]})
    emulator, api = start(answers=True)
    api.ready("chat", BASE, read_files(folder))
    answer = refused(api, baseModel="accounts/acme/models/chat")
    assert answer.status_code == 501
    message = answer.json()["error"]["message"]
    assert "tokenizer_config.json has the key auto_map (tok.Mine)" in message
    assert "-C trust_remote_code=true" in message
    assert not emulator._service.engines._running


def test_an_adapter_is_refused_for_the_code_of_its_base(start, tmp_path):
    from emulator.raw_client import ADDON

    folder = make_llama(tmp_path / "llama")
    edit_json(folder / "generation_config.json", auto_map=MAPPED)
    _, api = start(answers=True)
    api.ready("chat", BASE, read_files(folder))
    details = {"baseModel": "accounts/acme/models/chat", "r": 8, "targetModules": ["q_proj", "v_proj"]}
    files = read_files(make_adapter(tmp_path / "adapter"))
    del files["README.md"]
    api.ready("tuned", ADDON | {"peftDetails": details}, files)
    answer = refused(api, baseModel="accounts/acme/models/tuned")
    assert answer.status_code == 501
    assert "accounts/acme/models/chat has its own code" in answer.json()["error"]["message"]
