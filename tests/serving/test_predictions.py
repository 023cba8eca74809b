"""Questions of every shape to a model on the local Fireworks, which answers in the right shape without a model."""

import json

import pandas as pd
import pytest

from mlflow_fireworks.errors import (
    ApiError,
    DeadlineError,
    InvalidConfigError,
    NotFoundError,
    UnavailableError,
)
from mlflow_fireworks.serving.endpoints import create_endpoint, update_endpoint
from mlflow_fireworks.serving.payloads import read_inputs
from mlflow_fireworks.serving.predictions import choose_place, predict, predict_stream

HI = {"role": "user", "content": "hi"}
HO = {"role": "assistant", "content": "ho"}
EMBEDDER = "accounts/acme/models/embedder"


@pytest.fixture
def served(world):
    """The endpoint `prod`, up for so long that a 404 means what it says."""
    world.base()
    create_endpoint(world.run(model="chat", min_replicas=1), "prod")
    world.clock[0] += 3600
    return world


def ask(world, inputs, run=None):
    run = run or world.run()
    return predict(run, choose_place(run, None, "prod"), inputs).to_dict()


def asked(questions):
    return [(question.operation, question.body, question.rows) for question in questions.questions]


def chat(row, *messages, **body):
    return ("chat/completions", {"messages": list(messages), **body}, (row,))


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"messages": [HI], "max_tokens": 5}, [chat(0, HI, max_tokens=5)]),
        ({"messages": [HI], "model": "other", "stream": True}, [chat(0, HI)]),
        ({"prompt": "a", "n": 2}, [("completions", {"prompt": "a", "n": 2}, (0,))]),
        ({"input": ["a", "b"]}, [("embeddings", {"input": ["a", "b"]}, (0,))]),
        ("hi", [chat(0, HI)]),
        (["hi", "hi"], [chat(0, HI), chat(1, HI)]),
        ([HI, HO], [chat(0, HI, HO)]),
        ([[HI], [HI, HO]], [chat(0, HI), chat(1, HI, HO)]),
        ([{"messages": [HI]}, {"prompt": "a"}], [chat(0, HI), ("completions", {"prompt": "a"}, (1,))]),
        ({"inputs": ["hi"]}, [chat(0, HI)]),
        ({"dataframe_split": {"columns": ["prompt"], "data": [["a"]]}}, [("completions", {"prompt": "a"}, (0,))]),
        ({"dataframe_records": [{"question": "hi"}]}, [chat(0, HI)]),
        (pd.DataFrame({"question": ["hi", "hi"]}), [chat(0, HI), chat(1, HI)]),
        (pd.Series(["hi"]), [chat(0, HI)]),
    ],
)
def test_what_python_may_give(inputs, expected):
    assert asked(read_inputs(inputs, embeds=False)) == expected


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ({"messages": [HO, HI], "max_tokens": 5}, [chat(0, HO, HI, max_tokens=5)]),
        ([{"messages": [HI], "max_tokens": 5}, {"messages": [HO, HI]}], [chat(0, HI, max_tokens=5), chat(1, HO, HI)]),
        ([HI, HO], [chat(0, HI, HO)]),
        ({"prompt": ["a", "b"]}, [("completions", {"prompt": "a"}, (0,)), ("completions", {"prompt": "b"}, (1,))]),
        ([{"prompt": "a", "temperature": 0.5}], [("completions", {"prompt": "a", "temperature": 0.5}, (0,))]),
        ({"dataframe_split": {"columns": ["prompt"], "data": [["a"]]}}, [("completions", {"prompt": "a"}, (0,))]),
        ({"dataframe_records": [{"prompt": "a"}]}, [("completions", {"prompt": "a"}, (0,))]),
        ({"inputs": ["hi"]}, [chat(0, HI)]),
        ({"input": ["a"]}, [("embeddings", {"input": "a"}, (0,))]),
        (["hi"], [chat(0, HI)]),
    ],
)
def test_what_the_command_line_makes_of_a_file(tmp_path, file, expected):
    """`mlflow deployments predict` reads every file with pandas.read_json."""
    (tmp_path / "input.json").write_text(json.dumps(file))
    assert asked(read_inputs(pd.read_json(tmp_path / "input.json"), embeds=False)) == expected


def test_texts_for_an_embedding_model_go_in_batches():
    questions = read_inputs([f"text {row}" for row in range(70)], embeds=True).questions
    assert [(question.operation, len(question.rows)) for question in questions] == [("embeddings", 32)] * 2 + [
        ("embeddings", 6)
    ]
    assert questions[2].body["input"][0] == "text 64"


@pytest.mark.parametrize(
    "inputs", [None, [], {}, 5, {"text": "a"}, [1, 2], [["a"]], pd.DataFrame({"a": [1], "b": [2]})]
)
def test_what_cannot_be_read_says_what_can(inputs):
    with pytest.raises(InvalidConfigError, match=r"predict cannot read .*; it accepts a payload with messages"):
        read_inputs(inputs, embeds=False)


