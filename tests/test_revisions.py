from dataclasses import replace

import pytest

from mlflow_fireworks.gateway.wire import Model
from mlflow_fireworks.revisions import Stamp, group_deployments, model_id_of, read_stamp

STAMP = Stamp("chat", 2, "models:/chat/7", "transformers", "0123456789abcdef")


def make_model(model_id, stamp=None, state="READY"):
    return Model(name=f"accounts/a/models/{model_id}", state=state, description=stamp.describe() if stamp else "")


@pytest.mark.parametrize("size", [None, 0, 140_000_000_000])
def test_a_stamp_survives_the_description(size):
    stamp = replace(STAMP, size=size)
    assert read_stamp(stamp.describe("Our support bot.\nAsk Ann (ann@example.com).")) == stamp


def test_a_description_by_somebody_else_has_no_stamp():
    assert read_stamp("deployment=chat revision=1") is None


def test_a_source_with_blanks_or_a_password_is_written_safely():
    assert read_stamp(Stamp("c", 1, "/my models/x", "files", "ab").describe()).source == "/my%20models/x"
    text = Stamp("c", 1, "https://me:secret@store.example/x?token=t0p", "files", "ab").describe()
    assert "secret" not in text
    assert "t0p" not in text


def test_the_longest_description_fits():
    longest = Stamp("d" * 63, 12345, "s" * 4000, "sentence_transformers", "f" * 16, 10**15)
    assert len(longest.describe("u" * 600)) <= 999


def test_revisions_are_grouped_and_the_highest_ready_one_is_current():
    stamps = [Stamp("chat", number, "s", "f", "ab") for number in (1, 2, 10)]
    models = [
        make_model("chat-r10", stamps[2], "UPLOADING"),
        make_model("chat", stamps[0]),
        make_model("chat-r2", stamps[1]),
        make_model("other"),
    ]
    groups = group_deployments(models)
    assert list(groups) == ["chat", "other"]
    chat = groups["chat"]
    assert [revision.number for revision in chat.revisions] == [1, 2, 10]
    assert chat.current.model.model_id == "chat-r2"
    assert chat.newest.model.model_id == "chat-r10"
    assert chat.is_managed
    assert not groups["other"].is_managed


def test_the_first_revision_has_the_bare_name():
    assert (model_id_of("chat", 1), model_id_of("chat", 3)) == ("chat", "chat-r3")
