"""Upload URLs that expire, are refused, or are signed a second time, whichever way Fireworks behaves then."""

import pytest
from support.account import open_account
from support.advice import find_commands, parse
from support.checkpoints import make_llama

from mlflow_fireworks.errors import FireworksError, TransferError

REFUSALS = ["refused-409", "refused-405", "refused-400"]


@pytest.fixture
def account():
    with open_account({"max_workers": "1"}) as account:
        yield account


@pytest.fixture
def one_file(tmp_path):
    return str(make_llama(tmp_path / "llama"))


@pytest.fixture
def llama(tmp_path):
    return str(make_llama(tmp_path / "llama", shards=3))


def create(account, llama, **options):
    return account.run(**options).create("chat", llama)


def interrupt(account, llama, file):
    """An upload that ends before a file is sent."""
    account.emulator.fault("put_object", path_contains=file, status=400, times=1)
    with pytest.raises(TransferError):
        create(account, llama)


@pytest.mark.parametrize("way", ["accepted", *REFUSALS])
def test_url_that_storage_takes_is_used_though_signing_again_is_refused(account, llama, way):
    """An upload that is slower than a URL's life, as far as this side can know it."""
    account.emulator.behave(f"second-signing={way}")
    signed = account.gateway.models.sign_uploads

    def wait_for_long(*args, **kwargs):
        account.now += 59 * 60 * bool(account.sent())
        return signed(*args, **kwargs)

    run = account.run()
    object.__setattr__(account.gateway.models, "sign_uploads", wait_for_long)
    assert run.create("chat", llama).to_dict()["state"] == "READY"
    assert len(account.sent()) == len(set(account.sent()))


@pytest.mark.parametrize("way", REFUSALS)
def test_expired_url_is_fatal_only_when_no_other_is_signed(account, llama, way):
    account.emulator.behave(f"second-signing={way}")
    account.emulator.fault("put_object", path_contains="00003", expired=True)

    with pytest.raises(TransferError, match=r"ExpiredToken .*no new URL could be signed: .* files uploaded") as caught:
        create(account, llama)

    assert "X-Goog-Signature" not in caught.value.message


def test_expired_url_is_replaced_where_signing_again_is_accepted(account, llama):
    account.emulator.fault("put_object", path_contains="00003", expired=True)
    assert create(account, llama).to_dict()["state"] == "READY"


@pytest.mark.parametrize("way", REFUSALS)
def test_rerun_without_new_urls_says_what_is_missing_and_the_way_out(account, llama, way):
    interrupt(account, llama, "00003")
    account.emulator.behave(f"second-signing={way}")
    sent = len(account.sent())

    with pytest.raises(TransferError, match=r"is incomplete .*signs no more upload URLs .*the uploaded part") as caught:
        create(account, llama)

    assert len(account.sent()) == sent
    assert sum(account.waits) < 180  # not the half hour that landing may take
    assert [parse(command)[0] for command in find_commands(caught.value.message)] == ["delete", "create"]
    account.run().delete("chat")
    assert create(account, llama).to_dict()["state"] == "READY"


@pytest.mark.parametrize("way", REFUSALS)
def test_rerun_without_new_urls_is_ready_when_all_had_landed(account, one_file, way):
    """The last answer of storage was lost with the machine that waited for it."""
    account.emulator.fault("put_object", path_contains="model.safetensors", act=True, drop="reset", times=9)
    with pytest.raises(FireworksError):
        create(account, one_file)
    account.emulator.behave(f"second-signing={way}")
    sent = len(account.sent())

    assert create(account, one_file).to_dict()["state"] == "READY"
    assert len(account.sent()) == sent


def test_refusal_of_the_first_signing_is_final(account, llama):
    account.emulator.fault("get_upload_endpoint", status=400, body='{"code": 3, "message": "unexpected file"}')
    with pytest.raises(FireworksError, match="unexpected file"):
        create(account, llama)


@pytest.mark.parametrize("way", ["kept", "forgotten"])
def test_files_that_are_forgotten_when_urls_are_signed_again_are_sent_again(account, llama, way):
    interrupt(account, llama, "00003")
    account.emulator.behave(f"landed-files={way}")
    before = account.sent()

    assert create(account, llama).to_dict()["state"] == "READY"

    again = account.sent()[len(before) :]
    assert len(again) == len(set(again))
    assert (set(before) & set(again) == set()) == (way == "kept")


def test_files_that_take_long_to_settle_are_not_sent_again(account, llama):
    account.emulator.behave("validation=not-found:6")
    assert create(account, llama).to_dict()["state"] == "READY"
    assert len(account.sent()) == len(set(account.sent()))


def test_files_that_are_forgotten_at_every_signing_are_sent_again_once(account, llama):
    """Fifteen minutes for a URL, and each signing forgets what has landed."""
    interrupt(account, llama, "00003")
    account.emulator.behave("landed-files=forgotten", "url-life=15m")
    account.emulator.fault("put_object", path_contains="00001", expired=True)
    before = len(account.sent())

    try:
        create(account, llama)
    except FireworksError as error:
        assert find_commands(error.message)  # noqa: PT017 - either way is one
    again = account.sent()[before:]
    assert max(again.count(name) for name in again) <= 2
