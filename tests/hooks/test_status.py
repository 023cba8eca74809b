"""The status page, as scripts, Prometheus and people in a real browser see it."""

import json
import re
import shutil
import threading
import time
from contextlib import closing, suppress
from html import unescape

import httpx
import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from support.hooks_world import wait_until
from support.ports import free_port

from mlflow_fireworks.errors import InvalidConfigError
from mlflow_fireworks.hooks.deliveries import Delivery
from mlflow_fireworks.hooks.heartbeats import Heartbeat
from mlflow_fireworks.hooks.jobs import Job, Progress, State, Subject
from mlflow_fireworks.hooks.links import Links, find_mlflow_pages, read_mlflow_pages
from mlflow_fireworks.hooks.metrics import JobFigures
from mlflow_fireworks.hooks.queue import open_queue
from mlflow_fireworks.hooks.receiver import make_app
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.hooks.service import load_secrets
from mlflow_fireworks.hooks.status import MAX_VIEWERS, StatusPage
from mlflow_fireworks.hooks.wording import describe_age

TOKEN = "a token for the people"
NASTY = "<script>document.title='broken'</script>"
MIB = 1 << 20
COMPARED = "mlflow_fireworks_last_comparison_timestamp_seconds"


def job(job_id, deployment, state=State.DONE, **fields):
    subject = Subject(kind="alias", name=fields.pop("model", "chat"), ref="champion")
    known = {"rule": "champions", "version": "7", "target": "fireworks:/acme", "created": time.time() - 300}
    return Job(id=job_id, subject=subject, deployment=deployment, state=state, **(known | fields))


@pytest.fixture
def queue(tmp_path):
    with closing(open_queue(str(tmp_path / "queue.db"))) as queue:
        yield queue


RULES = Rules.model_validate(
    {
        "rules": [
            {"name": "champions", "model": "*", "alias": "champion", "endpoint": "{model}-prod", "concurrency": 2},
            {
                "hub": "acme/chat",
                "branch": "main",
                "target": "fireworks:/acme",
                "deployment": "hub",
                "config": {"timeout": "1h"},
            },
            {
                "name": "tagged",
                "model": "coder*",
                "tag": "stage=prod",
                "when_removed": "delete",
                "target": "fireworks:/b",
            },
            {"name": "versions", "model": NASTY, "version": "created", "deployment": "v-{version}"},
        ]
    }
)


class Site:
    def __init__(self, queue, token=TOKEN):
        metrics = CollectorRegistry()
        metrics.register(JobFigures(queue))
        page = StatusPage(
            queue,
            metrics,
            SecretStr(token) if token else None,
            lambda: self.server.should_exit,
            rules=lambda: RULES,
            links=Links("https://mlflow.example.com/ml"),
        )
        self.queue = queue
        queue.heartbeats.beat(Heartbeat())
        self.port = free_port()
        app = make_app(page.routes(), lambda: {"ok": True})
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="warning"))
        self.thread = threading.Thread(target=self.server.run)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: self.server.started, "the server listens")
        return self

    def __exit__(self, *_):
        self.client.close()
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()

    def put(self, *jobs):
        for one in jobs:
            assert self.queue.ledger.accept(one)


@pytest.fixture
def site(queue):
    with Site(queue) as site:
        yield site


def fill(site):
    site.put(
        job("d1", "chat", result={"state": "READY", "model": "accounts/acme/models/chat-r2", "endpoint": "prod"}),
        job("d2", "embed", State.DEAD, error="the registry does not answer; is it running?", attempts=5),
        job(
            "d3",
            "vision-72b",
            State.RUNNING,
            progress=Progress(
                text="uploading 31 files", step=3, steps=4, size=140 << 30, moved=52 << 30, began=time.time() - 260
            ),
        ),
        job("d4", "rerank", State.QUEUED),
        job("d5", "old", State.SUPERSEDED, error="superseded by a newer promotion of the same deployment"),
    )


