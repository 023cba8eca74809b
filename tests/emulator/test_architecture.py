"""The floors of the emulator: who may import whom. Imports for type checkers and inside functions count as well."""

import ast
import graphlib
from pathlib import Path

import pytest

import mlflow_fireworks.emulator

PACKAGE = "mlflow_fireworks.emulator"
ROOT = Path(mlflow_fireworks.emulator.__file__).parent
# From the top down. A module imports its own room and what is further down; "" is the package itself, its public face.
FLOORS = (
    {"__main__", "pytest_plugin"},
    {""},
    {"http"},
    {"answers"},
    {"resources"},
    {"storage"},
    {"validation"},
    {"protocol"},
    {"options", "processes"},
    {"behaviours", "child"},
    {"facts"},
)


def modules(root):
    """Path of every module by its name inside of the package."""
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports_of(path):
    """Absolute names of what a file imports; each may be a module or something in one."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph(root):
    """The modules of the package that each of its modules imports."""
    known = modules(root)

    def module_of(imported):
        name = imported.removeprefix(PACKAGE).removeprefix(".")
        return name if name in known else name.rpartition(".")[0]

    return {
        name: {module_of(imported) for imported in imports_of(path) if f"{imported}.".startswith(f"{PACKAGE}.")}
        for name, path in known.items()
    }


def floor_of(module):
    room = module.partition(".")[0]
    return next((floor for floor, rooms in enumerate(FLOORS) if room in rooms), None)


def upward(imports):
    """The imports that do not run down or stay in their room."""
    return [
        f"{importer} imports {imported}"
        for importer, targets in imports.items()
        for imported in targets
        if floor_of(imported) <= floor_of(importer) and importer.partition(".")[0] != imported.partition(".")[0]
    ]


def circle(imports):
    """One circle of modules, if there is any."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_every_module_has_a_floor():
    assert [module for module in modules(ROOT) if floor_of(module) is None] == []


def test_imports_run_down():
    assert upward(graph(ROOT)) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circle(graph(ROOT)) == []


@pytest.mark.parametrize("path", modules(ROOT).values(), ids=modules(ROOT))
def test_nothing_of_the_rest_of_the_package_is_imported(path):
    ours = [name for name in imports_of(path) if name.partition(".")[0] == PACKAGE.partition(".")[0]]
    assert [name for name in ours if not f"{name}.".startswith(f"{PACKAGE}.")] == []


@pytest.fixture
def house(tmp_path):
    """A house of two rooms, and a way to change one of its files."""

    def write(name, *lines):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines))
        return graph(tmp_path)

    write("protocol/wire")
    write("storage/state", f"from {PACKAGE}.protocol.wire import Call")
    write("storage/bucket", f"from {PACKAGE}.storage import state")
    return write


def test_what_runs_down_passes(house):
    imports = house("http/server", f"import {PACKAGE}.storage.bucket")
    assert imports["http.server"] == {"storage.bucket"}
    assert (upward(imports), circle(imports)) == ([], [])


@pytest.mark.parametrize(
    "line",
    [
        "from {}.storage.state import Store",
        "from {}.storage import state",
        "import {}.storage.state",
        "if TYPE_CHECKING:\n    from {}.storage.state import Store",
        "def late():\n    from {}.storage.state import Store",
    ],
)
def test_what_runs_up_is_found(house, line):
    imports = house("protocol/wire", line.format(PACKAGE))
    assert upward(imports) == ["protocol.wire imports storage.state"]
    assert set(circle(imports)) == {"protocol.wire", "storage.state"}


def test_a_circle_inside_of_a_room_is_found(house):
    imports = house("storage/state", "if TYPE_CHECKING:", f"    from {PACKAGE}.storage.bucket import Bucket")
    assert upward(imports) == []
    assert set(circle(imports)) == {"storage.bucket", "storage.state"}
