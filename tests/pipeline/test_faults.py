"""Every fault at every place of a deployment.

Places are requests that a run makes, faults what can happen to them. Each run goes through the whole plugin, to real
servers behind a proxy. `CELLS` says what becomes of each pair: it passes or it fails. A fault that passes hits a place
twice (a stall once). After one that ends the run, the same command runs again without it, and sends what is missing.
"""

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product

import pytest
import stamina
from support.faulty_world import API, STORE, WEIGHTS, Site, World, log_everything
from support.tcp_proxy import Trouble, answer

from mlflow_fireworks.errors import ApiError, SourceError, TransferError, UnavailableError
from mlflow_fireworks.http import Timeouts

SIZE = 1_445_432  # of the weights
CUT = 600_000  # bytes of them that get through before a connection breaks
LOST = CUT % (256 * 1024)  # of those, what a session does not keep
QUICK = Timeouts(connect=0.6, quiet=0.6, answer=0.6)


@dataclass(frozen=True)
class Place:
    """One kind of request.

    Args:
        on: Finds it, in the head of a request.
        cut: Where a broken connection breaks: after so many bytes of the request's body or the reply's.
        skip: So many such requests come before.
        options: Of the run.
    """

    on: str
    cut: dict
    skip: int = 0
    options: tuple = ()


