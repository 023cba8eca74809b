"""Resumable uploads: sessions, chunks, probes, cancellation, and what survives a cut or a restart."""

import httpx
import pytest
from emulator.raw_client import OCTETS, Api, base_files

CHUNK = 256 * 1024
CONTENT = bytes(range(256)) * 1024 * 3 + b"tail"
SIZE = len(CONTENT)


def start_session(api, id_="chat", content=CONTENT, name="model.bin"):
    api.create(id_)
    body = {"filenameToSize": {name: len(content)}, "enableResumableUpload": True}
    url = api.call("POST", f"/models/{id_}:getUploadEndpoint", json=body).json()["filenameToSignedUrls"][name]
    size = len(content)
    headers = {"Content-Type": OCTETS, "x-goog-content-length-range": f"{size},{size}", "x-goog-resumable": "start"}
    opened = api.storage.post(url, headers=headers)
    assert opened.status_code == 201
    return opened.headers["location"]


def send(api, session, first, end, *, total=SIZE):
    headers = {"Content-Range": f"bytes {first}-{end - 1}/{total}"}
    return api.storage.put(session, content=CONTENT[first:end], headers=headers)


def probe(api, session, total="*"):
    return api.storage.put(session, headers={"Content-Range": f"bytes */{total}"})


def test_chunks_add_up_to_the_file(api):
    session = start_session(api)
    assert "range" not in probe(api, session).headers
    first = send(api, session, 0, 2 * CHUNK)
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{2 * CHUNK - 1}")
    assert probe(api, session, len(CONTENT)).headers["range"] == f"bytes=0-{2 * CHUNK - 1}"
    last = send(api, session, 2 * CHUNK, len(CONTENT))
    assert last.status_code == 200
    assert probe(api, session).status_code == 200

    plain = api.sign("chat", {"copy.bin": CONTENT}).json()["filenameToSignedUrls"]["copy.bin"]
    copy = api.put(plain, CONTENT).headers["x-goog-hash"]
    assert last.headers["x-goog-hash"] == copy.partition(",")[0]


def test_the_whole_file_in_one_go_needs_no_content_range(api):
    session = start_session(api)
    assert api.storage.put(session, content=CONTENT).status_code == 200


def test_only_whole_chunks_are_persisted(api):
    session = start_session(api)
    assert send(api, session, 0, CHUNK + 5).headers["range"] == f"bytes=0-{CHUNK - 1}"
    assert send(api, session, 0, 2 * CHUNK).headers["range"] == f"bytes=0-{2 * CHUNK - 1}"


@pytest.mark.parametrize(
    ("first", "end", "total"),
    [(0, 100, len(CONTENT)), (CHUNK, 2 * CHUNK, len(CONTENT)), (0, CHUNK, CHUNK - 1), (0, CHUNK, 5 * CHUNK)],
)
def test_ranges_that_cannot_be_are_refused(api, first, end, total):
    assert send(api, start_session(api), first, end, total=total).status_code == 400


@pytest.mark.parametrize("header", ["bytes", "bytes 5-2/9", "bytes x-y/z", "items 0-1/2"])
def test_malformed_ranges_are_refused(api, header):
    session = start_session(api)
    assert api.storage.put(session, content=b"ab", headers={"Content-Range": header}).status_code == 400


def test_a_cut_connection_loses_at_most_one_chunk(emulator, api):
    session = start_session(api)
    emulator.fault("put_chunk", drop="reset", act=False, after_bytes=0)
    with pytest.raises(httpx.TransportError):
        send(api, session, 0, len(CONTENT))
    assert probe(api, session).status_code == 308
    assert send(api, session, 0, len(CONTENT)).status_code == 200


def test_a_client_that_dies_inside_a_chunk_can_go_on(emulator, api):
    session = start_session(api)

    def dying():
        yield CONTENT[: CHUNK + 10]
        raise RuntimeError("gone")

    headers = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}", "Content-Length": str(len(CONTENT))}
    with pytest.raises(RuntimeError, match="gone"):
        api.storage.put(session, content=dying(), headers=headers)
    # The server notices the end of the connection in its own time.
    while not emulator.calls("put_chunk"):
        pass
    assert probe(api, session).headers["range"] == f"bytes=0-{CHUNK - 1}"
    assert send(api, session, CHUNK, len(CONTENT)).status_code == 200


def test_a_session_survives_a_restart(start, tmp_path):
    files = {**base_files(), "model.safetensors": base_files()["model.safetensors"]}
    _emulator, api = start(tmp_path)
    content = base_files()["model.safetensors"][:-64] + bytes(64)
    session = httpx.URL(start_session(api, content=content, name="model.safetensors"))
    emulator, again = start(tmp_path)
    port = httpx.URL(emulator.url).port
    assert again.storage.put(session.copy_with(port=port), content=content).status_code == 200
    again.upload("chat", files)
    assert again.validate("chat").status_code == 200


def test_sessions_expire_and_can_be_cancelled(start):
    now = [1_000_000.0]
    _emulator, api = start(clock=lambda: now[0])
    session = start_session(api)
    assert api.storage.delete(session).status_code == 499
    assert probe(api, session).status_code == 404
    session = start_session(api, "other")
    now[0] += 7 * 86400
    assert probe(api, session).status_code == 410


def test_a_session_opens_only_as_signed(api):
    api.create("chat")
    body = {"filenameToSize": {"a.bin": 5}, "enableResumableUpload": True}
    url = api.call("POST", "/models/chat:getUploadEndpoint", json=body).json()["filenameToSignedUrls"]["a.bin"]
    headers = {"Content-Type": OCTETS, "x-goog-content-length-range": "5,5"}
    assert api.storage.post(url, headers=headers).status_code == 400
    assert api.storage.post(url, headers={**headers, "x-goog-resumable": "no"}).status_code == 403
    assert api.storage.put(url, content=b"12345", headers={**headers, "x-goog-resumable": "start"}).status_code == 403


def test_a_made_up_session_is_unknown(api):
    session = start_session(api)
    assert probe(api, session[:-4] + "AAAA").status_code == 404
    other = Api(str(api.http.base_url))
    assert other.storage.put(session.replace("model.bin", "x.bin"), content=CONTENT).status_code == 404
    other.close()
