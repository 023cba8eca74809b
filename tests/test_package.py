"""What is built and handed out: the wheel, the sdist, and what they say about themselves."""

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OF_THE_HOOKS = {"huey", "prometheus_client", "starlette", "uvicorn"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Two builds of each, one after the other."""
    folders = [tmp_path_factory.mktemp("dist") for _ in range(2)]
    for folder in folders:
        subprocess.run(
            [sys.executable, "-m", "build", "-q", "--outdir", folder, ROOT],
            check=True,
            timeout=300,
            capture_output=True,
        )
    return folders


def requirements(text):
    return {line.split("#")[0].strip() for line in text.splitlines()} - {""}


def name_of(requirement):
    return re.split(r"[<>=\[;~! ]", requirement)[0]


def test_the_skinny_list_has_what_the_package_needs_but_for_the_hooks():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.findall(r'^  "(.+)"', text.partition("\ndependencies = [\n")[2].partition("\n]")[0], re.MULTILINE)
    wanted = {item.replace("mlflow>", "mlflow-skinny>") for item in needed if name_of(item) not in OF_THE_HOOKS}
    assert requirements((ROOT / "examples/promote/requirements-skinny.txt").read_text(encoding="utf-8")) == wanted


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("git"), reason="needs the files of a checkout")
class TestBuilds:
    def test_they_are_reproducible(self, built):
        first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in built)
        assert first == second
        assert {name.rpartition(".")[2] for name in first} == {"whl", "gz"}

    def test_the_wheel_holds_the_package_and_nothing_else(self, built):
        (wheel,) = built[0].glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        inside = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
        listing = subprocess.run(
            ["git", "ls-files", "mlflow_fireworks"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        assert inside == set(listing.splitlines())
        assert "mlflow_fireworks/py.typed" in inside
        assert any(name.endswith("licenses/LICENSE") for name in names)

    def test_the_sdist_holds_what_its_tests_need_and_no_state(self, built):
        (sdist,) = built[0].glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            names = {name.partition("/")[2] for name in archive.getnames()}
        assert {"pyproject.toml", "noxfile.py", "README.md", "CHANGELOG.md", "LICENSE", "Makefile"} <= names
        assert "tests/support/checkpoints.py" in names
        assert not [name for name in names if re.search(r"(^|/)(\.venv|\.demo|mlruns|__pycache__|.*\.db)", name)]
