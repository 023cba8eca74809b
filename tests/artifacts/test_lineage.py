"""From which Hugging Face repository a model comes."""

import time
from dataclasses import replace

import pytest
from huggingface_hub import HfApi, constants
from support.checkpoints import edit_json, make_adapter, make_llama, make_pyfunc_model, make_transformers_model
from support.hub_directory import HubDirectory
from support.planning import plan, source_of

from mlflow_fireworks.artifacts.evidence import Evidence
from mlflow_fireworks.artifacts.lineage import find_lineage, to_url
from mlflow_fireworks.artifacts.repository import read_repository
from mlflow_fireworks.artifacts.sources.source import Hint
from mlflow_fireworks.config import parse_config
from mlflow_fireworks.errors import InvalidConfigError

COMMIT = "c379e821c9c95d613899e8c4343e4bfee2b0c600"


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("https://huggingface.co/org/name", "org/name"),
        ("http://hf.co/org/name/", "org/name"),
        ("huggingface.co/org/name/tree/main/sub", "org/name"),
        ("https://huggingface.co/org/name/blob/main/README.md?x=1#top", "org/name"),
        ("https://huggingface.co/gpt2", "gpt2"),
        ("https://huggingface.co/gpt2/tree/main", "gpt2"),
        ("hf:/org/name", "org/name"),
        (f"hf:/org/name@{COMMIT}", "org/name"),
        ("hf://org/name@main", "org/name"),
        (f"/root/.cache/huggingface/hub/models--org--name/snapshots/{COMMIT}", "org/name"),
        (f"/root/.cache/huggingface/hub/models--gpt2/snapshots/{COMMIT}/", "gpt2"),
        (rf"C:\Users\me\.cache\huggingface\hub\models--org--name\snapshots\{COMMIT}", "org/name"),
        ("gpt2", "gpt2"),
    ],
)
def test_repositories_are_read_from_every_spelling(text, name):
    assert read_repository(text).name == name
    assert read_repository(text).url == f"https://huggingface.co/{name}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/home/me/llama",
        "./llama",
        "../org/name",
        "~/models/llama",
        "C:\\models\\llama",
        "org\\name",
        "a/b/c",
        "/mnt/models/org/name",
        "outputs/llama-sft",
        "results/final",
        "checkpoints/llama",
        "model/",
        "models/llama",
        "org/checkpoint-500",
        "checkpoint-500/model",
        "org/name.git",
        "org/na--me",
        "s3://bucket/llama",
        "models:/chat/3",
        "runs:/abc/model",
        "https://huggingface.co/datasets/org/name",
        "https://huggingface.co/spaces/org/name",
        "https://github.com/org/name",
        "https://example.com/huggingface.co/org/name",
        "org/name with spaces",
        "None",
        "x" * 97,
    ],
)
def test_local_paths_and_other_addresses_are_no_repositories(text):
    found = read_repository(text)
    assert found is None or (found.name == "None" and not found.certain)


def test_folder_that_exists_here_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme" / "chat").mkdir(parents=True)
    assert read_repository("acme/chat") is None


def test_commit_of_a_cache_folder_is_kept():
    assert read_repository(f"/x/models--org--name/snapshots/{COMMIT}").revision == COMMIT


def everything(tmp_path, hints=()):
    """A model with a different repository named in every place."""
    folder = make_transformers_model(
        tmp_path / "m", source_model_name="flavor/x", metadata={"base_model": "metadata/x"}, _name_or_path="config/x"
    )
    (folder / "model" / "README.md").write_text("---\nbase_model:\n- card/x\n- card/y\n---\n# Hi\n")
    edit_json(folder / "components" / "tokenizer" / "tokenizer_config.json", name_or_path="tokenizer/x")
    kinds = ["model version tag", "registered model tag", "run tag", "logged model param", "logged model tag"]
    hints = [Hint(kind, "hf_repo", f"{kind.split()[0]}-{kind.split()[-1]}/x") for kind in kinds]
    return source_of(folder, identity="m-1", hints=tuple(hints))


