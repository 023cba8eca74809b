"""The notebook: each cell in turn, with a model that really answers."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "registry-to-answers.ipynb"


@pytest.mark.torch
def test_the_notebook_runs_from_the_top_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_FIREWORKS_HOME", str(tmp_path))
    namespace = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "the notebook is kept without outputs"
            exec(compile("".join(cell["source"]), cell["id"], "exec"), namespace)
    assert namespace["accuracy"] == 1.0
    assert namespace["promoted"]["state"] == "READY"
