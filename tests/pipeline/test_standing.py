"""Accounts that may send nothing: said before a byte leaves, and what to do."""

import httpx
import pytest
from support.account import open_account
from support.checkpoints import make_llama

from mlflow_fireworks.errors import ApiError
from mlflow_fireworks.gateway.refusals import refusal


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("suspended", r"account acme is suspended \(412\); the account is suspended; see its billing page"),
        (
            "zero-data-retention",
            r"\(403\); accounts with Zero Data Retention do not accept uploads .*use another account",
        ),
        (
            "other-region",
            r"use us.api.fireworks.ai instead \(403\); the account may belong to another region.*HOST/ACC",
        ),
    ],
)
def test_standing_of_an_account_is_told_before_a_byte_leaves(tmp_path, way, says):
    with open_account(behaviours={"account": way}) as account:
        with pytest.raises(ApiError, match=says):
            account.run().create("chat", str(make_llama(tmp_path / "llama")))
        assert account.calls("put_object") == [0]
        account.emulator.behave("account=active")
        assert account.gateway.models.find("chat") is None


def told(status, message):
    answer = httpx.Response(status, json={"code": 7, "message": message, "details": []})
    return refusal(answer, "list the models", "api.fireworks.ai").message


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "account acme is in another region"),
        (400, "this account has EU data residency"),
        (404, "not served here: use the regional endpoint of your account"),
        (412, "please call eu.api.fireworks.ai"),
        (421, "misdirected request"),
    ],
)
def test_what_may_be_about_the_accounts_region_names_the_target(status, message):
    assert "the account may belong to another region" in told(status, message)


@pytest.mark.parametrize(
    "message",
    [
        "no capacity for NVIDIA_H100_80GB in region US_IOWA_1",
        "placement: multi-region deployments take no region",
        "global--h100-count for account acme, in use: 8, quota: 8",
        "call api.fireworks.ai with another key",
    ],
)
def test_what_is_about_where_gpus_are_does_not(message):
    assert "another region" not in told(403, message)
