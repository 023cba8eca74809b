"""Signed uploads: what Google's storage insists on, and when a file counts as landed."""

import base64
import hashlib

import google_crc32c
import httpx
import pytest
from emulator.raw_client import OCTETS


@pytest.fixture
def url(api, files):
    api.create("chat")
    return api.sign("chat", files).json()["filenameToSignedUrls"]["config.json"]


def refused(response):
    assert response.headers["content-type"].startswith("application/xml")
    return response.status_code, response.text.partition("<Code>")[2].partition("</Code>")[0]


def test_a_url_is_on_the_servers_own_host_and_names_what_is_signed(emulator, url):
    query = httpx.URL(url).params
    assert url.startswith(emulator.url + "/")
    assert query["X-Goog-Algorithm"] == "GOOG4-RSA-SHA256"
    assert query["X-Goog-SignedHeaders"] == "content-type;host;x-goog-content-length-range"
    assert query["X-Goog-Expires"] == "3600"


def test_a_put_answers_with_hashes(api, url, files):
    content = files["config.json"]
    answer = api.put(url, content)
    crc = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
    md5 = hashlib.md5(content)
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["x-goog-hash"] == f"crc32c={crc},md5={base64.b64encode(md5.digest()).decode()}"
    assert answer.headers["etag"] == f'"{md5.hexdigest()}"'
    assert int(answer.headers["x-goog-generation"]) > 0


def test_a_missing_signed_header_is_malformed(api, url):
    assert refused(api.storage.put(url, content=b"x")) == (400, "MalformedSecurityHeader")
    assert refused(api.storage.put(url, content=b"x", headers={"Content-Type": OCTETS})) == (
        400,
        "MalformedSecurityHeader",
    )


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {"x-goog-content-length-range": "0,119"}])
def test_another_value_of_a_signed_header_does_not_match(api, url, files, headers):
    assert refused(api.put(url, files["config.json"], **headers)) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    ("old", "new"),
    [("config.json", "tokenizer.json"), ("X-Goog-Expires=3600", "X-Goog-Expires=9999"), ("X-Goog-Signature=", "&x=")],
)
def test_a_changed_url_is_refused(api, url, files, old, new):
    assert api.put(url.replace(old, new), files["config.json"]).status_code == 403


def test_another_method_is_refused(api, url):
    assert api.storage.get(url).status_code in (400, 403)


def test_an_expired_url_is_refused(start, files):
    now = [1_000_000.0]
    _emulator, api = start(clock=lambda: now[0], behaviours={"url-life": "15m"})
    api.create("chat")
    url = api.sign("chat", files).json()["filenameToSignedUrls"]["config.json"]
    now[0] += 900
    assert refused(api.put(url, files["config.json"])) == (400, "ExpiredToken")


def test_a_body_of_another_length_is_refused(api, url, files):
    size = len(files["config.json"])
    headers = {"x-goog-content-length-range": f"{size},{size}"}
    assert refused(api.put(url, files["config.json"] + b"x", **headers)) == (400, "EntityTooLarge")
    assert refused(api.put(url, files["config.json"][:-1], **headers)) == (400, "EntityTooSmall")


def test_a_bearer_token_at_storage_is_refused_and_recorded(emulator, api, url, files):
    assert api.put(url, files["config.json"], Authorization="Bearer a-key").status_code == 400
    assert [failure.kind for failure in emulator.failures] == ["bearer_at_storage"]
    assert "a-key" not in repr(emulator.failures) + repr(emulator.requests)


def test_records_hold_no_signature(emulator, api, url, files):
    api.put(url, files["config.json"])
    assert "X-Goog" not in repr(emulator.requests)


def test_a_chunked_body_is_accepted_and_dropped(emulator, api, url, files):
    content = files["config.json"]
    headers = {"Content-Type": OCTETS, "x-goog-content-length-range": f"{len(content)},{len(content)}"}
    answer = api.storage.put(url, content=iter([content[:5], content[5:]]), headers=headers)
    assert answer.status_code == 200
    assert "config.json" in api.validate("chat").json()["message"]
    assert [failure.kind for failure in emulator.failures] == ["chunked_upload"]


def test_a_chunked_body_is_stored_when_told_so(start, files):
    emulator, api = start(behaviours={"chunked-uploads": "stored"})
    api.create("chat")
    for name, url in api.sign("chat", files).json()["filenameToSignedUrls"].items():
        size = len(files[name])
        headers = {"Content-Type": OCTETS, "x-goog-content-length-range": f"{size},{size}"}
        assert api.storage.put(url, content=iter([files[name]]), headers=headers).status_code == 200
    assert api.validate("chat").status_code == 200
    assert not emulator.failures


def test_a_hash_sent_along_is_checked(api, url, files):
    assert refused(api.put(url, files["config.json"], **{"x-goog-hash": "crc32c=AAAAAA=="})) == (400, "BadDigest")


def test_files_land_only_after_the_delay(start, files):
    now = [1_000_000.0]
    _emulator, api = start(clock=lambda: now[0], landing_seconds=30)
    api.create("chat")
    api.upload("chat", files)
    answer = api.validate("chat")
    assert (answer.status_code, answer.json()["code"]) == (400, 9)
    now[0] += 30
    assert api.validate("chat").status_code == 200


def test_the_last_upload_set_replaces_the_earlier_one_and_landed_files_stay(api, files):
    api.create("chat")
    api.sign("chat", {**files, "stray.txt": b"never sent"})
    api.upload("chat", files)
    assert api.validate("chat").status_code == 200
    assert api.get("chat").json()["state"] == "READY"


def test_a_file_registered_with_another_size_has_not_landed(api, files):
    api.create("chat")
    api.upload("chat", files)
    api.sign("chat", {**files, "config.json": 1})
    assert api.validate("chat").json()["code"] == 9


def test_a_ready_model_takes_no_more_files(api, files):
    api.ready("chat", files=files)
    assert api.sign("chat", files).status_code == 409


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\\b", "a\n", "./a", "a/", "é" * 600]
)
def test_unsafe_names_are_refused(api, name):
    api.create("chat")
    assert api.sign("chat", {name: b"x"}).json()["code"] == 3


def test_names_with_folders_spaces_and_accents_work(api, files):
    odd = {**files, "1_Pooling/config.json": b"{}", "a b+c%20d~é.txt": b"x"}
    assert api.ready("chat", files=odd)["state"] == "READY"


def test_large_files_leave_only_their_header(start, tmp_path, files):
    _emulator, api = start(tmp_path)
    header = files["model.safetensors"]
    api.create("chat")
    content = header + bytes(3 << 20)
    api.upload("chat", {"model.safetensors": content, "pytorch_model.bin": bytes(1 << 20)})
    kept = [path.stat().st_size for path in (tmp_path / "kept").iterdir()]
    assert kept == [len(header) - 64]


def test_python_can_see_what_was_uploaded(emulator, api, files):
    api.create("chat")
    assert emulator.uploaded("accounts/acme/models/chat") == {}
    api.upload("chat", files)
    found = emulator.uploaded("accounts/acme/models/chat")
    assert {name: stored.size for name, stored in found.items()} == {name: len(files[name]) for name in files}
    assert emulator.uploaded("accounts/acme/models/nope") == {}
