"""The faces towards other people's tests and scripts: the fixture, the coverage table, the documentation's script."""

import os
import subprocess
import sys
import time
from pathlib import Path

import fireworks
import pytest
import requests
from emulator.raw_client import base_files

from mlflow_fireworks.emulator.protocol import coverage

ROOT = Path(__file__).parents[2]


def test_the_coverage_table_is_current():
    assert coverage.FILE.read_text(encoding="utf-8") == coverage.table(), (
        "run: python -m mlflow_fireworks.emulator.protocol.coverage"
    )


def run_pytest(folder, test):
    (folder / "conftest.py").write_text('pytest_plugins = ["mlflow_fireworks.emulator.pytest_plugin"]\n')
    (folder / "test_theirs.py").write_text(test)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=folder, check=False)


def test_the_fixture_gives_an_empty_server_to_each_test(tmp_path):
    result = run_pytest(
        tmp_path,
        """
import os, requests
def use(server):
    assert server.target.startswith("fireworks://127.0.0.1:")
    key = {"Authorization": "Bearer " + os.environ["FIREWORKS_API_KEY"]}
    models = server.url + "/v1/accounts/local/models"
    assert requests.get(models, headers=key).json()["models"] == []
    body = {"modelId": "m", "model": {"kind": "EMBEDDING_MODEL"}}
    assert requests.post(models, headers=key, json=body).status_code == 200
def test_one(local_fireworks): use(local_fireworks)
def test_two(local_fireworks): use(local_fireworks)
""",
    )
    assert "2 passed" in result.stdout, result.stdout


def test_what_one_test_tells_the_fixture_the_next_one_does_not_see(tmp_path):
    result = run_pytest(
        tmp_path,
        """
import requests
def names(server):
    return requests.get(server.url + "/_emulator/behaviours").json()["names"]
def test_one(local_fireworks):
    local_fireworks.behave("quota-status=403", "names=flattened")
    assert names(local_fireworks) == "flattened"
def test_two(local_fireworks):
    assert names(local_fireworks) == "kept"
""",
    )
    assert "2 passed" in result.stdout, result.stdout


def test_the_fixture_reports_what_a_correct_client_would_not_do(tmp_path):
    result = run_pytest(
        tmp_path,
        """
import requests
def test_wrong(local_fireworks): requests.get(local_fireworks.url + "/v1/nothing")
""",
    )
    assert "the client did what Fireworks refuses" in result.stdout, result.stdout
    assert "unknown_route" in result.stdout


def documented_upload(base_url, account_id, model_id, model_path, api_key):
    """The flow of Fireworks' page on uploading over REST, one file at a time, as its sample does it."""
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    names = sorted(path.name for path in model_path.iterdir())
    base = f"{base_url}/v1/accounts/{account_id}/models"
    details = {"checkpointFormat": "HUGGINGFACE", "worldSize": 1, "huggingfaceFiles": names}
    body = {"modelId": model_id, "model": {"kind": "HF_BASE_MODEL", "baseModelDetails": details}}
    requests.post(base, headers=headers, json=body, timeout=10).raise_for_status()
    sizes = {name: (model_path / name).stat().st_size for name in names}
    url = f"{base}/{model_id}:getUploadEndpoint"
    answer = requests.post(url, headers=headers, json={"filenameToSize": sizes}, timeout=10)
    for name, signed in answer.json()["filenameToSignedUrls"].items():
        size = sizes[name]
        put = {"Content-Type": "application/octet-stream", "x-goog-content-length-range": f"{size},{size}"}
        with (model_path / name).open("rb") as file:
            requests.put(signed, data=file, headers=put, timeout=10).raise_for_status()
    waits = 0
    while True:
        answer = requests.get(f"{base}/{model_id}:validateUpload", headers=headers, timeout=10)
        if answer.status_code == 200:
            return waits
        if "FAILED_PRECONDITION" not in answer.text:
            answer.raise_for_status()
        waits += 1
        time.sleep(0.05)


def test_a_script_of_the_documentations_shape_works(start, tmp_path):
    emulator, api = start(landing_seconds=0.2)
    for name, content in base_files().items():
        (tmp_path / name).write_bytes(content)
    assert documented_upload(emulator.url, "acme", "chat", tmp_path, "a-key") > 0
    assert api.get("chat").json()["state"] == "READY"
    assert not emulator.failures


@pytest.mark.parametrize(
    ("resource", "calls"),
    [
        ("accounts", {"get", "list"}),
        ("lora", {"get", "list", "load", "unload", "update"}),
        ("deployment_shapes", {"get", "list"}),
        ("deployment_shape_versions", {"get", "list", "match", "match_for_model"}),
        ("deployments", {"create", "delete", "get", "list", "scale", "undelete", "update"}),
        (
            "models",
            {"create", "delete", "get", "get_download_endpoint", "get_upload_endpoint", "list", "prepare", "update"}
            | {"validate_upload"},
        ),
    ],
)
def test_a_new_sdk_call_for_this_surface_would_be_noticed(resource, calls):
    with fireworks.Fireworks(api_key="k", account_id="a") as client:
        offered = {name for name in dir(type(getattr(client, resource))) if not name.startswith("_")}
    assert offered - {"with_raw_response", "with_streaming_response"} == calls