def test_a_payload_gets_its_whole_answer(served):
    answer = ask(served, {"messages": [HI]})
    assert answer["choices"][0]["message"]["content"] == answer["predictions"][0]
    assert answer["predictions"][0].endswith("hi")
    assert answer["model"] == "accounts/acme/routers/prod"
    assert set(answer["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    json.dumps(answer)


def test_many_rows_keep_their_order_and_add_up(served):
    answer = ask(served, [f"row {row}" for row in range(40)])
    assert [text.rsplit(" ", 1)[1] for text in answer["predictions"]] == [str(row) for row in range(40)]
    one = ask(served, "row 1")
    assert answer["usage"]["total_tokens"] == 40 * one["usage"]["total_tokens"]
    assert "errors" not in answer


def test_rows_that_fail_are_named_and_the_others_answered(served):
    served.emulator.fault("chat_completions", skip=1, status=400, body='{"error": {"message": "too long"}}')
    answer = ask(served, ["a", "b", "c"])
    (failed,) = answer["errors"]
    assert "too long" in failed["error"]
    assert failed["row"] in (1, 2)
    assert answer["predictions"][failed["row"]] is None
    assert sum(value is not None for value in answer["predictions"]) == 2


def test_when_no_row_is_answered_it_is_an_error(served):
    served.emulator.fault("chat_completions", times=2, status=400, body='{"error": {"message": "too long"}}')
    with pytest.raises(ApiError, match="too long"):
        ask(served, ["a", "b"])


def test_an_error_with_the_status_of_a_success_is_quoted(served):
    served.emulator.fault("chat_completions", status=200, body='{"error": {"message": "out of memory"}}')
    with pytest.raises(ApiError, match=r"no predictions in it: .*out of memory"):
        ask(served, "a")


def test_what_is_wrong_with_all_rows_is_said_after_one(served):
    served.emulator.fault("chat_completions", times=9, status=402, body='{"error": {"message": "no credit"}}')
    with pytest.raises(ApiError, match="no credit"):
        ask(served, ["a"] * 9)
    assert len(served.emulator.calls("chat_completions")) == 1


def test_an_endpoint_that_sleeps_is_woken_by_one_request_and_waited_for(world):
    world.base()
    create_endpoint(world.run(model="chat", scale_to_zero_window="5m"), "prod")
    world.emulator.set_transition("deployments", seconds=240)
    world.clock[0] += 4000
    answer = ask(world, ["a", "b", "c"])
    assert len(answer["predictions"]) == 3
    assert any("scaled to zero and starting up (503)" in note for note in world.told.notes)
    refused = [call for call in world.emulator.calls("chat_completions") if call.status == 503]
    assert len(refused) < 20


def test_a_cold_start_has_a_limit(world):
    world.base()
    create_endpoint(world.run(model="chat", scale_to_zero_window="5m"), "prod")
    world.emulator.set_transition("deployments", seconds=4000)
    world.clock[0] += 4000
    with pytest.raises(DeadlineError, match=r"starting up \(503\) after 1m 0s; ask again later"):
        ask(world, "a", world.impatient(60.0))


def test_not_found_is_waited_out_right_after_ready_and_believed_later(world):
    world.base()
    create_endpoint(world.run(model="chat", min_replicas=1), "prod")
    missing = {"status": 404, "body": '{"error": {"message": "Model not found", "code": "NOT_FOUND"}}', "times": 2}
    world.emulator.fault("chat_completions", **missing)
    assert ask(world, "a")["predictions"]
    world.clock[0] += 3600
    world.emulator.fault("chat_completions", **missing)
    with pytest.raises(ApiError, match="Model not found"):
        ask(world, "a")


def test_an_endpoint_that_is_switched_off_says_how_to_switch_it_on(served):
    update_endpoint(served.run(min_replicas=0, max_replicas=0), "prod")
    with pytest.raises(UnavailableError, match="endpoint update -t fireworks --name prod -C max_replicas=1"):
        ask(served, "a")


def test_a_busy_endpoint_is_asked_again_when_it_says(served):
    served.emulator.fault("chat_completions", times=2, status=429, retry_after=0.01)
    assert ask(served, "a")["predictions"]
    served.emulator.fault("chat_completions", times=3, status=429, retry_after=0.01)
    with pytest.raises(UnavailableError, match="answered 429 Too Many Requests, 3 times"):
        ask(served, "a")


def test_embedding_models_answer_vectors(world):
    details = {"checkpointFormat": "HUGGINGFACE", "worldSize": 1, "modelType": "bert"}
    world.api.ready("embedder", {"kind": "EMBEDDING_MODEL", "baseModelDetails": details})
    made = create_endpoint(world.run(model="embedder"), "prod")
    assert made["endpoint_type"] == "llm/v1/embeddings"
    answer = ask(world, [f"text {row}" for row in range(40)])
    assert len(answer["predictions"]) == 40
    assert answer["predictions"][39] == ask(world, {"input": "text 39"})["data"][0]["embedding"]
    assert ask(world, ["text 39"])["predictions"] == [answer["predictions"][39]]


def test_a_stream_comes_in_pieces(served):
    run = served.run()
    chunks = list(predict_stream(run, choose_place(run, None, "prod"), {"messages": [HI]}))
    assert len(chunks) > 3
    said = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert said == ask(served, {"messages": [HI]})["predictions"][0]
    with pytest.raises(InvalidConfigError, match="a single chat or prompt"):
        list(predict_stream(run, choose_place(run, None, "prod"), ["a", "b"]))


def test_what_nothing_serves_comes_with_the_command_that_would(world):
    from mlflow_fireworks.gateway.revisions import group_deployments

    world.base()
    run = world.run()
    deployment = group_deployments(world.gateway.models.list())["chat"]
    with pytest.raises(NotFoundError, match="mlflow deployments update -t fireworks --name chat --endpoint chat"):
        choose_place(run, deployment, None)
    world.emulator.set_transition("deployments", seconds=600)
    create_endpoint(world.run(model="chat", wait=False), "prod")
    with pytest.raises(UnavailableError, match="is CREATING and has not answered yet"):
        choose_place(run, deployment, None)
