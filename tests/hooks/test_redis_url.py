"""The URL of the queue, when it is wrong or nobody answers there."""

import pytest
from hooks_world import free_port

from mlflow_fireworks.errors import InvalidConfigError, UnavailableError
from mlflow_fireworks.hooks.queue import open_queue


def test_a_redis_that_is_away_or_a_url_that_is_none_is_told_without_its_password():
    with pytest.raises(UnavailableError) as caught:
        open_queue(f"redis://:a-password@127.0.0.1:{free_port()}/0")
    assert "a-password" not in caught.value.message
    with pytest.raises(InvalidConfigError) as caught:
        open_queue("ftp://:a-password@host/0")
    assert "a-password" not in caught.value.message
