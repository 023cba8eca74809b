"""The security page claims only what a test holds; and the attacks that have no other room."""

import ast
import re
import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.checkpoints import make_llama
from support.planning import plan

import mlflow_fireworks
from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.errors import FireworksError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry
from mlflow_fireworks.transfer.urls import SignedUrls

PAGE = Path(mlflow_fireworks.__file__).parent / "SECURITY.md"
REPOSITORY = PAGE.parents[1]
CLAIMS = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("file", "name"), CLAIMS, ids=[f"{file}::{name}" for file, name in CLAIMS])
def test_every_claim_has_a_test(file, name):
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_row_of_the_page_names_its_test():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    claims = [row for row in rows if row.count("|") == 4 and "::" in row]
    assert len(claims) >= 30
    assert len(CLAIMS) >= len(claims)


def test_a_file_swapped_for_a_link_after_the_plan_is_not_sent(tmp_path):
    folder = make_llama(tmp_path / "model")
    manifest = plan(folder)
    secret = tmp_path / "secret"
    (file,) = [file for file in manifest.files if file.name == "generation_config.json"]
    secret.write_bytes(b"x" * file.size)
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").symlink_to(secret)
    with pytest.raises(FireworksError, match="leads outside the folder"), file.content.staged():
        pass


def test_a_traceback_with_locals_shows_neither_key_nor_signed_url():
    def fail(gateway, urls):
        signed = urls.get("a.json")
        raise ValueError(type(signed).__name__, type(gateway).__name__)

    with Emulator() as emulator:
        gateway = Gateway(emulator.url, SecretStr("fw_s3cr3t"), "acme", retry=Retry(attempts=1))
        urls = SignedUrls(lambda: {"a.json": SecretStr("https://storage/x?X-Goog-Signature=s3cr3t")}, lambda: 0.0)
        try:
            fail(gateway, urls)
        except ValueError as error:
            shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        finally:
            gateway.transport.close()
    assert "signed = SecretStr" in shown
    assert "s3cr3t" not in shown
    assert "s3cr3t" not in repr((gateway, gateway.transport, gateway.transport.http, urls))
