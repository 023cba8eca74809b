"""What the real sentence-transformers saves for each sort of encoder: served, or refused by its name."""

import importlib.util

import pytest
from support.checkpoints import edit_json, make_embedder, make_llama
from support.planning import names, plan, read_file

from mlflow_fireworks.config import Kind
from mlflow_fireworks.errors import CheckpointError

if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch", allow_module_level=True)

# The libraries that save these models warn about themselves.
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT with its head for masked words, and the folder of one without."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("bert")
    headless = make_embedder(folder / "headless")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=259, max_position_embeddings=128, **sizes)).save_pretrained(folder / "masked")
    AutoTokenizer.from_pretrained(headless).save_pretrained(folder / "masked")
    return folder


def save_dense(bert, folder):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, Normalize, Pooling, Transformer

    modules = [Transformer(str(bert / "headless")), Pooling(16), Dense(16, 8), Normalize()]
    SentenceTransformer(modules=modules).save_pretrained(str(folder))


def save_static(bert, folder):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bert / "headless" / "tokenizer.json"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)]).save_pretrained(str(folder))


def save_router(bert, folder):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Router, Transformer

    ways = [[Transformer(str(bert / "headless")), Pooling(16)] for _ in range(2)]
    SentenceTransformer(modules=[Router.for_query_document(*ways)]).save_pretrained(str(folder))


def save_sparse(bert, folder):
    from sentence_transformers import SparseEncoder

    SparseEncoder(str(bert / "masked")).save_pretrained(str(folder))


def save_cross(bert, folder):
    from sentence_transformers import CrossEncoder

    CrossEncoder(str(bert / "masked"), num_labels=1).save_pretrained(str(folder))


def save_reranker(bert, folder):
    from sentence_transformers import CrossEncoder

    CrossEncoder(str(make_llama(folder.parent / "llama"))).save_pretrained(str(folder))


def save_multi(bert, folder):
    from sentence_transformers import MultiVectorEncoder

    MultiVectorEncoder(str(bert / "headless")).save_pretrained(str(folder))


def test_dense_encoder_goes_up_with_its_projection(tmp_path, bert):
    save_dense(bert, tmp_path / "m")
    manifest = plan(tmp_path / "m")
    assert manifest.kind is Kind.EMBEDDING
    assert {"1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"} <= set(names(manifest))


@pytest.mark.parametrize("modes", ["mean", "lasttoken", ("cls", "mean", "max")], ids=str)
@pytest.mark.parametrize("projected", [False, True], ids=["plain", "projected"])
def test_the_length_of_vectors_is_the_real_one(tmp_path, bert, modes, projected):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Dense, LayerNorm, Normalize, Pooling, Transformer

    pooling = Pooling(16, pooling_mode=modes)
    width = 16 * (3 if isinstance(modes, tuple) else 1)
    modules = [Transformer(str(bert / "headless")), pooling, *([Dense(width, 8)] if projected else [])]
    modules += [LayerNorm(8 if projected else width), Normalize()]
    SentenceTransformer(modules=modules).save_pretrained(str(tmp_path / "m"))
    [vector] = SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(["a text"])
    assert plan(tmp_path / "m", verify="headers").facts.vector_length == len(vector)


@pytest.mark.parametrize(
    ("save", "said"),
    [
        (save_sparse, "a sparse encoder"),
        (save_cross, "a cross-encoder"),
        (save_reranker, "a cross-encoder.*-C kind=base"),
        (save_multi, "a multi-vector encoder"),
        (save_router, "a router"),
        (save_static, "StaticEmbedding"),
    ],
)
def test_other_encoders_are_refused_by_their_names(tmp_path, bert, save, said):
    save(bert, tmp_path / "m")
    with pytest.raises(CheckpointError, match=said):
        plan(tmp_path / "m")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("MarianMTModel", Kind.BASE),
        ("EncoderDecoderModel", Kind.BASE),
        ("Qwen3Model", Kind.EMBEDDING),
        ("XLMRobertaModel", Kind.EMBEDDING),
    ],
)
def test_transformers_own_tables_agree(tmp_path, name, kind):
    from transformers.models.auto import modeling_auto

    generating = set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    generating |= set(modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values())
    assert (name in generating) is (kind is Kind.BASE)
    folder = make_embedder(tmp_path / "m")
    (folder / "modules.json").unlink()
    config = {"architectures": [name], "model_type": "bert" if kind is Kind.EMBEDDING else "marian"}
    edit_json(folder / "config.json", **config)
    assert plan(folder, verify="headers").kind is kind


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_that_transformers_cannot_read_goes_up_so_that_it_can(tmp_path, encoding):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_llama(tmp_path / "m")
    for name in ("config.json", "tokenizer_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_bytes(text.encode(encoding))
    with pytest.raises((OSError, ValueError)):
        AutoModelForCausalLM.from_pretrained(folder)
    sent = write_out(plan(folder), tmp_path / "sent")
    assert AutoModelForCausalLM.from_pretrained(sent).config.vocab_size == 259
    assert AutoTokenizer.from_pretrained(sent).chat_template


def test_model_without_its_map_of_code_loads_where_transformers_knows_it(tmp_path):
    from transformers import AutoModelForCausalLM

    folder = make_llama(tmp_path / "m", auto_map={"AutoModelForCausalLM": "acme/x--modeling_x.X"})
    sent = write_out(plan(folder, trust_remote_code="false"), tmp_path / "sent")
    assert type(AutoModelForCausalLM.from_pretrained(sent)).__name__ == "LlamaForCausalLM"


def write_out(manifest, folder):
    for file in manifest.files:
        (folder / file.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.name).write_bytes(read_file(manifest, file.name))
    return folder


def test_families_that_need_no_code_are_those_that_transformers_knows():
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    from mlflow_fireworks.artifacts.own_code import _KNOWN

    assert set(CONFIG_MAPPING_NAMES) >= _KNOWN
