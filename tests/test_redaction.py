"""No password of a URI reaches a message or a log, whatever characters it holds and whoever quotes it."""

import logging
import re
from urllib.parse import quote, urlsplit

import httpx
import pytest
import requests
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st

from mlflow_fireworks.errors import CheckpointError, FireworksError, InvalidConfigError
from mlflow_fireworks.progress import logger
from mlflow_fireworks.redaction import brief, hide_credentials, hide_passwords
from mlflow_fireworks.registry.model_uri import parse_model_uri

SCHEMES = ("postgresql", "mysql+pymysql", "mssql+pyodbc", "http", "https", "sftp", "redis", "s3")
# Letters that stand in no sentence, so that any two of them that are found are a piece of the password.
PIECES = st.text("QXZJ", min_size=2, max_size=5)
PASSWORDS = st.lists(PIECES, min_size=1, max_size=4).flatmap(
    lambda pieces: st.lists(st.sampled_from("/@?# :%&"), min_size=len(pieces) - 1, max_size=len(pieces) - 1).map(
        lambda marks: "".join(piece + mark for piece, mark in zip(pieces, [*marks, ""], strict=True))
    )
)


def parse_with_urllib(uri):
    urlsplit(uri).port  # noqa: B018 - it raises


def parse_with_sqlalchemy(uri):
    raise ValueError(f"cannot connect to {sqlalchemy.engine.make_url(uri)}")


def prepare_with_requests(uri):
    raise ValueError(requests.Request("GET", uri).prepare().url)


def parse_with_httpx(uri):
    raise ValueError(f"cannot reach {httpx.URL(uri)}")


def quote_whole(uri):
    raise ValueError(f"got unsupported URI '{uri}' for the registry; see http://docs.example/store?x=1")


def quote_beginning(uri):
    raise ValueError(f"no host in {re.split('[?#]', uri)[0]} at all")


def quote_end(uri):
    raise ValueError(f'could not translate host name "{uri.rpartition("://")[2].partition("@")[2]}"')


TELLERS = (
    parse_with_urllib,
    parse_with_sqlalchemy,
    prepare_with_requests,
    parse_with_httpx,
    quote_whole,
    quote_beginning,
    quote_end,
)


def assert_hidden(text):
    assert not re.search("[QXZJ]{2}", text), text


@given(scheme=st.sampled_from(SCHEMES), password=PASSWORDS, teller=st.sampled_from(TELLERS))
def test_password_of_the_environment_is_in_nobodys_message(scheme, password, teller):
    uri = f"{scheme}://me:{password}@db.example:5432/mlflow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        try:
            teller(uri)
        except Exception as error:  # noqa: BLE001 - each library has its own
            told = brief(error)
        else:
            told = ""

        assert_hidden(told)
        assert_hidden(FireworksError(f"cannot ask {uri} for models:/chat@champion: {told}").message)
        assert_hidden(CheckpointError("x").reworded(f"{uri} is away").message)
        assert_hidden(hide_credentials(uri))


@given(scheme=st.sampled_from(SCHEMES), password=PASSWORDS)
def test_password_of_a_uri_that_nobody_knows_is_hidden_by_its_shape(scheme, password):
    if " " in password and "@" in password:
        return  # where it ends nobody can tell

    assert_hidden(hide_passwords(f"cannot read '{scheme}://me:{password}@host/models' for models:/chat@champion"))
    assert_hidden(hide_passwords(f"{scheme}://me:{quote(password, safe='')}@host:22/models is away"))


@given(scheme=st.sampled_from((*SCHEMES, "models", "runs", "hf", "file")), password=PASSWORDS)
def test_model_uri_is_refused_or_shown_without_its_password(scheme, password):
    try:
        shown = str(parse_model_uri(f"{scheme}://me:{password}@host/chat/1"))
    except InvalidConfigError as refused:
        shown = refused.message
    if not (" " in password and "@" in password):
        assert_hidden(shown)


@given(password=PASSWORDS)
def test_log_and_its_tracebacks_hold_no_password(password):
    uri = f"postgresql://me:{password}@db.example/mlflow"
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(handler.format(record))
    logger.addHandler(handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_REGISTRY_URI", uri)
            try:
                parse_with_urllib(uri)
                quote_whole(uri)
            except ValueError:
                logger.exception("trying %s again", uri)
    finally:
        logger.removeHandler(handler)
    assert len(lines) == 1
    assert_hidden(lines[0])


@pytest.mark.parametrize(
    "text",
    [
        "the registry http://127.0.0.1:5000 has no models:/chat@champion; write models:/chat@ALIAS",
        "see http://host:8080/#/models/chat@champion",
        "wasbs://models@account.blob.core.windows.net/chat",
        "abfss://models@account.dfs.core.windows.net/chat",
        "models://prof@databricks/chat/3 and dbfs://scope:key@databricks/x",
        "mlflow deployments create -t fireworks://local -m models:/mlflow@champion --name mlflow",
        "user: me",
    ],
)
def test_what_is_no_password_is_left_as_it_is(text, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://mlflow:mlflow@db/mlflow")
    assert hide_passwords(text) == text