def test_page_and_json_tell_what_is_where_what_runs_and_what_failed(site):
    fill(site)
    page = site.client.get("/")
    for text in ("1 promotion failed", "is it running?", "vision-72b", "52.0 GiB of 140.0 GiB", "endpoint prod"):
        assert text in page.text, text
    assert len(page.content) < 30_000
    told = site.client.get("/status.json").json()
    names = {part: [found["id"] for found in told[part]] for part in ("failures", "queue", "promoted")}
    assert names == {"failures": ["d2"], "queue": ["d3", "d4"], "promoted": ["d1"]}
    assert told["queue"][0]["progress"]["moved"] == 52 << 30


def text_in(page, section):
    """What a part of the page says, without its marks."""
    body = page.partition(f'id="{section}"')[2].partition("</section>")[0]
    return " ".join(unescape(re.sub(r"<[^>]*>", "", body)).split())


def test_rules_are_told_in_words(site):
    told = text_in(site.client.get("/").text, "rules")
    for text in (
        (
            "champions When alias champion is set on any registered model: deploy that version as {model} on fireworks "
            "and move endpoint {model}-prod to it. if the alias is removed, everything is kept · at most 2 at a time"
        ),
        (
            "acme/chat branch main When branch main of the Hub repo acme/chat moves: deploy that commit as hub on "
            "fireworks:/acme. if the branch is removed, everything is kept · options: timeout=1h"
        ),
        (
            "tagged When a version of any registered model that matches coder* is tagged stage=prod: deploy it as "
            "{model} on fireworks:/b. if the tag is removed, the deployment is deleted"
        ),
        f"versions When a new version of the registered model {NASTY} is created: deploy it as v-{{version}}",
    ):
        assert text in told, text


def test_version_and_revision_of_each_job_are_shown_with_links_to_both_sides(site):
    result = {"state": "READY", "model": "accounts/acme/models/chat-r2", "revision": 2, "endpoint": "prod"}
    result |= {"address": "accounts/acme/models/chat-r2#accounts/acme/deployments/prod-3"}
    hub = Subject(kind="branch", name="acme/chat", ref="main")
    site.put(
        job("d1", "chat", model="a b/c", result=result),
        job("d2", "elsewhere", target="fireworks://fireworks.example.com/acme", result=result | {"revision": 5}),
        job("d3", "hub", version="1f0c9d2e8b7a6c5d", result={"revision": 1}).model_copy(update={"subject": hub}),
        job("d4", "waits", State.QUEUED),
    )
    page = site.client.get("/").text
    for part in ("promoted", "history"):
        told = text_in(page, part)
        assert "models:/a b/c@champion · version 7 → revision 2" in told
        assert "models:/chat@champion · version 7 → revision 5" in told
        assert "hf:/acme/chat@main · commit 1f0c9d2e8b7a → revision 1" in told
    assert "models:/chat@champion · version 7" in text_in(page, "queue")
    links = set(re.findall(r'<a href="([^"]*)"', page))
    assert links == {
        "https://mlflow.example.com/ml/#/models/a%20b%2Fc",
        "https://mlflow.example.com/ml/#/models/a%20b%2Fc/versions/7",
        "https://mlflow.example.com/ml/#/models/chat",
        "https://mlflow.example.com/ml/#/models/chat/versions/7",
        "https://huggingface.co/acme/chat",
        "https://huggingface.co/acme/chat/tree/1f0c9d2e8b7a6c5d",
        "https://app.fireworks.ai/dashboard/deployments/prod-3",
    }
    promoted = site.client.get("/status.json").json()["promoted"]
    assert {(told["version"], told["revision"]) for told in promoted} == {("7", 2), ("7", 5), ("1f0c9d2e8b7a6c5d", 1)}


def test_without_an_address_of_mlflows_pages_the_names_are_plain_text():
    plain = Links()
    assert (plain.model(job("d", "chat")), plain.version(job("d", "chat")), plain.endpoint(job("d", "chat"))) == (
        "",
        "",
        "",
    )


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://user:password@mlflow.example.com/ml/", "https://mlflow.example.com/ml"),
        ("sqlite:////tmp/mlflow.db", ""),
        ("databricks-uc", ""),
        ("databricks://profile", ""),
        ("/home/me/mlruns", ""),
    ],
)
def test_pages_of_mlflow_are_where_its_server_is(uri, address):
    assert find_mlflow_pages(uri) == address


