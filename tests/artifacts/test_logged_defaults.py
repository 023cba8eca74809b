"""What MLflow applies to each request: carried over where Fireworks has a place for it, and told where not."""

import json

import mlflow
import pytest
import yaml
from support.checkpoints import make_llama, make_peft_model, make_transformers_model, write_json
from support.planning import names, plan, read_file

from mlflow_fireworks.errors import PreflightError


def log(folder, model_config=None, prompt_template=None, make=make_transformers_model):
    """MLflow's `transformers` layout with what `log_model(model_config=…, prompt_template=…)` writes into `MLmodel`."""
    make(folder)
    mlmodel = yaml.safe_load((folder / "MLmodel").read_text())
    mlmodel["flavors"]["python_function"] = {"loader_module": "mlflow.transformers", "config": model_config}
    if prompt_template:
        mlmodel["metadata"] = {"prompt_template": prompt_template}
    (folder / "MLmodel").write_text(yaml.safe_dump(mlmodel))
    return folder


def test_logged_sampling_becomes_the_defaults_of_the_model(tmp_path):
    config = {"temperature": 0.2, "top_p": 0.9, "top_k": 40, "max_new_tokens": 64}
    manifest = plan(log(tmp_path / "m", config))
    assert json.loads(read_file(manifest, "fireworks.json")) == {
        "defaults": {"temperature": 0.2, "top_k": 40, "top_p": 0.9, "max_tokens": 64}
    }
    assert any("fireworks.json: made from the logged model_config" in note for note in manifest.notes)
    assert not any("model_config" in warning for warning in manifest.warnings)


def test_what_has_no_place_is_named_without_its_value(tmp_path):
    manifest = plan(log(tmp_path / "m", {"temperature": 0.2, "num_beams": 4, "hf_token": "secret", "top_p": "high"}))
    (warning,) = [warning for warning in manifest.warnings if "model_config" in warning]
    for name in ("num_beams", "hf_token", "top_p"):
        assert name in warning
    assert "temperature" not in warning
    assert "secret" not in warning


def test_defaults_of_the_checkpoints_own_are_left_alone(tmp_path):
    folder = log(tmp_path / "m", {"temperature": 0.2})
    write_json(folder / "model" / "fireworks.json", {"defaults": {"temperature": 1.0}})
    manifest = plan(folder)
    assert read_file(manifest, "fireworks.json") == (folder / "model" / "fireworks.json").read_bytes()
    assert any("sets temperature" in warning for warning in manifest.warnings)


def test_prompt_template_is_told(tmp_path):
    manifest = plan(log(tmp_path / "m", prompt_template="Q: {prompt} A:"))
    assert any("prompt_template" in warning for warning in manifest.warnings)


@pytest.mark.parametrize("config", [None, {}, "high", [1]])
def test_nothing_logged_is_nothing_made(tmp_path, config):
    manifest = plan(log(tmp_path / "m", config))
    assert "fireworks.json" not in names(manifest)
    assert manifest.warnings == ()


def test_adapter_gets_no_file_that_fireworks_may_refuse_in_it(tmp_path):
    manifest = plan(log(tmp_path / "m", {"temperature": 0.2}, make=make_peft_model))
    assert names(manifest) == ["adapter_config.json", "adapter_model.safetensors"]
    assert any("sets temperature" in warning for warning in manifest.warnings)


class _Plain(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return model_input


def test_settings_of_a_pyfuncs_own_code_are_told(tmp_path):
    """Logged by the real mlflow; what its code does with them nobody else knows."""
    mlflow.pyfunc.save_model(
        str(tmp_path / "m"),
        python_model=_Plain(),
        artifacts={"llama": str(make_llama(tmp_path / "llama"))},
        model_config={"temperature": 0.2, "retriever": "x"},
        pip_requirements=[],
    )
    manifest = plan(tmp_path / "m")
    assert "fireworks.json" not in names(manifest)
    (warning,) = [warning for warning in manifest.warnings if "model_config" in warning]
    assert "temperature" in warning
    assert "retriever" in warning


TEMPLATE = "{{ messages }}"


@pytest.mark.parametrize("empty", [None, "", "  \n"])
def test_template_that_holds_nothing_is_none(tmp_path, empty):
    folder = make_llama(tmp_path / "m")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": empty}))
    manifest = plan(folder)
    assert manifest.facts.has_chat_template is False
    assert any("no chat template" in warning for warning in manifest.warnings)


@pytest.mark.parametrize(
    ("template", "has_one"),
    [
        ([{"name": "default", "template": TEMPLATE}], True),
        ([{"name": "tool_use", "template": TEMPLATE}], False),
        ([{"name": "default", "template": ""}], False),
        ([], False),
        (["odd"], False),
        ([{"name": ["default"], "template": TEMPLATE}], False),
        ({"default": TEMPLATE}, False),
        (TEMPLATE, True),
    ],
)
def test_named_templates_need_one_called_default(tmp_path, template, has_one):
    folder = make_llama(tmp_path / "m")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", {**settings, "chat_template": template})
    assert plan(folder).facts.has_chat_template is has_one


@pytest.mark.parametrize("name", ["processor_config.json", "chat_template.json"])
@pytest.mark.parametrize("held", ["absent", None, "", "older"])
def test_template_of_a_processor_is_folded_in(tmp_path, name, held):
    folder = make_llama(tmp_path / "m")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template")
    write_json(folder / "tokenizer_config.json", settings | ({} if held == "absent" else {"chat_template": held}))
    write_json(folder / name, {"chat_template": TEMPLATE})
    manifest = plan(folder)
    assert json.loads(read_file(manifest, "tokenizer_config.json"))["chat_template"] == TEMPLATE
    assert manifest.facts.has_chat_template
    assert any("replacing the different one" in note for note in manifest.notes) is (held == "older")


@pytest.mark.parametrize("content", ["{}", '{"chat_template": null}', '{"chat_template": " "}'])
def test_processor_without_a_template_changes_nothing(tmp_path, content):
    folder = make_llama(tmp_path / "m")
    (folder / "processor_config.json").write_text(content)
    assert read_file(plan(folder), "tokenizer_config.json") == (folder / "tokenizer_config.json").read_bytes()


def test_empty_template_file_does_not_replace_a_good_one(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "chat_template.jinja").write_text("\n")
    assert plan(folder).facts.has_chat_template
    (folder / "chat_template.jinja").write_bytes(b"")
    with pytest.raises(PreflightError, match=r"chat_template\.jinja is empty"):
        plan(folder)


def test_further_templates_are_told(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(TEMPLATE)
    manifest = plan(folder)
    assert any(
        "additional_chat_templates/tool_use.jinja: Fireworks has one" in warning for warning in manifest.warnings
    )