def test_evidence_is_asked_in_the_stated_order(tmp_path):
    source = everything(tmp_path)
    lineage = plan(source).lineage
    assert (lineage.repo, lineage.confidence) == ("model-tag/x", "high")
    assert plan(source, hugging_face_url="explicit/x").lineage.confidence == "explicit"
    warnings = " ".join(plan(source).warnings)
    order = [
        "model version tag",
        "registered model tag",
        "run tag",
        "source_model_name",
        "metadata",
        "logged model param",
    ]
    order += ["logged model tag", "config.json", "model card", "tokenizer_config.json"]
    places = [warnings.index(f"{word}") for word in order[1:]]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("taken_away", "then"),
    [
        (0, "model-tag/x"),
        (1, "registered-tag/x"),
        (2, "run-tag/x"),
        (3, "flavor/x"),
    ],
)
def test_tags_come_before_the_mlmodel(tmp_path, taken_away, then):
    source = everything(tmp_path)
    kept = source_of(tmp_path / "m", hints=source.hints[taken_away:])
    assert plan(kept).lineage.repo == then


def test_disagreement_is_a_warning_that_names_both(tmp_path):
    folder = make_transformers_model(tmp_path / "m", source_model_name="acme/a", _name_or_path="acme/b")
    (warning,) = plan(folder).warnings
    assert "acme/a" in warning
    assert "acme/b" in warning
    assert plan(folder, hugging_face_url="acme/c").warnings == ()


def test_agreement_is_no_warning(tmp_path):
    folder = make_transformers_model(tmp_path / "m", source_model_name="acme/a", _name_or_path="Acme/A")
    assert plan(folder).warnings == ()


def test_none_forbids_the_url(tmp_path):
    folder = make_transformers_model(tmp_path / "m", source_model_name="acme/a")
    lineage = plan(folder, hugging_face_url="none").lineage
    assert (lineage.url, lineage.confidence) == (None, "none")


@pytest.mark.parametrize("option", ["./llama", "/srv/llama", "a/b/c", "https://github.com/org/name", "C:\\x"])
def test_explicit_url_that_is_none_is_refused(tmp_path, option):
    with pytest.raises(InvalidConfigError, match="is not a Hugging Face repository; write"):
        plan(make_llama(tmp_path / "m"), hugging_face_url=option)


def test_explicit_url_is_normalised():
    assert (
        to_url("org/name") == to_url("https://huggingface.co/org/name/tree/main") == "https://huggingface.co/org/name"
    )
    assert to_url("gpt2") == "https://huggingface.co/gpt2"
    assert to_url("none") is None
    assert to_url(None) is None


def test_own_findings_are_no_evidence(tmp_path):
    """The plugin writes `fireworks.hugging_face_url`; read back, a guess would become a certainty."""
    folder = make_llama(tmp_path / "m")
    hints = (Hint("model version tag", "fireworks.hugging_face_url", "https://huggingface.co/acme/guess"),)
    assert plan(source_of(folder, hints=hints)).lineage.url is None


@pytest.mark.parametrize(
    "key",
    ["hf_repo", "huggingFaceUrl", "HF-Model-ID", "base_model", "hf.repo", "model_name_or_path", "huggingface/url"],
)
def test_tags_are_known_under_many_names(tmp_path, key):
    hints = (Hint("run tag", key, "acme/chat"), Hint("run tag", "mlflow.user", "some/body"))
    assert plan(source_of(make_llama(tmp_path / "m"), hints=hints)).lineage.repo == "acme/chat"


@pytest.mark.parametrize(("key", "value"), [("model_name", "chat"), ("model_id", "m-0123"), ("team", "acme/chat")])
def test_names_people_give_their_own_models_are_no_evidence(tmp_path, key, value):
    manifest = plan(source_of(make_llama(tmp_path / "m"), hints=(Hint("run param", key, value),)))
    assert manifest.lineage.url is None
    assert not any(value in note for note in manifest.notes)