@pytest.mark.parametrize("given", ["mlflow.example.com", "javascript:alert(1)", "http://", "https://[", "ftp://a"])
def test_a_wrong_address_of_mlflows_pages_is_refused(given):
    assert read_mlflow_pages("https://mlflow.example.com/") == "https://mlflow.example.com"
    with pytest.raises(InvalidConfigError, match="--mlflow-ui: write an address"):
        read_mlflow_pages(given)


def test_times_for_scripts_are_rfc_3339_and_stored_records_are_read_as_before(site):
    fill(site)
    site.queue.ledger.save_comparison("")
    site.queue.deliveries.note(Delivery(sender="mlflow", status=200, outcome="test"))
    told = site.client.get("/status.json").json()
    found = dict(walk(told))
    for path in ("taken", "promoted/0/created", "queue/0/progress/began", "workers/0/seen", "deliveries/0/received"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found[path]), path
    assert found["queue/1/not_before"] is None
    epochs = [path for path, value in found.items() if isinstance(value, float) and value > 1e9]
    assert epochs == []
    old = {"id": "o", "rule": "r", "subject": {"kind": "alias", "name": "chat", "ref": "a"}, "version": "1"}
    old |= {"target": "t", "deployment": "old", "state": "done", "created": 1764000000.5, "updated": 1764000001.0}
    site.queue.ledger._jobs._storage.put_data("o", json.dumps(old).encode())
    assert site.queue.ledger.find("o").created == 1764000000.5
    site.queue.ledger.save(site.queue.ledger.find("o"))
    assert json.loads(bytes(site.queue.ledger._jobs._storage.peek_data("o")))["created"] == 1764000000.5


