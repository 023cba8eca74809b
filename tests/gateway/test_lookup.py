"""One deployment among thousands of models, whatever Fireworks makes of a filter."""

import re

import httpx
import pytest
from pydantic import SecretStr
from support.account import open_account
from support.checkpoints import make_llama
from support.crowd import crowd

from mlflow_fireworks.errors import BusyError, NotFoundError
from mlflow_fireworks.gateway.gateway import Gateway
from mlflow_fireworks.http import Retry

MODELS = [f"model-{number:04}" for number in range(1000)] + ["chat", "chat-r12", "chat-r3", "chatty", "zebra"]
PAGES = -(-len(MODELS) // 200)


def in_front(name, pattern):
    return name.startswith(pattern.removesuffix("*"))


WAYS = {
    "heeded": in_front,
    "ignored": lambda name, pattern: True,
    "refused": 400,
    "not implemented": 501,
    "the whole name only": lambda name, pattern: name == pattern,
    "the whole name, without the star": lambda name, pattern: name == pattern.removesuffix("*"),
    "anywhere in the name": lambda name, pattern: pattern.removesuffix("*").rpartition("/")[2] in name,
    "nothing is ever found": lambda name, pattern: False,
}


class Account:
    """An account's list of models, with one way to read a filter."""

    def __init__(self, way, ids=MODELS):
        self.way, self.requests = way, 0
        self.names = sorted(f"accounts/acme/models/{id_}" for id_ in ids)
        self.gateway = Gateway(
            "https://api.example",
            SecretStr("fw_secret"),
            "acme",
            retry=Retry(attempts=2, wait_initial=0.001, wait_max=0.001),
            transport=httpx.MockTransport(self.answer),
        )

    def answer(self, request):
        self.requests += 1
        query, names = request.url.params, self.names
        if "filter" in query:
            if isinstance(self.way, int):
                return httpx.Response(self.way, json={"code": 3, "message": "invalid filter"})
            [pattern] = re.fullmatch(r'name="([^"]*)"', query["filter"]).groups()
            names = [name for name in names if self.way(name, pattern)]
        start = int(query.get("pageToken", 0))
        end = start + int(query["pageSize"])
        page = {"models": [{"name": name} for name in names[start:end]]}
        return httpx.Response(200, json=page | {"nextPageToken": str(end) if end < len(names) else ""})

    def find(self, beginning):
        """The ids that begin so, and how many requests that took."""
        before = self.requests
        found = self.gateway.lookup.find(beginning)
        return {model.model_id for model in found if model.model_id.startswith(beginning)}, self.requests - before


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_all_revisions_are_found_also_behind_gaps(way):
    account = Account(way)

    assert account.find("chat")[0] == {"chat", "chat-r12", "chat-r3", "chatty"}
    assert account.find("model-0007")[0] == {"model-0007"}
    assert account.find("nothing")[0] == set()


def test_a_heeded_filter_costs_two_requests_once_and_then_one_for_each_question():
    account = Account(in_front)

    assert [account.find(name)[1] for name in ("chat", "model-0999", "nothing")] == [3, 1, 1]


@pytest.mark.parametrize("way", [WAYS["ignored"], WAYS["refused"], WAYS["nothing is ever found"]])
def test_a_filter_that_is_not_heeded_is_tried_once(way):
    account = Account(way)

    assert [account.find(name)[1] for name in ("chat", "nothing")] == [2 + PAGES, PAGES]


def test_a_small_account_is_listed_in_one_request():
    account = Account(in_front, MODELS[-5:])

    assert account.find("chat") == ({"chat", "chat-r12", "chat-r3", "chatty"}, 1)
    assert account.find("nothing") == (set(), 1)


def test_names_that_begin_alike_prove_nothing():
    account = Account(WAYS["the whole name, without the star"], ["a", *(f"a{number:03}" for number in range(300))])

    assert len(account.find("a")[0]) == 301


def test_a_service_that_is_busy_is_not_taken_for_one_that_filters_nothing():
    account = Account(503)

    with pytest.raises(BusyError):
        account.find("chat")
    account.way = in_front
    assert account.find("chat")[1] == 3


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """An emulated account with 5,000 models of others, and the deployment `chat`."""
    home = tmp_path_factory.mktemp("large")
    with open_account(state=home / "fireworks") as account:
        account.run().create("stranger", str(make_llama(home / "stranger")))
        crowd(home / "fireworks", "stranger", 5000)
        account.folder = make_llama(home / "chat", seed=1)
        account.run().create("chat", str(account.folder))
        yield account


def count_lists(account, work):
    before = len(account.emulator.calls("list_models"))
    work()
    return len(account.emulator.calls("list_models")) - before


@pytest.mark.slow
def test_no_command_about_one_deployment_lists_5000_models(large, tmp_path):
    assert len(large.emulator.calls("list_models")) <= 4  # `stranger` while it was alone; then chat's three
    run = large.run()
    assert count_lists(large, lambda: run.create("chat", str(large.folder))) == 1
    assert count_lists(large, lambda: run.update("chat", str(make_llama(tmp_path / "next", seed=2)))) == 1
    assert count_lists(large, lambda: run.deployment("chat")) == 1
    assert [item.model.model_id for item in run.deployment("chat").revisions] == ["chat", "chat-r2"]
    assert count_lists(large, lambda: run.delete("chat")) == 1

    with pytest.raises(NotFoundError, match="there is no deployment 'chat' on account acme"):
        run.deployment("chat")
    large.run().create("chat", str(large.folder))