def test_local_source_model_name_falls_through_to_the_next_evidence(tmp_path):
    folder = make_transformers_model(tmp_path / "m", source_model_name="/dbfs/llama", _name_or_path="acme/b")
    lineage = plan(folder).lineage
    assert (lineage.repo, lineage.evidence, lineage.confidence) == ("acme/b", "config.json _name_or_path", "medium")


def test_cache_path_names_its_repository(tmp_path):
    name = f"/root/.cache/huggingface/hub/models--acme--chat/snapshots/{COMMIT}"
    folder = make_transformers_model(tmp_path / "m", source_model_name=name)
    assert plan(folder).lineage.url == "https://huggingface.co/acme/chat"


def test_artifact_of_a_pyfunc_tells_where_it_was_taken_from(tmp_path):
    folder = make_pyfunc_model(tmp_path / "m")
    mlmodel = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(mlmodel.replace("/home/someone/checkpoint", "hf:/acme/chat"))
    assert plan(folder).lineage.evidence == "MLmodel artifact uri"


@pytest.fixture
def artifacts(tmp_path):
    """A pyfunc with two artifacts, the path of one beginning like the other's, in any spelling of `MLmodel`."""

    def make(folder, chosen, spelled="artifacts/{}"):
        model = make_pyfunc_model(folder, ["llama", "llama-guard"])
        mlmodel = (model / "MLmodel").read_text()
        for key in ("llama", "llama-guard"):
            mlmodel = mlmodel.replace(f"path: artifacts/{key}\n", f"path: {spelled.format(key)}\n")
            mlmodel = mlmodel.replace(f"uri: /home/someone/{key}\n", f"uri: hf:/acme/{key}\n")
        (model / "MLmodel").write_text(mlmodel)
        return plan(tmp_path / "m", checkpoint_path=chosen).lineage

    return make


@pytest.mark.parametrize("spelled", ["artifacts/{}", "artifacts\\{}", "./artifacts/{}", "artifacts/{}/"])
@pytest.mark.parametrize("key", ["llama", "llama-guard"])
def test_artifact_is_not_taken_for_one_whose_name_begins_alike(tmp_path, artifacts, key, spelled):
    lineage = artifacts(tmp_path / "m", f"artifacts/{key}", spelled)
    assert (lineage.repo, lineage.evidence) == (f"acme/{key}", "MLmodel artifact uri")


@pytest.mark.parametrize("key", ["llama", "llama-guard"])
def test_artifacts_of_an_mlmodel_one_folder_down_are_known(tmp_path, artifacts, key):
    assert artifacts(tmp_path / "m" / "logged", f"logged/artifacts/{key}").repo == f"acme/{key}"


@pytest.mark.parametrize("place", ["", "artifacts/cache/hub/"])
def test_cache_folder_inside_the_artifacts_names_its_repository(tmp_path, place):
    make_llama(tmp_path / "m" / f"{place}models--acme--chat" / "snapshots" / COMMIT, _name_or_path="/x")
    lineage = plan(tmp_path / "m").lineage
    assert (lineage.repo, lineage.evidence) == ("acme/chat", "a folder of the artifacts")


COPIES = {
    "unsloth/llama-3-8b-bnb-4bit": "unsloth/llama-3-8b",
    "unsloth/Qwen3-8B-unsloth-bnb-4bit": "unsloth/Qwen3-8B",
    "Qwen/Qwen2.5-7B-Instruct-AWQ": "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4": "Qwen/Qwen2.5-7B-Instruct",
    "acme/chat-FP8-dynamic": "acme/chat",
    "acme/chat-quantized.w4a16": "acme/chat",
    "acme/chat-4bit": "acme/chat",
}
NO_COPIES = [
    "acme/chat",
    "acme/chat-dynamic",
    "acme/bits-8",
    "acme/4bit-chat",
    "acme/awq",
    "acme/fp8",
    "microsoft/phi-4",
]


@pytest.mark.parametrize("name", COPIES)
def test_quantised_copy_is_not_the_origin(tmp_path, name):
    manifest = plan(make_llama(tmp_path / "m", _name_or_path=name))
    assert (manifest.lineage.repo, manifest.lineage.confidence) == (COPIES[name], "low")
    assert any(f"names {name}, a quantised copy" in note for note in manifest.notes)


