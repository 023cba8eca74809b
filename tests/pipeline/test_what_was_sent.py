"""What Fireworks makes of the files, held against what was found in them; files that it may not take."""

import pytest
from support.checkpoints import edit_json, make_adapter, make_embedder, make_llama, write_json

from mlflow_fireworks.errors import ApiError


def warnings_of(account, folder, **options):
    outcome = account.run(**options).create("chat", str(folder)).to_dict()
    assert outcome["state"] == "READY"
    return outcome["warnings"]


def test_nothing_is_said_where_both_sides_agree(account, tmp_path):
    assert not any("Fireworks says" in warning for warning in warnings_of(account, make_llama(tmp_path / "llama")))


def test_file_that_was_taken_for_another_one_is_noticed(account, tmp_path):
    folder = make_llama(tmp_path / "llama")
    found = account.gateway.models.find

    def find(model_id):
        model = found(model_id)
        details = model and model.base_model_details.model_copy(update={"model_type": "bert", "parameter_count": 5})
        return model and model.model_copy(update={"base_model_details": details, "context_length": 7})

    object.__setattr__(account.gateway.models, "find", find)
    said = [warning for warning in warnings_of(account, folder) if "Fireworks says" in warning]
    assert said[0] == "model type: Fireworks says bert, the files say llama"
    assert [warning.partition(":")[0] for warning in said] == ["model type", "context length", "parameters"]


def test_names_that_may_collide_are_said_before_anything_is_sent(account, tmp_path):
    folder = make_embedder(tmp_path / "embedder")
    planned = account.run(dry_run="true").create("chat", str(folder)).to_dict()
    assert any(
        "1_Pooling/config.json and config.json would become one file" in warning for warning in planned["warnings"]
    )
    assert not account.changes()


BASE = {"base_model": "accounts/fireworks/models/llama-v3p1-8b-instruct"}


@pytest.mark.parametrize("way", ["strict", "fireworks-json"])
def test_defaults_of_an_adapter_are_sent_where_they_are_taken(account, tmp_path, way):
    account.emulator.behave(f"adapter-files={way}")
    folder = make_adapter(tmp_path / "lora", hidden=4096)
    write_json(folder / "fireworks.json", {"defaults": {"temperature": 0.1}})

    warnings = warnings_of(account, folder, **BASE)

    assert ("fireworks.json" in account.sent()) == (way == "fireworks-json")
    assert any("Fireworks does not accept fireworks.json" in warning for warning in warnings) == (way == "strict")


def test_defaults_that_only_validation_refuses_are_left_out_then(account, tmp_path):
    account.emulator.behave("adapter-files=fireworks-json")
    account.emulator.fault(
        "validate_upload", status=400, body='{"code": 3, "message": "unexpected file \\"fireworks.json\\""}'
    )
    folder = make_adapter(tmp_path / "lora", hidden=4096)
    write_json(folder / "fireworks.json", {"defaults": {"temperature": 0.1}})

    warnings_of(account, folder, **BASE)

    assert len(account.sent()) == 3


def test_adapter_without_defaults_is_signed_once(account, tmp_path):
    warnings_of(account, make_adapter(tmp_path / "lora", hidden=4096), **BASE)
    assert account.calls("get_upload_endpoint") == [1]


@pytest.mark.parametrize("way", ["refused", "accepted"])
def test_quantized_checkpoint_is_ready_or_refused_in_one_line(account, tmp_path, way):
    account.emulator.behave(f"quantized={way}")
    folder = make_llama(tmp_path / "llama")
    edit_json(folder / "config.json", quantization_config={"quant_method": "fp8"})
    if way == "accepted":
        warnings_of(account, folder, allow_quantized="true")
        return
    with pytest.raises(ApiError, match=r"quantization_config.* will be uploaded again by: mlflow"):
        warnings_of(account, folder, allow_quantized="true")


def test_where_folders_are_not_kept_the_next_step_says_that_it_may_not_help(account, tmp_path):
    account.emulator.behave("names=flattened")
    with pytest.raises(ApiError, match=r"if that fails the same way, Fireworks does not keep folders.* by: mlflow"):
        account.run().create("chat", str(make_embedder(tmp_path / "embedder")))
