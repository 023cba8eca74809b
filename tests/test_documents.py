"""The documentation: what is generated is current, links lead somewhere, and what it tells users to type works.

`python tests/test_documents.py` writes the generated parts.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
import yaml
from support.advice import parse, run
from support.checkpoints import make_adapter, make_embedder, make_llama

from mlflow_fireworks.config import Config
from mlflow_fireworks.endpoint_config import EndpointConfig
from mlflow_fireworks.hooks.rules import Rules
from mlflow_fireworks.option_values import list_options

ROOT = Path(__file__).parent.parent
OPTIONS = ROOT / "mlflow_fireworks" / "OPTIONS.md"
TABLES = {"options": Config, "endpoint options": EndpointConfig}
_FOLDERS = ("mlflow_fireworks", "examples", "tests/benchmarks")
PAGES = [ROOT / "README.md", *sorted(page for folder in _FOLDERS for page in (ROOT / folder).rglob("*.md"))]
LONGEST_README = 200
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_OURS = ("mlflow", "mlflow-fireworks")
# Programs that are not ours, and a shell's own words.
_OTHERS = {
    "cd",
    "cp",
    "docker",
    "echo",
    "eval",
    "export",
    "git",
    "install",
    "kubectl",
    "make",
    "pip",
    "python",
    "python3",
}
_OTHERS |= {"cat", "chmod", "mkdir", "openssl"}
_OTHERS |= {
    "databricks",
    "gh",
    "hf",
    "systemctl",
    "systemd-run",
    "uv",
    "pipx",
    "uvx",
    "nox",
    "/opt/mlflow-fireworks/bin/pip",
}
_OTHERS |= {"/opt/mlflow-fireworks/bin/mlflow-fireworks"}
# Ours that do not end by themselves, need a server of their own, or a real account: the program has to take them.
_ONLY_PARSED = re.compile(
    r"deployments run-local|mlflow-fireworks emulator|mlflow-fireworks probe|mlflow server|transfer=import"
    r"|doctor --hooks|hooks (?:serve|worker|register|approve|run|retry|dismiss|hold|resume)|fireworks://127\.0\.0\.1|--watch"
)


def with_current_options(text):
    for name, table in TABLES.items():
        part = re.compile(rf"(<!-- {name}:.*?-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        found = part.search(text)
        text = text.replace(found[0], f"{found[1]}{markdown(table)}\n{found[2]}")
    return text


def markdown(table):
    rows = [
        f"| `{name}` | {kind.replace('|', ' / ')} | {default} | {text} |"
        for name, kind, default, text in list_options(table)
    ]
    return "\n".join(["| option | type | default | what it does |", "| --- | --- | --- | --- |", *rows])


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    text: str

    def commands(self):
        """The lines of a shell, continuation lines joined, without comments."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield line, words


def blocks_of(page, *languages):
    found = (Block(page, *found) for found in _BLOCK.findall(page.read_text(encoding="utf-8")))
    return [block for block in found if block.language in languages]


def ours_of(page):
    """All commands of our programs in a page, without redirections."""
    for block in blocks_of(page, "sh"):
        for _, words in block.commands():
            if words[0] in _OURS:
                yield shlex.join(words)


def name_of(page):
    return str(page.relative_to(ROOT))


def test_the_option_tables_are_current():
    text = OPTIONS.read_text(encoding="utf-8")
    assert with_current_options(text) == text


def test_the_readme_is_read_in_one_sitting():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= LONGEST_README


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        assert "://" in link or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_is_one_that_the_programs_take(page):
    for block in blocks_of(page, "sh"):
        for line, words in block.commands():
            assert words[0] in {*_OURS, *_OTHERS}, line
    for command in ours_of(page):
        parse(command)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_rules_can_be_loaded(page):
    for block in blocks_of(page, "yaml"):
        Rules.model_validate(yaml.safe_load(block.text))


@pytest.fixture(scope="module")
def filled_registry(tmp_path_factory):
    """What the pages' commands are about: chat in eight versions, an adapter, an embedding model."""
    folder = tmp_path_factory.mktemp("registry")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    chats = [make_llama(folder / "one"), make_llama(folder / "two", seed=2)]
    sources = {
        "chat": [chats[number % 2] for number in range(8)],
        "support-lora": [make_adapter(folder / "adapter", base="Qwen/Qwen3-8B")],
        "search": [make_embedder(folder / "embedder")],
    }
    for name, folders in sources.items():
        client.create_registered_model(name)
        for source in folders:
            client.create_model_version(name, source.as_uri())
        client.set_registered_model_alias(name, "champion", "7" if name == "chat" else "1")
    return folder / "mlflow.db"


@pytest.fixture
def world(fireworks, filled_registry, tmp_path, monkeypatch):
    """An account, a registry, and an empty folder to work in."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{filled_registry}")
    monkeypatch.chdir(tmp_path)
    return fireworks


# What a page takes for granted: the deployment that it is about, and its endpoint.
_BEFORE = {
    "examples/hooks/RUNBOOK.md": [
        "mlflow deployments create -t fireworks -m models:/chat/1 --name chat --endpoint prod",
        "mlflow deployments update -t fireworks -m models:/chat/2 --name chat --endpoint prod",
    ]
}


def carry_out(page):
    """What a reader does who follows a page from the top."""
    namespace = {}
    for command in _BEFORE.get(name_of(page), []):
        run(command)
    for block in blocks_of(page, "sh", "yaml", "python"):
        if block.language == "yaml":
            Path("hooks.yaml").write_text(block.text, encoding="utf-8")
        elif block.language == "python" and "pytest" not in block.text:
            exec(compile(block.text, str(page), "exec"), namespace)
        elif block.language == "sh":
            for line, words in block.commands():
                if words[0] == "echo":
                    subprocess.run(line, shell=True, check=True)
                elif words[0] in _OURS and not _ONLY_PARSED.search(line):
                    run(shlex.join(words))
    if "fw" in namespace:
        namespace["fw"].stop()


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(ours_of(page))], ids=name_of)
def test_what_a_page_tells_to_type_works_from_the_top_to_the_end(world, page):
    carry_out(page)


@pytest.mark.slow
def test_the_test_that_users_copy_passes(tmp_path):
    [block] = [
        block
        for block in blocks_of(ROOT / "mlflow_fireworks" / "emulator" / "README.md", "python")
        if "pytest" in block.text
    ]
    (tmp_path / "test_copied.py").write_text(block.text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout


if __name__ == "__main__":
    OPTIONS.write_text(with_current_options(OPTIONS.read_text(encoding="utf-8")), encoding="utf-8")