@pytest.mark.parametrize("name", NO_COPIES)
def test_name_that_only_looks_alike_is_used_as_it_is(tmp_path, name):
    assert plan(make_llama(tmp_path / "m", _name_or_path=name)).lineage.repo == name


def test_better_evidence_wins_over_a_copy(tmp_path):
    folder = make_llama(tmp_path / "m", _name_or_path="unsloth/llama-3-8b-bnb-4bit")
    (folder / "README.md").write_text("---\nbase_model: meta-llama/Meta-Llama-3-8B\n---\n")
    manifest = plan(folder)
    assert manifest.lineage.repo == "meta-llama/Meta-Llama-3-8B"
    assert manifest.warnings == ()


def test_copy_by_somebody_else_counts_only_where_the_hub_knows_the_original(tmp_path, online):
    folder = make_llama(tmp_path / "m", _name_or_path="TheBloke/Llama-2-7B-GPTQ")
    manifest = plan(folder, verify_hugging_face=False)
    assert manifest.lineage.url is None
    assert any("a quantised copy, and it is not known what it was made from" in note for note in manifest.notes)
    with HubDirectory(repos=["TheBloke/Llama-2-7B"]).running() as url:
        assert plan(folder, hub=HfApi(url)).lineage.repo == "TheBloke/Llama-2-7B"


def test_copy_that_the_user_names_is_used(tmp_path):
    folder = make_llama(tmp_path / "m")
    assert plan(folder, hugging_face_url="acme/chat-4bit").lineage.repo == "acme/chat-4bit"


