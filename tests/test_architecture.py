"""The floors of the house: a module imports only what stands below it, and each library has its rooms.

`mlflow_fireworks/README.md` has the picture.
"""

import ast
import re
from pathlib import Path

import pytest

import mlflow_fireworks

ROOT = Path(mlflow_fireworks.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] != "emulator")
# From the ground up. What stands on one floor does not know of the others on it, but for the arrows below.
FLOORS = (
    {"printable", "in_between"},
    {"redaction", "home", "installing", "terminal"},
    {"errors", "names", "progress", "file_errors"},
    {"options", "commands", "credentials", "connections", "http", "threads", "waiting", "signals", "answers"},
    {"local", "option_values", "target"},
    {"config"},
    {"endpoint_config"},
    {"artifacts", "gateway", "registry", "transfer"},
    {"run"},
    {"pipeline", "probe", "serving"},
    {"deployments"},
    {"opening"},
    {"promotion"},
    {"hooks", "plugin"},
    {"doctor", "overview"},
    {"cli"},
)
ARROWS = {
    ("names", "errors"),
    ("waiting", "errors"),
    ("http", "connections"),
    ("answers", "threads"),
    ("artifacts", "registry"),
}
# Opened by name, at the moment somebody asks for them.
LAZY = {
    ("", "errors"),
    ("", "promotion"),
    ("cli", "doctor"),
    ("cli", "emulator"),
    ("cli", "hooks"),
    ("cli", "overview"),
    ("local", "emulator"),
}
LIBRARIES = {
    "mlflow": {"plugin", "opening", "errors", "artifacts", "registry", "hooks", "doctor"},
    "huggingface_hub": {"artifacts", "registry", "hooks", "doctor"},
    "httpx": {"answers", "connections", "http", "gateway", "transfer", "serving", "probe", "hooks"},
}


def room_of(module):
    return module.partition(".")[0]


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


def own_imports_of(path):
    for imported in imports_of(path):
        if imported.partition(".")[0] == "mlflow_fireworks":
            yield imported.removeprefix("mlflow_fireworks").strip(".")


def floor_of(room):
    return next(number for number, floor in enumerate(FLOORS) if room in floor)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_what_stands_below_it(path):
    room = room_of(name_of(path))
    for imported in own_imports_of(path):
        other = room_of(imported)
        if other == room or (room, other) in ARROWS | LAZY:
            continue
        assert floor_of(other) < floor_of(room), f"{name_of(path)} imports {imported}"


def test_every_room_has_its_floor():
    rooms = {room_of(name_of(path)) for path in MODULES} - {""}
    assert sorted(rooms) == sorted(room for floor in FLOORS for room in floor)


def test_no_modules_import_each_other_in_a_circle():
    arrows = {name_of(path): {name for name in own_imports_of(path) if name} for path in MODULES}
    while free := {name for name, needed in arrows.items() if not needed & set(arrows)}:
        arrows = {name: needed for name, needed in arrows.items() if name not in free}
    assert arrows == {}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_libraries_stay_in_their_rooms(path):
    room = room_of(name_of(path))
    for imported in imports_of(path):
        assert room in LIBRARIES.get(imported.partition(".")[0], {room}), f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=name_of)
def test_modules_stay_readable_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_terminal_prints(path):
    """There every text is made printable."""
    if name_of(path) != "terminal":
        assert not re.search(r"click\.echo\(|\bprint\(", path.read_text(encoding="utf-8"))
