"""Checkpoints whose code would leave a mark, run by every version of the loaders that the extra `local` allows."""

import json
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from emulator.raw_client import ADDON, BASE, Api
from safetensors.numpy import load_file, save_file
from support.checkpoints import edit_json, make_adapter, make_embedder, make_llama, read_files
from support.containers import REPOSITORY

import mlflow_fireworks

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::FutureWarning")]
GPU = {"acceleratorType": "NVIDIA_H100_80GB"}
EMBEDDING = {"kind": "EMBEDDING_MODEL"}
PROD = "accounts/acme/deployments/prod"
INSTALLED = "as installed"
_FLOOR = re.compile(r'"(peft|sentence-transformers|transformers)(?:\[serving\])?>=([\d.]+)"')
OLDEST = [f"{name}=={floor}" for name, floor in _FLOOR.findall((REPOSITORY / "pyproject.toml").read_text())]
# Beside what is installed, which is the newest: the last sentence-transformers before 6, and the oldest of everything
# that the extra allows, with what that transformers insists on.
VERSIONS = {
    INSTALLED: (),
    "5.6": ("sentence-transformers==5.6.0",),
    "oldest": (*OLDEST, "huggingface-hub==1.5.0", "tokenizers==0.22.0"),
}
MODULE = """
open({mark!r}, "a").write("ran")
from torch import nn

class Mine(nn.Module):
    def forward(self, features):
        return features
    def tokenize(self, texts):
        return {{}}
    @classmethod
    def load(cls, *args, **kwargs):
        return cls()
"""


@pytest.fixture(
    scope="module", params=[pytest.param(v, marks=[pytest.mark.slow] * bool(VERSIONS[v])) for v in VERSIONS]
)
def python(request, tmp_path_factory):
    """An interpreter with some version of the loaders in front of what is installed here."""
    if request.param == INSTALLED:
        return sys.executable
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (own,) = folder.glob("lib/python*/site-packages")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        str(own),
        *VERSIONS[request.param],
    ]
    if subprocess.run(install, capture_output=True, check=False).returncode:
        pytest.skip("cannot be installed here")
    (own / "installed.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return str(folder / "bin" / "python")


@pytest.fixture
def start(python, tmp_path):
    """A local Fireworks in that interpreter, whose models answer."""
    running = []

    def start(*options):
        # As `processes` does it, for an interpreter that is not this one.
        child = str(Path(mlflow_fireworks.__file__).parent / "emulator" / "child.py")
        process = subprocess.Popen(
            [python, "-I", child, "", "mlflow_fireworks.emulator", "--answer", "--quiet", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        api = Api(process.stdout.readline().strip())
        running.append((process, api))
        return api

    yield start
    for process, api in running:
        api.close()
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


def deploy(api, model, folder, **query):
    files = read_files(folder)
    api.create("chat", model)
    api.upload("chat", files)
    assert api.call("GET", "/models/chat:validateUpload", params=query).status_code == 200
    body = {"baseModel": "accounts/acme/models/chat"} | ({} if model is EMBEDDING else GPU)
    assert api.call("POST", "/deployments?deploymentId=prod", json=body).status_code == 200
    api.call("GET", "/deployments/prod")


def ask(api, operation, **body):
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        answer = api.http.post(f"/inference/v1/{operation}", json={"model": PROD} | body, timeout=180)
        if answer.status_code != 503:
            return answer
        time.sleep(0.5)
    raise AssertionError("the model did not start")


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "MARK"


@pytest.fixture
def marked(tmp_path, mark):
    """An embedding model with a module of its own, which leaves a mark when it is imported."""
    folder = make_embedder(tmp_path / "marked")
    (folder / "mine.py").write_text(MODULE.format(mark=str(mark)))
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "", "type": "mine.Mine"})
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_a_module_of_the_checkpoint_leaves_no_mark(start, marked, mark):
    api = start()
    deploy(api, EMBEDDING, marked)
    answer = ask(api, "embeddings", input="x")
    assert answer.status_code == 501
    assert "modules.json names the class mine.Mine" in answer.json()["error"]["message"]
    assert not mark.exists()


def test_a_module_that_is_trusted_runs(start, marked, mark):
    """So the mark would have been left."""
    api = start("--trust-remote-code")
    deploy(api, EMBEDDING, marked)
    ask(api, "embeddings", input="x")
    assert mark.read_text() == "ran"


def test_a_plain_model_answers(start, tmp_path):
    api = start()
    deploy(api, EMBEDDING, make_embedder(tmp_path / "plain"))
    answer = ask(api, "embeddings", input="x")
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"][0]["embedding"]) == 16


def test_a_language_model_answers_and_so_does_an_adapter_that_is_merged_into_it(start, tmp_path):
    api = start()
    deploy(api, BASE, make_llama(tmp_path / "llama"))
    answer = ask(api, "completions", prompt="x", max_tokens=2)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 2
    files = read_files(make_adapter(tmp_path / "adapter"))
    del files["README.md"]
    details = {"baseModel": "accounts/acme/models/chat", "r": 8, "targetModules": ["q_proj", "v_proj"]}
    api.ready("tuned", ADDON | {"peftDetails": details}, files)
    body = {"baseModel": "accounts/acme/models/tuned"} | GPU
    assert api.call("POST", "/deployments?deploymentId=tuned", json=body).status_code == 200
    api.call("GET", "/deployments/tuned")
    answer = ask(api, "completions", model=PROD.replace("prod", "tuned"), prompt="x", max_tokens=2)
    assert answer.status_code == 200, answer.text


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
def test_a_model_that_wants_more_memory_than_its_files_is_ended(start, tmp_path):
    """Eight gigabytes for weights that are in no file; what is missing, loaders fill in."""
    folder = make_embedder(tmp_path / "m")
    edit_json(folder / "config.json", intermediate_size=2**27)
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not re.search(r"intermediate|layer\.\d+\.output", name)}
    save_file(kept, folder / "model.safetensors")
    api = start()
    deploy(api, EMBEDDING, folder)
    answer = ask(api, "embeddings", input="x")
    assert answer.status_code == 501, answer.text
    assert "allocate memory" in answer.json()["error"]["message"]


class Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


@pytest.mark.parametrize("trust", [(), ("--trust-remote-code",)], ids=["untrusted", "trusted"])
@pytest.mark.parametrize("weights", ["of the model", "of a module"])
def test_pickled_weights_run_nothing_trusted_or_not(start, tmp_path, mark, weights, trust):
    folder = make_embedder(tmp_path / "pickled")
    if weights == "of the model":
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    else:
        (folder / "2_Dense").mkdir()
        settings = {"in_features": 16, "out_features": 16, "bias": True}
        settings["activation_function"] = "torch.nn.modules.activation.Tanh"
        (folder / "2_Dense" / "config.json").write_text(json.dumps(settings))
        (folder / "2_Dense" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
        modules = json.loads((folder / "modules.json").read_text())
        modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
        (folder / "modules.json").write_text(json.dumps(modules))
    api = start(*trust)
    deploy(api, EMBEDDING, folder)
    assert ask(api, "embeddings", input="x").status_code == 501
    assert not mark.exists()


def test_code_of_a_language_model_runs_only_where_it_is_trusted(start, tmp_path, mark):
    folder = make_llama(tmp_path / "llama")
    (folder / "mine.py").write_text(
        f"open({str(mark)!r}, 'a').write('ran')\nfrom transformers import PreTrainedTokenizerFast as Mine\n"
    )
    edit_json(folder / "tokenizer_config.json", tokenizer_class="Mine", auto_map={"AutoTokenizer": [None, "mine.Mine"]})
    api = start()
    deploy(api, BASE, folder)
    assert ask(api, "completions", prompt="x", max_tokens=2).status_code == 501
    assert not mark.exists()

    trusting = start()
    deploy(trusting, BASE, folder, trustRemoteCode="true")
    ask(trusting, "completions", prompt="x", max_tokens=2)
    assert mark.exists()