@pytest.mark.parametrize(
    ("named", "card", "base"),
    [
        ("llama", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("/data/llama", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("acme/base", "other/base", "acme/base"),
        ("gpt2", "gpt2", "gpt2"),
        ("unsloth/llama-3-8b-bnb-4bit", "unsloth/llama-3-8b-bnb-4bit", "unsloth/llama-3-8b"),
        ("TheBloke/Llama-2-7B-GPTQ", "x", "TheBloke/Llama-2-7B-GPTQ"),
    ],
)
def test_base_of_an_adapter_is_the_best_name_there_is(tmp_path, named, card, base):
    folder = make_adapter(tmp_path / "m", base=named)
    (folder / "README.md").write_text(f"---\nbase_model: {card}\n---\n")
    assert plan(folder).adapter.base_repo == base


def test_adapter_knows_the_page_of_its_base(tmp_path):
    lineage = plan(make_adapter(tmp_path / "m", base="acme/base")).lineage
    assert lineage.base_url == lineage.url == "https://huggingface.co/acme/base"


def test_name_without_an_organisation_counts_only_where_the_hub_knows_it(tmp_path, online):
    folder = make_transformers_model(tmp_path / "m", source_model_name="gpt2")
    assert plan(folder, verify_hugging_face=False).lineage.url is None
    with HubDirectory(repos=["openai-community/gpt2"], renamed={"gpt2": "openai-community/gpt2"}).running() as url:
        lineage = plan(folder, hub=HfApi(url)).lineage
    assert lineage.url == "https://huggingface.co/openai-community/gpt2"


def test_offline_it_is_used_unverified_and_said_so(tmp_path):
    manifest = plan(make_transformers_model(tmp_path / "m", source_model_name="acme/chat"))
    assert (manifest.lineage.url, manifest.lineage.verified) == ("https://huggingface.co/acme/chat", None)
    assert any("not verified" in note and "HF_HUB_OFFLINE" in note for note in manifest.notes)


def test_known_repository_is_verified(tmp_path, online):
    folder = make_transformers_model(tmp_path / "m", source_model_name="acme/chat")
    with HubDirectory(repos=["acme/chat"]).running() as url:
        manifest = plan(folder, hub=HfApi(url))
    assert manifest.lineage.verified is True
    assert not any("verified" in note for note in manifest.notes)


def test_renamed_repository_is_followed(tmp_path, online):
    folder = make_transformers_model(tmp_path / "m", source_model_name="old/chat", _name_or_path="new/chat")
    with HubDirectory(repos=["new/chat"], renamed={"old/chat": "new/chat"}).running() as url:
        manifest = plan(folder, hub=HfApi(url))
    assert (manifest.lineage.repo, manifest.lineage.verified) == ("new/chat", True)
    assert any("old/chat is now called new/chat" in note for note in manifest.notes)
    assert manifest.warnings == ()


def test_gated_repository_exists(tmp_path, online):
    folder = make_transformers_model(tmp_path / "m", source_model_name="meta-llama/secret")
    with HubDirectory(gated=["meta-llama/secret"]).running() as url:
        assert plan(folder, hub=HfApi(url)).lineage.verified is True


def test_unknown_repository_is_not_used_and_the_next_evidence_is(tmp_path, online):
    folder = make_transformers_model(tmp_path / "m", source_model_name="acme/typo", _name_or_path="acme/chat")
    with HubDirectory(repos=["acme/chat"]).running() as url:
        manifest = plan(folder, hub=HfApi(url))
    assert (manifest.lineage.repo, manifest.lineage.verified) == ("acme/chat", True)
    assert any("acme/typo" in warning and "does not know" in warning for warning in manifest.warnings)


def test_repository_that_the_user_named_is_kept_though_unknown(tmp_path, online):
    with HubDirectory().running() as url:
        manifest = plan(make_llama(tmp_path / "m"), hub=HfApi(url), hugging_face_url="acme/private")
    assert (manifest.lineage.repo, manifest.lineage.verified) == ("acme/private", False)
    assert any("not known" in warning for warning in manifest.warnings)


def test_verification_can_be_switched_off(tmp_path, online):
    folder = make_transformers_model(tmp_path / "m", source_model_name="acme/chat")
    directory = HubDirectory()
    with directory.running() as url:
        assert plan(folder, hub=HfApi(url), verify_hugging_face=False).lineage.repo == "acme/chat"
    assert directory.asked == []


def test_refused_connection_costs_no_time(tmp_path, online):
    folder = make_transformers_model(tmp_path / "m", source_model_name="acme/chat")
    with HubDirectory().running() as url:
        pass
    began = time.monotonic()
    manifest = plan(folder, hub=HfApi(url))
    assert time.monotonic() - began < 2
    assert (manifest.lineage.repo, manifest.lineage.verified) == ("acme/chat", None)


def test_silent_hub_is_given_up_once_for_all_questions(online):
    named = ["acme/a", "acme/b", "acme/c"]
    evidence = [Evidence(read_repository(name), "somewhere", "medium") for name in named]
    directory = HubDirectory(delay_seconds=20)
    began = time.monotonic()
    with directory.running() as url:
        finding = find_lineage(evidence, parse_config({}), HfApi(url), seconds=0.3)
    assert time.monotonic() - began < 3
    assert (finding.lineage.repo, finding.lineage.verified) == ("acme/a", None)
    assert directory.asked == ["acme/a"]


def test_model_from_the_hub_is_its_own_origin(tmp_path):
    folder = make_llama(tmp_path / "m", _name_or_path="acme/base")
    source = source_of(folder, identity="hf:acme/tuned@main")
    manifest = plan(replace(source, resolved=f"hf:/acme/tuned@{COMMIT}"))
    assert (manifest.lineage.repo, manifest.flavor) == ("acme/tuned", "huggingface")
    assert manifest.warnings == ()
    assert any("made from acme/base" in note for note in manifest.notes)


@pytest.mark.parametrize(
    "card", ["---\nbase_model: [\n---", "---\n- a\n---", "no front matter", "---\nbase_model: 3\n---"]
)
def test_odd_model_cards_are_no_evidence(tmp_path, card):
    folder = make_llama(tmp_path / "m")
    (folder / "README.md").write_text(card)
    assert plan(folder).lineage.url is None
