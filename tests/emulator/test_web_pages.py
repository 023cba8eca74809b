"""A web page that somebody looks at cannot drive the emulator that runs on the same machine."""

import pytest
from emulator.raw_client import BASE


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "http://["},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/_emulator/reset", "/_emulator/faults", "/v1/accounts/acme/models"])
def test_a_web_page_changes_nothing_and_reads_nothing(emulator, api, headers, path):
    api.create("chat", BASE)
    answer = api.http.post(path, content=b"{}", headers={"Content-Type": "text/plain", **headers})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert api.get("chat").status_code == 200
    assert api.http.get("/v1/accounts/acme/models", headers=headers).status_code == 403


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "PUT", "DELETE"])
def test_no_method_asks_a_browser_in(emulator, api, method):
    answer = api.http.request(method, "/v1/accounts/acme/models", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers", [{"Host": "localhost:1"}, {"Origin": "http://localhost:8888"}, {"Host": "[::1]"}], ids=str
)
def test_programs_of_this_machine_are_answered(emulator, api, headers):
    assert api.http.get("/v1/accounts/acme/models", headers=headers).status_code == 200
