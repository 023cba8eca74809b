"""Small files that hold something else than they are called, or are written as no loader reads them."""

import json

import pytest
from support.checkpoints import make_adapter, make_embedder, make_llama, make_transformers_model
from support.planning import names, plan, read_file

from mlflow_fireworks.artifacts.plain_text import find_stand_in, rewrite_plainly
from mlflow_fireworks.errors import PreflightError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"
STAND_INS = {
    "Git LFS": (LFS, "git lfs pull"),
    "the Hub's 404": (b"Entry not found", "entry not found"),
    "the same in JSON": (b'{"error": "Entry not found"}', "server's reply"),
    "a gated repository": (b"Access to model acme/chat is restricted. You must have access to it.", "server's reply"),
    "a page": (b"<!DOCTYPE html>\n<html><head><title>Sign in", "web page"),
    "a page with a comment": (b"\n<!-- x -->\n<HTML>", "web page"),
    "S3's answer": (b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code></Error>', "web page"),
    "a link's text": (b"../../blobs/0123abcd", "what it points to"),
    "git-annex": (b"/annex/objects/SHA256E-s5--abc.json\n", "what it points to"),
}
FILES = [
    "tokenizer.model",
    "qwen.tiktoken",
    "vocab.txt",
    "merges.txt",
    "vocab.json",
    "tokenizer.json",
    "tekken.json",
    "chat_template.jinja",
    "generation_config.json",
    "preprocessor_config.json",
    "config.json",
]


@pytest.mark.parametrize(("content", "said"), STAND_INS.values(), ids=STAND_INS)
@pytest.mark.parametrize("name", ["tokenizer.model", "config.json"])
def test_what_stands_in_for_a_file_is_told(tmp_path, name, content, said):
    folder = make_llama(tmp_path / "m")
    (folder / name).write_bytes(content)
    with pytest.raises(PreflightError) as caught:
        plan(folder)
    assert any(problem.startswith(f"{name} ") and said in problem for problem in caught.value.problems)


@pytest.mark.parametrize("name", FILES)
def test_any_file_that_goes_up_is_looked_into(tmp_path, name):
    folder = make_llama(tmp_path / "m")
    (folder / name).write_bytes(b"Entry not found\n")
    with pytest.raises(PreflightError, match=f"{name} holds a server's reply"):
        plan(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(("content", "said"), STAND_INS.values(), ids=STAND_INS)
def test_weights_are_looked_into_as_well(tmp_path, name, content, said):
    folder = make_llama(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(PreflightError, match=rf"{name}.*{said}"):
        plan(folder)


def test_folders_of_modules_and_of_components_are_looked_into(tmp_path):
    embedder = make_embedder(tmp_path / "e")
    (embedder / "1_Pooling" / "config.json").write_bytes(LFS)
    with pytest.raises(PreflightError, match=r"1_Pooling/config\.json is a Git LFS pointer"):
        plan(embedder)
    logged = make_transformers_model(tmp_path / "t")
    (logged / "components" / "tokenizer" / "vocab.json").write_bytes(LFS)
    with pytest.raises(PreflightError, match=r"components/tokenizer/vocab\.json is a Git LFS pointer"):
        plan(logged)


def test_file_that_stays_may_hold_anything(tmp_path):
    folder = make_llama(tmp_path / "m")
    (folder / "README.md").write_bytes(LFS)
    (folder / "notes.html").write_bytes(b"<html>")
    assert "config.json" in names(plan(folder))


@pytest.mark.parametrize(
    "content",
    [
        b"#version: 0.2\nh e\n",
        b"not\nfound\nentry\n",
        b"[PAD]\n[UNK]\nforbid",
        b"{% if error %}<html>{% endif %}",
        b'{"error": 5, "model": {}}',
        b'{"model": {"vocab": {"<html>": 1}}}',
        b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02",
        b"blobs\n",
    ],
)
def test_ordinary_content_is_no_stand_in(content):
    assert find_stand_in(content) is None


ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_json_goes_up_in_plain_utf8(tmp_path, name, encoding):
    folder = make_llama(tmp_path / "m")
    text = (folder / name).read_text(encoding="utf-8")
    (folder / name).write_bytes(text.encode(encoding))
    manifest = plan(folder)
    assert read_file(manifest, name) == text.encode()
    assert any(note.startswith(f"{name}: uploaded as plain UTF-8") for note in manifest.notes)
    assert (folder / name).read_bytes() == text.encode(encoding)


def test_index_modules_and_adapter_go_up_plainly_too(tmp_path):
    cases = [
        (make_llama(tmp_path / "a", shards=2), "model.safetensors.index.json"),
        (make_embedder(tmp_path / "b"), "modules.json"),
        (make_embedder(tmp_path / "c"), "1_Pooling/config.json"),
        (make_adapter(tmp_path / "d"), "adapter_config.json"),
    ]
    for folder, name in cases:
        plain = (folder / name).read_bytes()
        (folder / name).write_bytes(b"\xef\xbb\xbf" + plain)
        assert read_file(plan(folder), name) == plain


def test_word_lists_lose_the_mark_that_would_become_part_of_their_first_word(tmp_path):
    folder = make_embedder(tmp_path / "m")
    (folder / "vocab.txt").write_bytes(b"\xef\xbb\xbf[PAD]\n[UNK]\n")
    assert read_file(plan(folder), "vocab.txt") == b"[PAD]\n[UNK]\n"


def test_plain_files_are_the_users_own(tmp_path):
    folder = make_llama(tmp_path / "m")
    manifest = plan(folder)
    assert all(file.origin == file.name for file in manifest.files)
    assert not any("UTF-8" in note for note in manifest.notes)


def test_what_is_no_text_is_left_alone():
    assert rewrite_plainly("tokenizer.model", b"\xff\xfe\x00\x01") is None
    assert rewrite_plainly("config.json", b"\xff\xfe\x00") is None
    assert rewrite_plainly("config.json", json.dumps({"é": "…"}).encode()) is None