RESUMABLE = (("resumable", "true"),)
PLACES = {
    "create": Place(r"^POST /v1/accounts/acme/models ", {"body": 20}),
    "sign": Place(r"^POST \S+:getUploadEndpoint ", {"body": 20}),
    "put": Place(rf"^PUT \S+/{WEIGHTS}\?X-Goog", {"body": CUT}),
    "open": Place(rf"^POST \S+/{WEIGHTS}\?X-Goog", {}, options=RESUMABLE),
    "chunk": Place(rf"^PUT \S+/{WEIGHTS}\?upload_id=.*content-range: bytes \d", {"body": CUT}, options=RESUMABLE),
    "probe": Place(rf"^PUT \S+/{WEIGHTS}\?upload_id=.*content-range: bytes \*", {}, options=RESUMABLE),
    "validate": Place(r"^GET \S+:validateUpload", {"reply": 5}),
    "poll": Place(r"^GET /v1/accounts/acme/models/chat ", {"reply": 5}, skip=1),
    # Not the reading of a file's beginning, which is part of planning.
    "fetch": Place(rf"^GET \S+/{WEIGHTS} (?!.*\r\nrange:)", {"reply": CUT}, options=(("remote", True),)),
}
STORAGE = {"put", "open", "chunk", "probe"}
STATUSES = {
    408: "Request Timeout",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
PASSING = [
    "reset",
    "close",
    "stall",
    "lost reply",
    *(f"{status}{suffix}" for status, suffix in product(STATUSES, ("", " Retry-After"))),
]
STAYING = ["refused", "no DNS", "bad TLS", "503 for ever", "ExpiredToken", "403", "404", "412", "malformed"]


def refuse(place, status, phrase, reason):
    """The answer of the server at that place."""
    if place in STORAGE:
        body = f"<?xml version='1.0'?><Error><Code>{phrase}</Code><Message>{reason}</Message></Error>"
        return answer(f"{status} {phrase}", body.encode())
    return answer(f"{status} {phrase}", json.dumps({"code": 2, "details": [], "message": reason}).encode())


def make_trouble(world, site, place, fault):
    """Everything that has to happen for a cell."""
    where = PLACES[place]
    proxy = world.store if place == "fetch" else world.fireworks
    if fault == "bad TLS" and place in STORAGE:
        distrust_storage(world, proxy, place)
        return
    if place == "probe":  # there is one only after a connection broke
        proxy.make(Trouble(PLACES["chunk"].on, body=CUT))
    trouble = partial(Trouble, where.on, skip=where.skip)
    broken = {
        "reset": trouble(times=2, **where.cut),
        "close": trouble(times=2, close=True, **where.cut),
        "stall": trouble(kind="stall", **where.cut),
        "lost reply": trouble(times=2, reply=-1),
        "refused": trouble(then=proxy.refuse),
        "no DNS": trouble(then=partial(site.unknown_hosts.add, STORE if place == "fetch" else API)),
        "bad TLS": trouble(then=partial(setattr, proxy, "certificate", world.bad.context)),
    }
    if fault in broken:
        proxy.make(broken[fault])
    else:
        text, times = make_answer(place, fault)
        proxy.make(trouble(kind="answer", answer=text, times=times))


def make_answer(place, fault):
    """What is answered, and how often."""
    status, _, manner = fault.partition(" ")
    if fault == "malformed":
        return malformed(place), 1
    if fault == "ExpiredToken":
        return refuse(place, 400, "ExpiredToken", "The provided token has expired."), 1
    if int(status) in STATUSES:
        headers = ("Retry-After: 0",) if manner == "Retry-After" else ()
        return answer(f"{status} {STATUSES[int(status)]}", b"", *headers), 99 if manner == "for ever" else 2
    reason = {"403": "Forbidden", "404": "NotFound", "412": "PreconditionFailed"}[status]
    return refuse(place, status, reason, f"the reason for {status}"), 1 if status == "404" and place != "fetch" else 99


def distrust_storage(world, proxy, place):
    """The local Fireworks gives out no https URLs, so they are given in its place."""
    base = f"https://localhost:{proxy.port}/fireworks-local/accounts/acme/models/chat/"
    if place in ("put", "open"):
        proxy.certificate = world.bad.context
        urls = {name: f"{base}{name}?X-Goog-Signature=5ec4e7" for name in world.sizes}
        body = json.dumps({"filenameToSignedUrls": urls}).encode()
        proxy.make(Trouble(PLACES["sign"].on, "answer", answer=answer("200 OK", body)))
        return
    location = f"Location: {base}{WEIGHTS}?upload_id=5ec4e7"
    proxy.make(Trouble(PLACES["open"].on, "answer", answer=answer("201 Created", b"", location)))
    if place == "chunk":
        proxy.certificate = world.bad.context
    else:
        proxy.make(Trouble(PLACES["chunk"].on, then=partial(setattr, proxy, "certificate", world.bad.context)))


def malformed(place):
    """An answer that is none."""
    if place in ("put", "chunk"):
        return b"nonsense\r\n\r\n"
    if place == "open":
        return answer("201 Created")
    if place == "probe":
        return answer("308 Resume Incomplete", b"", "Range: bytes=0-99999999999")
    if place == "fetch":
        return answer("200 OK", b"short")
    return answer("200 OK", b'{"name": "accounts/', "Content-Type: application/json")


@dataclass(frozen=True)
class Passes:
    """The run ends with READY, and leaves nothing.

    Args:
        requests: To the place.
        sent: Bytes of the weights.
    """

    requests: int
    sent: int = SIZE


@dataclass(frozen=True)
class Fails:
    """The run ends with an error, and the next one goes on.

    Args:
        error: Its type.
        text: Found in its one line.
        requests: To the place; several numbers where it depends on what was fetched ahead.
        sent: Bytes of the weights.
        landed: Files in the journal: `none` (and no journal), `no file`, `others` (all but the weights), `all`,
            `some` (of the others, since files are fetched side by side).
        session: Whether the journal holds a session for the weights.
        left: Bytes of the weights that the next run sends.
    """

    error: type
    text: str
    requests: int | tuple[int, ...]
    sent: int
    landed: str
    session: bool = False
    left: int = SIZE


AGAIN = "run the same command again"
NETWORK = {
    "refused": "Connection refused, 4 times",
    "no DNS": "Name or service not known, 4 times",
}
DISTRUST = "certificate verify failed: self-signed certificate .*set SSL_CERT_FILE"


def control_plane(landed, sent, *, before=0, after=0, left=SIZE):
    """The cells of a request to Fireworks' API.

    Args:
        landed: Files in the journal when it fails.
        sent: Bytes of the weights that are sent before it.
        before: Requests of its kind that come earlier.
        after: And later, when all is well.
        left: Bytes of the weights that the next run sends.
    """
    fails = partial(Fails, sent=sent, landed=landed, left=left)
    once = before + 1
    return (
        dict.fromkeys(PASSING, Passes(before + 3 + after))
        | {"stall": Passes(before + 2 + after)}
        | {fault: fails(UnavailableError, f"{text}; check the network", once) for fault, text in NETWORK.items()}
        | {
            "bad TLS": fails(UnavailableError, DISTRUST, once),
            "503 for ever": fails(ApiError, rf"Service Unavailable \(503\); .*{AGAIN} in a few minutes", before + 4),
            "ExpiredToken": fails(ApiError, r"could not .*/chat on .*: The provided token has expired. \(400\)", once),
            "403": fails(ApiError, r"the reason for 403 \(403\); .*check the account in the target", once),
            "404": fails(ApiError, r"the reason for 404 \(404\); .*check the name", once),
            "412": fails(ApiError, r"the reason for 412 \(412\); the account may be suspended; see its billing", once),
            "malformed": fails(ApiError, "an unexpected reply .*; is the target an address of", once),
        }
    )


def storage(sent, *, tries=4, once=1, session=False, left=SIZE):
    """What ends a run at storage.

    Args:
        sent: Bytes of the weights that are sent when each try sends `sent[1]`, after `sent[0]`.
        tries: Requests where every try makes one.
        once: Requests where the first failure is the end.
        session: Whether a session is open.
        left: Bytes of the weights that the next run sends.
    """
    before, each = sent
    fails = partial(Fails, TransferError, landed="others", session=session, left=left)
    stays = r"\(7 of 8 files uploaded\); " + AGAIN
    return {fault: fails(f"{text} {stays}", once, before) for fault, text in NETWORK.items()} | {
        "503 for ever": fails(
            f"storage answered 503 Service Unavailable, 4 times {stays}", tries, before + tries * each
        ),
        "412": fails(rf"PreconditionFailed the reason for 412 \(HTTP 412\) {stays}", once, before + each),
    }


def fetching(text, tries, *, name=WEIGHTS, landed="others"):
    """A fetch that ends the run; the same may have failed before, when the file was fetched ahead of its use."""
    return Fails(SourceError, f"cannot fetch {name} from .*{text}", (tries, 2 * tries), 0, landed)


FORBIDDEN = r"Forbidden the reason for 403 \(HTTP 403\)"
NOT_FOUND = r"refused .*: NotFound the reason for 404 \(HTTP 404\)"
TLS_AT_STORAGE = f"cannot send .* to storage: .*{DISTRUST}"
SESSION_LEFT = SIZE - (CUT - LOST)

CELLS = {
    "create": control_plane("none", 0),
    "sign": control_plane("no file", 0),
    "put": dict.fromkeys(PASSING, Passes(3, 3 * SIZE))
    | dict.fromkeys(("reset", "close"), Passes(3, 2 * CUT + SIZE))
    | {"stall": Passes(2, CUT + SIZE)}
    | storage((0, SIZE))
    | {
        "bad TLS": Fails(TransferError, TLS_AT_STORAGE, 0, 0, "no file"),
        "ExpiredToken": Passes(2, 2 * SIZE),  # signed again
        "403": Fails(TransferError, f"{FORBIDDEN}, with 3 fresh URLs", 3, 3 * SIZE, "others"),
        "404": Fails(TransferError, NOT_FOUND, 1, SIZE, "others"),
        "malformed": Passes(2, 2 * SIZE),
    },
    "open": dict.fromkeys(PASSING, Passes(3))
    | {"stall": Passes(2)}
    | storage((0, 0))
    | {
        "bad TLS": Fails(TransferError, TLS_AT_STORAGE, 0, 0, "no file"),
        "ExpiredToken": Passes(2),  # signed again
        "403": Fails(TransferError, f"{FORBIDDEN}, with 3 fresh URLs", 3, 0, "others"),
        "404": Fails(TransferError, NOT_FOUND, 1, 0, "others"),
        "malformed": Fails(TransferError, "no usable session for .* with -C resumable=false", 1, 0, "others"),
    },
    "chunk": dict.fromkeys(PASSING, Passes(3, 3 * SIZE))
    | dict.fromkeys(("reset", "close"), Passes(3, 2 * LOST + SIZE))
    | {"stall": Passes(2, LOST + SIZE)}
    | {"lost reply": Passes(1)}  # the session tells that all is there
    | storage((0, SIZE), session=True)
    | {
        "bad TLS": Fails(TransferError, TLS_AT_STORAGE, 0, 0, "others", session=True),
        "ExpiredToken": Passes(2, 2 * SIZE),  # another session
        "403": Fails(TransferError, f"its resumable session has expired: {FORBIDDEN}, 4 times", 4, 4 * SIZE, "others"),
        "404": Passes(2, 2 * SIZE),
        "malformed": Passes(2, 2 * SIZE),
    },
    # After a broken chunk. The first answer shows progress, which is asked for once more before anything is sent.
    "probe": dict.fromkeys(PASSING, Passes(4, LOST + SIZE))
    | {"stall": Passes(3, LOST + SIZE)}
    | storage((CUT, 0), tries=3, session=True, left=SESSION_LEFT)
    | {
        "bad TLS": Fails(TransferError, TLS_AT_STORAGE, 0, 0, "others", session=True),
        **dict.fromkeys(("ExpiredToken", "403", "404", "malformed"), Passes(1, CUT + SIZE)),  # another session
    },
    "validate": control_plane("all", SIZE, left=0)
    | {
        "503 for ever": Passes(100),  # until it ends: an answer of a busy server says nothing about the files
    },
    "poll": control_plane("all", SIZE, before=1, after=1, left=0)
    | {
        "404": Passes(4),
    },
    "fetch": dict.fromkeys(PASSING, Passes(3))
    | {"stall": Passes(2)}
    | {
        # Both shards are fetched at the same time.
        "refused": fetching(f"Connection refused.*{AGAIN}", 1, name=r"\S+", landed="some"),
        "no DNS": fetching(f"Name or service not known.*{AGAIN}", 1, name=r"\S+", landed="some"),
        "bad TLS": fetching(f"CERTIFICATE_VERIFY_FAILED.*{AGAIN}", 1, name=r"\S+", landed="some"),
        "503 for ever": fetching(f"503 error.*{AGAIN}", 3),
        "ExpiredToken": Passes(2),
        "403": fetching("403 .*the reason for 403.*; check", 1),
        "404": fetching("404 .*the reason for 404.*; check", 1),
        "412": fetching(f"412 .*the reason for 412.*{AGAIN}", 3),
        "malformed": Passes(2),  # too short
    },
}


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    with World(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def world(servers):
    servers.reset()
    yield servers
    servers.reset()


@pytest.fixture
def site(world, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # its own retries wait for seconds
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(world.good.path))
    monkeypatch.setenv("SSL_CERT_FILE", str(world.good.path))
    log_everything(caplog)
    return Site(world, tmp_path, monkeypatch, caplog)


def test_every_fault_is_tried_at_every_place():
    assert set(CELLS) == set(PLACES)
    for place, cells in CELLS.items():
        assert set(cells) == {*PASSING, *STAYING}, place


SLOW = {"stall", "503 for ever", "bad TLS", "no DNS"}  # those that take their time, or stand beside a quicker twin


@pytest.mark.parametrize(
    ("place", "fault"),
    [
        pytest.param(place, fault, marks=pytest.mark.slow if fault in SLOW else ())
        for place in CELLS
        for fault in CELLS[place]
    ],
)
def test_fault(world, site, place, fault):
    cell, options = CELLS[place][fault], dict(PLACES[place].options)
    make_trouble(world, site, place, fault)
    if fault == "stall":
        options["timeouts"] = QUICK
    if fault == "bad TLS" and place not in STORAGE:
        options["encrypted"] = True
    # The retries of fetching have no other way to be told not to wait.
    with stamina.set_testing(True, attempts=3) if place == "fetch" else nullcontext():
        if isinstance(cell, Passes):
            assert site.deploy(**options) == "READY"
            assert site.journal() is None
        else:
            landed = fail(site, cell, options)
    assert len(requests(world, place)) in (cell.requests if isinstance(cell.requests, tuple) else (cell.requests,))
    assert sent(world, cell.sent) == cell.sent
    check_traces(world, site)
    if isinstance(cell, Fails):
        go_on(world, site, cell, options, landed)


def fail(site, cell, options):
    """The run that fails; returns the files that its journal holds."""
    with pytest.raises(cell.error, match=cell.text) as caught:
        site.deploy(**options)
    text = str(caught.value)
    assert "\n" not in text
    assert not [secret for secret in site.world.secrets() if secret in text]
    journal = site.journal()
    if cell.landed == "none":
        assert journal is None
        return set()
    landed, sessions = journal
    others = set(site.world.sizes) - {WEIGHTS}
    assert sessions == ({WEIGHTS} if cell.session else set())
    assert (
        landed <= others
        if cell.landed == "some"
        else landed == {"no file": set(), "others": others, "all": {*others, WEIGHTS}}[cell.landed]
    )
    return landed


def go_on(world, site, cell, options, landed):
    """The same command, when the trouble is over."""
    world.calm()
    site.unknown_hosts.clear()
    assert site.deploy(**options) == "READY"
    assert sent(world, cell.left) == cell.left
    names = {seen.head.partition("?")[0].rpartition("/")[2] for seen in world.fireworks.requests("^PUT ")}
    assert names == (set(world.sizes) - landed if cell.left else set())
    assert site.journal() is None
    check_traces(world, site)


def check_traces(world, site):
    """What every run leaves: no secret in a log, no thread, no file."""
    told = site.told()
    assert not [secret for secret in world.secrets() if secret in told]
    assert site.leftovers() == []
    assert world.emulator.failures == []


def requests(world, place):
    return (world.store if place == "fetch" else world.fireworks).requests(PLACES[place].on)


def sent(world, expected):
    """Bytes of the weights that left, in all tries.

    The proxy may still be counting what it takes of a body that was refused early, so it gets a moment to finish.
    """
    deadline = time.monotonic() + 5
    while True:
        received = sum(seen.received for seen in world.fireworks.requests(rf"^PUT \S+/{WEIGHTS}\?"))
        if received == expected or time.monotonic() > deadline:
            return received
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("place", "error", "text"),
    [
        ("sign", UnavailableError, "no answer in time, 4 times; check the network"),
        ("put", TransferError, f"no answer in time, 4 times .*{AGAIN}"),
    ],
)
def test_a_server_that_never_answers_is_given_up(world, site, place, error, text):
    world.fireworks.make(Trouble(PLACES[place].on, "stall", times=99, **PLACES[place].cut))
    with pytest.raises(error, match=text):
        site.deploy(timeouts=Timeouts(connect=0.3, quiet=0.3, answer=0.3))
    check_traces(world, site)


def test_a_state_folder_that_cannot_be_written_costs_a_warning(world, site):
    site.state.write_text("a file in the way")
    assert site.deploy() == "READY"
    assert "no journal can be kept in" in site.told()
    check_traces(world, site)


def test_a_proxy_of_the_environment_does_not_stand_before_this_machine(world, site, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://user:s3cret@127.0.0.1:1")
    assert site.deploy() == "READY"
