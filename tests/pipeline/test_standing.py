"""Accounts that may send nothing: said before a byte leaves, and what to do."""

import pytest
from support.account import open_account
from support.checkpoints import make_llama

from mlflow_fireworks.errors import ApiError


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("suspended", r"account acme is suspended \(412\); the account is suspended; see its billing page"),
        ("zero-data-retention", r"\(403\); accounts with Zero Data Retention take no uploads .*use another account"),
    ],
)
def test_standing_of_an_account_is_told_before_a_byte_leaves(tmp_path, way, says):
    with open_account(behaviours={"account": way}) as account:
        with pytest.raises(ApiError, match=says):
            account.run().create("chat", str(make_llama(tmp_path / "llama")))
        assert account.calls("put_object") == [0]
        assert account.gateway.models.find("chat") is None
