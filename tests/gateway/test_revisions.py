from dataclasses import replace

import pytest

from mlflow_fireworks.commands import Commands
from mlflow_fireworks.gateway.revisions import Revision, group_deployments, model_id_of
from mlflow_fireworks.gateway.stamps import Hand, RevisionStamp, TakenOff, text_of
from mlflow_fireworks.gateway.wire import Model
from mlflow_fireworks.pipeline.plan import plan_update

STAMP = RevisionStamp("chat", 2, "models:/chat/7", "transformers", "0123456789abcdef")


def make_model(model_id, stamp=None, state="READY"):
    return Model(name=f"accounts/a/models/{model_id}", state=state, description=stamp.describe() if stamp else "")


@pytest.mark.parametrize("size", [None, 0, 140_000_000_000])
@pytest.mark.parametrize("turn", [None, 3])
@pytest.mark.parametrize("length", [None, 384])
def test_a_stamp_and_the_users_text_survive_the_description(size, turn, length):
    stamp = replace(STAMP, size=size, turn=turn, vector_length=length)
    text = "Our support bot.\nAsk Ann (ann@example.com)."
    assert RevisionStamp.read(stamp.describe(text)) == stamp
    assert text_of(stamp.describe(text)) == text


@pytest.mark.parametrize("size", ["", " bytes=5"])
def test_a_stamp_without_a_turn_is_read_as_before(size):
    written = f"From models:/chat/7 (transformers) by mlflow-fireworks: deployment=chat revision=2 content=0123{size}"
    stamp = RevisionStamp.read(written)
    assert (stamp.revision, stamp.turn, stamp.describe()) == (2, None, written)
    assert Revision(make_model("chat-r2"), stamp).turn == 2


def test_a_stamp_keeps_the_length_of_vectors_beside_all_else_that_is_written_into_it():
    taken_off = TakenOff(Hand.ROLLBACK, "it was rolled back", "2026-11-27T14:05:00Z", "alice")
    stamp = replace(STAMP, vector_length=384, endpoint="prod", taken_off=taken_off)
    assert RevisionStamp.read(stamp.describe("text")) == stamp
    assert text_of(stamp.describe("text")) == "text"
    assert stamp.asked_for_again(3).vector_length == 384


def test_a_description_by_somebody_else_has_no_stamp():
    assert RevisionStamp.read("deployment=chat revision=1") is None


def test_a_source_with_blanks_or_a_password_is_written_safely():
    assert (
        RevisionStamp.read(RevisionStamp("c", 1, "/my models/x", "files", "ab").describe()).source == "/my%20models/x"
    )
    text = RevisionStamp("c", 1, "https://me:secret@store.example/x?token=t0p", "files", "ab").describe()
    assert "secret" not in text
    assert "t0p" not in text


def test_the_longest_description_fits():
    longest = RevisionStamp("d" * 63, 12345, "s" * 4000, "sentence_transformers", "f" * 16, 10**15)
    assert len(longest.describe("u" * 600)) <= 999
    again = replace(longest, turn=12345)
    assert len(again.describe("u" * 999)) == 999
    assert RevisionStamp.read(again.describe("u" * 999)) == replace(
        again, source=RevisionStamp.read(longest.describe()).source
    )


def test_revisions_are_grouped_and_the_highest_ready_one_is_current():
    stamps = [RevisionStamp("chat", number, "s", "f", "ab") for number in (1, 2, 10)]
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


@pytest.mark.parametrize(
    ("turns", "states", "current", "latest"),
    [
        ([4, None, None], ["READY", "READY", "READY"], 1, 1),
        ([4, 5, None], ["READY", "READY", "READY"], 2, 2),
        ([4, 5, None], ["READY", "UPLOADING", "READY"], 1, 2),
        ([3, None, None], ["READY", "READY", "READY"], 3, 3),
        ([5, 4, None], ["UPLOADING", "UPLOADING", "UPLOADING"], 3, 1),
    ],
    ids=["restored", "restored twice", "on its way", "two took a turn at once", "none is ready"],
)
def test_the_ready_one_that_was_asked_for_last_is_current(turns, states, current, latest):
    stamps = [RevisionStamp("chat", number, "s", "f", "ab", turn=turn) for number, turn in enumerate(turns, 1)]
    made = zip(stamps, states, strict=True)
    models = [make_model(model_id_of("chat", stamp.revision), stamp, state) for stamp, state in made]
    chat = group_deployments(models)["chat"]
    assert (chat.current.number, chat.latest.number, chat.newest.number) == (current, latest, 3)


def test_the_first_revision_has_the_bare_name():
    assert (model_id_of("chat", 1), model_id_of("chat", 3)) == ("chat", "chat-r3")


@pytest.mark.parametrize(
    ("held", "action", "number"),
    [
        ("ab:READY cd:READY", "restored", 1),
        ("ab:READY cd:READY ab:UPLOADING", "restored", 1),
        ("ab:READY ab:READY cd:READY", "restored", 2),
        ("ab:UPLOADING cd:READY", "resumed", 1),
        ("ab:UPLOADING cd:READY ab:UPLOADING", "resumed", 3),
        ("ab:FAILED cd:READY", "updated", 3),
        ("cd:READY ab:FAILED", "resumed", 2),
        ("cd:READY ab:FAILED resend", "updated", 3),
        ("ab:FAILED resend", "updated", 2),
        ("ab:READY cd:READY ab:FAILED resend", "restored", 1),
        ("cd:READY ab:UPLOADING resend", "resumed", 2),
    ],
)
def test_what_an_update_to_the_content_ab_does(held, action, number):
    resend = held.endswith(" resend")
    held = held.removesuffix(" resend")
    models = []
    for index, (content, state) in enumerate((item.split(":") for item in held.split()), 1):
        models.append(make_model(model_id_of("chat", index), RevisionStamp("chat", index, "s", "f", content), state))
    plan = plan_update(
        RevisionStamp("chat", 1, "s", "f", "ab"),
        group_deployments(models)["chat"],
        set(),
        Commands("fireworks"),
        resend=resend,
    )
    assert (plan.action.value, plan.stamp.revision) == (action, number)


@pytest.mark.parametrize(
    ("source", "uri"),
    [
        ("models:/chat/3", "models:/chat/3"),
        ("models:/my chat/3", None),
        ("s3://bucket/" + "x" * 300, None),
        ("file:///my%20models/x", "file:///my%20models/x"),
        ("unknown", None),
    ],
)
def test_a_source_is_deployed_again_only_where_it_was_written_down_whole(source, uri):
    assert RevisionStamp.read(RevisionStamp("chat", 1, source, "files", "ab").describe()).model_uri == uri
