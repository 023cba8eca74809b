"""Trouble on demand: every kind of it, from Python and over the admin plane."""

import json
import socket
import time

import httpx
import pytest


def test_a_status_with_retry_after_for_the_next_calls(emulator, api):
    emulator.fault("list_models", status=429, retry_after=7, times=2)
    answers = [api.call("GET", "/models") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "7"
    assert answers[0].json()["code"] == 8


def test_faults_can_wait_for_a_later_call_and_another_path(emulator, api):
    emulator.fault("get_model", status=500, skip=1, path_contains="b")
    api.create("a")
    api.create("b")
    assert [api.get(id_).status_code for id_ in ("a", "b", "a", "b", "b")] == [200, 200, 200, 500, 200]


@pytest.mark.parametrize("drop", ["close", "reset"])
def test_a_lost_reply_after_the_server_has_acted(emulator, api, drop):
    emulator.fault("create_model", drop=drop, act=True)
    with pytest.raises(httpx.TransportError):
        api.create("chat")
    assert api.get("chat").status_code == 200
    assert emulator.calls("create_model")[0].status == 0


def test_a_lost_request_leaves_nothing_behind(emulator, api):
    emulator.fault("create_model", drop="close")
    with pytest.raises(httpx.TransportError):
        api.create("chat")
    assert api.get("chat").status_code == 404


@pytest.mark.parametrize("drop", ["close", "reset"])
def test_a_connection_cut_inside_the_body(emulator, api, drop):
    content = bytes(8 << 20)
    api.create("chat")
    url = api.sign("chat", {"model.bin": content}).json()["filenameToSignedUrls"]["model.bin"]
    emulator.fault("put_object", drop=drop, after_bytes=1 << 20)
    with pytest.raises(httpx.TransportError):
        api.put(url, content)
    assert emulator.calls("put_object")[0].received == 1 << 20
    assert "0 of 1" not in api.validate("chat").text
    assert api.put(url, content).status_code == 200


def test_an_early_answer_arrives_although_the_body_was_not_read(emulator, api):
    content = bytes(8 << 20)
    api.create("chat")
    url = api.sign("chat", {"model.bin": content}).json()["filenameToSignedUrls"]["model.bin"]
    emulator.fault("put_object", status=503, after_bytes=0)
    assert api.put(url, content).status_code == 503


def test_a_stall_only_delays_when_nothing_else_is_asked(emulator, api):
    emulator.fault("list_models", stall_seconds=0.2)
    started = time.monotonic()
    assert api.call("GET", "/models").status_code == 200
    assert time.monotonic() - started >= 0.2


def test_malformed_json(emulator, api):
    emulator.fault("list_models", malformed=True)
    answer = api.call("GET", "/models")
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


def test_an_expired_url_on_demand(emulator, api, files):
    api.create("chat")
    url = api.sign("chat", files).json()["filenameToSignedUrls"]["config.json"]
    emulator.fault("put_object", expired=True)
    answer = api.put(url, files["config.json"])
    assert (answer.status_code, "ExpiredToken" in answer.text) == (400, True)


def test_patterns_and_bodies(emulator, api):
    emulator.fault("*_model", status=502, body="<html>bad gateway</html>")
    assert api.get("chat").text == "<html>bad gateway</html>"


@pytest.mark.parametrize(
    "trouble", [{"status": 99}, {"times": 0}, {"drop": "softly"}, {"after_bytes": "3"}, {"retry_after": "a\r\nb: c"}]
)
def test_faults_that_cannot_be_meant_are_refused(emulator, trouble):
    with pytest.raises(ValueError, match=r"times|status|drop|after_bytes|retry_after"):
        emulator.fault("list_models", **trouble)


def test_a_fault_for_an_operation_that_does_not_exist_is_refused(emulator):
    with pytest.raises(ValueError, match=r"no operation .create_modle."):
        emulator.fault("create_modle", status=500)


def test_the_admin_plane_does_the_same_over_http(emulator, api):
    admin = httpx.Client(verify=False, base_url=f"{emulator.url}/_emulator")
    assert admin.post("/faults", json={"operation": "list_models", "status": 503}).status_code == 200
    assert [fault["status"] for fault in admin.get("/faults").json()] == [503]
    assert api.call("GET", "/models").status_code == 503
    assert api.call("GET", "/nothing").status_code == 404
    assert [request["status"] for request in admin.get("/requests").json()] == [503, 404]
    assert admin.get("/requests").json()[0]["authorized"] is True
    assert [failure["kind"] for failure in admin.get("/failures").json()] == ["unknown_route"]
    assert admin.post("/faults", json={"operation": "list_models", "no": 1}).status_code == 400
    assert admin.post("/faults", content=b"[]").status_code == 400
    assert admin.get("/nothing").status_code == 404
    api.create("chat")
    admin.post("/reset")
    assert admin.get("/requests").json() == []
    assert api.get("chat").status_code == 404
    admin.close()


def test_stopping_does_not_wait_for_a_stalled_client(start):
    emulator, _api = start()
    address = httpx.URL(emulator.url)
    with socket.create_connection((address.host, address.port)) as idle:
        idle.sendall(b"POST /v1/accounts/a/models HTTP/1.1\r\nContent-Length: 10\r\n\r\n{")
        started = time.monotonic()
        emulator.stop()
        assert time.monotonic() - started < 2


def test_garbage_is_answered_and_survived(emulator, api):
    address = httpx.URL(emulator.url)
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET /\r\n\r\n",
        b"PUT / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        with socket.create_connection((address.host, address.port), timeout=5) as raw:
            raw.sendall(garbage)
            raw.recv(1000)
    assert api.call("GET", "/models").status_code == 200


def upload_url(api, content):
    api.create("chat")
    return api.sign("chat", {"model.bin": content}).json()["filenameToSignedUrls"]["model.bin"]


def test_a_body_can_pause_and_go_on(emulator, api):
    content = bytes(1 << 20)
    url = upload_url(api, content)
    emulator.fault("put_object", after_bytes=1000, stall_seconds=0.2)
    started = time.monotonic()
    assert api.put(url, content).status_code == 200
    assert time.monotonic() - started >= 0.2
    assert emulator.calls("put_object")[0].received == len(content)


def test_a_slow_link(emulator, api):
    content = bytes(1 << 20)
    url = upload_url(api, content)
    emulator.fault("put_object", bytes_per_second=4 << 20)
    started = time.monotonic()
    assert api.put(url, content).status_code == 200
    assert 0.2 < time.monotonic() - started < 2


def test_transitions_over_the_admin_plane(emulator, api):
    admin = httpx.Client(verify=False, base_url=f"{emulator.url}/_emulator")
    assert admin.post("/transitions", json={"pattern": "deployments", "reads": 1}).status_code == 200
    assert admin.post("/transitions", json={"pattern": "nothing"}).status_code == 400
    assert admin.post("/transitions", json={"pattern": "models", "seconds": "1"}).status_code == 400
    body = {"baseModel": "accounts/fireworks/models/qwen3-8b", "acceleratorType": "NVIDIA_H100_80GB"}
    api.call("POST", "/deployments?deploymentId=prod", json=body)
    states = [api.call("GET", "/deployments/prod").json()["state"] for _ in range(2)]
    assert states == ["CREATING", "READY"]
    assert admin.delete("/transitions").status_code == 200
    admin.close()
