"""Whatever arrives: no 5xx, no hang, no defect, nothing written outside of the state folder."""

import json
import os
import socket
from pathlib import Path

import httpx
import hypothesis
import pytest
import schemathesis
from emulator.raw_client import Api, base_files

from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.emulator.protocol import messages, openapi, serving_messages
from mlflow_fireworks.emulator.protocol.routes import ROUTES

st = hypothesis.strategies

# A long run, now and then: EMULATOR_FUZZ=100 python -m pytest tests/emulator/test_fuzz.py
EFFORT = int(os.environ.get("EMULATOR_FUZZ", "1"))
KEY = {"Authorization": "Bearer a-key"}
SHORT = hypothesis.settings(
    max_examples=20 * EFFORT, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("around") / "state"


@pytest.fixture(scope="module")
def running(folder):
    with Emulator(folder) as emulator:
        yield emulator
        assert [failure for failure in emulator.failures if failure.kind == "server_error"] == []


@pytest.fixture(scope="module")
def api(running):
    api = Api(running.url)
    api.ready("model")
    api.create("fresh")
    deployment = {"baseModel": "accounts/fireworks/models/qwen3-8b", "acceleratorType": "NVIDIA_H100_80GB"}
    api.call("POST", "/deployments?deploymentId=prod", json=deployment)
    yield api
    api.close()


def test_the_description_is_served(running):
    served = httpx.get(f"{running.url}/_emulator/openapi.json").json()
    assert served == openapi.document()
    operations = {operation["operationId"] for path in served["paths"].values() for operation in path.values()}
    assert operations == {route.operation for route in ROUTES}


schema = schemathesis.openapi.from_dict(openapi.document())
if EFFORT == 1:
    # Schemathesis needs seconds to prepare for each of these large bodies; the test after this one covers them.
    schema = schema.exclude(operation_id=["create_model", "update_model", "create_deployment", "update_deployment"])
    schema = schema.exclude(operation_id="match_shape_versions")


@schema.parametrize()
@hypothesis.settings(
    max_examples=EFFORT, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)
def test_no_operation_breaks_under_generated_requests(case, running, api):
    for name, known in (("account", "acme"), ("model", "fresh")):
        if name in case.path_parameters and len(str(case.path_parameters[name])) % 2:
            case.path_parameters[name] = known
    response = case.call(base_url=running.url, headers=KEY, timeout=20)
    # An odd path variable may turn the path into another one, and a known path under another method is a 501.
    assert response.status_code < 500 or response.status_code == 501
    case.validate_response(
        response,
        checks=[
            schemathesis.specs.openapi.checks.response_schema_conformance,
            schemathesis.specs.openapi.checks.content_type_conformance,
        ],
    )


FIELDS = sorted({*messages.MODEL.fields, *serving_messages.DEPLOYMENT.fields, "kind", "base_model", "nope"})
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["HF_BASE_MODEL", "FP8", "NVIDIA_H100_80GB", "600s", "accounts/fireworks/models/qwen3-8b"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3)),
    max_leaves=5,
)


@SHORT
@hypothesis.given(body=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4), id_=st.text(max_size=5))
def test_no_resource_breaks_the_server(api, body, id_):
    text = json.dumps(body)
    for method, path, content in (
        ("POST", "/models", json.dumps({"modelId": id_, "model": body})),
        ("PATCH", "/models/model", text),
        ("POST", "/deployments", text),
        ("PATCH", "/deployments/prod", text),
        ("POST", "/deployedModels", text),
        ("POST", "/deploymentShapeVersions:match", json.dumps({"createDeploymentRequest": {"deployment": body}})),
    ):
        assert api.call(method, path, content=content).status_code < 500


@SHORT
@hypothesis.given(raw=st.binary(max_size=400))
def test_no_bytes_break_the_server(running, raw):
    address = httpx.URL(running.url)
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


@SHORT
@hypothesis.given(
    method=st.sampled_from(["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "HEAD"]),
    path=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=60),
    prefix=st.sampled_from(["/", "/v1/accounts/", "/fireworks-local/", "/_emulator/", "/inference/v1/", "//"]),
    body=st.binary(max_size=60),
)
def test_no_path_breaks_the_server(running, method, path, prefix, body):
    address = httpx.URL(running.url)
    head = f"{method} {prefix}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"Connection: close\r\n\r\n" + body)
        status = int(connection.recv(65536).split(b" ")[1])
    assert status < 500 or status == 501


@SHORT
@hypothesis.given(
    name=st.one_of(
        st.text(max_size=30), st.sampled_from(["../../evil", "..", "/etc/evil", "a/../../../evil", "%2e%2e/evil"])
    ),
    content=st.binary(min_size=1, max_size=50),
)
def test_no_file_name_leaves_the_state_folder(folder, api, name, content):
    try:
        name.encode()
    except UnicodeEncodeError:
        hypothesis.reject()
    api.create("names")
    urls = api.sign("names", {name: content}).json().get("filenameToSignedUrls", {})
    for url in urls.values():
        assert api.put(url, content).status_code == 200
    assert [path.name for path in folder.parent.iterdir()] == ["state"]
    assert {path.name for path in folder.iterdir()} <= {"kept", "state.db", "state.db-wal", "state.db-shm"}


@SHORT
@hypothesis.given(
    config=st.one_of(
        st.binary(max_size=80),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3),
                st.dictionaries(
                    st.sampled_from(
                        ["model_type", "architectures", "hidden_size", "text_config", "num_hidden_layers", "x"]
                    ),
                    inner,
                    max_size=4,
                ),
            ),
        ).map(lambda value: repr(value).replace("'", '"').replace("None", "null").encode("utf-8", "replace")),
    ),
    header=st.binary(max_size=60),
    index=st.binary(max_size=60),
)
def test_no_file_content_breaks_validation(api, config, header, index):
    files = {
        **base_files(),
        "config.json": config or b"{}",
        "model.safetensors": len(header).to_bytes(8, "little") + header,
        "model.safetensors.index.json": index or b"{}",
    }
    api.call("DELETE", "/models/content")
    assert api.create("content").status_code == 200
    urls = api.sign("content", files).json()["filenameToSignedUrls"]
    for file, content in files.items():
        assert api.put(urls[file], content).status_code == 200
    assert api.validate("content").status_code in (200, 400)


@SHORT
@hypothesis.given(
    filter_=st.text(st.sampled_from('kind=<>:!"()ANDORT* \\._-1é'), max_size=40), order=st.text(max_size=10)
)
def test_no_filter_breaks_a_list(api, filter_, order):
    answer = api.call("GET", "/models", params={"filter": filter_, "orderBy": order})
    assert answer.status_code in (200, 400)


def test_the_state_folder_is_all_there_is(folder, api):
    outside = [path for path in Path(folder).parent.iterdir() if path != folder]
    assert outside == []
