import logging
import ssl
import threading
import time
from datetime import datetime, timedelta, timezone

import httpx
import pytest

from mlflow_fireworks.http import Retry, TransientError, hide_queries, is_transient, transient_status

SIGNED = "https://storage.example/b/o?X-Goog-Signature=5ec4e7&X-Goog-Credential=who"


@pytest.mark.parametrize("status", range(100, 600))
def test_which_statuses_are_tried_again(status):
    transient = transient_status(httpx.Response(status)) is not None
    assert transient == (status in {408, 429, 500, 502, 503, 504, 507, *range(520, 530)})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3), ("0", 0), ("99999", 86400), ("-1", None), ("soon", None), ("", None), ("nan", None), ("inf", 86400)],
)
def test_retry_after_is_read_up_to_a_day(header, seconds):
    assert transient_status(httpx.Response(503, headers={"Retry-After": header})).retry_after == seconds


@pytest.mark.parametrize(
    ("until", "seconds"),
    [
        ("Mon, 23 Nov 2026 08:00:07 GMT", 7),
        ("Monday, 23-Nov-26 08:00:07 GMT", 7),
        ("Mon, 23 Nov 2026 09:00:00 GMT", 3600),
        ("Mon, 23 Nov 2026 07:59:00 GMT", None),
        ("Mon, 99 Nov 2026 07:59:00 GMT", None),
    ],
)
def test_retry_after_may_be_a_date(until, seconds):
    headers = {"Date": "Mon, 23 Nov 2026 08:00:00 GMT", "Retry-After": until}
    assert transient_status(httpx.Response(503, headers=headers)).retry_after == seconds


def test_a_retry_after_date_without_a_date_counts_from_now():
    until = datetime.now(timezone.utc) + timedelta(seconds=20)
    headers = {"Retry-After": until.strftime("%a, %d %b %Y %H:%M:%S GMT")}
    assert transient_status(httpx.Response(503, headers=headers)).retry_after == pytest.approx(20, abs=5)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (httpx.ConnectError("refused"), True),
        (httpx.ConnectTimeout("t"), True),
        (httpx.ReadTimeout("t"), True),
        (httpx.WriteTimeout("t"), True),
        (httpx.ReadError("reset"), True),
        (httpx.RemoteProtocolError("closed"), True),
        (httpx.ProxyError("proxy"), True),
        (httpx.ProxyError("502 Bad Gateway"), True),
        (httpx.ProxyError("429 Too Many Requests"), True),
        (httpx.ProxyError("407 Proxy Authentication Required"), False),
        (httpx.ProxyError("403 Forbidden"), False),
        (httpx.LocalProtocolError("ours"), False),
        (httpx.UnsupportedProtocol("ours"), False),
    ],
)
def test_which_connection_failures_are_tried_again(error, again):
    assert is_transient(error) is again


def test_a_bad_certificate_is_final():
    error = httpx.ConnectError("tls")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    assert not is_transient(error)


def test_retries_stop_and_tell_each_time():
    told, tries = [], []

    def fail():
        tries.append(1)
        raise TransientError("503 Service Unavailable")

    with pytest.raises(TransientError):
        Retry(attempts=3, wait_initial=0.001, wait_max=0.001).call(fail, told.append)
    assert len(tries) == 3
    assert told == [f"503 Service Unavailable; retrying (attempt {number} of 3)" for number in (2, 3)]


@pytest.mark.parametrize(("asked", "waited"), [(7, "7s"), (3600, "1m 0s")])
def test_retry_after_is_waited_for_up_to_a_minute(asked, waited):
    stop, told = threading.Event(), []
    stop.set()

    def fail():
        raise TransientError("429 Too Many Requests", retry_after=asked)

    with pytest.raises(TransientError):
        Retry(attempts=2).call(fail, told.append, stop)
    assert told == [f"429 Too Many Requests; retrying in {waited} (attempt 2 of 2)"]


def test_waiting_for_the_next_try_can_be_ended():
    stop, began = threading.Event(), time.monotonic()
    threading.Timer(0.1, stop.set).start()

    def fail():
        raise TransientError("503 Service Unavailable", retry_after=60)

    with pytest.raises(TransientError):
        Retry(attempts=3).call(fail, lambda text: None, stop)
    assert time.monotonic() - began < 5


def test_other_errors_are_not_retried():
    tries = []

    def fail():
        tries.append(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        Retry().call(fail, lambda text: None)
    assert len(tries) == 1


def test_queries_are_hidden():
    assert hide_queries(f"PUT {SIGNED} failed") == "PUT https://storage.example/b/o?… failed"


def test_httpx_does_not_log_signatures(caplog):
    caplog.set_level(logging.DEBUG)
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    httpx.Client(transport=transport).put(SIGNED, content=b"x")
    logging.getLogger("httpcore.http11").debug(f"headers=[(b'Location', b'{SIGNED}')]")
    assert "storage.example" in caplog.text
    assert "5ec4e7" not in caplog.text


def test_httpcore_does_not_log_what_answers_say_in_their_headers(caplog):
    caplog.set_level(logging.DEBUG)
    headers = [(b"Location", SIGNED.encode()), (b"x-guploader-uploadid", b"5ec4e7")]
    logging.getLogger("httpcore.http11").debug(
        f"receive_response_headers.complete return_value={(b'HTTP/1.1', 201, b'Created', headers)!r}"
    )
    assert "return_value=(b'HTTP/1.1', 201, b'Created', […]" in caplog.text
    assert "5ec4e7" not in caplog.text
