"""From an MLflow model to a real answer: create, endpoint, predict, on a local Fireworks that runs the model."""

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest
from support.checkpoints import make_adapter, make_llama, minilm_folder

from mlflow_fireworks.emulator import Emulator
from mlflow_fireworks.plugin import FireworksDeploymentClient

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]
QUIET = {"progress": "none"}


@pytest.fixture
def client(monkeypatch):
    with Emulator(answers=True) as emulator:
        monkeypatch.setenv("FIREWORKS_BASE_URL", emulator.url)
        monkeypatch.setenv("FIREWORKS_API_KEY", "fw_key")
        monkeypatch.setenv("FIREWORKS_ACCOUNT_ID", "acme")
        yield FireworksDeploymentClient("fireworks")
        assert not emulator.failures


def test_embeddings_are_those_of_sentence_transformers(client):
    import numpy as np
    from sentence_transformers import SentenceTransformer

    texts = ["A promotion in the registry.", "Two in the morning.", "two in the Morning"]
    client.create_deployment("minilm", str(minilm_folder()), config=QUIET, endpoint="vectors")
    assert client.get_endpoint("vectors").endpoint_type == "llm/v1/embeddings"
    answer = client.predict("minilm", texts)
    expected = SentenceTransformer(str(minilm_folder()), device="cpu").encode(texts)
    np.testing.assert_allclose(np.array(answer["predictions"]), expected, rtol=1e-4, atol=1e-5)
    assert answer["usage"]["total_tokens"] > 10


def test_a_language_model_and_its_adapter_really_answer(client, tmp_path):
    import transformers

    folder = make_llama(tmp_path / "llama")
    client.create_deployment("chat", str(folder), config={**QUIET, "hugging_face_url": "acme/llama"}, endpoint="prod")
    question = {"prompt": "hello", "max_tokens": 8, "temperature": 0}
    answer = client.predict("chat", question)
    pipeline = transformers.pipeline("text-generation", str(folder), device="cpu")
    expected = pipeline("hello", max_new_tokens=8, do_sample=False, return_full_text=False)[0]["generated_text"]
    assert answer["predictions"] == [expected]
    assert answer["usage"]["completion_tokens"] == 8
    rows = [{**question, "prompt": text} for text in ("one", "hello", "three")]
    assert client.predict("chat", rows)["predictions"][1] == expected
    assert list(client.predict_stream("chat", {**question, "stream": True}))

    adapter = make_adapter(tmp_path / "adapter", base="acme/llama")
    client.create_deployment(
        "tuned",
        str(adapter),
        config={**QUIET, "base_model": "accounts/acme/models/chat", "live_merge": True},
        endpoint="tuned",
    )
    assert len(client.predict("tuned", question)["predictions"]) == 1


def test_a_rehearsal_ends_in_a_model_that_answers(tmp_path):
    """A process of its own, asked with the `curl` line that it shows, ended as Ctrl-C ends it."""
    folder = make_llama(tmp_path / "llama")
    rehearse = "import sys; from mlflow_fireworks.plugin import run_local; run_local('chat', sys.argv[1])"
    process = subprocess.Popen(
        [sys.executable, "-c", rehearse, str(folder)], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        command = next(line for line in process.stderr if "curl -s " in line)
        answered = subprocess.run(
            shlex.split(command[command.index("curl -s ") :]), capture_output=True, text=True, timeout=120, check=True
        )
        assert json.loads(answered.stdout)["choices"][0]["message"]["role"] == "assistant"
    finally:
        process.send_signal(signal.SIGTERM)  # a shell's background jobs ignore SIGINT, this test among them
        process.communicate(timeout=60)
    assert process.returncode == 0