def walk(value, path=""):
    """Every plain value in JSON, by its path."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(item, f"{path}/{key}" if path else str(key))
    else:
        yield path, value


def test_a_registry_that_does_not_answer_is_said_first(site):
    assert "Healthy" in site.client.get("/").text
    site.queue.ledger.save_comparison("")
    assert "compared with the registry <time" in site.client.get("/").text
    compared = site.queue.ledger.comparison().succeeded
    site.queue.ledger.save_comparison("rule 'a': the registry does not answer")
    page = site.client.get("/").text
    assert "Healthy" not in page
    for text in ("Not compared with the registry", "rule &#39;a&#39;: the registry does not answer", "just now"):
        assert text in page, text
    (figure,) = (line for line in site.client.get("/metrics").text.splitlines() if line.startswith(COMPARED))
    assert float(figure.split()[1]) == compared


def test_text_from_outside_stays_text_and_nothing_may_be_loaded(site):
    site.put(job("x", NASTY, State.DEAD, error=NASTY, model=NASTY))
    page = site.client.get("/")
    assert NASTY not in page.text
    assert "&lt;script&gt;document" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["cache-control"] == "no-store"
    assert "unsafe" not in page.headers["content-security-policy"]


def test_only_the_token_tries_a_dead_job_again(site):
    fill(site)
    post = site.client.post
    assert post("/jobs/d2/retry", data={"token": "wrong"}).status_code == 403
    assert post("/jobs/d2/retry", data={}).status_code == 403
    assert post("/jobs/d2/retry", data={"token": "é" * 20}).status_code == 403
    assert post("/jobs/d2/retry", data={"token": "x" * 10_000}).status_code == 413
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert post("/jobs/none/retry", headers=bearer).status_code == 404
    assert post("/jobs/d1/retry", headers=bearer).status_code == 409
    accepted = post("/jobs/d2/retry", headers=bearer)
    assert accepted.status_code == 202
    assert site.queue.ledger.find(accepted.json()["id"]).deployment == "embed"
    assert site.queue.waiting() == 1
    site.put(job("d6", "other", State.DEAD))
    back = post("/jobs/d6/retry", data={"token": TOKEN})
    assert (back.status_code, back.headers["location"]) == (303, "/")


def test_without_a_token_nobody_may(queue):
    with Site(queue, token=None) as site:
        fill(site)
        assert "hooks retry d2" in site.client.get("/").text
        assert site.client.post("/jobs/d2/retry", data={"token": ""}).status_code == 403
        assert site.client.post("/jobs/d2/retry", headers={"Authorization": "Bearer None"}).status_code == 403


def test_a_short_token_is_refused():
    rules = Rules.model_validate({"rules": [{"model": "chat", "alias": "a"}]})
    environ = {"MLFLOW_FIREWORKS_WEBHOOK_SECRET": "s", "MLFLOW_FIREWORKS_HOOKS_TOKEN": "short"}
    with pytest.raises(InvalidConfigError, match="shorter than 16"):
        load_secrets(rules, environ)


def test_prometheus_is_answered_in_the_format_that_it_asks_for(site):
    fill(site)
    plain = site.client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "mlflow_fireworks_failed_deployments 1.0" in plain.text
    asked = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    openmetrics = site.client.get("/metrics", headers=asked)
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


def test_changes_are_sent_and_open_pages_do_not_hold_the_server_up(site):
    with site.client.stream("GET", "/events") as stream:
        lines = stream.iter_lines()
        read_until(lines, "Healthy")
        site.put(job("n", "newcomer", State.DEAD, error="no"))
        read_until(lines, "newcomer")
        site.server.should_exit = True
        began = time.monotonic()
        for _ in lines:
            pass
        site.thread.join(30)
        assert time.monotonic() - began < 20


def read_until(lines, text):
    for line in lines:
        if text in line:
            return
    raise AssertionError(f"the stream ended without {text}")


def test_too_many_open_pages_are_told_to_reload(queue, monkeypatch):
    monkeypatch.setattr("mlflow_fireworks.hooks.status.MAX_VIEWERS", 1)
    with Site(queue) as site, site.client.stream("GET", "/events") as stream:
        lines = stream.iter_lines()
        read_until(lines, "Healthy")
        assert site.client.get("/events").status_code == 503
    assert MAX_VIEWERS >= 100


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(5, "just now"), (61, "1 min ago"), (7300, "2 h ago"), (90_000, "1 day ago"), (2e5, "2 days ago")],
)
def test_ages(seconds, told):
    assert describe_age(seconds) == told


# In the browser.

needs_browser = pytest.mark.skipif(shutil.which("chromedriver") is None, reason="chromium-driver is not installed")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]


@pytest.fixture
def browse(tmp_path):
    opened = []

    def browse(site, width=1280, height=900, *, javascript=True, dark=False):
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in [*FLAGS, f"--user-data-dir={tmp_path / f'chromium-{len(opened)}'}"]:
            options.add_argument(flag)
        if not javascript:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        opened.append(driver)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        driver.get(f"http://127.0.0.1:{site.port}/")
        return driver

    yield browse
    for driver in opened:
        driver.quit()


def element(driver, css):
    return driver.find_element("css selector", css)


def text_of(driver, css):
    """What an element says; nothing while it is being replaced, by the next page or by a live change."""
    with suppress(WebDriverException):
        return element(driver, css).text
    return ""


def click(driver, css):
    def clicked():
        with suppress(StaleElementReferenceException):
            element(driver, css).click()
            return True
        return False

    wait_until(clicked, f"{css} is clicked")


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("size", [(360, 740, False), (1280, 900, True)])
def test_page_fits_phone_and_desk_without_an_error(site, browse, size, tmp_path):
    width, height, dark = size
    fill(site)
    site.put(job("long", "a-" + "very" * 15, State.DEAD, error=NASTY + "x" * 300, model="m" * 200))
    site.queue.deliveries.note(Delivery(sender="huggingface", status=200, outcome="ignored", reason=NASTY + "y" * 300))
    driver = browse(site, width, height, dark=dark)
    wait_until(lambda: text_of(driver, "#connection") == "live", "the page is live")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert "ignored" in text_of(driver, "#deliveries")
    assert driver.title == "Promotions to Fireworks"
    assert driver.get_log("browser") == []
    driver.save_screenshot(str(tmp_path / f"page-{width}.png"))


@pytest.mark.slow
@needs_browser
def test_live_changes_leave_a_typed_token_alone_and_the_button_works(site, browse):
    fill(site)
    driver = browse(site)
    wait_until(lambda: text_of(driver, "#connection") == "live", "the page is live")
    field = element(driver, "#retry [name=token]")
    field.send_keys("not the token")
    running = site.queue.ledger.find("d3")
    site.queue.ledger.save(running, progress=running.progress.model_copy(update={"moved": 70 << 30}))
    wait_until(lambda: "70.0 GiB of 140.0 GiB" in text_of(driver, "#queue"), "the bytes are shown")
    assert field.get_property("value") == "not the token"
    assert driver.switch_to.active_element == field
    click(driver, "li.dead button")
    assert "Wrong token" in wait_until(lambda: text_of(driver, "#message"), "the page says why not")
    element(driver, "#retry [name=token]").send_keys(TOKEN)
    click(driver, "li.dead button")
    wait_until(lambda: "embed" in text_of(driver, "#queue"), "the job is in the queue again")
    wait_until(lambda: "Healthy" in text_of(driver, "#state"), "the state is good")
    wait_until(lambda: not element(driver, "#retry").is_displayed(), "nothing is left to try again")


@pytest.mark.slow
@needs_browser
def test_live_changes_keep_focus_selection_open_details_and_the_place_on_the_page(site, browse):
    fill(site)
    for number in range(30):
        site.put(job(f"p{number}", f"past-{number}", State.SUPERSEDED, created=time.time() - 1000 - number))
    driver = browse(site, 360, 740)
    wait_until(lambda: text_of(driver, "#connection") == "live", "the page is live")
    driver.execute_script("""
        document.querySelector("#older-jobs").open = true;
        document.querySelector("li.dead button").focus();
        window.button = document.activeElement;
        const text = document.querySelector("#promoted h3").firstChild;
        getSelection().setBaseAndExtent(text, 0, text, 4);
        scrollTo(0, document.querySelector("#older-jobs").getBoundingClientRect().top + scrollY);
    """)
    top = "return document.querySelector('#older-jobs').getBoundingClientRect().top"
    before = driver.execute_script(top)
    site.put(job("n1", "newcomer", State.DEAD, error="no"), job("n2", "another", State.QUEUED))
    running = site.queue.ledger.find("d3")
    site.queue.ledger.save(running, progress=running.progress.model_copy(update={"moved": 70 << 30}))
    site.queue.ledger.save(site.queue.ledger.find("d4"), state=State.DONE, result={"revision": 4, "state": "READY"})
    wait_until(lambda: "70.0 GiB of 140.0 GiB" in text_of(driver, "#queue"), "the bytes are shown")
    wait_until(lambda: "newcomer" in text_of(driver, "#failures"), "the newcomer is shown")
    assert driver.execute_script("return document.activeElement === window.button && window.button.isConnected")
    assert driver.execute_script("return String(getSelection())") == "chat"
    assert driver.execute_script("return document.querySelector('#older-jobs').open")
    assert abs(driver.execute_script(top) - before) < 60
    fresh = browse(site, 360, 740)
    wait_until(lambda: text_of(fresh, "#connection") == "live", "the other page is live")

    def told(driver):
        texts = [text_of(driver, f"#{part}") for part in ("failures", "queue", "promoted", "workers", "history")]
        return [re.sub(r"[\d.]+ MiB/s.*", "", text) for text in texts]  # changes while it is read

    assert told(driver)[:4] == told(fresh)[:4]
    assert told(fresh)[4] in told(driver)[4]  # there the older jobs are shown too


@pytest.mark.slow
@needs_browser
def test_page_is_right_without_javascript(site, browse):
    fill(site)
    driver = browse(site, javascript=False)
    assert element(driver, "#connection").text.startswith("as of")
    element(driver, "#retry [name=token]").send_keys(TOKEN)
    click(driver, "li.dead button")
    wait_until(lambda: "embed" in text_of(driver, "#queue"), "the job is in the queue again")
