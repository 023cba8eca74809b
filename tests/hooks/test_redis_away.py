"""The queue on Redis, when its URL is wrong, nobody answers there, or the server stands still."""

import os
import signal

import pytest
import redis
from support.hooks_world import alias_event, wait_until
from support.ports import free_port

from mlflow_fireworks.errors import InvalidConfigError, UnavailableError
from mlflow_fireworks.hooks.queue import open_queue


def test_a_redis_that_is_away_or_a_url_that_is_none_is_told_without_its_password():
    with pytest.raises(UnavailableError) as caught:
        open_queue(f"redis://:a-password@127.0.0.1:{free_port()}/0")
    assert "a-password" not in caught.value.message
    with pytest.raises(InvalidConfigError) as caught:
        open_queue("ftp://:a-password@host/0")
    assert "a-password" not in caught.value.message


def test_a_redis_that_refuses_the_password_is_not_told_as_away(redis_url):
    wrong = redis_url.replace("a-password", "another")
    assert wrong != redis_url
    with pytest.raises(UnavailableError, match="check the user name and password in the queue's URL"):
        open_queue(wrong)


@pytest.mark.slow
def test_while_redis_stands_still_senders_are_asked_to_come_again_and_then_the_work_is_done(
    fireworks, registry, hooks, redis_url
):
    hooks.environ["MLFLOW_FIREWORKS_QUEUE"] = f"{redis_url}?socket_timeout=2"
    hooks.start("--reconcile-every", "0", "--lease", "3s")
    with redis.Redis.from_url(redis_url) as client:
        server = client.info("server")["process_id"]
    registry.promote(1)
    os.kill(server, signal.SIGSTOP)
    try:
        refused = hooks.deliver(alias_event(registry, 1))
    finally:
        os.kill(server, signal.SIGCONT)
    assert (refused.status_code, refused.json()["status"]) == (503, "busy")
    assert int(refused.headers["Retry-After"]) > 0
    assert wait_until(lambda: hooks.deliver(alias_event(registry, 1)).status_code in {200, 202}, "Redis is back")
    wait_until(lambda: registry.tags(1).get("fireworks.state") == "READY", "version 1 is READY")
    assert "a-password" not in hooks.log
