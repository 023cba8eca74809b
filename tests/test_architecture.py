"""The directions of design: who may import whom."""

import ast
from pathlib import Path

import pytest

import mlflow_fireworks

ROOT = Path(mlflow_fireworks.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
SHARED = {"target", "config", "errors", "progress", "http", "home"}
ROOMS = {
    "artifacts": SHARED,
    "gateway": SHARED,
    "transfer": SHARED,
    "serving": SHARED | {"gateway", "revisions", "waiting"},
    "emulator": set(),
}
LIBRARIES = {
    "mlflow": {"plugin", "cli", "errors", "opening", "gateway.client", "artifacts", "hooks"},
    "huggingface_hub": {"artifacts", "hooks"},
    "httpx": {"http", "gateway", "transfer", "serving", "hooks"},
}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_rooms_import_only_the_shared_vocabulary(path):
    room = name_of(path).partition(".")[0]
    if room not in ROOMS:
        return
    for imported in imports_of(path):
        if imported.startswith("mlflow_fireworks"):
            target = imported.removeprefix("mlflow_fireworks").strip(".").partition(".")[0]
            assert target == room or target in ROOMS[room], f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_stay_in_their_rooms(path):
    name = name_of(path)
    for imported in imports_of(path):
        allowed = LIBRARIES.get(imported.partition(".")[0])
        if allowed is not None:
            assert any(name == room or name.startswith(f"{room}.") for room in allowed), f"{name} imports {imported}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_stay_readable_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
