"""Secrets as files: in the folder that systemd and containers mount, under the names of their variables."""

import pytest

from mlflow_fireworks.credentials import read_credential
from mlflow_fireworks.doctor.account import check_key
from mlflow_fireworks.errors import CredentialsError
from mlflow_fireworks.hooks.options import find_queue_url
from mlflow_fireworks.hooks.rules import load_rules
from mlflow_fireworks.hooks.service import HUB_SECRET, MLFLOW_SECRET, TOKEN, load_secrets
from mlflow_fireworks.redaction import brief
from mlflow_fireworks.target import load_api_key, parse_target

NAME = "FIREWORKS_API_KEY"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "secrets"
    path.mkdir()
    return path


@pytest.fixture
def environ(folder):
    return {"CREDENTIALS_DIRECTORY": str(folder)}


def test_a_file_is_read_without_its_line_feed(folder, environ):
    (folder / NAME).write_text("fw_file\n")
    assert read_credential(NAME, environ).value == "fw_file"
    assert load_api_key(parse_target("fireworks", {}), environ, folder).get_secret_value() == "fw_file"


def test_a_variable_wins_over_a_file(folder, environ):
    (folder / NAME).write_text("fw_file")
    assert read_credential(NAME, environ | {NAME: "fw_variable"}).value == "fw_variable"
    assert read_credential(NAME, environ | {NAME: ""}).value == "fw_file"


@pytest.mark.parametrize("named", ["", "/nowhere/at/all"])
def test_without_a_folder_or_a_file_there_is_none(named):
    assert read_credential(NAME, {"CREDENTIALS_DIRECTORY": named}).value == ""
    assert read_credential(NAME, {}).value == ""


def test_firectls_file_is_read_where_the_folder_has_no_key(folder, environ):
    (folder / ".fireworks").mkdir()
    (folder / ".fireworks" / "auth.ini").write_text("api_key = fw_ini")
    assert load_api_key(parse_target("fireworks", {}), environ, folder).get_secret_value() == "fw_ini"


def test_a_file_that_cannot_be_read_is_named(folder, environ):
    (folder / NAME).mkdir()
    with pytest.raises(CredentialsError, match=rf"cannot read {folder}/{NAME}: Is a directory"):
        read_credential(NAME, environ)


def test_what_is_no_text_is_not_shown(folder, environ):
    (folder / NAME).write_bytes(b"fw_\xff\xfe")
    with pytest.raises(CredentialsError, match="is not text") as caught:
        read_credential(NAME, environ)
    assert "xff" not in str(caught.value)


def test_a_secret_is_not_in_its_repr(folder, environ):
    (folder / NAME).write_text("fw_file")
    assert "fw_file" not in repr(read_credential(NAME, environ))


def test_the_hooks_find_theirs(folder, environ):
    rules = folder / "hooks.yaml"
    rules.write_text(
        "rules:\n"
        "- {name: a, model: chat, alias: champion, target: fireworks, deployment: chat}\n"
        "- {name: b, hub: acme/chat, branch: main, target: fireworks, deployment: chat-hub}\n"
    )
    for number, name in enumerate((MLFLOW_SECRET, HUB_SECRET, TOKEN)):
        (folder / name).write_text(f"{number}" * 20 + "\n")
    found = load_secrets(load_rules(rules), environ)
    assert [secret.get_secret_value()[0] for secret in (found.mlflow, found.hub, found.people)] == ["0", "1", "2"]


def test_the_queue_may_be_a_secret_and_its_password_is_hidden(folder, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.delenv("MLFLOW_FIREWORKS_QUEUE", raising=False)
    (folder / "MLFLOW_FIREWORKS_QUEUE").write_text("redis://:XQ/ZJ@redis.example:6379/0\n")
    assert find_queue_url(None) == "redis://:XQ/ZJ@redis.example:6379/0"
    assert "ZJ" not in brief(ValueError("cannot reach ZJ@redis.example:6379"))
    assert find_queue_url("other.db") == "other.db"


def test_doctor_says_which_file_the_key_is_from_and_not_the_key(folder, monkeypatch):
    (folder / NAME).write_text("fw_file")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.delenv(NAME, raising=False)
    assert check_key(parse_target("fireworks:/acme")).text == f"found in {folder}/{NAME}"
