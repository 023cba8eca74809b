import pytest
from support.account import open_account


@pytest.fixture
def account():
    with open_account() as account:
        yield account
